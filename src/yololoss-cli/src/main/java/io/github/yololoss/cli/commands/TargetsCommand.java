package io.github.yololoss.cli.commands;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossDevice;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.files.BatchFiles;
import io.github.yololoss.cli.files.ExitCode;
import io.github.yololoss.kit.Npy;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
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
public final class TargetsCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @ArgGroup(multiplicity = "1")
  private TruthSource source;

  @Mixin private ImagesRootOption imagesRoot;

  @Mixin private SpecOption spec;

  @Option(
      names = "--output",
      required = true,
      paramLabel = "DIR",
      description = "Folder for the arrays; created if it does not exist.")
  private Path output;

  @Mixin private BadBoxesOption badBoxes;

  @Override
  public Integer call() throws IOException {
    YoloSpec network = spec.read().spec();
    try (Arena arena = Arena.ofConfined()) {
      BatchFiles.Boxes batch =
          source.read(
              network,
              badBoxes.policy(),
              imagesRoot.folder(),
              arena,
              command.commandLine().getErr());
      MemorySegment[] yTrue;
      Targets.BoxCounts counts;
      try (YoloLoss loss =
          YoloLoss.builder(network).maxBatch(batch.images()).device(LossDevice.CPU).open()) {
        yTrue = network.allocate(arena, batch.images());
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
            BatchFiles.shape("y_true", network, FeatsLayout.NHWC, l, batch.images()));
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
        out.println("layer " + l + ": " + objects(yTrue[l], 5 + network.numClasses()) + " objects");
      }
      return ExitCode.OK.code();
    }
  }

  private static long objects(MemorySegment yTrue, int channels) {
    long count = 0;
    for (long at = 4; at < yTrue.byteSize() / Float.BYTES; at += channels) {
      count += yTrue.getAtIndex(JAVA_FLOAT, at) != 0 ? 1 : 0;
    }
    return count;
  }
}
