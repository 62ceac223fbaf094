package io.github.yololoss;

import java.util.Objects;

/**
 * How sums become the loss and the gradient.
 *
 * @param normaliser what the sums are divided by
 * @param gradientScale factor of the gradient (upstream gradient, loss scale), finite
 * @param gradientScaleAt null, or device memory of one float32 that the device reads as the scale
 *     when it runs, instead of gradientScale; CUDA only
 * @param refresh true where the gradient buffers are those of this object's last call with a
 *     gradient and still hold what it wrote: the same result with fewer writes. Other buffers are
 *     refused, changed content cannot be noticed
 */
public record LossOptions(
    Normaliser normaliser, double gradientScale, DeviceBuffer gradientScaleAt, boolean refresh) {

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

  /** With a scale by value, writing the whole gradient. */
  public LossOptions(Normaliser normaliser, double gradientScale) {
    this(normaliser, gradientScale, null, false);
  }

  /** The same over the previous gradient, or not. */
  public LossOptions withRefresh(boolean value) {
    return new LossOptions(normaliser, gradientScale, gradientScaleAt, value);
  }

  /**
   * What sums are divided by.
   *
   * @param kind the rule
   * @param value for {@link Kind#VALUE}: finite and above 0; otherwise 1
   * @param at for {@link Kind#VALUE}: null, or device memory of one float32 that the device reads
   *     when it runs, instead of value; CUDA only
   */
  public record Normaliser(Kind kind, double value, DeviceBuffer at) {

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
    public static final Normaliser BATCH = new Normaliser(Kind.BATCH, 1, null);

    /** {@link Kind#NONE}. */
    public static final Normaliser NONE = new Normaliser(Kind.NONE, 1, null);

    /** {@link Kind#OBJECTS}. */
    public static final Normaliser OBJECTS = new Normaliser(Kind.OBJECTS, 1, null);

    /** Checks the value. */
    public Normaliser {
      Objects.requireNonNull(kind, "kind");
      if (!(value > 0) || Double.isInfinite(value)) {
        throw new IllegalArgumentException(
            "normaliser is " + value + ", a finite number > 0 is expected");
      }
      if (kind != Kind.VALUE && (value != 1 || at != null)) {
        throw new IllegalArgumentException(
            "normaliser "
                + kind
                + " has the value "
                + (at == null ? value : at)
                + ", only VALUE takes one");
      }
    }

    /** By value. */
    public Normaliser(Kind kind, double value) {
      this(kind, value, null);
    }

    /** A value of the caller's. */
    public static Normaliser value(double value) {
      return new Normaliser(Kind.VALUE, value, null);
    }

    /** A float32 in device memory, read when the device runs; it is not checked. */
    public static Normaliser at(DeviceBuffer value) {
      return new Normaliser(Kind.VALUE, 1, Objects.requireNonNull(value, "value"));
    }
  }
}
