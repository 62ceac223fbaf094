package io.github.yololoss.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.Audit;
import io.github.yololoss.FeatsLayout;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.kit.SpecFile;
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
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code yololoss audit}. */
@Command(
    name = "audit",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Tells what is wrong with truths, row by row, and how boxes fit the anchors. Exit code 1 if"
            + " there are faults.",
    footer = {
      "",
      "Example:",
      "  yololoss audit --annotations train.txt --spec yolov3.json --poor-iou 0.4"
    })
final class AuditCommand implements Callable<Integer> {
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
      names = "--bad-boxes",
      paramLabel = "error|skip|clamp",
      defaultValue = "error",
      description = "The policy whose actions are told; default ${DEFAULT-VALUE}.")
  private Targets.BoxPolicy badBoxes;

  @Option(
      names = "--poor-iou",
      paramLabel = "X",
      defaultValue = "0.3",
      description =
          "Tell boxes whose best possible IoU with an anchor is below; 0: none; default"
              + " ${DEFAULT-VALUE}.")
  private float poorIou;

  @Option(
      names = "--max",
      paramLabel = "N",
      defaultValue = "100",
      description = "The most findings that are listed; default ${DEFAULT-VALUE}.")
  private int most;

  @Option(names = "--json", paramLabel = "FILE|-", description = "Write it as JSON; - for stdout.")
  private String json;

  private static final class Source extends TargetsCommand.Source {
    @Option(
        names = "--y-true",
        paramLabel = "DIR",
        description = "Folder with y_true_<l>.npy (B,H,W,A,5+C).")
    private Path yTrue;
  }

  @Override
  public Integer call() throws IOException {
    if (!(poorIou >= 0 && poorIou <= 1) || most < 0) {
      throw new ParameterException(
          command.commandLine(), "--poor-iou is expected in 0..1, --max at least 0");
    }
    YoloSpec spec = SpecFile.read(specFile);
    try (Arena arena = Arena.ofConfined()) {
      int images;
      Targets<MemorySegment> targets;
      if (source.yTrue != null) {
        BatchFiles files = new BatchFiles(source.yTrue, spec, FeatsLayout.NHWC, arena);
        targets = Targets.dense(files.layers("y_true"));
        images = files.batch();
      } else {
        BatchFiles.Boxes batch = source.read(spec, badBoxes, arena, command.commandLine().getErr());
        targets = batch.boxes();
        images = batch.images();
      }
      Audit audit = Audits.of(spec, targets, images, poorIou, most, command.commandLine().getErr());
      boolean jsonToStdout = "-".equals(json);
      if (json != null) {
        LossJson.write(json, asJson(spec, audit, images), command.commandLine().getOut());
      }
      if (!jsonToStdout) {
        print(command.commandLine().getOut(), spec, audit, images);
      }
      return audit.faults() > 0 ? Main.COMPARISON_FAILED : 0;
    }
  }

  /** As {@code audit --json} writes it. */
  static ObjectNode asJson(YoloSpec spec, Audit audit, int images) {
    ObjectMapper mapper = new ObjectMapper();
    ObjectNode root = mapper.createObjectNode();
    root.put("images", images).put("faults", audit.faults());
    ObjectNode counts = root.putObject("counts");
    for (Audit.Reason reason : Audit.Reason.values()) {
      counts.put(reason.name().toLowerCase(Locale.ROOT), audit.count(reason));
    }
    ArrayNode anchors = root.putArray("anchors");
    for (YoloSpec.Anchor anchor : spec.anchors()) {
      anchors.addArray().add(anchor.width()).add(anchor.height());
    }
    root.set("anchor_use", mapper.valueToTree(audit.anchorUse()));
    List<Float> used = bestIou(audit);
    if (!used.isEmpty()) {
      root.putObject("best_possible_iou")
          .put("boxes", used.size())
          .put("mean", used.stream().mapToDouble(Float::doubleValue).average().orElse(0))
          .put("median", used.get(used.size() / 2))
          .put("least", used.get(0))
          .put("below_half", used.stream().filter(iou -> iou < 0.5).count());
    }
    ArrayNode findings = root.putArray("findings");
    for (Audit.Finding f : audit.findings()) {
      findings
          .addObject()
          .put("reason", f.reason().name().toLowerCase(Locale.ROOT))
          .put("action", f.action().name().toLowerCase(Locale.ROOT))
          .put("image", f.image())
          .put("row", f.row())
          .put("other", f.other())
          .put("layer", f.layer())
          .put("grid_row", f.gridRow())
          .put("grid_column", f.gridColumn())
          .put("anchor", f.anchor())
          .put("value", f.value());
    }
    return root;
  }

  /** The best possible IoU of each box that is used, the least first. */
  private static List<Float> bestIou(Audit audit) {
    return audit.bestIou().stream().flatMap(List::stream).filter(iou -> iou > 0).sorted().toList();
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
    List<Float> used = bestIou(audit);
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
