package io.github.yololoss.cli.commands;

import io.github.yololoss.Audit;
import io.github.yololoss.FeatsLayout;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.files.BatchFiles;
import io.github.yololoss.cli.files.ExitCode;
import io.github.yololoss.cli.run.AuditJson;
import io.github.yololoss.cli.run.Audits;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code yololoss audit}. */
@Command(
    name = "audit",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Reports what is wrong with truths, row by row, and how boxes fit the anchors. Exit code 1"
            + " if there are faults.",
    footer = {
      "",
      "Example:",
      "  yololoss audit --annotations train.txt --spec yolov3.json --poor-iou 0.4"
    })
public final class AuditCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @ArgGroup(multiplicity = "1")
  private Source source;

  @Mixin private ImagesRootOption imagesRoot;

  @Mixin private SpecOption spec;

  @Mixin private BadBoxesOption badBoxes;

  @Mixin private PoorIouOption poorIou;

  private int most;

  @Option(
      names = "--max",
      paramLabel = "N",
      defaultValue = "100",
      description = "The largest number of findings that are listed; default ${DEFAULT-VALUE}.")
  void setMost(int value) {
    most = Options.atLeast(command, "--max", 0, value);
  }

  @Mixin private JsonOption json;

  private static final class Source extends TruthSource {
    @Option(
        names = "--y-true",
        paramLabel = "DIR",
        description = "Folder with y_true_<l>.npy (B,H,W,A,5+C).")
    private Path yTrue;
  }

  @Override
  public Integer call() throws IOException {
    YoloSpec network = spec.read().spec();
    try (Arena arena = Arena.ofConfined()) {
      final int images;
      Targets<MemorySegment> targets;
      if (source.yTrue != null) {
        BatchFiles files = new BatchFiles(source.yTrue, network, FeatsLayout.NHWC, arena);
        targets = Targets.dense(files.layers("y_true"));
        images = files.batch();
      } else {
        BatchFiles.Boxes batch =
            source.read(
                network,
                badBoxes.policy(),
                imagesRoot.folder(),
                arena,
                command.commandLine().getErr());
        targets = batch.boxes();
        images = batch.images();
      }
      Audit audit =
          Audits.of(
              network, targets, images, poorIou.value(), most, command.commandLine().getErr());
      json.write(() -> AuditJson.of(network, audit, images));
      if (!json.isStdout()) {
        print(command.commandLine().getOut(), network, audit, images);
      }
      return (audit.faults() > 0 ? ExitCode.DIFFERENT : ExitCode.OK).code();
    }
  }

  private static void print(PrintWriter out, YoloSpec spec, Audit audit, int images) {
    audit.findings().forEach(out::println);
    long all = audit.counts().values().stream().mapToLong(Long::longValue).sum();
    if (all > audit.findings().size()) {
      out.println("... and " + (all - audit.findings().size()) + " more");
    }
    out.println(images + " images, " + audit.faults() + " faults");
    for (Audit.Reason reason : Audit.Reason.values()) {
      if (audit.count(reason) > 0) {
        out.println(audit.count(reason) + "  " + reason.text());
      }
    }
    List<Float> used = AuditJson.bestIou(audit);
    if (!used.isEmpty()) {
      double mean = used.stream().mapToDouble(Float::doubleValue).average().orElse(0);
      out.println(
          String.format(
              Locale.ROOT,
              "best possible IoU of %d boxes: mean %.3f, median %.3f, least %.3f",
              used.size(),
              mean,
              used.get(used.size() / 2),
              used.get(0)));
    }
    out.println("use of the anchors in each layer:");
    for (int n = 0; n < spec.anchors().size(); n++) {
      YoloSpec.Anchor anchor = spec.anchors().get(n);
      String size = anchor.width() + "x" + anchor.height();
      StringBuilder line = new StringBuilder(String.format(Locale.ROOT, "%3d  %-14s", n, size));
      for (List<Long> layer : audit.anchorUse()) {
        line.append(String.format(Locale.ROOT, "%9d", layer.get(n)));
      }
      out.println(line);
    }
    out.flush();
  }
}
