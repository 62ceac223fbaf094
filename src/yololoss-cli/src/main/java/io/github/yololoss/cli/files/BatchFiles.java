package io.github.yololoss.cli.files;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.FeatsType;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.kit.Npy;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * The arrays of a batch in a folder, each checked against the spec; memory belongs to the arena.
 */
public final class BatchFiles {
  private final Path folder;
  private final YoloSpec spec;
  private final Arena arena;
  private final FeatsLayout layout;
  private FeatsType dataType; // of feats; null until they have been read
  private int batch; // 0 until the first array has been read

  public BatchFiles(Path folder, YoloSpec spec, FeatsLayout layout, Arena arena) {
    if (!Files.isDirectory(folder)) {
      throw new InputException(
          folder + ": " + (Files.exists(folder) ? "not a folder" : "no such folder"));
    }
    this.folder = folder;
    this.spec = spec;
    this.arena = arena;
    this.layout = layout;
  }

  /** Returns the type of feats. */
  public FeatsType dataType() {
    return dataType;
  }

  /** Returns B of the arrays that have been read. */
  public int batch() {
    return batch;
  }

  /**
   * The arrays of all layers, feats in the type of the files, others in float32; the first decides
   * the batch.
   */
  public MemorySegment[] layers(String name) throws IOException {
    MemorySegment[] segments = new MemorySegment[spec.layers().size()];
    Path surplus = folder.resolve(name + "_" + segments.length + ".npy");
    if (Files.exists(surplus)) {
      throw new InputException(surplus + ": the spec has only " + segments.length + " layers");
    }
    for (int l = 0; l < segments.length; l++) {
      Path file = folder.resolve(name + "_" + l + ".npy");
      Npy array = Npy.map(file, arena);
      if (batch == 0
          && array.shape().length > 0
          && array.shape()[0] >= 1
          && array.shape()[0] <= Integer.MAX_VALUE) {
        batch = (int) array.shape()[0];
      }
      long[] expected = shape(name, spec, layout, l, batch);
      if (batch == 0 || !Arrays.equals(array.shape(), expected)) {
        throw new InputException(
            file
                + ": shape "
                + array.shapeText()
                + ", expected "
                + shapeText(expected)
                + " "
                + meaning(name, l));
      }
      if (name.equals("feats") && dataType != null && dataType != array.valueType()) {
        throw new InputException(
            file
                + ": is "
                + array.valueType()
                + ", feats_0.npy is "
                + dataType
                + "; one type is expected");
      }
      if (name.equals("feats")) {
        dataType = array.valueType();
        segments[l] = array.aligned(arena);
      } else {
        segments[l] = array.floats(arena);
      }
    }
    return segments;
  }

  public static long[] shape(String name, YoloSpec spec, FeatsLayout layout, int l, int batch) {
    YoloSpec.Layer layer = spec.layers().get(l);
    int anchors = layer.anchorMask().size();
    long height = layer.gridHeight();
    long width = layer.gridWidth();
    int channels = 5 + spec.numClasses();
    boolean planes = layout == FeatsLayout.NCHW;
    return switch (name) {
      case "y_true" -> new long[] {batch, height, width, anchors, channels};
      case "feats", "grad" ->
          planes
              ? new long[] {batch, (long) anchors * channels, height, width}
              : new long[] {batch, height, width, (long) anchors * channels};
      default -> // a map
          planes
              ? new long[] {batch, anchors, height, width}
              : new long[] {batch, height, width, anchors};
    };
  }

  /** Returns a shape as NumPy writes it; a batch that is not known yet is B. */
  private static String shapeText(long[] shape) {
    return Arrays.toString(shape).replace("[0,", "[B,").replace('[', '(').replace(']', ')');
  }

  private String meaning(String name, int l) {
    int anchors = spec.layers().get(l).anchorMask().size();
    String planes = "(B, A*(5+C), H, W)";
    String rows = "(B, H, W, A*(5+C))";
    return (name.equals("y_true")
            ? "(B, H, W, A, 5+C)"
            : layout == FeatsLayout.NCHW ? planes : rows)
        + " with A = "
        + anchors
        + " and C = "
        + spec.numClasses()
        + " of the spec";
  }

  /** Reads the boxes of the batch, and their weights if box_weights.npy exists. */
  public Targets.Boxes<MemorySegment> boxes(Targets.BoxPolicy policy) throws IOException {
    Targets.Boxes<MemorySegment> boxes =
        boxes(folder.resolve("boxes.npy"), batch, policy, arena).boxes();
    Path file = folder.resolve("box_weights.npy");
    if (!Files.exists(file)) {
      return boxes;
    }
    Npy weights = Npy.map(file, arena);
    long[] expected = {batch, boxes.perImage()};
    if (!Arrays.equals(weights.shape(), expected)) {
      throw new InputException(
          file + ": shape " + weights.shapeText() + ", expected " + shapeText(expected));
    }
    return new Targets.Boxes<>(boxes.boxes(), boxes.perImage(), policy, weights.floats(arena));
  }

  /** The boxes of a number of images. */
  public record Boxes(int images, Targets.Boxes<MemorySegment> boxes) {}

  /** Reads boxes of shape (B, T, 5); batch 0 takes any B. */
  public static Boxes boxes(Path file, int batch, Targets.BoxPolicy policy, Arena arena)
      throws IOException {
    Npy array = Npy.map(file, arena);
    long[] shape = array.shape();
    if (shape.length != 3
        || shape[2] != 5
        || shape[0] < 1
        || batch > 0 && shape[0] != batch
        || shape[0] > Integer.MAX_VALUE
        || shape[1] > Integer.MAX_VALUE) {
      throw new InputException(
          file
              + ": shape "
              + array.shapeText()
              + ", expected ("
              + (batch > 0 ? batch : "B")
              + ", T, 5): x_min, y_min, x_max, y_max, class");
    }
    return new Boxes(
        (int) shape[0], new Targets.Boxes<>(array.floats(arena), (int) shape[1], policy));
  }

  /**
   * Reads the gradient that another call left, to add to it.
   *
   * @param folder with grad_&lt;l&gt;.npy
   * @param type that the gradients must have
   * @param into for each layer, memory of the gradient's size
   */
  public static void readGradients(
      Path folder,
      YoloSpec spec,
      FeatsLayout layout,
      int batch,
      FeatsType type,
      MemorySegment[] into)
      throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      for (int l = 0; l < into.length; l++) {
        Path file = folder.resolve("grad_" + l + ".npy");
        Npy gradient = Npy.map(file, arena);
        long[] expected = shape("grad", spec, layout, l, batch);
        if (gradient.valueType() != type || !Arrays.equals(gradient.shape(), expected)) {
          throw new InputException(
              file
                  + ": "
                  + gradient.valueType()
                  + " of shape "
                  + gradient.shapeText()
                  + ", expected "
                  + type
                  + " of shape "
                  + shapeText(expected));
        }
        into[l].copyFrom(gradient.data());
      }
    }
  }

  /**
   * Returns the layout that the shape of feats_0.npy shows, or the given one where the shape shows
   * neither or both, or where the file is missing.
   */
  public static FeatsLayout layoutOf(Path folder, YoloSpec spec, FeatsLayout given)
      throws IOException {
    Path file = folder.resolve("feats_0.npy");
    if (!Files.exists(file)) {
      return given; // reading the batch says what is missing
    }
    FeatsLayout other = given == FeatsLayout.NHWC ? FeatsLayout.NCHW : FeatsLayout.NHWC;
    try (Arena arena = Arena.ofConfined()) {
      long[] shape = Npy.map(file, arena).shape();
      int images = shape.length > 0 ? (int) Math.clamp(shape[0], 0, Integer.MAX_VALUE) : 0;
      boolean fits = Arrays.equals(shape, shape("feats", spec, given, 0, images));
      boolean fitsOther = Arrays.equals(shape, shape("feats", spec, other, 0, images));
      return !fits && fitsOther ? other : given;
    }
  }

  /** Returns the number of images whose dense truths fit 64 MiB, but at least 8. */
  public static int chunkSize(YoloSpec spec) {
    long bytes = 0;
    for (int l = 0; l < spec.layers().size(); l++) {
      bytes += spec.bytes(l, 1);
    }
    return (int) Math.max(8, (64L << 20) / bytes);
  }

  /** Returns some images of arrays that hold a batch. */
  public static MemorySegment[] slice(MemorySegment[] layers, int batch, int first, int images) {
    return Arrays.stream(layers)
        .map(layer -> slice(layer, batch, first, images))
        .toArray(MemorySegment[]::new);
  }

  private static MemorySegment slice(MemorySegment all, int batch, int first, int images) {
    long bytes = all.byteSize() / batch; // of an image
    return all.asSlice(first * bytes, images * bytes);
  }

  /** Returns some images of truths. */
  public static Targets<MemorySegment> slice(
      Targets<MemorySegment> all, int batch, int first, int images) {
    return switch (all) {
      case Targets.Dense(MemorySegment[] yTrue) ->
          Targets.dense(slice(yTrue, batch, first, images));
      case Targets.Boxes<MemorySegment> b ->
          new Targets.Boxes<>(
              slice(b.boxes(), batch, first, images),
              b.perImage(),
              b.policy(),
              b.weights() == null ? null : slice(b.weights(), batch, first, images));
      default -> throw new AssertionError(all); // files are read into host memory
    };
  }

  /** Adds the file to an exception about refused boxes; returns others unchanged. */
  public static RuntimeException naming(Path boxes, YoloLossException e) {
    return e.status() == YoloLossException.Status.INVALID_BOXES
        ? new InputException(boxes + ": " + e.getMessage())
        : e;
  }
}
