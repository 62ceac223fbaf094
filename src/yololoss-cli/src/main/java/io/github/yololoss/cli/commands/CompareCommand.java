package io.github.yololoss.cli.commands;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.Part;
import io.github.yololoss.cli.files.Progress;
import io.github.yololoss.cli.report.ComparePage;
import io.github.yololoss.cli.report.Curves;
import io.github.yololoss.kit.LossCurve;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.DoubleStream;
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
  private static final int POINTS = 400; // of a curve

  @Spec private CommandSpec command;

  @Parameters(
      arity = "1..*",
      paramLabel = "RUN.jsonl",
      description = "Logs; of a step that is logged twice, the later line counts.")
  private List<Path> files;

  @Option(names = "--output", paramLabel = "FILE", description = "Draw the curves on this page.")
  private Path output;

  @Mixin private JsonOption json;

  private final ObjectMapper mapper = new ObjectMapper();

  @Override
  public Integer call() throws IOException {
    ObjectNode root = mapper.createObjectNode();
    ArrayNode runs = root.putArray("runs");
    try (Progress progress =
        new Progress(command.commandLine().getErr(), "reading", "logs", files.size())) {
      for (Path file : files) {
        runs.add(run(file));
        progress.step(1);
      }
    }
    putAxes(root);
    PrintWriter out = command.commandLine().getOut();
    json.write(() -> root);
    if (!json.isStdout()) {
      print(out, root);
    }
    if (output != null) {
      Files.writeString(output, ComparePage.of(root));
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

  /** Returns the values of a step, in the order of the curves. */
  private static double[] values(LossCurve.Step step) {
    return DoubleStream.concat(
            DoubleStream.of(step.total()), Part.ALL.stream().mapToDouble(step.parts()::get))
        .toArray();
  }

  private ObjectNode run(Path file) throws IOException {
    List<LossCurve.Step> steps = read(file);
    List<double[]> values = steps.stream().map(CompareCommand::values).toList();
    int count = values.size();
    ObjectNode node =
        mapper
            .createObjectNode()
            .put("file", file.toString())
            .put("steps", count)
            .put("first_step", steps.getFirst().number())
            .put("last_step", steps.getLast().number());
    int tenth = Math.max(1, count / 10);
    putMeans(node.putObject("first"), values.subList(0, 1));
    putMeans(node.putObject("last_tenth"), values.subList(count - tenth, count));
    node.put("least_total", values.stream().mapToDouble(v -> v[0]).min().orElse(Double.NaN));
    ArrayNode points = node.putArray("points");
    int size = (count + POINTS - 1) / POINTS; // of a bucket
    for (int first = 0; first < count; first += size) {
      int end = Math.min(count, first + size);
      putMeans(
          points.addObject().put("step", steps.get(end - 1).number()), values.subList(first, end));
    }
    return node;
  }

  private static void putMeans(ObjectNode node, List<double[]> values) {
    for (int i = 0; i < Curves.NAMES.size(); i++) {
      int curve = i;
      node.put(Curves.NAMES.get(i), values.stream().mapToDouble(v -> v[curve]).average().orElse(0));
    }
  }

  /** Returns the ranges of the axes; logarithmic where values are positive and far apart. */
  private void putAxes(ObjectNode root) {
    long first = Long.MAX_VALUE;
    long last = Long.MIN_VALUE;
    ObjectNode axes = root.putObject("axes");
    for (String curve : Curves.NAMES) {
      double least = Double.POSITIVE_INFINITY;
      double largest = Double.NEGATIVE_INFINITY;
      for (JsonNode run : root.get("runs")) {
        for (JsonNode point : run.get("points")) {
          double value = point.get(curve).asDouble(Double.NaN);
          if (Double.isFinite(value)) {
            least = Math.min(least, value);
            largest = Math.max(largest, value);
          }
          first = Math.min(first, point.get("step").asLong());
          last = Math.max(last, point.get("step").asLong());
        }
      }
      boolean logarithmic = least > 0 && largest > 10 * least;
      axes.putObject(curve)
          .put("least", least > largest ? 0 : logarithmic ? least : Math.min(0, least))
          .put("largest", least > largest ? 1 : largest)
          .put("logarithmic", logarithmic);
    }
    axes.put("first_step", first).put("last_step", last);
  }

  private static void print(PrintWriter out, JsonNode root) {
    out.println(
        "total: of the first step, the least, and the mean of the last tenth of the steps; the"
            + " parts in that tenth");
    out.printf("%9s%12s%12s%12s", "steps", "first", "least", "last");
    for (Part part : Part.ALL) {
      String name = part.jsonName().replace("confidence_", "conf_").replace("background", "backgr");
      out.printf("%12s", name);
    }
    out.println();
    for (JsonNode run : root.get("runs")) {
      out.printf(
          Locale.ROOT,
          "%9d%12.6g%12.6g%12.6g",
          run.get("steps").asLong(),
          run.at("/first/total").asDouble(),
          run.get("least_total").asDouble(),
          run.at("/last_tenth/total").asDouble());
      for (Part part : Part.ALL) {
        out.printf(Locale.ROOT, "%12.6g", run.at("/last_tenth/" + part.jsonName()).asDouble());
      }
      out.println("  " + run.get("file").asText());
    }
    out.flush();
  }
}
