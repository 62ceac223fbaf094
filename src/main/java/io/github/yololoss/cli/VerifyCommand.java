package io.github.yololoss.cli;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.yololoss.Layout;
import io.github.yololoss.Npy;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.Main.InputException;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code yololoss verify}. */
@Command(
    name = "verify",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Computes the loss and gradient and compares them with others: largest differences and"
            + " where they are.",
    footer = {
      "",
      "Exit code 0 if all agree, 1 if not.",
      "",
      "Example:",
      "  yololoss verify dump --spec yolov3.json --against theirs"
    })
final class VerifyCommand implements Callable<Integer> {
  private static final List<String> FIELDS =
      List.of(
          "xy",
          "wh",
          "confidence",
          "class",
          "object_count",
          "ignore_count",
          "ignore_count_background");

  @Spec private CommandSpec command;

  @Mixin private LossRun run;

  @Option(
      names = "--against",
      required = true,
      paramLabel = "FILE|DIR",
      description =
          "JSON as written by loss --json, or a folder with expected.json and/or grad_<l>.npy.")
  private Path against;

  @Option(
      names = "--loss-rtol",
      defaultValue = "1e-5",
      description = "Relative tolerance of total and parts; default ${DEFAULT-VALUE}.")
  private double lossRtol;

  @Option(
      names = "--loss-atol",
      defaultValue = "1e-6",
      description = "Absolute tolerance of total and parts; default ${DEFAULT-VALUE}.")
  private double lossAtol;

  @Option(
      names = "--grad-rtol",
      defaultValue = "1e-5",
      description =
          "Tolerance of the gradient relative to the layer's largest element; default"
              + " ${DEFAULT-VALUE}.")
  private double gradRtol;

  @Option(
      names = "--grad-atol",
      defaultValue = "1e-6",
      description = "Absolute tolerance of the gradient; default ${DEFAULT-VALUE}.")
  private double gradAtol;

  private int compared;
  private int failed;

  @Override
  public Integer call() throws IOException {
    if (run.folder == null || run.specFile == null) {
      throw new ParameterException(command.commandLine(), "give DIR and --spec FILE");
    }
    if (!Files.exists(against)) {
      throw new InputException(against + ": no such file or folder");
    }
    boolean folder = Files.isDirectory(against);
    Path json = folder ? against.resolve("expected.json") : against;
    boolean gradients = folder && Files.exists(against.resolve("grad_0.npy"));
    if (folder && !gradients && !Files.exists(json)) {
      throw new InputException(against + ": neither expected.json nor grad_0.npy is there");
    }
    try (Arena arena = Arena.ofConfined()) {
      run.gradient = gradients;
      run.float32Gradients = true; // what is compared is not rounded to 16 bits
      run.compute(arena);
      if (Files.exists(json)) {
        compareLoss(json);
      }
      for (int l = 0; gradients && l < run.grads.length; l++) {
        compareGradient(l, arena);
      }
    }
    command
        .commandLine()
        .getOut()
        .println(
            failed == 0 ? "all " + compared + " agree" : failed + " of " + compared + " differ");
    return failed == 0 ? 0 : Main.COMPARISON_FAILED;
  }

  private void compareLoss(Path file) throws IOException {
    JsonNode want = SpecFile.readJson(file);
    JsonNode got = run.json();
    if (!want.has("total") && !want.has("layers")) {
      throw new InputException(file + ": neither total nor layers is in it");
    }
    if (want.has("total")) {
      compare(file, "total", got.get("total"), want.get("total"));
    }
    JsonNode layers = want.path("layers");
    if (!layers.isMissingNode()
        && (!layers.isArray() || layers.size() != got.get("layers").size())) {
      throw new InputException(
          file
              + ": layers has "
              + layers.size()
              + " entries, the spec has "
              + got.get("layers").size());
    }
    for (int l = 0; l < layers.size(); l++) {
      for (String field : FIELDS) {
        JsonNode mine = got.get("layers").get(l).get(field);
        compare(file, "layer " + l + " " + field, mine, layers.get(l).get(field));
      }
    }
  }

  /** Counts exactly. Fields that the other side does not have are left out. */
  private void compare(Path file, String what, JsonNode got, JsonNode want) {
    if (want == null) {
      return;
    }
    if (!want.isNumber()) {
      throw new InputException(file + ": " + what + " is " + want + ", a number is expected");
    }
    double difference = Math.abs(got.asDouble() - want.asDouble());
    boolean count = got.isIntegralNumber();
    double tolerance = count ? 0 : lossRtol * Math.abs(want.asDouble()) + lossAtol;
    boolean close = difference <= tolerance && Double.isFinite(difference);
    line(close, what, got.asDouble(), want.asDouble(), difference, tolerance, "");
  }

  private void compareGradient(int l, Arena arena) throws IOException {
    Path file = against.resolve("grad_" + l + ".npy");
    Npy want = Npy.map(file, arena);
    MemorySegment got = run.grads[l];
    long count = got.byteSize() / Float.BYTES;
    if (want.size() != count) {
      throw new InputException(
          file + ": shape " + want.shapeText() + ", " + count + " values are expected");
    }
    double largest = 0;
    double worst = -1;
    long at = 0;
    for (long i = 0; i < count; i++) {
      double difference = Math.abs(got.getAtIndex(JAVA_FLOAT, i) - want.get(i));
      if (Double.isNaN(difference)) {
        difference = Double.POSITIVE_INFINITY;
      }
      if (difference > worst) {
        worst = difference;
        at = i;
      }
      if (Double.isFinite(want.get(i))) {
        largest = Math.max(largest, Math.abs(want.get(i)));
      }
    }
    double tolerance = gradAtol + gradRtol * largest;
    line(
        worst <= tolerance,
        "grad_" + l,
        got.getAtIndex(JAVA_FLOAT, at),
        want.get(at),
        worst,
        tolerance,
        " worst at " + address(l, at));
  }

  private String address(int l, long index) {
    YoloSpec.Layer layer = run.spec.layers().get(l);
    int channels = 5 + run.spec.numClasses();
    int anchors = layer.anchorMask().size();
    long places = (long) layer.gridHeight() * layer.gridWidth();
    long channel = index % channels;
    long cell = index / channels;
    if (run.layout == Layout.NCHW) {
      channel = index / places % channels;
      long image = index / places / channels / anchors;
      cell = (image * places + index % places) * anchors + index / places / channels % anchors;
    }
    long place = cell / anchors;
    String[] names = {"tx", "ty", "tw", "th", "objectness"};
    return "image "
        + place / layer.gridWidth() / layer.gridHeight()
        + ", row "
        + place / layer.gridWidth() % layer.gridHeight()
        + ", column "
        + place % layer.gridWidth()
        + ", anchor "
        + cell % anchors
        + ", "
        + (channel < 5 ? names[(int) channel] : "class " + (channel - 5));
  }

  private void line(
      boolean ok,
      String what,
      double got,
      double want,
      double difference,
      double tolerance,
      String where) {
    ++compared;
    failed += ok ? 0 : 1;
    PrintWriter out = command.commandLine().getOut();
    out.println(
        String.format(
            Locale.ROOT,
            "%-5s%-32s%16.9g%16.9g  difference %.3g, tolerance %.3g%s",
            ok ? "ok" : "FAIL",
            what,
            got,
            want,
            difference,
            tolerance,
            where));
  }
}
