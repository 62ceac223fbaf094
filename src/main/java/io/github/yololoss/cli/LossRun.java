package io.github.yololoss.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.Device;
import io.github.yololoss.LossResult;
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
    BatchFiles files = new BatchFiles(folder, spec, arena);
    MemorySegment[] feats = files.layers("feats");
    Targets truths = readTargets(files);
    batch = files.batch();
    grads = gradient ? spec.allocate(arena, batch) : null;
    try (YoloLoss loss = YoloLoss.builder(spec).maxBatch(batch).device(device).open()) {
      deviceName = loss.deviceName();
      deviceWhy = loss.deviceWhy();
      result = loss.compute(batch, feats, truths, grads);
    } catch (YoloLossException e) {
      throw BatchFiles.naming(folder.resolve("boxes.npy"), e);
    }
    return this;
  }

  private Targets readTargets(BatchFiles files) throws IOException {
    Path dense = folder.resolve("y_true_0.npy");
    Path boxes = folder.resolve("boxes.npy");
    if (targets == null && !Files.exists(dense) && !Files.exists(boxes)) {
      throw new InputException(folder + ": neither y_true_0.npy nor boxes.npy is there");
    }
    if (targets == Form.DENSE || targets == null && Files.exists(dense)) {
      return Targets.dense(files.layers("y_true"));
    }
    return files.boxes();
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
