package io.github.yololoss.cli.run;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossResult.Parts;
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
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.ToDoubleFunction;

/**
 * The loss and gradient that another program computed for a batch, to compare runs with. Everything
 * is read and checked once; runs of the batch under any convention are then compared in memory.
 */
public final class Verification {
  /**
   * How far two values may be apart.
   *
   * @param lossRtol relative tolerance of total and parts
   * @param lossAtol absolute tolerance of total and parts
   * @param gradRtol tolerance of the gradient relative to the layer's largest element
   * @param gradAtol absolute tolerance of the gradient
   */
  public record Tolerances(double lossRtol, double lossAtol, double gradRtol, double gradAtol) {}

  /**
   * The outcome for one value, or for the gradient of one layer.
   *
   * @param agrees whether the difference is within the tolerance
   * @param what the value's name
   * @param got this program's value
   * @param want the other program's value
   * @param difference between the two
   * @param tolerance that was applied
   * @param where the worst element of a gradient is, else empty
   */
  public record Check(
      boolean agrees,
      String what,
      double got,
      double want,
      double difference,
      double tolerance,
      String where) {}

  /** A field of a layer in expected.json. Counts are compared exactly. */
  private record Field(String name, boolean count, ToDoubleFunction<Parts> value) {}

  private static final List<Field> FIELDS =
      List.of(
          new Field("xy", false, Parts::xy),
          new Field("wh", false, Parts::wh),
          new Field("confidence", false, Parts::confidence),
          new Field("class", false, Parts::classes),
          new Field("object_count", true, Parts::objects),
          new Field("ignore_count", true, Parts::ignored),
          new Field("ignore_count_background", true, Parts::ignoredBackground));

  private static final List<String> CHANNELS = List.of("tx", "ty", "tw", "th", "objectness");

  /** A field of a layer that the other program's JSON has. */
  private record Wanted(int layer, Field field, double value) {}

  private final Batch batch;
  private final Tolerances tolerances;
  private final PrintWriter err;
  private Double total; // null: the JSON has none
  private final List<Wanted> fields = new ArrayList<>();
  private final List<Npy> gradients = new ArrayList<>(); // of all layers, or empty

  /**
   * Reads what to compare with.
   *
   * @param against JSON as {@code loss --json} writes it, or a folder with expected.json, with
   *     grad_&lt;l&gt;.npy, or with both
   * @param batch whose runs are compared
   * @param tolerances of the comparison
   * @param arena owns the gradients
   * @param err where the progress line goes
   */
  public Verification(
      Path against, Batch batch, Tolerances tolerances, Arena arena, PrintWriter err)
      throws IOException {
    this.batch = batch;
    this.tolerances = tolerances;
    this.err = err;
    if (!Files.exists(against)) {
      throw new InputException(against + ": no such file or folder");
    }
    boolean folder = Files.isDirectory(against);
    Path json = folder ? against.resolve("expected.json") : against;
    boolean hasJson = Files.exists(json);
    if (hasJson) {
      readLoss(json);
    }
    if (folder) {
      readGradients(against, arena);
    }
    if (!hasJson && gradients.isEmpty()) {
      throw new InputException(
          against + ": neither expected.json nor grad_0.npy is there; one of them is needed");
    }
  }

  private void readLoss(Path file) throws IOException {
    JsonNode root = Json.read(file);
    if (!root.has("total") && !root.has("layers")) {
      throw new InputException(file + ": neither total nor layers is in it");
    }
    if (root.has("total")) {
      total = number(file, "total", root.get("total"));
    }
    JsonNode layers = root.path("layers");
    int expected = batch.spec().layers().size();
    if (!layers.isMissingNode() && (!layers.isArray() || layers.size() != expected)) {
      throw new InputException(
          file + ": layers has " + layers.size() + " entries, the spec has " + expected);
    }
    for (int l = 0; l < layers.size(); l++) {
      for (Field field : FIELDS) {
        JsonNode value = layers.get(l).get(field.name);
        if (value != null) {
          fields.add(new Wanted(l, field, number(file, name(l, field), value)));
        }
      }
    }
    if (total == null && fields.isEmpty()) {
      throw new InputException(
          file
              + ": layers has none of the fields "
              + String.join(", ", FIELDS.stream().map(Field::name).toList())
              + "; there is nothing to compare");
    }
  }

  private static String name(int layer, Field field) {
    return "layer " + layer + " " + field.name;
  }

  private static double number(Path file, String what, JsonNode value) {
    if (!value.isNumber()) {
      throw new InputException(file + ": " + what + " is " + value + ", a number is expected");
    }
    return value.asDouble();
  }

  /** Maps the gradients of all layers, if the folder has that of any. */
  private void readGradients(Path folder, Arena arena) throws IOException {
    int layers = batch.spec().layers().size();
    List<Path> found = new ArrayList<>();
    for (int l = 0; l <= layers; l++) { // one more than expected, which must not exist
      Path file = folder.resolve("grad_" + l + ".npy");
      if (Files.exists(file)) {
        found.add(file);
      }
    }
    if (found.isEmpty()) {
      return;
    }
    if (found.getLast().endsWith("grad_" + layers + ".npy")) {
      throw new InputException(found.getLast() + ": the spec has only " + layers + " layers");
    }
    for (int l = 0; l < layers; l++) {
      Path file = folder.resolve("grad_" + l + ".npy");
      if (!found.contains(file)) {
        throw new InputException(
            file
                + ": no such file, but "
                + found.getFirst().getFileName()
                + " is there; the gradient of each of the "
                + layers
                + " layers is expected");
      }
      Npy gradient = Npy.map(file, arena);
      checkShape(file, l, gradient);
      gradients.add(gradient);
    }
  }

  private void checkShape(Path file, int l, Npy gradient) {
    FeatsLayout layout = batch.layout();
    FeatsLayout other = layout == FeatsLayout.NHWC ? FeatsLayout.NCHW : FeatsLayout.NHWC;
    long[] expected = BatchFiles.shape("grad", batch.spec(), layout, l, batch.images());
    long[] transposed = BatchFiles.shape("grad", batch.spec(), other, l, batch.images());
    if (Arrays.equals(gradient.shape(), transposed) && !Arrays.equals(transposed, expected)) {
      throw new InputException(
          file
              + ": shape "
              + gradient.shapeText()
              + " is "
              + other
              + ", feats are "
              + layout
              + "; permute one of them");
    }
    long count = Arrays.stream(expected).reduce(1, Math::multiplyExact);
    if (gradient.size() != count) {
      throw new InputException(
          file + ": shape " + gradient.shapeText() + ", " + count + " values are expected");
    }
  }

  /** Returns how many values are compared; the gradient of a layer counts as one. */
  public int count() {
    return (total == null ? 0 : 1) + fields.size() + gradients.size();
  }

  /** Returns whether a run must have the gradient. */
  public boolean needsGradients() {
    return !gradients.isEmpty();
  }

  /** Returns the other program's total, or NaN if it is not known. */
  public double total() {
    return total == null ? Double.NaN : total;
  }

  /** Compares a run, value by value. */
  public List<Check> check(RunResult result) {
    List<Check> checks = new ArrayList<>(loss(result));
    for (int l = 0; l < gradients.size(); l++) {
      checks.add(gradient(l, result.grads()[l]));
    }
    return checks;
  }

  /** Returns whether all values of a run agree. Reads the gradient only if the loss does. */
  public boolean agrees(RunResult result) {
    if (!loss(result).stream().allMatch(Check::agrees)) {
      return false;
    }
    for (int l = 0; l < gradients.size(); l++) {
      if (!gradient(l, result.grads()[l]).agrees) {
        return false;
      }
    }
    return true;
  }

  private List<Check> loss(RunResult result) {
    List<Check> checks = new ArrayList<>();
    if (total != null) {
      checks.add(value("total", false, result.totals().total(), total));
    }
    for (Wanted wanted : fields) {
      double got = wanted.field.value.applyAsDouble(result.totals().layer(wanted.layer));
      String what = name(wanted.layer, wanted.field);
      checks.add(value(what, wanted.field.count, got, wanted.value));
    }
    return checks;
  }

  private Check value(String what, boolean count, double got, double want) {
    double difference = Math.abs(got - want);
    double tolerance = count ? 0 : tolerances.lossRtol * Math.abs(want) + tolerances.lossAtol;
    boolean close = difference <= tolerance && Double.isFinite(difference);
    return new Check(close, what, got, want, difference, tolerance, "");
  }

  private Check gradient(int l, MemorySegment got) {
    Npy want = gradients.get(l);
    long count = want.size();
    double largest = 0;
    double worst = -1;
    long at = 0;
    long ofImage = count / batch.images();
    try (Progress progress = new Progress(err, "comparing grad_" + l, "images", batch.images())) {
      for (int image = 0; image < batch.images(); image++) {
        for (long i = image * ofImage; i < (image + 1) * ofImage; i++) {
          double expected = want.get(i);
          double difference = Math.abs(got.getAtIndex(JAVA_FLOAT, i) - expected);
          if (Double.isNaN(difference)) {
            difference = Double.POSITIVE_INFINITY;
          }
          if (difference > worst) {
            worst = difference;
            at = i;
          }
          if (Double.isFinite(expected)) {
            largest = Math.max(largest, Math.abs(expected));
          }
        }
        progress.step(1);
      }
    }
    double tolerance = tolerances.gradAtol + tolerances.gradRtol * largest;
    return new Check(
        worst <= tolerance,
        "grad_" + l,
        got.getAtIndex(JAVA_FLOAT, at),
        want.get(at),
        worst,
        tolerance,
        " worst at " + address(l, at));
  }

  /** Names an element of a gradient by image, place, anchor and channel. */
  private String address(int l, long index) {
    YoloSpec.Layer layer = batch.spec().layers().get(l);
    int channels = 5 + batch.spec().numClasses();
    int anchors = layer.anchorMask().size();
    long places = (long) layer.gridHeight() * layer.gridWidth();
    long channel = index % channels;
    long cell = index / channels;
    if (batch.layout() == FeatsLayout.NCHW) {
      channel = index / places % channels;
      long image = index / places / channels / anchors;
      cell = (image * places + index % places) * anchors + index / places / channels % anchors;
    }
    long place = cell / anchors;
    return "image "
        + place / layer.gridWidth() / layer.gridHeight()
        + ", row "
        + place / layer.gridWidth() % layer.gridHeight()
        + ", column "
        + place % layer.gridWidth()
        + ", anchor "
        + cell % anchors
        + ", "
        + (channel < CHANNELS.size()
            ? CHANNELS.get((int) channel)
            : "class " + (channel - CHANNELS.size()));
  }
}
