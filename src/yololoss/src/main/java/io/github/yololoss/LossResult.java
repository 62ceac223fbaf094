package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import java.io.Serializable;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/**
 * The result of a call: the total, the parts of each layer, and raw rows of each image and layer.
 * It has memory of its own and stays valid after its {@link YoloLoss} is closed. One result may be
 * passed to many calls; each overwrites it. Do not read it while a call of another thread writes
 * it.
 *
 * <p>All methods that read values throw {@link IllegalStateException} before the first call has
 * written the result.
 *
 * <p>The result of {@link CudaYoloLoss#computeAsync} arrives when the device has executed the call:
 * the first method that reads it waits, and throws {@link YoloLossException} if the device refused
 * a row of boxes or failed.
 */
public final class LossResult {
  private final int maxBatch;
  private final int layers;
  private final MemorySegment summary;
  private final MemorySegment layerParts;
  private final MemorySegment rows;
  private final MemorySegment completion; // yl_completion; null if not for a CUDA device
  private final MemorySegment stats; // yl_stats, one for each layer
  private final MemorySegment offender; // yl_offender
  private final MemorySegment struct; // yl_result, pointing to them
  private final MemorySegment asyncStruct; // and to completion
  private int batch;
  private LossOptions options; // of the call; null: no call has written this
  private CudaStream pending; // null: the result has arrived
  private YoloLossException failure; // of an enqueued call, or null
  private LossEvent event; // of an enqueued call that is recorded, until its result arrives

  /** Makes a result in memory that a CUDA device can write, or in memory of the host. */
  LossResult(int maxBatch, int layers, boolean forDevice) {
    Arena arena = forDevice ? PinnedArena.ofAuto() : Arena.ofAuto();
    this.maxBatch = maxBatch;
    this.layers = layers;
    summary = arena.allocate(Abi.Summary.LAYOUT);
    layerParts = arena.allocate(Abi.Parts.LAYOUT, layers);
    rows = arena.allocate(Abi.Parts.LAYOUT, (long) maxBatch * layers);
    stats = arena.allocate(Abi.Stats.LAYOUT, layers);
    offender = arena.allocate(Abi.Offender.LAYOUT);
    completion = forDevice ? arena.allocate(Abi.Completion.LAYOUT) : null;
    struct = newStruct();
    asyncStruct = newStruct();
    if (forDevice) {
      Abi.Result.setCompletion(asyncStruct, completion);
    }
  }

  private MemorySegment newStruct() {
    MemorySegment struct = Abi.Result.allocate(Arena.ofAuto());
    Abi.Result.setSummary(struct, summary);
    Abi.Result.setLayers(struct, layerParts);
    Abi.Result.setRows(struct, rows);
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

  /** Waits for an earlier enqueued call, because another call is about to write. */
  void overwrite() {
    arrive();
  }

  /** Notes that a call has written this, or has enqueued that on a stream. newEvent may be null. */
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

  /** Waits for an enqueued call, and keeps its refusal as the failure. */
  private void arrive() {
    if (pending == null) {
      return;
    }
    pending.synchronize();
    pending = null;
    if (Abi.Completion.getStatus(completion) != Abi.YL_OK) {
      event = null; // nothing was computed
      failure =
          new YoloLossException(
              YoloLossException.Status.INVALID_BOXES,
              "boxes: image "
                  + Abi.Completion.getImage(completion)
                  + ", row "
                  + Abi.Completion.getRow(completion)
                  + " is not a valid object (not finite, no area, a class outside 0..C-1 or a"
                  + " centre outside the input); nothing was written; correct the row or skip such"
                  + " rows by the policy");
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
   * Waits until the result has arrived. The methods that read it do so too.
   *
   * @return this
   * @throws IllegalStateException if no call has written the result
   * @throws YoloLossException if the device refused a row of boxes or failed
   */
  public LossResult await() {
    if (options == null) {
      throw new IllegalStateException(
          "no call has written this result; pass it to compute before you read it");
    }
    arrive();
    if (failure != null) {
      throw failure;
    }
    return this;
  }

  /** {@return the number of images of the call; 0 before the first call} Does not wait. */
  public int batch() {
    return batch;
  }

  /** {@return the number of layers of the network} */
  public int layers() {
    return layers;
  }

  /** {@return the loss: all parts of all layers, divided by {@link #normaliser()}} */
  public double total() {
    return Abi.Summary.getTotal(await().summary);
  }

  /** {@return the divisor of the sums} */
  public double normaliser() {
    return Abi.Summary.getNormaliser(await().summary);
  }

  /** {@return the number of cells with m != 0, of all images and layers} */
  public long objects() {
    return Abi.Summary.getObjects(await().summary);
  }

  /** {@return the number of cells with k = 0, of all images and layers} */
  public long ignored() {
    return Abi.Summary.getIgnored(await().summary);
  }

  /** {@return the number of cells with k = 0 and m = 0, of all images and layers} */
  public long ignoredBackground() {
    return Abi.Summary.getIgnoredBackground(await().summary);
  }

  /**
   * {@return the number of NaN and infinities among the values that count ({@code yololoss.h} says
   * which); 0 in a healthy batch}
   */
  public long nonFinite() {
    return Abi.Summary.getNonFinite(await().summary);
  }

  /**
   * {@return the number of elements of the gradient that the call wrote as NaN or infinity} If it
   * is above 0, a loss scaler must skip the step and lower the scale.
   */
  public long foundInf() {
    return Abi.Summary.getFoundInf(await().summary);
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
          "the call did not search for it; use LossOptions.withSearch(Search.USED or ALL)");
    }
    return Offender.read(offender);
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
          "the call computed no statistics; use LossOptions.withStatistics(true)");
    }
    return Statistics.read(stats, Objects.checkIndex(layer, layers));
  }

  /** {@return what became of the boxes; zeros for dense truths} */
  public Targets.BoxCounts boxes() {
    return boxCounts(Abi.Summary.getBoxes(await().summary));
  }

  static Targets.BoxCounts boxCounts(MemorySegment counts) {
    return new Targets.BoxCounts(
        Abi.BoxCounts.getUsed(counts),
        Abi.BoxCounts.getSkipped(counts),
        Abi.BoxCounts.getClamped(counts),
        Abi.BoxCounts.getDropped(counts),
        Abi.BoxCounts.getCollided(counts));
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
   * {@return parts and counts of one image in one layer, as raw sums} Rows of the shards of a batch
   * can be added, without rounding by a {@link LossSum}.
   *
   * @param image 0..B-1
   * @param layer 0..L-1
   * @throws IndexOutOfBoundsException if the last call had no such image, or there is no such layer
   */
  public Parts row(int image, int layer) {
    await();
    long row = (long) Objects.checkIndex(image, batch) * layers;
    return Parts.read(rows, row + Objects.checkIndex(layer, layers));
  }

  /**
   * {@return the loss table, a line for each layer; or why there is none} Waits for an enqueued
   * call.
   */
  @Override
  public String toString() {
    if (options == null) {
      return "no call has written this result";
    }
    arrive();
    if (failure != null) {
      return failure.getMessage();
    }
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
   * @param total the loss
   */
  public static String table(List<Parts> layers, double total) {
    return LossTable.of(layers, total);
  }

  /**
   * Sums and counts of a layer, a row, or a sum of them. {@link Part} and {@link Count} list them
   * for loops.
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

    /** Zeros, to start a sum. */
    public static final Parts ZERO =
        of(new double[Abi.Parts.SUMS.size()], new long[Abi.Parts.COUNTS.size()]);

    /** Makes parts of sums and counts, each in the order of yl_parts. */
    static Parts of(double[] sums, long[] counts) {
      return new Parts(
          sums[0], sums[1], sums[2], sums[3], sums[4], counts[0], counts[1], counts[2], counts[3],
          counts[4]);
    }

    private static Parts read(MemorySegment parts, long index) {
      double[] sums = new double[Abi.Parts.SUMS.size()];
      long[] counts = new long[Abi.Parts.COUNTS.size()];
      Abi.Parts.read(parts, index, sums, counts);
      return of(sums, counts);
    }

    /** Returns the sums, in the order of yl_parts. */
    double[] sums() {
      double[] sums = new double[Part.ALL.size()];
      Arrays.setAll(sums, i -> Part.ALL.get(i).of(this));
      return sums;
    }

    /** Returns the counts, in the order of yl_parts. */
    long[] counts() {
      long[] counts = new long[Count.ALL.size()];
      Arrays.setAll(counts, i -> Count.ALL.get(i).of(this));
      return counts;
    }

    /** {@return the confidence part of keras-yolo3: that of objects and background} */
    public double confidence() {
      return confidenceObject + confidenceBackground;
    }

    /**
     * {@return the sum of both, rounded} A {@link LossSum} adds any number of rows without
     * rounding, in any order.
     *
     * @param other parts divided by the same normaliser, or raw like these
     */
    public Parts plus(Parts other) {
      double[] sums = sums();
      double[] otherSums = other.sums();
      Arrays.setAll(sums, i -> sums[i] + otherSums[i]);
      long[] counts = counts();
      long[] otherCounts = other.counts();
      Arrays.setAll(counts, i -> counts[i] + otherCounts[i]);
      return of(sums, counts);
    }

    /**
     * {@return the same parts with divided sums and the same counts}
     *
     * @param normaliser the divisor
     */
    public Parts dividedBy(double normaliser) {
      double[] sums = sums();
      Arrays.setAll(sums, i -> sums[i] / normaliser);
      return of(sums, counts());
    }

    /** {@return the sum of all parts} */
    public double sum() {
      return xy + wh + confidence() + classes;
    }
  }
}
