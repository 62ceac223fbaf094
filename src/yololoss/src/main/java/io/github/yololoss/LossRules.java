package io.github.yololoss;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.internal.Abi;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;

/**
 * How the loss differs from keras-yolo3's. {@code yololoss.h} shows where each rule enters the
 * formulas. Weights are finite and at least 0; a part or class of weight 0 contributes exactly 0.
 *
 * @param xy weight of the centre part
 * @param wh weight of the size part
 * @param confidenceObject weight of the confidence of objects
 * @param confidenceBackground weight of the confidence of background
 * @param classes weight of the class part
 * @param classWeights a weight for each class; empty: all 1
 * @param labelSmoothing e in 0..1: class targets become y*(1-e) + e/2
 * @param ignoreScope the truths that a background cell is compared with
 * @param ignoreThresholds a threshold for each layer; empty: the spec's threshold for all
 */
public record LossRules(
    float xy,
    float wh,
    float confidenceObject,
    float confidenceBackground,
    float classes,
    List<Float> classWeights,
    float labelSmoothing,
    IgnoreScope ignoreScope,
    List<Float> ignoreThresholds) {

  /** The truths that a background cell is compared with. */
  public enum IgnoreScope {
    /** Those of its image in its own layer, as keras-yolo3. */
    LAYER(Abi.YL_SCOPE_LAYER),
    /** Those of its image in all layers, as Darknet. */
    IMAGE(Abi.YL_SCOPE_IMAGE);

    /** The value of {@code yl_rules.ignore_scope}. */
    final int value;

    IgnoreScope(int value) {
      this.value = value;
    }
  }

  /** The rules of keras-yolo3's loss. */
  public static final LossRules DEFAULT =
      new LossRules(1, 1, 1, 1, 1, List.of(), 0, IgnoreScope.LAYER, List.of());

  /**
   * Copies the lists. The values are checked when a loss is opened.
   *
   * @throws NullPointerException if a list, an element or ignoreScope is null
   */
  public LossRules {
    classWeights = List.copyOf(classWeights);
    Objects.requireNonNull(ignoreScope, "ignoreScope");
    ignoreThresholds = List.copyOf(ignoreThresholds);
  }

  /**
   * {@return the same rules with other weights of the parts}
   *
   * @param newXy weight of the centre part; like the others finite and at least 0
   * @param newWh weight of the size part
   * @param newObject weight of the confidence of objects
   * @param newBackground weight of the confidence of background
   * @param newClasses weight of the class part
   */
  public LossRules withWeights(
      float newXy, float newWh, float newObject, float newBackground, float newClasses) {
    return new LossRules(
        newXy,
        newWh,
        newObject,
        newBackground,
        newClasses,
        classWeights,
        labelSmoothing,
        ignoreScope,
        ignoreThresholds);
  }

  /**
   * {@return the same rules with a weight for each class}
   *
   * @param weights C values, finite and at least 0; empty: all 1
   */
  public LossRules withClassWeights(List<Float> weights) {
    return copy(weights, labelSmoothing, ignoreScope, ignoreThresholds);
  }

  /**
   * {@return the same rules with another label smoothing}
   *
   * @param smoothing e in 0..1
   */
  public LossRules withLabelSmoothing(float smoothing) {
    return copy(classWeights, smoothing, ignoreScope, ignoreThresholds);
  }

  /**
   * {@return the same rules with another scope}
   *
   * @param scope the truths that a background cell is compared with
   */
  public LossRules withIgnoreScope(IgnoreScope scope) {
    return copy(classWeights, labelSmoothing, scope, ignoreThresholds);
  }

  /**
   * {@return the same rules with a threshold for each layer}
   *
   * @param thresholds L values; empty: the spec's threshold for all
   */
  public LossRules withIgnoreThresholds(List<Float> thresholds) {
    return copy(classWeights, labelSmoothing, ignoreScope, thresholds);
  }

  private LossRules copy(
      List<Float> weights, float smoothing, IgnoreScope scope, List<Float> thresholds) {
    return new LossRules(
        xy,
        wh,
        confidenceObject,
        confidenceBackground,
        classes,
        weights,
        smoothing,
        scope,
        thresholds);
  }

  /** {@return what differs from keras-yolo3's loss} */
  @Override
  public String toString() {
    List<String> differences = new ArrayList<>();
    for (Part part : Part.ALL) {
      if (part.weightIn(this) != 1) {
        differences.add("weight of " + part.shortLabel() + " " + part.weightIn(this));
      }
    }
    if (!classWeights.isEmpty()) {
      differences.add("class weights " + classWeights);
    }
    if (labelSmoothing != 0) {
      differences.add("label smoothing " + labelSmoothing);
    }
    if (ignoreScope != IgnoreScope.LAYER) {
      differences.add("ignore scope " + ignoreScope.name().toLowerCase(Locale.ROOT));
    }
    if (!ignoreThresholds.isEmpty()) {
      differences.add("ignore thresholds " + ignoreThresholds);
    }
    return differences.isEmpty()
        ? "rules of keras-yolo3"
        : "rules of keras-yolo3, but " + String.join("; ", differences);
  }

  /** Returns a yl_rules. The lists must fit the spec. */
  MemorySegment struct(YoloSpec spec, Arena arena) {
    requireSize("classWeights", classWeights, spec.numClasses(), "class");
    requireSize("ignoreThresholds", ignoreThresholds, spec.layers().size(), "layer");
    MemorySegment rules = Abi.Rules.allocate(arena);
    Abi.Rules.setClassWeights(rules, floats(classWeights, arena));
    Abi.Rules.setIgnoreThreshes(rules, floats(ignoreThresholds, arena));
    Abi.Rules.setWeightXy(rules, xy);
    Abi.Rules.setWeightWh(rules, wh);
    Abi.Rules.setWeightObject(rules, confidenceObject);
    Abi.Rules.setWeightBackground(rules, confidenceBackground);
    Abi.Rules.setWeightClass(rules, classes);
    Abi.Rules.setLabelSmoothing(rules, labelSmoothing);
    Abi.Rules.setIgnoreScope(rules, ignoreScope.value);
    return rules;
  }

  private static void requireSize(String name, List<Float> values, int size, String of) {
    if (!values.isEmpty() && values.size() != size) {
      throw new IllegalArgumentException(
          name
              + " has "
              + values.size()
              + " values, "
              + size
              + " are expected, one for each "
              + of);
    }
  }

  private static MemorySegment floats(List<Float> values, Arena arena) {
    if (values.isEmpty()) {
      return MemorySegment.NULL;
    }
    MemorySegment segment = arena.allocate(JAVA_FLOAT, values.size());
    for (int i = 0; i < values.size(); i++) {
      segment.setAtIndex(JAVA_FLOAT, i, values.get(i));
    }
    return segment;
  }
}
