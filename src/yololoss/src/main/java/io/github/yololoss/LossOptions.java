package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import java.util.Locale;
import java.util.Objects;

/**
 * How a call computes loss and gradient, and what it computes besides. Options hold no memory and
 * may be shared by any number of objects and threads.
 *
 * <p>A loss scale for float16 gradients:
 *
 * {@snippet class="io.github.yololoss.SnippetsTest" region="scale"}
 *
 * @param normaliser what the sums are divided by
 * @param gradientScale factor of the gradient (upstream gradient, loss scale), finite
 * @param gradientMode how the gradient is written
 * @param statistics whether {@link LossResult#statistics} are computed
 * @param search which values are searched for the first one that is not finite
 */
public record LossOptions(
    Normaliser normaliser,
    double gradientScale,
    GradientMode gradientMode,
    boolean statistics,
    Search search) {

  /** How the gradient is written. */
  public enum GradientMode {
    /** Every element is written; its previous value does not matter. */
    OVERWRITE(Abi.YL_GRAD_OVERWRITE),
    /**
     * The result is the same with fewer writes, if the gradient buffers are those of this object's
     * last call with a gradient and still hold what it wrote. Other buffers are refused. Changed
     * content is detected only in host memory, with {@code YOLOLOSS_DEBUG=1} in the environment.
     */
    REFRESH(Abi.YL_GRAD_REFRESH),
    /** The gradient is added to what the buffers hold. */
    ACCUMULATE(Abi.YL_GRAD_ACCUMULATE);

    /** The value of {@code yl_call.grad_mode}. */
    final int value;

    GradientMode(int value) {
      this.value = value;
    }
  }

  /** The values that are searched for {@link LossResult#offender}. */
  public enum Search {
    /** None. {@link LossResult#nonFinite} and {@link LossResult#foundInf} count nevertheless. */
    NONE,
    /** The values that count: masks and objectness of all cells, and whole rows of objects. */
    USED,
    /** All values of feats and y_true, which are then counted too. This reads all memory. */
    ALL
  }

  /** The options of keras-yolo3: sums are divided by the batch, the gradient is not scaled. */
  public static final LossOptions DEFAULT = new LossOptions(Normaliser.BATCH, 1);

  /**
   * Checks the values.
   *
   * @throws NullPointerException if a component is null
   * @throws IllegalArgumentException if gradientScale is not finite
   */
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
   * Makes options that write the whole gradient and compute nothing besides.
   *
   * @param normaliser what the sums are divided by
   * @param gradientScale factor of the gradient, finite
   * @throws NullPointerException if normaliser is null
   * @throws IllegalArgumentException if gradientScale is not finite
   */
  public LossOptions(Normaliser normaliser, double gradientScale) {
    this(normaliser, gradientScale, GradientMode.OVERWRITE, false, Search.NONE);
  }

  /**
   * {@return the same options with another normaliser}
   *
   * @param value what the sums are divided by
   */
  public LossOptions withNormaliser(Normaliser value) {
    return new LossOptions(value, gradientScale, gradientMode, statistics, search);
  }

  /**
   * {@return the same options with another factor of the gradient}
   *
   * @param value the factor, finite
   * @throws IllegalArgumentException if it is not finite
   */
  public LossOptions withGradientScale(double value) {
    return new LossOptions(normaliser, value, gradientMode, statistics, search);
  }

  /**
   * {@return the same options with another way to write the gradient}
   *
   * @param value how the gradient is written
   */
  public LossOptions withGradientMode(GradientMode value) {
    return new LossOptions(normaliser, gradientScale, value, statistics, search);
  }

  /**
   * {@return the same options with or without statistics}
   *
   * @param value whether {@link LossResult#statistics} are computed
   */
  public LossOptions withStatistics(boolean value) {
    return new LossOptions(normaliser, gradientScale, gradientMode, value, search);
  }

  /**
   * {@return the same options with another search}
   *
   * @param value which values are searched
   */
  public LossOptions withSearch(Search value) {
    return new LossOptions(normaliser, gradientScale, gradientMode, statistics, value);
  }

  /** {@return the normaliser, and what else differs from {@link #DEFAULT}} */
  @Override
  public String toString() {
    return "normaliser "
        + normaliser
        + (gradientScale == 1 ? "" : ", gradient scale " + gradientScale)
        + (gradientMode == GradientMode.OVERWRITE
            ? ""
            : ", gradient " + gradientMode.name().toLowerCase(Locale.ROOT))
        + (statistics ? ", statistics" : "")
        + (search == Search.NONE ? "" : ", search " + search.name().toLowerCase(Locale.ROOT));
  }

  /**
   * What sums are divided by. For a value in device memory see {@link CudaYoloLoss.Scalars}.
   *
   * @param kind the rule
   * @param value for {@link Kind#VALUE} the divisor, finite and above 0; otherwise 1
   */
  public record Normaliser(Kind kind, double value) {

    /** The rules. */
    public enum Kind {
      /** The batch, as keras-yolo3. */
      BATCH(Abi.YL_NORMALISER_BATCH),
      /** 1: raw sums. */
      NONE(Abi.YL_NORMALISER_NONE),
      /** The number of objects of the call, at least 1. */
      OBJECTS(Abi.YL_NORMALISER_OBJECTS),
      /** The caller's value, for a batch that is spread over several calls. */
      VALUE(Abi.YL_NORMALISER_VALUE);

      /** The value of {@code yl_call.normaliser}. */
      final int value;

      Kind(int value) {
        this.value = value;
      }
    }

    /** {@link Kind#BATCH}. */
    public static final Normaliser BATCH = new Normaliser(Kind.BATCH, 1);

    /** {@link Kind#NONE}. */
    public static final Normaliser NONE = new Normaliser(Kind.NONE, 1);

    /** {@link Kind#OBJECTS}. */
    public static final Normaliser OBJECTS = new Normaliser(Kind.OBJECTS, 1);

    /**
     * Checks that the value is a divisor, and that only {@link Kind#VALUE} has one.
     *
     * @throws NullPointerException if kind is null
     * @throws IllegalArgumentException if the value is not finite and above 0, or is not 1 for
     *     another kind than VALUE
     */
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

    /**
     * {@return a normaliser that divides by the caller's value}
     *
     * @param value finite and above 0
     * @throws IllegalArgumentException if it is not
     */
    public static Normaliser value(double value) {
      return new Normaliser(Kind.VALUE, value);
    }

    /** {@return the rule as the command line takes it, or the value} */
    @Override
    public String toString() {
      return kind == Kind.VALUE ? Double.toString(value) : kind.name().toLowerCase(Locale.ROOT);
    }
  }
}
