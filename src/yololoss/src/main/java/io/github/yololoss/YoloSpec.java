package io.github.yololoss;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import io.github.yololoss.internal.Abi;
import java.io.Serializable;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/**
 * The outputs of a network: input size, classes, anchors, and the grid and anchors of each layer.
 *
 * <p>Shapes (C order): {@code feats[l]} is (B, H, W, A*(5+C)), or (B, A*(5+C), H, W) for {@link
 * FeatsLayout#NCHW}, and {@code y_true[l]} is (B, H, W, A, 5+C), with B the batch, H and W the grid
 * of layer l, A its anchors and C the classes.
 *
 * {@snippet class="io.github.yololoss.SnippetsTest" region="spec"}
 *
 * <p>Wherever sizes are arguments, their order is: classes, height, width.
 *
 * @param numClasses C, at least 1
 * @param inputHeight height of the network's input in pixels
 * @param inputWidth width of the network's input in pixels
 * @param anchors all anchors; boxes are matched with all of them, whether they are in a layer or
 *     not
 * @param layers the scales, in the order of feats
 * @param ignoreThresh a background cell counts while its best IoU with the truths of its image and
 *     layer is strictly below this
 */
public record YoloSpec(
    int numClasses,
    int inputHeight,
    int inputWidth,
    List<Anchor> anchors,
    List<Layer> layers,
    float ignoreThresh)
    implements Serializable {

  /** The threshold of {@link #yolov3} and {@link #tinyYolov3}. */
  private static final float IGNORE_THRESH = 0.5f;

  /**
   * The size of an anchor.
   *
   * @param width in pixels of the network's input
   * @param height in pixels of the network's input
   */
  public record Anchor(float width, float height) implements Serializable {
    /**
     * Checks the size.
     *
     * @throws IllegalArgumentException if a side is not finite and above 0
     */
    public Anchor {
      if (!(width > 0 && height > 0 && Float.isFinite(width) && Float.isFinite(height))) {
        throw new IllegalArgumentException(
            "anchor [" + width + ", " + height + "]: finite sizes > 0 in pixels are expected");
      }
    }

    /** {@return width and height, such as {@code 10.0x13.0}} */
    @Override
    public String toString() {
      return width + "x" + height;
    }
  }

  /**
   * A scale of the network.
   *
   * @param gridHeight H, rows of the grid
   * @param gridWidth W, columns of the grid
   * @param anchorMask A indices into the spec's anchors
   */
  public record Layer(int gridHeight, int gridWidth, List<Integer> anchorMask)
      implements Serializable {
    /**
     * Checks the sizes, and copies the mask.
     *
     * @throws IllegalArgumentException if a size is less than 1, or the mask is empty
     */
    public Layer {
      atLeastOne("grid height", gridHeight);
      atLeastOne("grid width", gridWidth);
      anchorMask = List.copyOf(anchorMask);
      atLeastOne("number of anchors of a layer", anchorMask.size());
    }

    /** {@return height, width and number of anchors, such as {@code 13x13x3}} */
    @Override
    public String toString() {
      return gridHeight + "x" + gridWidth + "x" + anchorMask.size();
    }
  }

  /**
   * Checks everything that can be checked without a device, and copies the lists.
   *
   * @throws IllegalArgumentException if a size is less than 1, the threshold is not finite, or a
   *     mask has an index that is not an anchor's
   */
  public YoloSpec {
    atLeastOne("num_classes", numClasses);
    atLeastOne("input height", inputHeight);
    atLeastOne("input width", inputWidth);
    anchors = List.copyOf(anchors);
    layers = List.copyOf(layers);
    atLeastOne("number of anchors", anchors.size());
    atLeastOne("number of layers", layers.size());
    if (!Float.isFinite(ignoreThresh)) {
      throw new IllegalArgumentException(
          "ignore_thresh is " + ignoreThresh + ", a finite number is expected");
    }
    for (int l = 0; l < layers.size(); l++) {
      for (int n : layers.get(l).anchorMask()) {
        if (n < 0 || n >= anchors.size()) {
          throw new IllegalArgumentException(
              "anchor_mask of layer "
                  + l
                  + " names anchor "
                  + n
                  + ", expected 0.."
                  + (anchors.size() - 1));
        }
      }
    }
  }

  /**
   * {@return a spec whose layers have the strides 32, 16, 8, ... of keras-yolo3}
   *
   * @param numClasses C
   * @param inputHeight height of the network's input in pixels
   * @param inputWidth width of the network's input in pixels
   * @param anchors pairs of width and height in input pixels
   * @param anchorMask for each layer, indices into anchors; six layers at most
   * @param ignoreThresh a background cell counts while its best IoU is strictly below this
   * @throws IllegalArgumentException if the input is not a multiple of a stride, or a value is out
   *     of range
   */
  public static YoloSpec of(
      int numClasses,
      int inputHeight,
      int inputWidth,
      float[][] anchors,
      int[][] anchorMask,
      float ignoreThresh) {
    int[] strides = new int[anchorMask.length];
    for (int l = 0; l < strides.length; l++) {
      strides[l] = 32 >> l;
    }
    return of(numClasses, inputHeight, inputWidth, anchors, anchorMask, strides, ignoreThresh);
  }

  /**
   * {@return a spec whose layers have the given strides}
   *
   * @param numClasses C
   * @param inputHeight height of the network's input in pixels
   * @param inputWidth width of the network's input in pixels
   * @param anchors pairs of width and height in input pixels
   * @param anchorMask for each layer, indices into anchors
   * @param strides input pixels per grid cell, one for each layer
   * @param ignoreThresh a background cell counts while its best IoU is strictly below this
   * @throws IllegalArgumentException if the input is not a multiple of a stride, or a value is out
   *     of range
   */
  public static YoloSpec of(
      int numClasses,
      int inputHeight,
      int inputWidth,
      float[][] anchors,
      int[][] anchorMask,
      int[] strides,
      float ignoreThresh) {
    if (strides.length != anchorMask.length) {
      throw new IllegalArgumentException(
          strides.length
              + " strides for "
              + anchorMask.length
              + " layers of anchor_mask; one for each is expected");
    }
    List<Anchor> pairs = new ArrayList<>();
    for (float[] anchor : anchors) {
      if (anchor.length != 2) {
        throw new IllegalArgumentException(
            "anchor "
                + pairs.size()
                + " has "
                + anchor.length
                + " values, width and height are expected");
      }
      pairs.add(new Anchor(anchor[0], anchor[1]));
    }
    List<Layer> layers = new ArrayList<>();
    for (int l = 0; l < strides.length; l++) {
      int stride = strides[l];
      if (stride < 1 || inputHeight % stride != 0 || inputWidth % stride != 0) {
        throw new IllegalArgumentException(
            "input_shape ["
                + inputHeight
                + ", "
                + inputWidth
                + "] is not a multiple of the stride "
                + stride
                + " of layer "
                + l);
      }
      List<Integer> mask = new ArrayList<>();
      for (int n : anchorMask[l]) {
        mask.add(n);
      }
      layers.add(new Layer(inputHeight / stride, inputWidth / stride, mask));
    }
    return new YoloSpec(numClasses, inputHeight, inputWidth, pairs, layers, ignoreThresh);
  }

  /**
   * {@return the spec of YOLOv3: three layers and the nine anchors of its COCO weights,
   * ignore_thresh 0.5}
   *
   * @param numClasses C
   * @param inputHeight height of the network's input in pixels, a multiple of 32
   * @param inputWidth width of the network's input in pixels, a multiple of 32
   */
  public static YoloSpec yolov3(int numClasses, int inputHeight, int inputWidth) {
    float[][] anchors = {
      {10, 13}, {16, 30}, {33, 23}, {30, 61}, {62, 45}, {59, 119}, {116, 90}, {156, 198}, {373, 326}
    };
    int[][] anchorMask = {{6, 7, 8}, {3, 4, 5}, {0, 1, 2}};
    return of(numClasses, inputHeight, inputWidth, anchors, anchorMask, IGNORE_THRESH);
  }

  /**
   * {@return the spec of Tiny YOLOv3: two layers, six anchors and the masks of keras-yolo3 (anchor
   * 0 in no layer, anchor 3 in both), ignore_thresh 0.5}
   *
   * @param numClasses C
   * @param inputHeight height of the network's input in pixels, a multiple of 32
   * @param inputWidth width of the network's input in pixels, a multiple of 32
   */
  public static YoloSpec tinyYolov3(int numClasses, int inputHeight, int inputWidth) {
    float[][] anchors = {{10, 14}, {23, 27}, {37, 58}, {81, 82}, {135, 169}, {344, 319}};
    int[][] anchorMask = {{3, 4, 5}, {1, 2, 3}};
    return of(numClasses, inputHeight, inputWidth, anchors, anchorMask, IGNORE_THRESH);
  }

  /**
   * {@return the same spec with another threshold}
   *
   * @param thresh a background cell counts while its best IoU is strictly below this
   */
  public YoloSpec withIgnoreThresh(float thresh) {
    return new YoloSpec(numClasses, inputHeight, inputWidth, anchors, layers, thresh);
  }

  /** {@return classes, sizes and grids in one line; the anchors are only counted} */
  @Override
  public String toString() {
    return numClasses
        + " classes, input "
        + inputHeight
        + "x"
        + inputWidth
        + " (height x width), layers "
        + layers
        + ", "
        + anchors.size()
        + " anchors, ignore_thresh "
        + ignoreThresh;
  }

  /**
   * {@return the number of cells (H*W*A) of an image in a layer}
   *
   * @param layer 0..L-1
   */
  public long cells(int layer) {
    Layer l = layers.get(Objects.checkIndex(layer, layers.size()));
    return product((long) l.gridHeight * l.gridWidth, l.anchorMask.size());
  }

  /**
   * {@return the size in bytes of {@code feats[layer]} or {@code grads[layer]} of a batch, for a
   * type of values} {@code y_true[layer]} has the size for float32.
   *
   * @param layer 0..L-1
   * @param batch B
   * @param type of a value
   * @throws ArithmeticException if the size cannot be addressed
   */
  public long bytes(int layer, int batch, FeatsType type) {
    return product(product(cells(layer), 5L + numClasses), (long) type.bytes() * batch);
  }

  /**
   * {@return the size in bytes of {@code feats[layer]}, {@code grads[layer]} or {@code
   * y_true[layer]} of a batch in float32}
   *
   * @param layer 0..L-1
   * @param batch B
   */
  public long bytes(int layer, int batch) {
    return bytes(layer, batch, FeatsType.FLOAT32);
  }

  /**
   * {@return zeroed memory for feats or grads of a batch, for a type of values: one segment for
   * each layer, aligned to 64 bytes}
   *
   * @param arena owns the memory
   * @param batch B
   * @param type of a value
   */
  public MemorySegment[] allocate(Arena arena, int batch, FeatsType type) {
    MemorySegment[] segments = new MemorySegment[layers.size()];
    for (int l = 0; l < segments.length; l++) {
      segments[l] = arena.allocate(bytes(l, batch, type), 64);
    }
    return segments;
  }

  /**
   * {@return zeroed memory for feats, grads or y_true of a batch in float32: one segment for each
   * layer, aligned to 64 bytes}
   *
   * @param arena owns the memory
   * @param batch B
   */
  public MemorySegment[] allocate(Arena arena, int batch) {
    return allocate(arena, batch, FeatsType.FLOAT32);
  }

  /**
   * {@return zeroed float32 memory for one of {@link CellMaps}: one segment for each layer}
   *
   * @param arena owns the memory
   * @param batch B
   */
  public MemorySegment[] allocateMap(Arena arena, int batch) {
    MemorySegment[] segments = new MemorySegment[layers.size()];
    for (int l = 0; l < segments.length; l++) {
      segments[l] = arena.allocate(product(cells(l), 4L * batch), 64);
    }
    return segments;
  }

  /**
   * {@return device memory for feats, grads or y_true of a batch in float32, one buffer for each
   * layer, to be closed by the caller}
   *
   * @param device a CUDA device
   * @param batch B
   */
  public DeviceBuffer[] allocate(LossDevice device, int batch) {
    return allocate(device, batch, FeatsType.FLOAT32);
  }

  /**
   * {@return device memory for feats or grads of a batch, for a type of values: one buffer for each
   * layer, to be closed by the caller}
   *
   * @param device a CUDA device
   * @param batch B
   * @param type of a value
   * @throws YoloLossException if there is no such device or not that much memory
   */
  public DeviceBuffer[] allocate(LossDevice device, int batch, FeatsType type) {
    DeviceBuffer[] buffers = new DeviceBuffer[layers.size()];
    try {
      for (int l = 0; l < buffers.length; l++) {
        buffers[l] = DeviceBuffer.allocate(device, bytes(l, batch, type));
      }
      return buffers;
    } catch (Throwable t) {
      for (DeviceBuffer buffer : buffers) {
        if (buffer != null) {
          buffer.close();
        }
      }
      throw t;
    }
  }

  /** Returns a yl_config of defaults with the fields that a spec decides. */
  MemorySegment config(Arena arena) {
    MemorySegment layerStructs = arena.allocate(Abi.Layer.LAYOUT, layers.size());
    for (int l = 0; l < layers.size(); l++) {
      Layer layer = layers.get(l);
      int[] mask = layer.anchorMask().stream().mapToInt(Integer::intValue).toArray();
      Abi.Layer.setGridHeight(layerStructs, l, layer.gridHeight());
      Abi.Layer.setGridWidth(layerStructs, l, layer.gridWidth());
      Abi.Layer.setAnchorMask(layerStructs, l, arena.allocateFrom(JAVA_INT, mask));
      Abi.Layer.setAnchorCount(layerStructs, l, mask.length);
    }
    MemorySegment sizes = arena.allocate(JAVA_FLOAT, 2L * anchors.size());
    for (int n = 0; n < anchors.size(); n++) {
      sizes.setAtIndex(JAVA_FLOAT, 2L * n, anchors.get(n).width());
      sizes.setAtIndex(JAVA_FLOAT, 2L * n + 1, anchors.get(n).height());
    }
    MemorySegment config = Abi.Config.allocate(arena);
    Abi.Config.setLayers(config, layerStructs);
    Abi.Config.setAnchors(config, sizes);
    Abi.Config.setLayerCount(config, layers.size());
    Abi.Config.setAnchorCount(config, anchors.size());
    Abi.Config.setInputHeight(config, inputHeight);
    Abi.Config.setInputWidth(config, inputWidth);
    Abi.Config.setNumClasses(config, numClasses);
    Abi.Config.setIgnoreThresh(config, ignoreThresh);
    return config;
  }

  private static long product(long a, long b) {
    try {
      return Math.multiplyExact(a, b);
    } catch (ArithmeticException e) { // which may come without a message
      throw new ArithmeticException(
          a + " * " + b + " cannot be addressed; use a smaller batch, grid or number of classes");
    }
  }

  private static void atLeastOne(String what, int value) {
    if (value < 1) {
      throw new IllegalArgumentException(what + " is " + value + ", at least 1 is expected");
    }
  }
}
