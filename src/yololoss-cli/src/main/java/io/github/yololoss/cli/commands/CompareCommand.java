package io.github.yololoss.cli.commands;

import io.github.yololoss.cli.files.Progress;
import io.github.yololoss.cli.report.ComparePage;
import io.github.yololoss.cli.report.Comparison;
import io.github.yololoss.cli.report.ComparisonJson;
import io.github.yololoss.cli.report.Curve;
import io.github.yololoss.kit.LossCurve;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code yololoss compare}. */
@Command(
    name = "compare",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Compares trainings by their logs: the loss and its parts over the steps, as a table and as"
            + " one HTML file. A log has a JSON object in each line, as LossLog of the Java library"
            + " writes it: step, total, and layers with xy, wh, confidence_object,"
            + " confidence_background, class.",
    footer = {"", "Example:", "  yololoss compare a.jsonl b.jsonl --output curves.html"})
public final class CompareCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @Parameters(
      arity = "1..*",
      paramLabel = "RUN.jsonl",
      description = "Logs; of a step that is logged twice, the later line counts.")
  private List<Path> files;

  @Option(names = "--output", paramLabel = "FILE", description = "Draw the curves on this page.")
  private Path output;

  @Mixin private JsonOption json;

  @Override
  public Integer call() throws IOException {
    List<Comparison.Run> runs = new ArrayList<>();
    try (Progress progress =
        new Progress(command.commandLine().getErr(), "reading", "logs", files.size())) {
      for (Path file : files) {
        runs.add(Comparison.Run.of(file.toString(), read(file)));
        progress.step(1);
      }
    }
    Comparison comparison = Comparison.of(runs);
    PrintWriter out = command.commandLine().getOut();
    json.write(() -> ComparisonJson.of(comparison));
    if (!json.isStdout()) {
      print(out, comparison);
    }
    if (output != null) {
      Files.writeString(output, ComparePage.of(comparison));
    }
    return 0;
  }

  /** Reads a log, and warns about the lines that are malformed. */
  private List<LossCurve.Step> read(Path file) throws IOException {
    LossCurve curve = LossCurve.read(file);
    if (!curve.malformedLines().isEmpty()) { // a training that was killed truncates its last line
      command
          .commandLine()
          .getErr()
          .printf(
              "%s: malformed lines are skipped: %d, the first is line %d%n",
              file, curve.malformedLines().size(), curve.malformedLines().getFirst());
    }
    return curve.steps();
  }

  private static void print(PrintWriter out, Comparison comparison) {
    out.println(
        "total: of the first step, the least, and the mean of the last tenth of the steps; the"
            + " parts in that tenth");
    out.printf("%9s%12s%12s%12s", "steps", "first", "least", "last");
    for (Curve part : Curve.PARTS) {
      String name = part.name().replace("confidence_", "conf_").replace("background", "backgr");
      out.printf("%12s", name);
    }
    out.println();
    for (Comparison.Run run : comparison.runs()) {
      out.printf(
          Locale.ROOT,
          "%9d%12.6g%12.6g%12.6g",
          run.steps(),
          run.first().get(Curve.TOTAL),
          run.leastTotal(),
          run.lastTenth().get(Curve.TOTAL));
      for (Curve part : Curve.PARTS) {
        out.printf(Locale.ROOT, "%12.6g", run.lastTenth().get(part));
      }
      out.println("  " + run.file());
    }
    out.flush();
  }
}
