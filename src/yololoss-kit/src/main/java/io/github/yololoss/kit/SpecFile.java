package io.github.yololoss.kit;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.LossRules;
import io.github.yololoss.LossRules.IgnoreScope;
import io.github.yololoss.YoloSpec;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;

/**
 * A network's output and the rules of its loss, as one JSON object: what {@code yololoss --spec}
 * reads.
 *
 * {@snippet class="io.github.yololoss.kit.SnippetsTest" region="spec"}
 *
 * <table>
 * <caption>Fields</caption>
 * <tr><th>field</th><th>value</th></tr>
 * <tr><td>{@code anchors}</td><td>[width, height] of each, in input pixels</td></tr>
 * <tr><td>{@code anchor_mask}</td><td>for each layer a list of indices into anchors</td></tr>
 * <tr><td>{@code strides}</td><td>optional: input pixels per grid cell of each layer; 32, 16, 8, ...
 *     otherwise</td></tr>
 * <tr><td>{@code num_classes}</td><td>a whole number, at least 1</td></tr>
 * <tr><td>{@code ignore_thresh}</td><td>a number, or as a rule a list of one for each layer</td></tr>
 * <tr><td>{@code input_shape}</td><td>[height, width] in pixels, multiples of the strides</td></tr>
 * <tr><td>{@code weights}</td><td>optional rule: an object with any of {@code xy, wh, object,
 *     background, class}; 1 otherwise</td></tr>
 * <tr><td>{@code class_weights}</td><td>optional rule: a number for each class</td></tr>
 * <tr><td>{@code label_smoothing}</td><td>optional rule: a number in 0..1</td></tr>
 * <tr><td>{@code ignore_scope}</td><td>optional rule: "layer" or "image"</td></tr>
 * </table>
 *
 * <p>Other fields are ignored, so that the expected.json of a golden case is a spec.
 *
 * @param spec the network's output
 * @param rules the rules of its loss
 */
public record SpecFile(YoloSpec spec, LossRules rules) {
  private static final Set<String> PARTS = Set.of("xy", "wh", "object", "background", "class");

  /**
   * Checks that lists of the rules have the spec's sizes.
   *
   * @throws IllegalArgumentException if there is not one class weight for each class, or not one
   *     threshold for each layer
   */
  public SpecFile {
    Objects.requireNonNull(spec, "spec");
    requireSize("class_weights", rules.classWeights(), spec.numClasses(), "class");
    requireSize("ignore_thresh", rules.ignoreThresholds(), spec.layers().size(), "layer");
  }

  /**
   * Holds a spec with the rules of keras-yolo3.
   *
   * @param spec the network's output
   */
  public SpecFile(YoloSpec spec) {
    this(spec, LossRules.DEFAULT);
  }

  /**
   * Reads a file.
   *
   * @param file in JSON
   * @return spec and rules; {@link LossRules#DEFAULT} if the file has none
   * @throws java.nio.file.NoSuchFileException if the file does not exist
   * @throws IOException with one sentence that names file, field and fault
   */
  public static SpecFile read(Path file) throws IOException {
    return of(Json.read(file), file.toString());
  }

  /**
   * Reads a text.
   *
   * @param json a JSON object
   * @param where the text came from; messages begin with it
   * @return spec and rules; {@link LossRules#DEFAULT} if the text has none
   * @throws IOException with one sentence that names field and fault
   */
  public static SpecFile parse(String json, String where) throws IOException {
    return of(Json.parse(json.getBytes(StandardCharsets.UTF_8), where), where);
  }

  private static SpecFile of(ObjectNode root, String where) throws IOException {
    try {
      return new SpecFile(spec(root), rules(root));
    } catch (IllegalArgumentException e) {
      throw new IOException(where + ": " + e.getMessage());
    }
  }

  private static YoloSpec spec(JsonNode root) {
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
      threshold = threshold.get(0); // the list is a rule
    }
    float thresh = number(threshold, "ignore_thresh");
    int[] input = integers(field(root, "input_shape"), "input_shape");
    require(
        input.length == 2,
        "input_shape is " + root.get("input_shape") + ", [height, width] is expected");
    if (!root.has("strides")) {
      return YoloSpec.of(classes, input[0], input[1], anchors, mask, thresh);
    }
    int[] strides = integers(root.get("strides"), "strides");
    return YoloSpec.of(classes, input[0], input[1], anchors, mask, strides, thresh);
  }

  private static LossRules rules(JsonNode root) {
    LossRules rules = LossRules.DEFAULT;
    if (root.has("weights")) {
      JsonNode weights = root.get("weights");
      require(weights.isObject(), "weights is " + weights + ", an object is expected");
      for (String part : (Iterable<String>) weights::fieldNames) {
        require(PARTS.contains(part), "weights has " + part + ", expected some of " + PARTS);
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
      rules = rules.withIgnoreScope(IgnoreScope.valueOf(scope.toUpperCase(Locale.ROOT)));
    }
    return rules;
  }

  /**
   * Returns the fields as a JSON object: the whole spec with its strides, and of the rules those
   * that differ from {@link LossRules#DEFAULT}. Thresholds of the rules replace the spec's.
   *
   * @return the object, which {@link #read} understands
   * @throws IllegalArgumentException if a layer's grid is not the input divided by one stride: a
   *     spec file cannot express that
   */
  public ObjectNode toJson() {
    ObjectNode root = new ObjectMapper().createObjectNode();
    ArrayNode anchors = root.putArray("anchors");
    spec.anchors().forEach(a -> anchors.addArray().add(a.width()).add(a.height()));
    ArrayNode masks = root.putArray("anchor_mask");
    ArrayNode strides = root.putArray("strides");
    for (YoloSpec.Layer layer : spec.layers()) {
      ArrayNode mask = masks.addArray();
      layer.anchorMask().forEach(mask::add);
      strides.add(stride(layer));
    }
    root.put("num_classes", spec.numClasses());
    if (rules.ignoreThresholds().isEmpty()) {
      root.put("ignore_thresh", spec.ignoreThresh());
    } else {
      put(root, "ignore_thresh", rules.ignoreThresholds());
    }
    root.putArray("input_shape").add(spec.inputHeight()).add(spec.inputWidth());
    if (!rules.withWeights(1, 1, 1, 1, 1).equals(rules)) {
      root.putObject("weights")
          .put("xy", rules.xy())
          .put("wh", rules.wh())
          .put("object", rules.confidenceObject())
          .put("background", rules.confidenceBackground())
          .put("class", rules.classes());
    }
    if (!rules.classWeights().isEmpty()) {
      put(root, "class_weights", rules.classWeights());
    }
    if (rules.labelSmoothing() != LossRules.DEFAULT.labelSmoothing()) {
      root.put("label_smoothing", rules.labelSmoothing());
    }
    if (rules.ignoreScope() != LossRules.DEFAULT.ignoreScope()) {
      root.put("ignore_scope", rules.ignoreScope().name().toLowerCase(Locale.ROOT));
    }
    return root;
  }

  private int stride(YoloSpec.Layer layer) {
    int stride = spec.inputHeight() / layer.gridHeight();
    require(
        stride * layer.gridHeight() == spec.inputHeight()
            && stride * layer.gridWidth() == spec.inputWidth(),
        "the grid "
            + layer.gridHeight()
            + "x"
            + layer.gridWidth()
            + " is not the input "
            + spec.inputHeight()
            + "x"
            + spec.inputWidth()
            + " divided by one stride; a spec file cannot express that");
    return stride;
  }

  private static void put(ObjectNode root, String name, List<Float> values) {
    ArrayNode array = root.putArray(name);
    values.forEach(array::add);
  }

  /**
   * Writes a file that {@link #read} reads; an older file of this name is replaced.
   *
   * @param file to write
   * @throws IOException if the file cannot be written
   * @throws IllegalArgumentException as {@link #toJson}
   */
  public void write(Path file) throws IOException {
    Json.write(file, toJson());
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

  private static void requireSize(String name, List<Float> values, int size, String of) {
    require(
        values.isEmpty() || values.size() == size,
        name + " has " + values.size() + " values, " + size + " are expected, one for each " + of);
  }

  private static void require(boolean condition, String sentence) {
    if (!condition) {
      throw new IllegalArgumentException(sentence);
    }
  }
}
