package io.github.yololoss;

import java.util.Objects;

/**
 * How sums become the loss and the gradient.
 *
 * @param normaliser what the sums are divided by
 * @param gradientScale factor of the gradient (upstream gradient, loss scale), finite
 */
public record LossOptions(Normaliser normaliser, double gradientScale) {

  /** Divided by the batch, gradient not scaled: keras-yolo3. */
  public static final LossOptions DEFAULT = new LossOptions(Normaliser.BATCH, 1);

  /** Refuses null and values that are not finite. */
  public LossOptions {
    Objects.requireNonNull(normaliser, "normaliser");
    if (!Double.isFinite(gradientScale)) {
      throw new IllegalArgumentException(
          "gradientScale is " + gradientScale + ", a finite number is expected");
    }
  }

  /**
   * What sums are divided by.
   *
   * @param kind the rule
   * @param value for {@link Kind#VALUE}: finite and above 0; otherwise 1
   */
  public record Normaliser(Kind kind, double value) {

    /** The rules, in the order of the native header's {@code YL_NORMALISER_...}. */
    public enum Kind {
      /** The batch, as keras-yolo3. */
      BATCH,
      /** 1: raw sums. */
      NONE,
      /** The objects of the call, at least 1. */
      OBJECTS,
      /** A value of the caller's, for a batch that is spread over several calls. */
      VALUE
    }

    /** {@link Kind#BATCH}. */
    public static final Normaliser BATCH = new Normaliser(Kind.BATCH, 1);

    /** {@link Kind#NONE}. */
    public static final Normaliser NONE = new Normaliser(Kind.NONE, 1);

    /** {@link Kind#OBJECTS}. */
    public static final Normaliser OBJECTS = new Normaliser(Kind.OBJECTS, 1);

    /** Checks the value. */
    public Normaliser {
      Objects.requireNonNull(kind, "kind");
      if (!(value > 0) || Double.isInfinite(value)) {
        throw new IllegalArgumentException(
            "normaliser is " + value + ", a finite number > 0 is expected");
      }
      if (kind != Kind.VALUE && value != 1) {
        throw new IllegalArgumentException(
            "normaliser " + kind + " has the value " + value + ", only VALUE takes one");
      }
    }

    /** A value of the caller's. */
    public static Normaliser value(double value) {
      return new Normaliser(Kind.VALUE, value);
    }
  }
}
