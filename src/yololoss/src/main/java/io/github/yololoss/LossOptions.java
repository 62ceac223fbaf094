package io.github.yololoss;

import java.util.Objects;

/**
 * How sums become the loss and the gradient, and what a call gives besides.
 *
 * <p>A loss scale for float16 gradients:
 *
 * {@snippet class="io.github.yololoss.SnippetsTest" region="scale"}
 *
 * @param normaliser what the sums are divided by
 * @param gradientScale factor of the gradient (upstream gradient, loss scale), finite
 * @param gradientScaleAt null, or device memory of one float32 that the device reads as the scale
 *     when it runs, instead of gradientScale; CUDA only
 * @param gradientMode how the gradient is written
 * @param statistics whether {@link LossResult#statistics} are wanted
 * @param search whether the first value that is not finite is looked for, and where
 * @param maps what is wanted of each cell, or null
 */
public record LossOptions(
    Normaliser normaliser,
    double gradientScale,
    DeviceBuffer gradientScaleAt,
    GradientMode gradientMode,
    boolean statistics,
    Search search,
    CellMaps<?> maps) {

  /** In the order of the native header's {@code YL_GRAD_...}. */
  public enum GradientMode {
    /** Every element is written; what it held does not matter. */
    OVERWRITE(Abi.YL_GRAD_OVERWRITE),
    /**
     * The same result with fewer writes, where the gradient buffers are those of this object's last
     * call with a gradient and still hold what it wrote. Other buffers are refused; changed content
     * is noticed only with {@code YOLOLOSS_DEBUG=1} in the environment, in host memory.
     */
    REFRESH(Abi.YL_GRAD_REFRESH),
    /** Added to what the buffers hold. */
    ACCUMULATE(Abi.YL_GRAD_ACCUMULATE);

    /** On the native boundary. */
    final int value;

    GradientMode(int value) {
      this.value = value;
    }
  }

  /** For {@link LossResult#offender}. */
  public enum Search {
    /**
     * It is not looked for; {@link LossResult#nonFinite} and {@code foundInf} count all the same.
     */
    NONE,
    /** Among the values that count: masks and objectness of all cells, whole rows of objects. */
    USED,
    /** Among all values of feats and y_true, which are then counted too. Reads all memory. */
    ALL
  }

  /** Divided by the batch, gradient not scaled: keras-yolo3. */
  public static final LossOptions DEFAULT = new LossOptions(Normaliser.BATCH, 1);

  /** Refuses null and values that are not finite. */
  public LossOptions {
    Objects.requireNonNull(normaliser, "normaliser");
    Objects.requireNonNull(gradientMode, "gradientMode");
    Objects.requireNonNull(search, "search");
    if (!Double.isFinite(gradientScale)) {
      throw new IllegalArgumentException(
          "gradientScale is " + gradientScale + ", a finite number is expected");
    }
  }

  /**
   * With a scale by value, writing the whole gradient.
   *
   * @param normaliser what the sums are divided by
   * @param gradientScale factor of the gradient, finite
   */
  public LossOptions(Normaliser normaliser, double gradientScale) {
    this(normaliser, gradientScale, null, GradientMode.OVERWRITE, false, Search.NONE, null);
  }

  /**
   * The same with a scale in device memory.
   *
   * @param at its place, a float32
   * @return a copy
   */
  public LossOptions withGradientScaleAt(DeviceBuffer at) {
    return new LossOptions(normaliser, gradientScale, at, gradientMode, statistics, search, maps);
  }

  /**
   * The same, writing the gradient in another way.
   *
   * @param mode how
   * @return a copy
   */
  public LossOptions withGradientMode(GradientMode mode) {
    return new LossOptions(
        normaliser, gradientScale, gradientScaleAt, mode, statistics, search, maps);
  }

  /**
   * The same with statistics, or without.
   *
   * @param wanted whether there are any
   * @return a copy
   */
  public LossOptions withStatistics(boolean wanted) {
    return new LossOptions(
        normaliser, gradientScale, gradientScaleAt, gradientMode, wanted, search, maps);
  }

  /**
   * The same with another search.
   *
   * @param where which values are looked at
   * @return a copy
   */
  public LossOptions withSearch(Search where) {
    return new LossOptions(
        normaliser, gradientScale, gradientScaleAt, gradientMode, statistics, where, maps);
  }

  /**
   * The same with maps of the cells; null: none.
   *
   * @param wanted where they go, or null
   * @return a copy
   */
  public LossOptions withMaps(CellMaps<?> wanted) {
    return new LossOptions(
        normaliser, gradientScale, gradientScaleAt, gradientMode, statistics, search, wanted);
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
      BATCH(Abi.YL_NORMALISER_BATCH),
      /** 1: raw sums. */
      NONE(Abi.YL_NORMALISER_NONE),
      /** The objects of the call, at least 1. */
      OBJECTS(Abi.YL_NORMALISER_OBJECTS),
      /** A value of the caller's, for a batch that is spread over several calls. */
      VALUE(Abi.YL_NORMALISER_VALUE);

      /** On the native boundary. */
      final int value;

      Kind(int value) {
        this.value = value;
      }
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

    /**
     * By value.
     *
     * @param kind which
     * @param value finite and > 0
     */
    public Normaliser(Kind kind, double value) {
      this(kind, value, null);
    }

    /**
     * A value of the caller's.
     *
     * @param value finite and > 0
     * @return the normaliser
     */
    public static Normaliser value(double value) {
      return new Normaliser(Kind.VALUE, value, null);
    }

    /**
     * A float32 in device memory, read when the device runs; it is not checked.
     *
     * @param value its place
     * @return the normaliser
     */
    public static Normaliser at(DeviceBuffer value) {
      return new Normaliser(Kind.VALUE, 1, Objects.requireNonNull(value, "value"));
    }
  }
}
