package io.github.yololoss.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.Device;
import io.github.yololoss.LossResult;
import io.github.yololoss.Npy;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.Main.InputException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.TypeConversionException;

/**
 * What {@code loss} and {@code verify} share: a folder of arrays in, a result and gradients out.
 */
final class LossRun {
  enum Form {
    DENSE,
    BOXES
  }

  static final class DeviceConverter implements ITypeConverter<Device> {
    @Override
    public Device convert(String name) {
      try {
        return Device.parse(name);
      } catch (IllegalArgumentException e) {
        throw new TypeConversionException(e.getMessage());
      }
    }
  }

  @Parameters(
      arity = "0..1",
      paramLabel = "DIR",
      description =
          "Folder with feats_<l>.npy (B,H,W,A*(5+C)) and y_true_<l>.npy (B,H,W,A,5+C) or boxes.npy"
              + " (B,T,5).")
  Path folder;

  @Option(
      names = "--spec",
      paramLabel = "FILE",
      description =
          "JSON with anchors, anchor_mask, num_classes, ignore_thresh, input_shape [height,"
              + " width].")
  Path specFile;

  @Option(
      names = "--targets",
      paramLabel = "dense|boxes",
      description = "Truths to use; default: dense where y_true_0.npy is there, else boxes.")
  Form targets;

  @Option(
      names = "--device",
      paramLabel = "D",
      defaultValue = "auto",
      converter = DeviceConverter.class,
      description = "auto, cpu, cuda, cuda:N or reference (double precision); default auto.")
  Device device;

  YoloSpec spec;
  int batch;
  String deviceName;
  String deviceWhy;
  LossResult result;
  MemorySegment[] grads; // null: loss only

  /** Reads, checks and computes. Memory belongs to the arena. */
  LossRun compute(boolean gradient, Arena arena) throws IOException {
    YoloLoss.checkDevice(device);
    spec = SpecFile.read(specFile);
    if (!Files.isDirectory(folder)) {
      throw new InputException(
          folder + ": " + (Files.exists(folder) ? "not a folder" : "no such folder"));
    }
    MemorySegment[] feats = readLayers("feats", arena);
    Targets truths = readTargets(arena);
    grads = gradient ? spec.allocate(arena, batch) : null;
    try (YoloLoss loss = YoloLoss.builder(spec).maxBatch(batch).device(device).open()) {
      deviceName = loss.deviceName();
      deviceWhy = loss.deviceWhy();
      result = loss.compute(batch, feats, truths, grads);
    } catch (YoloLossException e) {
      throw naming(folder.resolve("boxes.npy"), e);
    }
    return this;
  }

  /** Refused boxes with the file that they came from; other exceptions as they are. */
  static RuntimeException naming(Path boxes, YoloLossException e) {
    return e.status() == YoloLossException.Status.INVALID_BOXES
        ? new InputException(boxes + ": " + e.getMessage())
        : e;
  }

  private Targets readTargets(Arena arena) throws IOException {
    Path dense = folder.resolve("y_true_0.npy");
    Path boxes = folder.resolve("boxes.npy");
    if (targets == null && !Files.exists(dense) && !Files.exists(boxes)) {
      throw new InputException(folder + ": neither y_true_0.npy nor boxes.npy is there");
    }
    if (targets == Form.DENSE || targets == null && Files.exists(dense)) {
      return Targets.dense(readLayers("y_true", arena));
    }
    return readBoxes(boxes, batch, Targets.BoxPolicy.ERROR, arena).boxes();
  }

  /** Boxes of a file of shape (B, T, 5); batch 0 takes any B. */
  static TargetsCommand.Batch readBoxes(Path file, int batch, Targets.BoxPolicy policy, Arena arena)
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
    return new TargetsCommand.Batch(
        (int) shape[0], new Targets.Boxes(array.floats(arena), (int) shape[1], policy));
  }

  /** The arrays of all layers; the first decides the batch. */
  private MemorySegment[] readLayers(String name, Arena arena) throws IOException {
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
      long[] expected = shape(name, spec, l, batch);
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
      segments[l] = array.floats(arena);
    }
    return segments;
  }

  static long[] shape(String name, YoloSpec spec, int l, int batch) {
    YoloSpec.Layer layer = spec.layers().get(l);
    int anchors = layer.anchorMask().size();
    int channels = 5 + spec.numClasses();
    return name.equals("y_true")
        ? new long[] {batch, layer.gridHeight(), layer.gridWidth(), anchors, channels}
        : new long[] {batch, layer.gridHeight(), layer.gridWidth(), (long) anchors * channels};
  }

  /** As NumPy writes it; a batch that is not known yet is B. */
  private static String shapeText(long[] shape) {
    return Arrays.toString(shape).replace("[0,", "[B,").replace('[', '(').replace(']', ')');
  }

  private String meaning(String name, int l) {
    int anchors = spec.layers().get(l).anchorMask().size();
    return (name.equals("y_true") ? "(B, H, W, A, 5+C)" : "(B, H, W, A*(5+C))")
        + " with A = "
        + anchors
        + " and C = "
        + spec.numClasses()
        + " of the spec";
  }

  /** The result, with the fields and the meaning of a golden case's expected.json. */
  ObjectNode json() {
    ObjectNode root = new ObjectMapper().createObjectNode();
    root.put("total", result.total())
        .put("batch", batch)
        .put("normaliser", result.normaliser())
        .put("non_finite", result.nonFinite());
    ArrayNode layers = root.putArray("layers");
    for (int l = 0; l < result.layers(); l++) {
      LossResult.Parts p = result.layer(l);
      layers
          .addObject()
          .put("xy", p.xy())
          .put("wh", p.wh())
          .put("confidence", p.confidence())
          .put("class", p.classes())
          .put("confidence_object", p.confidenceObject())
          .put("confidence_background", p.confidenceBackground())
          .put("object_count", p.objects())
          .put("ignore_count", p.ignored())
          .put("ignore_count_background", p.ignoredBackground())
          .put("ignore_mask_sum", ignoreMaskSum(l))
          .put("non_finite", p.nonFinite());
    }
    Targets.BoxCounts boxes = result.boxes();
    if (boxes.used() + boxes.skipped() > 0) {
      root.putObject("boxes")
          .put("used", boxes.used())
          .put("skipped", boxes.skipped())
          .put("dropped", boxes.dropped())
          .put("collided", boxes.collided());
    }
    root.putObject("device").put("name", deviceName).put("why", deviceWhy);
    return root;
  }

  /** Cells with k = 1, as the reference's K.sum(ignore_mask). */
  long ignoreMaskSum(int l) {
    return spec.cells(l) * batch - result.layer(l).ignored();
  }
}
