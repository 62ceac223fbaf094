package io.github.yololoss.cli;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossDevice;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.kit.Annotations;
import io.github.yololoss.kit.Npy;
import io.github.yololoss.kit.SpecFile;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code yololoss targets}. */
@Command(
    name = "targets",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Makes truths from an annotation file or from boxes: boxes.npy (B,T,5) and y_true_<l>.npy"
            + " (B,H,W,A,5+C).",
    footer = {
      "",
      "Example:",
      "  yololoss targets --annotations train.txt --spec yolov3.json --output truths"
    })
final class TargetsCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @ArgGroup(multiplicity = "1")
  private Source source;

  @Option(
      names = "--spec",
      required = true,
      paramLabel = "FILE",
      description =
          "JSON with anchors, anchor_mask, num_classes, ignore_thresh, input_shape [height,"
              + " width].")
  private Path specFile;

  @Option(
      names = "--output",
      required = true,
      paramLabel = "DIR",
      description = "Where to; made if it is not there.")
  private Path output;

  @Option(
      names = "--bad-boxes",
      paramLabel = "error|skip|clamp",
      defaultValue = "error",
      description =
          "Boxes without area, with a class outside 0..C-1 or a centre outside the input: refuse"
              + " them (default), leave them out and count them, or cut those that reach out of the"
              + " input and leave out the rest.")
  private Targets.BoxPolicy badBoxes;

  /** Where boxes come from. */
  static class Source {
    @Option(
        names = "--annotations",
        paramLabel = "FILE",
        description = "keras-yolo3 annotation file; boxes are letterboxed into the input.")
    Path annotations;

    @Option(
        names = "--boxes",
        paramLabel = "FILE",
        description = "boxes.npy (B,T,5) in input pixels.")
    Path boxes;

    BatchFiles.Boxes read(YoloSpec spec, Targets.BoxPolicy policy, Arena arena, PrintWriter err)
        throws IOException {
      return boxes != null
          ? BatchFiles.boxes(boxes, 0, policy, arena)
          : annotated(annotations, spec, policy, arena, err);
    }
  }

  @Override
  public Integer call() throws IOException {
    YoloSpec spec = SpecFile.read(specFile);
    try (Arena arena = Arena.ofConfined()) {
      BatchFiles.Boxes batch = source.read(spec, badBoxes, arena, command.commandLine().getErr());
      MemorySegment[] yTrue;
      Targets.BoxCounts counts;
      try (YoloLoss loss =
          YoloLoss.builder(spec).maxBatch(batch.images()).device(LossDevice.CPU).open()) {
        yTrue = spec.allocate(arena, batch.images());
        counts = loss.buildYTrue(batch.images(), batch.boxes(), yTrue);
      } catch (YoloLossException e) {
        throw BatchFiles.naming(source.boxes != null ? source.boxes : source.annotations, e);
      }
      Files.createDirectories(output);
      Npy.write(
          output.resolve("boxes.npy"),
          batch.boxes().boxes(),
          batch.images(),
          batch.boxes().perImage(),
          5);
      for (int l = 0; l < yTrue.length; l++) {
        Npy.write(
            output.resolve("y_true_" + l + ".npy"),
            yTrue[l],
            BatchFiles.shape("y_true", spec, FeatsLayout.NHWC, l, batch.images()));
      }
      PrintWriter out = command.commandLine().getOut();
      out.println(
          batch.images()
              + " images, at most "
              + batch.boxes().perImage()
              + " boxes in one; "
              + counts.used()
              + " boxes used, "
              + counts.skipped()
              + " skipped, "
              + counts.clamped()
              + " clamped, "
              + counts.dropped()
              + " without a layer, "
              + counts.collided()
              + " on a taken cell");
      for (int l = 0; l < yTrue.length; l++) {
        out.println("layer " + l + ": " + objects(yTrue[l], 5 + spec.numClasses()) + " objects");
      }
      return 0;
    }
  }

  /** The boxes of an annotation file. */
  private static BatchFiles.Boxes annotated(
      Path file, YoloSpec spec, Targets.BoxPolicy policy, Arena arena, PrintWriter err)
      throws IOException {
    List<float[][]> images;
    try (Progress progress = new Progress(err, "annotations", "pictures")) {
      images = Annotations.read(file, spec, progress::reached);
    }
    int rows = images.stream().mapToInt(boxes -> boxes.length).max().orElse(0);
    MemorySegment packed = arena.allocate(JAVA_FLOAT, 5L * rows * images.size());
    for (int i = 0; i < images.size(); i++) {
      float[][] boxes = images.get(i);
      for (int t = 0; t < boxes.length; t++) {
        MemorySegment.copy(boxes[t], 0, packed, JAVA_FLOAT, 20L * ((long) i * rows + t), 5);
      }
    }
    return new BatchFiles.Boxes(images.size(), new Targets.Boxes<>(packed, rows, policy));
  }

  private static long objects(MemorySegment yTrue, int channels) {
    long count = 0;
    for (long at = 4; at < yTrue.byteSize() / Float.BYTES; at += channels) {
      count += yTrue.getAtIndex(JAVA_FLOAT, at) != 0 ? 1 : 0;
    }
    return count;
  }
}
