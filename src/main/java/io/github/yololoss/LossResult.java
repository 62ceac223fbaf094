package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.Serializable;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/**
 * The result of a call: total, parts of each layer, raw rows of each image and layer. It has memory
 * of its own and stays valid after its {@link YoloLoss} is closed. One result may be given to many
 * calls; each overwrites it. Not to be read while a call of another thread writes it.
 *
 * <p>The result of {@link YoloLoss#computeAsync} is there when the device has come so far: the
 * first method that reads it waits, and throws {@link YoloLossException} if the device refused a
 * row of boxes or failed.
 */
public final class LossResult {
  private static final long TOTAL = Layouts.offset(Layouts.SUMMARY, "total");
  private static final long NORMALISER = Layouts.offset(Layouts.SUMMARY, "normaliser");
  private static final long OBJECTS = Layouts.offset(Layouts.SUMMARY, "objects");
  private static final long IGNORED = Layouts.offset(Layouts.SUMMARY, "ignored");
  private static final long IGNORED_BACKGROUND =
      Layouts.offset(Layouts.SUMMARY, "ignored_background");
  private static final long NON_FINITE = Layouts.offset(Layouts.SUMMARY, "non_finite");
  private static final long FOUND_INF = Layouts.offset(Layouts.SUMMARY, "found_inf");
  private static final long BOXES = Layouts.offset(Layouts.SUMMARY, "boxes");

  private final int maxBatch;
  private final int layers;
  private final MemorySegment summary;
  private final MemorySegment layerParts;
  private final MemorySegment rows;
  private final MemorySegment completion; // yl_completion; null: host memory
  private final MemorySegment stats; // yl_stats, one for each layer
  private final MemorySegment offender; // yl_offender
  private final MemorySegment struct; // yl_result, pointing to them
  private final MemorySegment asyncStruct; // and to completion
  private int batch;
  private LossOptions options; // of the call
  private CudaStream pending; // null: the result is there
  private YoloLossException failure; // of an enqueued call
  private LossEvent event; // of an enqueued call that is recorded, until its result is there

  /** In memory that a CUDA device can write, or in memory of the host. */
  LossResult(int maxBatch, int layers, boolean forDevice) {
    Arena arena = forDevice ? PinnedArena.ofAuto() : Arena.ofAuto();
    this.maxBatch = maxBatch;
    this.layers = layers;
    summary = arena.allocate(Layouts.SUMMARY);
    layerParts = arena.allocate(Layouts.PARTS, layers);
    rows = arena.allocate(Layouts.PARTS, (long) maxBatch * layers);
    stats = arena.allocate(Layouts.STATS, layers);
    offender = arena.allocate(Layouts.OFFENDER);
    completion = forDevice ? arena.allocate(Layouts.COMPLETION) : null;
    struct = newStruct();
    asyncStruct = newStruct();
    if (forDevice) {
      asyncStruct.set(ADDRESS, Layouts.offset(Layouts.RESULT, "completion"), completion);
    }
  }

  private MemorySegment newStruct() {
    MemorySegment struct = Arena.ofAuto().allocate(Layouts.RESULT);
    struct.set(JAVA_LONG, Layouts.offset(Layouts.RESULT, "struct_size"), Layouts.RESULT.byteSize());
    struct.set(ADDRESS, Layouts.offset(Layouts.RESULT, "summary"), summary);
    struct.set(ADDRESS, Layouts.offset(Layouts.RESULT, "layers"), layerParts);
    struct.set(ADDRESS, Layouts.offset(Layouts.RESULT, "rows"), rows);
    return struct;
  }

  MemorySegment struct() {
    return struct;
  }

  MemorySegment asyncStruct() {
    return asyncStruct;
  }

  MemorySegment stats() {
    return stats;
  }

  MemorySegment offenderStruct() {
    return offender;
  }

  boolean fits(int neededBatch, int neededLayers, boolean async) {
    return neededBatch <= maxBatch && neededLayers == layers && (!async || completion != null);
  }

  /** A call is about to write: what an earlier one has enqueued must be done. */
  void overwrite() {
    arrive();
  }

  /** A call has written this, or has enqueued that on a stream; its event, or null. */
  void written(int newBatch, LossOptions newOptions, CudaStream stream, LossEvent newEvent) {
    batch = newBatch;
    options = newOptions;
    pending = stream;
    failure = null;
    event = newEvent;
    if (stream == null) {
      record();
    }
  }

  /** Waits for an enqueued call; what it refused is kept as the failure. */
  private void arrive() {
    if (pending == null) {
      return;
    }
    pending.synchronize();
    pending = null;
    if (completion.get(JAVA_INT, 0) != 0) {
      event = null; // nothing was computed
      failure =
          new YoloLossException(
              YoloLossException.Status.INVALID_BOXES,
              "boxes: image "
                  + completion.getAtIndex(JAVA_INT, 1)
                  + ", row "
                  + completion.getAtIndex(JAVA_INT, 2)
                  + " names no object (not finite, no area, a class outside 0..C-1 or a centre"
                  + " outside the input); nothing was written; correct the row or skip such rows"
                  + " by the policy");
    }
    record();
  }

  private void record() {
    if (event != null) {
      LossEvent done = event;
      event = null; // it reads this result
      done.commit(this);
    }
  }

  /**
   * Waits until the result is there; the methods that read it do so too.
   *
   * @return this
   * @throws YoloLossException if the device refused a row of boxes or failed
   */
  public LossResult await() {
    arrive();
    if (failure != null) {
      throw failure;
    }
    return this;
  }

  /** {@return images of the call; 0 before the first} Does not wait. */
  public int batch() {
    return batch;
  }

  /** {@return layers of the network} */
  public int layers() {
    return layers;
  }

  /** {@return the loss: all parts of all layers, divided by {@link #normaliser()}} */
  public double total() {
    return await().summary.get(JAVA_DOUBLE, TOTAL);
  }

  /** {@return what the sums were divided by} */
  public double normaliser() {
    return await().summary.get(JAVA_DOUBLE, NORMALISER);
  }

  /** {@return cells with m != 0, of all images and layers} */
  public long objects() {
    return await().summary.get(JAVA_LONG, OBJECTS);
  }

  /** {@return cells with k = 0, of all images and layers} */
  public long ignored() {
    return await().summary.get(JAVA_LONG, IGNORED);
  }

  /** {@return cells with k = 0 and m = 0, of all images and layers} */
  public long ignoredBackground() {
    return await().summary.get(JAVA_LONG, IGNORED_BACKGROUND);
  }

  /**
   * {@return NaN and infinities among the values that count (yololoss.h says which); 0 in a healthy
   * batch}
   */
  public long nonFinite() {
    return await().summary.get(JAVA_LONG, NON_FINITE);
  }

  /**
   * {@return elements of the gradient that the call wrote as NaN or infinity: for a loss scaler,
   * above 0 says that the step must be left out and the scale lowered}
   */
  public long foundInf() {
    return await().summary.get(JAVA_LONG, FOUND_INF);
  }

  /**
   * {@return the first value that is not finite, or null if all are}
   *
   * @throws IllegalStateException if the call had no {@link LossOptions#search}
   */
  public Offender offender() {
    await();
    if (options == null || options.search() == LossOptions.Search.NONE) {
      throw new IllegalStateException(
          "the call did not look for it; use LossOptions.withSearch(Search.USED or ALL)");
    }
    int cause = offender.get(JAVA_INT, 0);
    return cause == 0
        ? null
        : new Offender(
            Offender.Cause.values()[cause - 1],
            offender.getAtIndex(JAVA_INT, 1),
            offender.getAtIndex(JAVA_INT, 2),
            offender.getAtIndex(JAVA_INT, 3),
            offender.getAtIndex(JAVA_INT, 4),
            offender.getAtIndex(JAVA_INT, 5),
            offender.getAtIndex(JAVA_INT, 6),
            offender.getAtIndex(JAVA_DOUBLE, 4),
            offender.getAtIndex(JAVA_DOUBLE, 5));
  }

  /**
   * {@return statistics of a layer}
   *
   * @param layer 0..L-1
   * @throws IllegalStateException if the call had no {@link LossOptions#statistics}
   * @throws IndexOutOfBoundsException if there is no such layer
   */
  public Statistics statistics(int layer) {
    await();
    if (options == null || !options.statistics()) {
      throw new IllegalStateException(
          "the call gave no statistics; use LossOptions.withStatistics(true)");
    }
    long at = Objects.checkIndex(layer, layers) * Layouts.STATS.byteSize() / Double.BYTES;
    return new Statistics(
        stats.getAtIndex(JAVA_LONG, at),
        stats.getAtIndex(JAVA_LONG, at + 1),
        stats.getAtIndex(JAVA_DOUBLE, at + 2),
        stats.getAtIndex(JAVA_LONG, at + 3),
        stats.getAtIndex(JAVA_LONG, at + 4),
        stats.getAtIndex(JAVA_DOUBLE, at + 5),
        stats.getAtIndex(JAVA_DOUBLE, at + 6),
        stats.getAtIndex(JAVA_DOUBLE, at + 7),
        stats.getAtIndex(JAVA_DOUBLE, at + 8),
        stats.getAtIndex(JAVA_DOUBLE, at + 9),
        stats.getAtIndex(JAVA_DOUBLE, at + 10),
        stats.getAtIndex(JAVA_DOUBLE, at + 11));
  }

  /** {@return what became of the boxes; zeros for dense truths} */
  public Targets.BoxCounts boxes() {
    return boxCounts(await().summary.asSlice(BOXES, Layouts.BOX_COUNTS));
  }

  static Targets.BoxCounts boxCounts(MemorySegment counts) {
    return new Targets.BoxCounts(
        counts.getAtIndex(JAVA_LONG, 0),
        counts.getAtIndex(JAVA_LONG, 1),
        counts.getAtIndex(JAVA_LONG, 2),
        counts.getAtIndex(JAVA_LONG, 3),
        counts.getAtIndex(JAVA_LONG, 4));
  }

  /**
   * {@return parts and counts of a layer; the parts are divided by {@link #normaliser()}}
   *
   * @param layer 0..L-1
   * @throws IndexOutOfBoundsException if there is no such layer
   */
  public Parts layer(int layer) {
    return Parts.read(await().layerParts, Objects.checkIndex(layer, layers));
  }

  /**
   * {@return parts and counts of one image in one layer, as raw sums: rows of the shards of a batch
   * add up, without rounding in a {@link LossSum}}
   *
   * @param image 0..B-1
   * @param layer 0..L-1
   * @throws IndexOutOfBoundsException if the last call had no such image, or there is no such layer
   */
  public Parts row(int image, int layer) {
    long row = (long) Objects.checkIndex(image, batch) * layers;
    return Parts.read(await().rows, row + Objects.checkIndex(layer, layers));
  }

  /** The loss table, a line for each layer. */
  @Override
  public String toString() {
    List<Parts> parts = new ArrayList<>();
    for (int l = 0; l < layers; l++) {
      parts.add(layer(l));
    }
    return table(parts, total());
  }

  /**
   * {@return the loss table of parts that were merged elsewhere, a line for each layer}
   *
   * @param layers parts of each layer
   * @param total of all
   */
  public static String table(List<Parts> layers, double total) {
    return LossTable.of(layers, total);
  }

  /**
   * Sums and counts.
   *
   * @param xy centre part
   * @param wh size part
   * @param confidenceObject confidence part of cells with m != 0
   * @param confidenceBackground confidence part of cells with m = 0
   * @param classes class part
   * @param objects cells with m != 0
   * @param ignored cells with k = 0, objects included
   * @param ignoredBackground cells with k = 0 and m = 0
   * @param nonFinite NaN and infinities among the values that count
   * @param foundInf elements of the gradient that were written as NaN or infinity
   */
  public record Parts(
      double xy,
      double wh,
      double confidenceObject,
      double confidenceBackground,
      double classes,
      long objects,
      long ignored,
      long ignoredBackground,
      long nonFinite,
      long foundInf)
      implements Serializable {

    /** Nothing, to add to. */
    public static final Parts ZERO = new Parts(0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

    private static Parts read(MemorySegment parts, long index) {
      long at = index * Layouts.PARTS.byteSize() / Double.BYTES;
      return new Parts(
          parts.getAtIndex(JAVA_DOUBLE, at),
          parts.getAtIndex(JAVA_DOUBLE, at + 1),
          parts.getAtIndex(JAVA_DOUBLE, at + 2),
          parts.getAtIndex(JAVA_DOUBLE, at + 3),
          parts.getAtIndex(JAVA_DOUBLE, at + 4),
          parts.getAtIndex(JAVA_LONG, at + 5),
          parts.getAtIndex(JAVA_LONG, at + 6),
          parts.getAtIndex(JAVA_LONG, at + 7),
          parts.getAtIndex(JAVA_LONG, at + 8),
          parts.getAtIndex(JAVA_LONG, at + 9));
    }

    /** {@return the confidence part of keras-yolo3} */
    public double confidence() {
      return confidenceObject + confidenceBackground;
    }

    /**
     * {@return both added up, each sum rounded} A {@link LossSum} adds any number of rows without
     * rounding, in any order.
     *
     * @param other divided by the same normaliser, or raw like this
     */
    public Parts plus(Parts other) {
      return new Parts(
          xy + other.xy,
          wh + other.wh,
          confidenceObject + other.confidenceObject,
          confidenceBackground + other.confidenceBackground,
          classes + other.classes,
          objects + other.objects,
          ignored + other.ignored,
          ignoredBackground + other.ignoredBackground,
          nonFinite + other.nonFinite,
          foundInf + other.foundInf);
    }

    /**
     * {@return the same with sums that are divided; counts stay}
     *
     * @param normaliser what by
     */
    public Parts dividedBy(double normaliser) {
      return new Parts(
          xy / normaliser,
          wh / normaliser,
          confidenceObject / normaliser,
          confidenceBackground / normaliser,
          classes / normaliser,
          objects,
          ignored,
          ignoredBackground,
          nonFinite,
          foundInf);
    }

    /** {@return all four parts} */
    public double sum() {
      return xy + wh + confidence() + classes;
    }
  }
}
