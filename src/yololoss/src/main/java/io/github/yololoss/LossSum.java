package io.github.yololoss;

import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.Targets.BoxCounts;
import io.github.yololoss.internal.Abi;
import java.io.InvalidObjectException;
import java.io.Serial;
import java.io.Serializable;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.stream.IntStream;

/**
 * The sum of the rows of any number of images, from any number of calls, threads and machines. It
 * is exact: neither the order nor the grouping of {@link #merge} changes a bit, and each value that
 * is read has been rounded once, to nearest even. So a data set has the same loss however it is cut
 * into shards, and in whatever order they arrive.
 *
 * {@snippet class="io.github.yololoss.SnippetsTest" region="sum"}
 *
 * <p>Immutable and serialisable, about 3 kB for each layer. It needs no native library. Equal sums
 * are {@link #equals equal}, and so are their {@link #words}. {@link #total} may differ from {@link
 * LossResult#total()} in the last bits, whose sums are rounded at each addition.
 */
public final class LossSum implements Serializable {
  @Serial private static final long serialVersionUID = 1;

  private static final int HEAD =
      1 + Abi.BoxCounts.COUNTS.size(); // images, then the counts of boxes
  private static final int COUNTS = Count.ALL.size(); // of a layer
  private static final int SUMS = Part.ALL.size(); // of a layer, after its counts
  private static final int LAYER = COUNTS + SUMS * Exact.WORDS;

  /** As {@link #words()}; every digit is carried. */
  private final long[] words;

  private LossSum(long[] words) {
    this.words = words;
    for (int l = 0; l < layers(); l++) {
      for (int field = 0; field < SUMS; field++) {
        Exact.carry(words, sum(l, field));
      }
    }
  }

  /**
   * {@return the sum of no images}
   *
   * @param layers L, 1..4096
   * @throws IllegalArgumentException if layers is not in this range
   */
  public static LossSum zero(int layers) {
    if (layers < 1 || layers > 4096) {
      throw new IllegalArgumentException("layers is " + layers + ", 1..4096 is expected");
    }
    return new LossSum(new long[HEAD + layers * LAYER]);
  }

  /**
   * {@return the sum of all rows of a call, and its counts of boxes}
   *
   * @param result of a call; this waits until it has arrived
   * @throws IllegalStateException if no call has written the result
   * @throws YoloLossException if the device refused a row of boxes or failed
   */
  public static LossSum of(LossResult result) {
    BoxCounts boxes = result.boxes();
    long[] words = zero(result.layers()).words;
    words[0] = result.batch();
    words[1] = boxes.used();
    words[2] = boxes.skipped();
    words[3] = boxes.clamped();
    words[4] = boxes.dropped();
    words[5] = boxes.collided();
    for (int image = 0; image < result.batch(); image++) {
      for (int l = 0; l < result.layers(); l++) {
        add(words, l, result.row(image, l));
      }
    }
    return new LossSum(words);
  }

  /**
   * {@return the sum of one image}
   *
   * @param image the raw row of the image in each layer, as {@link LossResult#row} returns it
   * @throws IllegalArgumentException if the list is empty
   */
  public static LossSum of(List<Parts> image) {
    long[] words = zero(image.size()).words;
    words[0] = 1;
    for (int l = 0; l < image.size(); l++) {
      add(words, l, image.get(l));
    }
    return new LossSum(words);
  }

  private static void add(long[] words, int l, Parts row) {
    long[] counts = row.counts();
    for (int i = 0; i < COUNTS; i++) {
      words[HEAD + l * LAYER + i] += counts[i];
    }
    double[] sums = row.sums();
    for (int i = 0; i < SUMS; i++) {
      Exact.add(words, sum(l, i), sums[i]);
    }
  }

  /** Returns the index of the first word of a sum of a layer. */
  private static int sum(int l, int field) {
    return HEAD + l * LAYER + COUNTS + field * Exact.WORDS;
  }

  /**
   * {@return the sum of both} Associative and commutative, to the last bit.
   *
   * @param other a sum of the same number of layers
   * @throws IllegalArgumentException if it has another number of layers
   */
  public LossSum merge(LossSum other) {
    if (other.words.length != words.length) {
      throw new IllegalArgumentException(
          "a sum of "
              + other.layers()
              + " layers, "
              + layers()
              + " are expected; only sums of one network can be merged");
    }
    long[] both = words.clone();
    Arrays.setAll(both, i -> both[i] + other.words[i]);
    return new LossSum(both);
  }

  /** {@return L, the number of layers} */
  public int layers() {
    return words.length / LAYER;
  }

  /** {@return the number of images of this sum} */
  public long images() {
    return words[0];
  }

  /** {@return what became of the boxes of all calls} */
  public BoxCounts boxes() {
    return new BoxCounts(words[1], words[2], words[3], words[4], words[5]);
  }

  /**
   * {@return the raw sums and counts of a layer}
   *
   * @param l 0..L-1
   * @throws IndexOutOfBoundsException if there is no such layer
   */
  public Parts layer(int l) {
    int at = HEAD + Objects.checkIndex(l, layers()) * LAYER;
    double[] sums = new double[SUMS];
    Arrays.setAll(sums, i -> Exact.value(words, sum(l, i)));
    return Parts.of(sums, Arrays.copyOfRange(words, at, at + COUNTS));
  }

  /** {@return the number of cells with m != 0, of all images and layers} */
  public long objects() {
    return IntStream.range(0, layers()).mapToLong(l -> words[HEAD + l * LAYER]).sum();
  }

  /** {@return the raw sum of all parts of all layers} */
  public double total() {
    long[] all = new long[Exact.WORDS];
    for (int l = 0; l < layers(); l++) {
      for (int field = 0; field < SUMS; field++) {
        for (int i = 0; i < Exact.WORDS; i++) {
          all[i] += words[sum(l, field) + i];
        }
      }
    }
    Exact.carry(all, 0);
    return Exact.value(all, 0);
  }

  /**
   * {@return the loss: the sum of all parts of all layers, divided}
   *
   * @param normaliser the divisor; the batch is all images, the objects are those of all images
   */
  public double total(Normaliser normaliser) {
    return total() / divisor(normaliser);
  }

  /**
   * {@return the divisor of these sums, at least 1 unless it is a value}
   *
   * @param normaliser the rule; the batch is all images, the objects are those of all images
   */
  public double divisor(Normaliser normaliser) {
    return switch (normaliser.kind()) {
      case BATCH -> Math.max(1, images());
      case NONE -> 1;
      case OBJECTS -> Math.max(1, objects());
      case VALUE -> normaliser.value();
    };
  }

  /**
   * {@return a copy of the words of this sum, 6 + 360 * L} Sums are merged by adding word to word,
   * so that anything that adds 64-bit integers over a network can merge them: {@code MPI_Allreduce}
   * with {@code MPI_INT64_T} and {@code MPI_SUM}, {@code ncclAllReduce} with {@code ncclInt64} and
   * {@code ncclSum}, up to 2^30 sums at once. The native header's {@code yl_sum_...} take the same
   * words.
   */
  public long[] words() {
    return words.clone();
  }

  /**
   * {@return the sum of words that were added elsewhere, or made by the native library}
   *
   * @param words 6 + 360 * L
   * @throws IllegalArgumentException if the number of words is another
   */
  public static LossSum ofWords(long... words) {
    if (words.length < HEAD + LAYER || (words.length - HEAD) % LAYER != 0) {
      throw new IllegalArgumentException(
          words.length + " words, " + HEAD + " + " + LAYER + " for each layer are expected");
    }
    return new LossSum(words.clone());
  }

  /**
   * {@return the sum of the words that were read}
   *
   * @throws InvalidObjectException if there are no words, or not as many as a sum has
   */
  @Serial
  private Object readResolve() throws InvalidObjectException {
    try {
      return ofWords(words);
    } catch (IllegalArgumentException | NullPointerException e) {
      throw new InvalidObjectException("LossSum: " + e.getMessage(), e);
    }
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof LossSum sum && Arrays.equals(words, sum.words);
  }

  @Override
  public int hashCode() {
    return Arrays.hashCode(words);
  }

  /** {@return the loss table, divided by the number of images} */
  @Override
  public String toString() {
    double images = divisor(Normaliser.BATCH);
    return LossResult.table(
        IntStream.range(0, layers()).mapToObj(l -> layer(l).dividedBy(images)).toList(),
        total(Normaliser.BATCH));
  }
}
