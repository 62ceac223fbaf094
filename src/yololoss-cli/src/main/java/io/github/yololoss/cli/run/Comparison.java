package io.github.yololoss.cli.run;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.yololoss.FeatsLayout;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.files.BatchFiles;
import io.github.yololoss.cli.files.InputException;
import io.github.yololoss.cli.files.Progress;
import io.github.yololoss.kit.Json;
import io.github.yololoss.kit.Npy;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/** What a run gave beside what another program gave, value by value. */
public final class Comparison {
  private static final List<String> FIELDS =
      List.of(
          "xy",
          "wh",
          "confidence",
          "class",
          "object_count",
          "ignore_count",
          "ignore_count_background");

  /**
   * @param lossRtol relative tolerance of total and parts
   * @param lossAtol absolute tolerance of total and parts
   * @param gradRtol of the gradient, relative to the layer's largest element
   * @param gradAtol of the gradient, absolute
   */
  public record Tolerances(double lossRtol, double lossAtol, double gradRtol, double gradAtol) {}

  private final LossRun run;
  private final Path json; // or null: no loss to compare
  private final Path gradients; // a folder with grad_<l>.npy, or null
  private final Tolerances tolerances;
  private final PrintWriter out; // or null: only counted
  private int compared;
  private int failed;

  /**
   * Against JSON as written by {@code loss --json}, or a folder with expected.json or grad_0.npy.
   *
   * @param out for a line for each value, or null
   */
  public Comparison(LossRun run, Path against, Tolerances tolerances, PrintWriter out) {
    if (!Files.exists(against)) {
      throw new InputException(against + ": no such file or folder");
    }
    boolean folder = Files.isDirectory(against);
    Path file = folder ? against.resolve("expected.json") : against;
    this.run = run;
    this.tolerances = tolerances;
    this.out = out;
    json = Files.exists(file) ? file : null;
    gradients = folder && Files.exists(against.resolve("grad_0.npy")) ? against : null;
    if (json == null && gradients == null) {
      throw new InputException(against + ": neither expected.json nor grad_0.npy is there");
    }
  }

  public int compared() {
    return compared;
  }

  public int failed() {
    return failed;
  }

  /** Whether the run must have gradients. */
  public boolean needsGradients() {
    return gradients != null;
  }

  /** Compares everything that is there. */
  public void compare(Arena arena) throws IOException {
    if (json != null) {
      compareLoss(json);
    }
    for (int l = 0; gradients != null && l < run.grads.length; l++) {
      compareGradient(l, arena);
    }
  }

  /** The total that is compared with, or NaN if there is none. */
  public double total() throws IOException {
    return json == null ? Double.NaN : Json.read(json).path("total").asDouble(Double.NaN);
  }

  private void compareLoss(Path file) throws IOException {
    JsonNode want = Json.read(file);
    JsonNode got = LossJson.of(run);
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
    double tolerance =
        count ? 0 : tolerances.lossRtol * Math.abs(want.asDouble()) + tolerances.lossAtol;
    boolean close = difference <= tolerance && Double.isFinite(difference);
    line(close, what, got.asDouble(), want.asDouble(), difference, tolerance, "");
  }

  private void compareGradient(int l, Arena arena) throws IOException {
    Path file = gradients.resolve("grad_" + l + ".npy");
    Npy want = Npy.map(file, arena);
    FeatsLayout other = run.layout == FeatsLayout.NHWC ? FeatsLayout.NCHW : FeatsLayout.NHWC;
    if (Arrays.equals(want.shape(), BatchFiles.shape("grad", run.spec, other, l, run.batch))
        && !Arrays.equals(
            want.shape(), BatchFiles.shape("grad", run.spec, run.layout, l, run.batch))) {
      throw new InputException(
          file
              + ": shape "
              + want.shapeText()
              + " is "
              + other
              + ", feats are "
              + run.layout
              + "; permute one of them");
    }
    MemorySegment got = run.grads[l];
    long count = got.byteSize() / Float.BYTES;
    if (want.size() != count) {
      throw new InputException(
          file + ": shape " + want.shapeText() + ", " + count + " values are expected");
    }
    double largest = 0;
    double worst = -1;
    long at = 0;
    long ofImage = count / run.batch;
    long next = ofImage;
    try (Progress progress = run.progress("comparing grad_" + l, run.batch)) {
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
        if (i + 1 == next) {
          progress.step(1);
          next += ofImage;
        }
      }
    }
    double tolerance = tolerances.gradAtol + tolerances.gradRtol * largest;
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
    if (run.layout == FeatsLayout.NCHW) {
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
    if (out == null) {
      return;
    }
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
