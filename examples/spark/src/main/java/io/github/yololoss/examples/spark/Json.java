package io.github.yololoss.examples.spark;

import com.fasterxml.jackson.core.JacksonException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.examples.spark.LossJob.Outcome;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;

/** Specs and results, as the command line of yololoss reads and writes them. */
final class Json {
  private static final ObjectMapper MAPPER = new ObjectMapper();

  private Json() {}

  /** A spec; rules of the loss are refused, since this job knows none. */
  static YoloSpec readSpec(Path file) throws IOException {
    try {
      return spec(file, MAPPER.readTree(Files.readAllBytes(file)));
    } catch (JacksonException e) {
      throw new IOException(file + ": " + e.getOriginalMessage(), e);
    } catch (IllegalArgumentException e) {
      throw new IOException(file + ": " + e.getMessage(), e);
    }
  }

  private static YoloSpec spec(Path file, JsonNode root) throws IOException {
    for (String rule : List.of("weights", "class_weights", "label_smoothing", "ignore_scope")) {
      if (root.has(rule)) {
        throw new IOException(file + ": " + rule + " is given, this job computes the plain loss");
      }
    }
    float[][] anchors = MAPPER.treeToValue(required(file, root, "anchors"), float[][].class);
    int[][] mask = MAPPER.treeToValue(required(file, root, "anchor_mask"), int[][].class);
    int[] input = MAPPER.treeToValue(required(file, root, "input_shape"), int[].class);
    if (input.length != 2) {
      throw new IOException(
          file + ": input_shape has " + input.length + " numbers, 2 are expected");
    }
    int classes = number(file, root, "num_classes").intValue();
    float threshold = number(file, root, "ignore_thresh").floatValue();
    if (!root.has("strides")) {
      return YoloSpec.of(classes, input[0], input[1], anchors, mask, threshold);
    }
    int[] strides = MAPPER.treeToValue(root.get("strides"), int[].class);
    return YoloSpec.of(classes, input[0], input[1], anchors, mask, strides, threshold);
  }

  private static JsonNode required(Path file, JsonNode root, String field) throws IOException {
    if (!root.has(field)) {
      throw new IOException(file + ": " + field + " is missing");
    }
    return root.get(field);
  }

  /** A list of thresholds is a rule, too. */
  private static JsonNode number(Path file, JsonNode root, String field) throws IOException {
    JsonNode value = required(file, root, field);
    if (!value.isNumber()) {
      throw new IOException(file + ": " + field + " is " + value + ", a number is expected");
    }
    return value;
  }

  static String of(YoloSpec spec) {
    ObjectNode root = MAPPER.createObjectNode();
    ArrayNode anchors = root.putArray("anchors");
    spec.anchors().forEach(a -> anchors.addArray().add(a.width()).add(a.height()));
    ArrayNode masks = root.putArray("anchor_mask");
    ArrayNode strides = root.putArray("strides");
    for (YoloSpec.Layer layer : spec.layers()) {
      masks.add(MAPPER.valueToTree(layer.anchorMask()));
      strides.add(spec.inputHeight() / layer.gridHeight());
    }
    root.put("num_classes", spec.numClasses()).put("ignore_thresh", spec.ignoreThresh());
    root.putArray("input_shape").add(spec.inputHeight()).add(spec.inputWidth());
    return root.toPrettyString();
  }

  /** Divided by the images, with the fields of {@code yololoss loss --json}. */
  static String of(Outcome outcome, int shards) {
    double images = outcome.sum().divisor(Normaliser.BATCH);
    ObjectNode root =
        MAPPER
            .createObjectNode()
            .put("total", outcome.sum().total(Normaliser.BATCH))
            .put("batch", outcome.sum().images())
            .put("normaliser", images)
            .put("shards", shards);
    ArrayNode layers = root.putArray("layers");
    for (int l = 0; l < outcome.sum().layers(); l++) {
      Parts p = outcome.sum().layer(l).dividedBy(images);
      layers
          .addObject()
          .put("xy", p.xy())
          .put("wh", p.wh())
          .put("confidence", p.confidence())
          .put("class", p.classes())
          .put("confidence_object", p.confidenceObject())
          .put("confidence_background", p.confidenceBackground())
          .put("object_count", p.objects())
          .put("ignore_count", p.ignored())
          .put("ignore_count_background", p.ignoredBackground())
          .put("non_finite", p.nonFinite());
    }
    root.set("failed", MAPPER.valueToTree(outcome.failed()));
    ObjectNode counts = root.putObject("audit");
    outcome.counts().forEach((r, n) -> counts.put(r.name().toLowerCase(Locale.ROOT), n));
    return root.toPrettyString();
  }
}
