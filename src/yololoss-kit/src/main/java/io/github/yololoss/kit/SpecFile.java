package io.github.yololoss.kit;

import com.fasterxml.jackson.core.JacksonException;
import com.fasterxml.jackson.core.JsonLocation;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.yololoss.LossRules;
import io.github.yololoss.YoloSpec;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * A spec as JSON: {@code anchors}, {@code anchor_mask}, {@code num_classes}, {@code ignore_thresh},
 * {@code input_shape} [height, width], and optionally {@code strides} (default 32, 16, 8, ...). A
 * list in {@code ignore_thresh}, one for each layer, and the fields {@code weights} (an object with
 * any of {@code xy, wh, object, background, class}), {@code class_weights}, {@code label_smoothing}
 * and {@code ignore_scope} ("layer" or "image") are rules of the loss. Other fields are left alone,
 * so that the expected.json of a golden case is a spec.
 */
public final class SpecFile {
  private SpecFile() {}

  /**
   * Reads the network's output.
   *
   * @param file in JSON
   * @return the spec
   * @throws IOException with one sentence that names file and fault
   */
  public static YoloSpec read(Path file) throws IOException {
    JsonNode root = readJson(file);
    try {
      float[][] anchors = new float[array(root, "anchors").size()][];
      for (int n = 0; n < anchors.length; n++) {
        JsonNode pair = root.get("anchors").get(n);
        require(
            pair.isArray() && pair.size() == 2,
            "anchors[" + n + "] is " + pair + ", [width, height] is expected");
        anchors[n] = new float[] {number(pair.get(0), "anchors"), number(pair.get(1), "anchors")};
      }
      int[][] mask = new int[array(root, "anchor_mask").size()][];
      for (int l = 0; l < mask.length; l++) {
        mask[l] = integers(root.get("anchor_mask").get(l), "anchor_mask[" + l + "]");
      }
      int classes = integer(field(root, "num_classes"), "num_classes");
      JsonNode threshold = field(root, "ignore_thresh");
      if (threshold.isArray() && !threshold.isEmpty()) {
        threshold = threshold.get(0); // the others are rules
      }
      float thresh = number(threshold, "ignore_thresh");
      int[] input = integers(field(root, "input_shape"), "input_shape");
      require(
          input.length == 2,
          "input_shape is " + root.get("input_shape") + ", [height, width] is expected");
      return root.has("strides")
          ? YoloSpec.of(
              classes,
              input[0],
              input[1],
              anchors,
              mask,
              integers(root.get("strides"), "strides"),
              thresh)
          : YoloSpec.of(classes, input[0], input[1], anchors, mask, thresh);
    } catch (IllegalArgumentException e) {
      throw new IOException(file + ": " + e.getMessage());
    }
  }

  /**
   * Reads the rules of the loss.
   *
   * @param file as above
   * @return the rules; {@link LossRules#DEFAULT} if the file has none
   * @throws IOException with one sentence that names file and fault
   */
  public static LossRules readRules(Path file) throws IOException {
    JsonNode root = readJson(file);
    try {
      LossRules rules = LossRules.DEFAULT;
      if (root.has("weights")) {
        JsonNode weights = root.get("weights");
        require(weights.isObject(), "weights is " + weights + ", an object is expected");
        Set<String> parts = Set.of("xy", "wh", "object", "background", "class");
        for (String part : (Iterable<String>) weights::fieldNames) {
          require(parts.contains(part), "weights has " + part + ", expected some of " + parts);
        }
        rules =
            rules.withWeights(
                weight(weights, "xy"),
                weight(weights, "wh"),
                weight(weights, "object"),
                weight(weights, "background"),
                weight(weights, "class"));
      }
      if (root.has("class_weights")) {
        rules = rules.withClassWeights(numbers(root, "class_weights"));
      }
      if (root.path("ignore_thresh").isArray()) {
        rules = rules.withIgnoreThresholds(numbers(root, "ignore_thresh"));
      }
      if (root.has("label_smoothing")) {
        rules = rules.withLabelSmoothing(number(root.get("label_smoothing"), "label_smoothing"));
      }
      if (root.has("ignore_scope")) {
        String scope = root.get("ignore_scope").asText();
        require(
            scope.equals("layer") || scope.equals("image"),
            "ignore_scope is " + root.get("ignore_scope") + ", \"layer\" or \"image\" is expected");
        rules =
            rules.withIgnoreScope(
                scope.equals("image") ? LossRules.IgnoreScope.IMAGE : LossRules.IgnoreScope.LAYER);
      }
      return rules;
    } catch (IllegalArgumentException e) {
      throw new IOException(file + ": " + e.getMessage());
    }
  }

  private static float weight(JsonNode weights, String part) {
    return weights.has(part) ? number(weights.get(part), "weights." + part) : 1;
  }

  private static List<Float> numbers(JsonNode root, String name) {
    List<Float> values = new ArrayList<>();
    for (JsonNode value : array(root, name)) {
      values.add(number(value, name));
    }
    return values;
  }

  /**
   * Reads a file that holds a JSON object.
   *
   * @param file in JSON
   * @return the object
   * @throws IOException with one sentence that names file and fault
   */
  public static JsonNode readJson(Path file) throws IOException {
    if (Files.isDirectory(file)) {
      throw new IOException(file + ": is a folder, a JSON file is expected");
    }
    try {
      JsonNode root = new ObjectMapper().readTree(Files.readAllBytes(file));
      if (root == null || !root.isObject()) {
        throw new IOException(file + ": a JSON object is expected");
      }
      return root;
    } catch (JacksonException e) {
      JsonLocation at = e.getLocation(); // null where a limit of the parser is passed
      String line = at == null ? "" : " (line " + at.getLineNr() + ")";
      throw new IOException(file + ": not JSON: " + e.getOriginalMessage() + line);
    }
  }

  private static JsonNode field(JsonNode root, String name) {
    require(root.has(name), "the field " + name + " is missing");
    return root.get(name);
  }

  private static JsonNode array(JsonNode root, String name) {
    JsonNode node = field(root, name);
    require(node.isArray() && !node.isEmpty(), name + " is not a list with entries");
    return node;
  }

  private static int[] integers(JsonNode node, String name) {
    require(node.isArray(), name + " is " + node + ", a list of whole numbers is expected");
    int[] values = new int[node.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = integer(node.get(i), name);
    }
    return values;
  }

  private static int integer(JsonNode node, String name) {
    require(
        node.isNumber() && node.canConvertToInt() && node.canConvertToExactIntegral(),
        name + " is " + node + ", a whole number is expected");
    return node.intValue();
  }

  private static float number(JsonNode node, String name) {
    require(node.isNumber(), name + " is " + node + ", a number is expected");
    return node.floatValue();
  }

  private static void require(boolean condition, String sentence) {
    if (!condition) {
      throw new IllegalArgumentException(sentence);
    }
  }
}
