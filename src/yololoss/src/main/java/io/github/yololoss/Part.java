package io.github.yololoss;

import io.github.yololoss.LossResult.Parts;
import java.util.List;
import java.util.function.ToDoubleFunction;

/**
 * The parts of the loss, in the order of {@code yl_parts}. Code that sums, prints or plots the
 * parts loops over {@link #ALL}, so that it does not have to name them:
 *
 * {@snippet class="io.github.yololoss.SnippetsTest" region="parts"}
 */
public enum Part {
  /** The centres of objects. */
  XY("xy", "xy (centres)", Parts::xy, LossRules::xy),
  /** The sizes of objects. */
  WH("wh", "wh (sizes)", Parts::wh, LossRules::wh),
  /** The confidence of cells with m != 0. */
  CONFIDENCE_OBJECT(
      "confidence_object",
      "confidence, objects",
      Parts::confidenceObject,
      LossRules::confidenceObject),
  /** The confidence of cells with m = 0. */
  CONFIDENCE_BACKGROUND(
      "confidence_background",
      "confidence, background",
      Parts::confidenceBackground,
      LossRules::confidenceBackground),
  /** The classes of objects. */
  CLASS("class", "class", Parts::classes, LossRules::classes);

  /** All parts, in order. */
  public static final List<Part> ALL = List.of(values());

  private final String jsonName;
  private final String label;
  private final ToDoubleFunction<Parts> value;
  private final ToDoubleFunction<LossRules> weight;

  Part(
      String jsonName,
      String label,
      ToDoubleFunction<Parts> value,
      ToDoubleFunction<LossRules> weight) {
    this.jsonName = jsonName;
    this.label = label;
    this.value = value;
    this.weight = weight;
  }

  /** {@return the name in JSON and in logs: the field of {@code yl_parts}, such as {@code xy}} */
  public String jsonName() {
    return jsonName;
  }

  /** {@return the name for people, with an explanation, such as {@code xy (centres)}} */
  public String label() {
    return label;
  }

  /** {@return the name for people, without the explanation, such as {@code xy}} */
  public String shortLabel() {
    return label.replaceAll(" \\(.*", "");
  }

  /** Returns the column of the loss table; parts of the same column are added up there. */
  String column() {
    return shortLabel().replaceAll(",.*", "");
  }

  /**
   * {@return the sum of this part}
   *
   * @param parts of a layer, a row or a sum
   */
  public double of(Parts parts) {
    return value.applyAsDouble(parts);
  }

  /**
   * {@return the weight of this part}
   *
   * @param rules of a loss
   */
  public float weightIn(LossRules rules) {
    return (float) weight.applyAsDouble(rules);
  }

  /**
   * {@return the same rules with weight 0 for all other parts: their loss is this part alone}
   *
   * @param rules of a loss
   */
  public LossRules only(LossRules rules) {
    return rules.withWeights(
        weightOf(XY, rules),
        weightOf(WH, rules),
        weightOf(CONFIDENCE_OBJECT, rules),
        weightOf(CONFIDENCE_BACKGROUND, rules),
        weightOf(CLASS, rules));
  }

  private float weightOf(Part part, LossRules rules) {
    return part == this ? weightIn(rules) : 0;
  }
}
