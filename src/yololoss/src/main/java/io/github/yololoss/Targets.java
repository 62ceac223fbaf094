package io.github.yololoss;

import java.io.Serializable;
import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * The truths of a batch: dense {@code y_true}, or boxes. Boxes give the same bits as the dense
 * truths they stand for.
 */
public sealed interface Targets {

  /**
   * Dense truths.
   *
   * @param yTrue for each layer (B, H, W, A, 5+C), float32: centre x, centre y, width, height as
   *     fractions of the input, object mask, C class targets
   */
  record Dense(MemorySegment... yTrue) implements Targets {
    /** Refuses null. */
    public Dense {
      Objects.requireNonNull(yTrue, "yTrue");
    }
  }

  /**
   * Sparse truths.
   *
   * @param boxes (B, T, 5), float32: x_min, y_min, x_max, y_max in input pixels, class; unused rows
   *     are zero
   * @param perImage T, rows of an image
   * @param policy what happens to a row that names no object
   * @param weights (B, T), float32: factor of the row's object, at least 0 (the score of mixup), or
   *     null: 1. Of rows that share a cell the last counts
   */
  record Boxes(MemorySegment boxes, int perImage, BoxPolicy policy, MemorySegment weights)
      implements Targets {
    /** Refuses null and a negative number of rows. */
    public Boxes {
      Objects.requireNonNull(boxes, "boxes");
      Objects.requireNonNull(policy, "policy");
      if (perImage < 0) {
        throw new IllegalArgumentException("perImage is " + perImage + ", at least 0 is expected");
      }
    }

    /**
     * Of weight 1.
     *
     * @param boxes (B, T, 5), as above
     * @param perImage T, rows of an image
     * @param policy what happens to a row that names no object
     */
    public Boxes(MemorySegment boxes, int perImage, BoxPolicy policy) {
      this(boxes, perImage, policy, null);
    }
  }

  /**
   * Dense truths in device memory.
   *
   * @param yTrue for each layer as in {@link Dense}
   */
  record DeviceDense(DeviceBuffer... yTrue) implements Targets {
    /** Refuses null. */
    public DeviceDense {
      Objects.requireNonNull(yTrue, "yTrue");
    }
  }

  /**
   * Sparse truths in device memory. The device looks at the rows itself; with {@link
   * BoxPolicy#ERROR} an enqueued call tells of a refused row when its result is read.
   *
   * @param boxes as in {@link Boxes}
   * @param perImage T, rows of an image
   * @param policy what happens to a row that names no object
   * @param weights as in {@link Boxes}
   */
  record DeviceBoxes(DeviceBuffer boxes, int perImage, BoxPolicy policy, DeviceBuffer weights)
      implements Targets {
    /** Refuses null and a negative number of rows. */
    public DeviceBoxes {
      Objects.requireNonNull(boxes, "boxes");
      Objects.requireNonNull(policy, "policy");
      if (perImage < 0) {
        throw new IllegalArgumentException("perImage is " + perImage + ", at least 0 is expected");
      }
    }

    /**
     * Of weight 1.
     *
     * @param boxes (B, T, 5), as above
     * @param perImage T, rows of an image
     * @param policy what happens to a row that names no object
     */
    public DeviceBoxes(DeviceBuffer boxes, int perImage, BoxPolicy policy) {
      this(boxes, perImage, policy, null);
    }
  }

  /**
   * What happens to a row of boxes with no area, a class outside 0..C-1, a centre outside the
   * input, a bad weight, or a NaN.
   */
  enum BoxPolicy {
    /** The call fails, naming image and row, and writes nothing. */
    ERROR(Abi.YL_BOXES_ERROR),
    /** The row is left out and counted. */
    SKIP(Abi.YL_BOXES_SKIP),
    /**
     * A row whose centre lies outside the input is cut to it and counted; what then still names no
     * object, and any other bad row, is left out.
     */
    CLAMP(Abi.YL_BOXES_CLAMP);

    /** On the native boundary. */
    final int value;

    BoxPolicy(int value) {
      this.value = value;
    }
  }

  /**
   * What became of the boxes of a call.
   *
   * @param used rows that name an object
   * @param skipped rows left out
   * @param clamped used rows that were cut to the input
   * @param dropped used rows whose best anchor is in no layer
   * @param collided times that a used row took a cell which an earlier row of the image had
   */
  record BoxCounts(long used, long skipped, long clamped, long dropped, long collided)
      implements Serializable {}

  /**
   * Dense truths, one segment for each layer.
   *
   * @param yTrue for each layer (B, H, W, A, 5+C)
   * @return the targets
   */
  static Dense dense(MemorySegment... yTrue) {
    return new Dense(yTrue);
  }

  /**
   * Boxes, refusing rows that name no object.
   *
   * @param boxes (B, T, 5), as above
   * @param perImage T, rows of an image
   * @return the targets
   */
  static Boxes boxes(MemorySegment boxes, int perImage) {
    return new Boxes(boxes, perImage, BoxPolicy.ERROR, null);
  }

  /**
   * Dense truths in device memory, one buffer for each layer.
   *
   * @param yTrue for each layer (B, H, W, A, 5+C)
   * @return the targets
   */
  static DeviceDense dense(DeviceBuffer... yTrue) {
    return new DeviceDense(yTrue);
  }

  /**
   * Boxes in device memory, refusing rows that name no object.
   *
   * @param boxes (B, T, 5), as above
   * @param perImage T, rows of an image
   * @return the targets
   */
  static DeviceBoxes boxes(DeviceBuffer boxes, int perImage) {
    return new DeviceBoxes(boxes, perImage, BoxPolicy.ERROR, null);
  }
}
