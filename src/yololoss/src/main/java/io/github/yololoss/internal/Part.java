package io.github.yololoss.internal;

import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.LossRules;
import java.util.List;
import java.util.function.Function;
import java.util.function.ToDoubleFunction;

/**
 * The parts of the loss, in the order of {@code yl_parts}: the one list of them in Java. Sums,
 * tables, JSON and the report loop over it. A test compares it with the header.
 *
 * <p>This package is shared by the library and the command line and is not exported.
 */
public enum Part {
  /** Centres. */
  XY("xy", "xy (centres)", Parts::xy, LossRules::xy),
  /** Sizes. */
  WH("wh", "wh (sizes)", Parts::wh, LossRules::wh),
  /** Confidence of cells with m != 0. */
  CONFIDENCE_OBJECT(
      "confidence_object",
      "confidence, objects",
      Parts::confidenceObject,
      LossRules::confidenceObject),
  /** Confidence of cells with m = 0. */
  CONFIDENCE_BACKGROUND(
      "confidence_background",
      "confidence, background",
      Parts::confidenceBackground,
      LossRules::confidenceBackground),
  /** Classes. */
  CLASS("class", "class", Parts::classes, LossRules::classes);

  /** All parts. */
  public static final List<Part> ALL = List.of(values());

  /** The field of {@code yl_parts}, without the underscore of {@code class_}. */
  public final String jsonName;

  /** As people call it. */
  public final String label;

  /** Without an explanation in parentheses. */
  public final String shortLabel;

  /** The column of the loss table; parts of one column are added up. */
  public final String column;

  private final ToDoubleFunction<Parts> value;
  private final Function<LossRules, Float> weight;

  Part(
      String jsonName,
      String label,
      ToDoubleFunction<Parts> value,
      Function<LossRules, Float> weight) {
    this.jsonName = jsonName;
    this.label = label;
    this.value = value;
    this.weight = weight;
    shortLabel = label.replaceAll(" \\(.*", "");
    column = shortLabel.replaceAll(",.*", "");
  }

  /**
   * {@return this part}
   *
   * @param parts of a layer or a row
   */
  public double of(Parts parts) {
    return value.applyAsDouble(parts);
  }

  /**
   * {@return rules whose loss is this part alone: the weights of all others are 0}
   *
   * @param rules with the weight of this part
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
    return part == this ? weight.apply(rules) : 0;
  }
}
