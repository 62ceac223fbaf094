package io.github.yololoss;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.internal.Abi;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Objects;

/**
 * Departures from keras-yolo3's loss; {@code yololoss.h} says at {@code yl_loss} where each stands
 * in the formulas. Weights are finite and at least 0; a part or class of weight 0 contributes
 * exactly 0.
 *
 * @param xy weight of the centre part
 * @param wh weight of the size part
 * @param confidenceObject weight of the confidence of objects
 * @param confidenceBackground weight of the confidence of background
 * @param classes weight of the class part
 * @param classWeights a weight for each class; empty: all 1
 * @param labelSmoothing e in 0..1: class targets become y*(1-e) + e/2
 * @param ignoreScope the truths that a background cell is compared with
 * @param ignoreThresholds a threshold for each layer; empty: the spec's
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

    /** On the native boundary. */
    final int value;

    IgnoreScope(int value) {
      this.value = value;
    }
  }

  /** keras-yolo3's loss. */
  public static final LossRules DEFAULT =
      new LossRules(1, 1, 1, 1, 1, List.of(), 0, IgnoreScope.LAYER, List.of());

  /** Refuses null; the values are checked when a {@link YoloLoss} is opened. */
  public LossRules {
    classWeights = List.copyOf(classWeights);
    Objects.requireNonNull(ignoreScope, "ignoreScope");
    ignoreThresholds = List.copyOf(ignoreThresholds);
  }

  /**
   * The same with other weights of the parts.
   *
   * @param newXy of xy, finite and at least 0, as the others
   * @param newWh of wh
   * @param newObject of the confidence of objects
   * @param newBackground of the confidence of background
   * @param newClasses of class
   * @return a copy
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
   * The same with a weight for each class.
   *
   * @param weights C values, finite and at least 0
   * @return a copy
   */
  public LossRules withClassWeights(List<Float> weights) {
    return new LossRules(
        xy,
        wh,
        confidenceObject,
        confidenceBackground,
        classes,
        weights,
        labelSmoothing,
        ignoreScope,
        ignoreThresholds);
  }

  /**
   * The same with another smoothing.
   *
   * @param smoothing 0..1
   * @return a copy
   */
  public LossRules withLabelSmoothing(float smoothing) {
    return new LossRules(
        xy,
        wh,
        confidenceObject,
        confidenceBackground,
        classes,
        classWeights,
        smoothing,
        ignoreScope,
        ignoreThresholds);
  }

  /**
   * The same with another scope.
   *
   * @param scope the truths that a background cell is compared with
   * @return a copy
   */
  public LossRules withIgnoreScope(IgnoreScope scope) {
    return new LossRules(
        xy,
        wh,
        confidenceObject,
        confidenceBackground,
        classes,
        classWeights,
        labelSmoothing,
        scope,
        ignoreThresholds);
  }

  /**
   * The same with a threshold for each layer.
   *
   * @param thresholds L values
   * @return a copy
   */
  public LossRules withIgnoreThresholds(List<Float> thresholds) {
    return new LossRules(
        xy,
        wh,
        confidenceObject,
        confidenceBackground,
        classes,
        classWeights,
        labelSmoothing,
        ignoreScope,
        thresholds);
  }

  /** A yl_rules. */
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
