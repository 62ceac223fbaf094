package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import java.io.Serializable;
import java.lang.foreign.MemorySegment;
import java.util.Locale;
import java.util.Objects;

/**
 * The truths of a batch: dense {@code y_true}, or boxes. Boxes give the same bits as the dense
 * truths that they stand for.
 *
 * @param <M> {@link MemorySegment} for {@link YoloLoss}, {@link DeviceBuffer} for {@link
 *     CudaYoloLoss}
 */
public sealed interface Targets<M> {

  /**
   * Dense truths.
   *
   * @param <M> type of the memory
   * @param yTrue for each layer (B, H, W, A, 5+C), float32: centre x, centre y, width, height as
   *     fractions of the input, object mask, C class targets
   */
  record Dense<M>(M[] yTrue) implements Targets<M> {
    /**
     * Checks that there is an array of memory.
     *
     * @throws NullPointerException if yTrue is null
     */
    public Dense {
      Objects.requireNonNull(yTrue, "yTrue");
    }

    /** {@return the kind of truths and the number of layers} */
    @Override
    public String toString() {
      return "dense truths of " + yTrue.length + " layers";
    }
  }

  /**
   * Sparse truths: boxes in rows, the same number of rows for each image.
   *
   * @param <M> type of the memory
   * @param boxes (B, T, 5), float32: x_min, y_min, x_max, y_max in pixels of the network's input
   *     (not in 0..1), class; unused rows are zero
   * @param perImage T, rows of an image
   * @param policy what happens to a row that is not a valid object
   * @param weights (B, T), float32: factor of the row's object, at least 0 (the score of mixup), or
   *     null: 1. If rows share a cell, the weight of the last one counts
   */
  record Boxes<M>(M boxes, int perImage, BoxPolicy policy, M weights) implements Targets<M> {
    /**
     * Checks what can be checked without the memory.
     *
     * @throws NullPointerException if boxes or policy is null
     * @throws IllegalArgumentException if perImage is negative
     */
    public Boxes {
      Objects.requireNonNull(boxes, "boxes");
      Objects.requireNonNull(policy, "policy");
      if (perImage < 0) {
        throw new IllegalArgumentException("perImage is " + perImage + ", at least 0 is expected");
      }
    }

    /**
     * Makes boxes of weight 1.
     *
     * @param boxes (B, T, 5), as above
     * @param perImage T, rows of an image
     * @param policy what happens to a row that is not a valid object
     */
    public Boxes(M boxes, int perImage, BoxPolicy policy) {
      this(boxes, perImage, policy, null);
    }

    /** {@return the rows of an image and what happens to bad ones} */
    @Override
    public String toString() {
      return "boxes, "
          + perImage
          + " rows an image, bad rows: "
          + policy.name().toLowerCase(Locale.ROOT)
          + (weights == null ? "" : ", weighted");
    }
  }

  /**
   * What happens to a row of boxes with no area, a class outside 0..C-1, a centre outside the
   * input, a bad weight, or a NaN.
   */
  enum BoxPolicy {
    /**
     * The call fails, naming image and row, and writes nothing. In device memory the device checks
     * the rows itself; an enqueued call reports a refused row when its result is read.
     *
     * <p>Boxes of the host's memory that look normalised are refused too: every coordinate of every
     * used row of an image is in 0..1, and at least one is not a whole number. They would be valid
     * objects of less than a pixel. Boxes in device memory are not checked for this.
     */
    ERROR(Abi.YL_BOXES_ERROR),
    /** The row is left out and counted. */
    SKIP(Abi.YL_BOXES_SKIP),
    /**
     * A row whose centre lies outside the input is cut to it and counted; a row that is then still
     * not a valid object, and any other bad row, is left out.
     */
    CLAMP(Abi.YL_BOXES_CLAMP);

    /** The value of {@code YL_BOXES_...}. */
    final int value;

    BoxPolicy(int value) {
      this.value = value;
    }
  }

  /**
   * Counts of what became of the boxes of a call.
   *
   * @param used rows that are valid objects
   * @param skipped rows left out
   * @param clamped used rows that were cut to the input
   * @param dropped used rows whose best anchor is in no layer
   * @param collided times that a used row took a cell which an earlier row of the image had
   */
  record BoxCounts(long used, long skipped, long clamped, long dropped, long collided)
      implements Serializable {
    /** {@return the counts as a phrase} */
    @Override
    public String toString() {
      return used
          + " used ("
          + clamped
          + " clamped, "
          + dropped
          + " dropped, "
          + collided
          + " collided), "
          + skipped
          + " skipped";
    }
  }

  /**
   * Makes dense truths of the host's memory.
   *
   * @param yTrue for each layer (B, H, W, A, 5+C), float32
   * @return the targets
   */
  static Dense<MemorySegment> dense(MemorySegment... yTrue) {
    return new Dense<>(yTrue);
  }

  /**
   * Makes dense truths of device memory.
   *
   * @param yTrue for each layer (B, H, W, A, 5+C), float32
   * @return the targets
   */
  static Dense<DeviceBuffer> dense(DeviceBuffer... yTrue) {
    return new Dense<>(yTrue);
  }

  /**
   * Makes boxes of the host's memory, with {@link BoxPolicy#ERROR}.
   *
   * @param boxes (B, T, 5), float32, as in {@link Boxes}
   * @param perImage T, rows of an image
   * @return the targets
   */
  static Boxes<MemorySegment> boxes(MemorySegment boxes, int perImage) {
    return new Boxes<>(boxes, perImage, BoxPolicy.ERROR, null);
  }

  /**
   * Makes boxes of device memory, with {@link BoxPolicy#ERROR}.
   *
   * @param boxes (B, T, 5), float32, as in {@link Boxes}
   * @param perImage T, rows of an image
   * @return the targets
   */
  static Boxes<DeviceBuffer> boxes(DeviceBuffer boxes, int perImage) {
    return new Boxes<>(boxes, perImage, BoxPolicy.ERROR, null);
  }
}
