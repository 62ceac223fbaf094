package io.github.yololoss.cli.run;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.yololoss.LossDevice;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.files.InputException;
import io.github.yololoss.kit.Npy;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.SplittableRandom;

/**
 * What is timed: the logits and truths of a batch, dense and as boxes.
 *
 * @param expectedLoss the loss by float64, NaN if it is not known
 */
public record BenchProblem(
    YoloSpec spec,
    int batch,
    MemorySegment[] feats,
    MemorySegment[] yTrue,
    MemorySegment boxes,
    int boxesPerImage,
    double expectedLoss) {

  /** Makes random logits and eight boxes an image, 416x416; the same for the same sizes. */
  public static BenchProblem random(int classes, int batch, Arena arena) {
    YoloSpec spec = YoloSpec.yolov3(classes, 416, 416);
    SplittableRandom random = new SplittableRandom(31L * classes + batch);
    MemorySegment[] feats = spec.allocate(arena, batch);
    for (MemorySegment layer : feats) {
      for (long i = 0; i < layer.byteSize() / Float.BYTES; i++) {
        float logit = (float) random.nextGaussian();
        layer.setAtIndex(
            ValueLayout.JAVA_FLOAT, i, i % (5 + classes) == 4 ? logit - 3 : 0.5f * logit);
      }
    }
    int perImage = 8;
    MemorySegment boxes = arena.allocate(20L * batch * perImage, Float.BYTES);
    for (int i = 0; i < batch * perImage; i++) {
      int width = random.nextInt(20, 250);
      int height = random.nextInt(20, 250);
      int left = random.nextInt(416 - width);
      int top = random.nextInt(416 - height);
      float[] row = {left, top, left + width, top + height, random.nextInt(classes)};
      MemorySegment.copy(row, 0, boxes, ValueLayout.JAVA_FLOAT, 20L * i, 5);
    }
    MemorySegment[] yTrue = spec.allocate(arena, batch);
    try (YoloLoss loss = YoloLoss.builder(spec).maxBatch(batch).device(LossDevice.CPU).open()) {
      loss.buildYTrue(batch, Targets.boxes(boxes, perImage), yTrue);
    }
    return new BenchProblem(spec, batch, feats, yTrue, boxes, perImage, Double.NaN);
  }

  /**
   * A folder with feats_&lt;l&gt;.npy, y_true_&lt;l&gt;.npy, boxes.npy (centre, width and height as
   * fractions of the input, class; no width: unused) and meta.json with classes, batch, input,
   * anchors and loss_f64.
   */
  public static BenchProblem read(Path folder, Arena arena) throws IOException {
    JsonNode meta = new ObjectMapper().readTree(Files.readAllBytes(folder.resolve("meta.json")));
    for (String field : new String[] {"classes", "batch", "input", "anchors", "loss_f64"}) {
      if (!meta.has(field)) {
        throw new InputException(folder.resolve("meta.json") + ": no field " + field);
      }
    }
    float[][] anchors = new float[meta.get("anchors").size() / 2][2];
    for (int i = 0; i < 2 * anchors.length; i++) {
      anchors[i / 2][i % 2] = (float) meta.get("anchors").get(i).asDouble();
    }
    int input = meta.get("input").asInt();
    int batch = meta.get("batch").asInt();
    int[][] masks = {{6, 7, 8}, {3, 4, 5}, {0, 1, 2}};
    YoloSpec spec = YoloSpec.of(meta.get("classes").asInt(), input, input, anchors, masks, 0.5f);
    MemorySegment[] feats = new MemorySegment[masks.length];
    MemorySegment[] yTrue = new MemorySegment[masks.length];
    for (int l = 0; l < masks.length; l++) {
      feats[l] = values(folder.resolve("feats_" + l + ".npy"), spec.bytes(l, batch), arena);
      yTrue[l] = values(folder.resolve("y_true_" + l + ".npy"), spec.bytes(l, batch), arena);
    }
    Npy rows = Npy.map(folder.resolve("boxes.npy"), arena);
    int perImage = (int) (rows.size() / 5 / batch);
    MemorySegment boxes = arena.allocate(20L * batch * perImage, Float.BYTES);
    for (long i = 0; i < (long) batch * perImage; i++) {
      float x = pixels(rows.get(5 * i), input);
      float y = pixels(rows.get(5 * i + 1), input);
      float w = pixels(rows.get(5 * i + 2), input);
      float h = pixels(rows.get(5 * i + 3), input);
      if (w > 0) {
        float[] row = {x - w / 2, y - h / 2, x + w / 2, y + h / 2, (float) rows.get(5 * i + 4)};
        MemorySegment.copy(row, 0, boxes, ValueLayout.JAVA_FLOAT, 20 * i, 5);
      }
    }
    double loss = meta.get("loss_f64").asDouble();
    return new BenchProblem(spec, batch, feats, yTrue, boxes, perImage, loss);
  }

  /** Copies an array, because mapped memory of a file could be slower to read. */
  private static MemorySegment values(Path file, long bytes, Arena arena) throws IOException {
    MemorySegment mapped = Npy.map(file, arena).floats(arena);
    if (mapped.byteSize() != bytes) {
      throw new InputException(
          file + ": " + mapped.byteSize() / 4 + " values, " + bytes / 4 + " are expected");
    }
    return arena.allocate(bytes, 64).copyFrom(mapped);
  }

  private static float pixels(double fraction, int input) {
    double value = fraction * input;
    return (float) (Math.abs(value - Math.rint(value)) < 1e-3 ? Math.rint(value) : value);
  }

  /** A way to call the loss, opened for one problem. Its calls create no object. */
  public static final class Run implements AutoCloseable {
    private final BenchProblem problem;
    private final Arena arena = Arena.ofShared();
    private final YoloLoss loss;
    private final Targets<MemorySegment> targets;
    private final MemorySegment[] grads;
    private final LossResult result;
    private final LossOptions options;

    /**
     * @param variant dense, boxes, or boxes-refresh
     */
    public Run(
        BenchProblem problem, String variant, boolean gradient, LossDevice device, int threads) {
      this.problem = problem;
      targets =
          switch (variant) {
            case "dense" -> Targets.dense(problem.yTrue);
            case "boxes", "boxes-refresh" -> Targets.boxes(problem.boxes, problem.boxesPerImage);
            default ->
                throw new InputException(
                    "unknown variant " + variant + ", dense, boxes or boxes-refresh is expected");
          };
      grads = gradient ? problem.spec.allocate(arena, problem.batch) : null;
      loss =
          YoloLoss.builder(problem.spec)
              .maxBatch(problem.batch)
              .device(device)
              .threads(threads)
              .open();
      result = loss.newResult();
      call(LossOptions.DEFAULT);
      options =
          gradient && variant.equals("boxes-refresh")
              ? LossOptions.DEFAULT.withGradientMode(LossOptions.GradientMode.REFRESH)
              : LossOptions.DEFAULT;
    }

    public double call() {
      return call(options);
    }

    private double call(LossOptions with) {
      loss.compute(problem.batch, problem.feats, targets, grads, with, result);
      return result.total();
    }

    public String device() {
      return loss.deviceName() + " (" + loss.deviceWhy() + ")";
    }

    /**
     * Returns the gradient's sum of magnitudes and a sum weighted by position; null without one.
     */
    public double[] digest() {
      if (grads == null) {
        return null;
      }
      double[] sums = new double[2];
      for (MemorySegment grad : grads) {
        for (long i = 0; i < grad.byteSize() / Float.BYTES; i++) {
          double value = grad.getAtIndex(ValueLayout.JAVA_FLOAT, i);
          sums[0] += Math.abs(value);
          sums[1] += value * (1 + i % 1009);
        }
      }
      return sums;
    }

    @Override
    public void close() {
      loss.close();
      arena.close();
    }
  }
}
