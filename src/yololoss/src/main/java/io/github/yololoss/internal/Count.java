package io.github.yololoss.internal;

import io.github.yololoss.LossResult.Parts;
import java.util.List;
import java.util.function.ToLongFunction;

/**
 * The counts of {@code yl_parts}, in its order: the one list of them in Java. A test compares it
 * with the header.
 */
public enum Count {
  /** Cells with m != 0. */
  OBJECTS("object_count", Parts::objects),
  /** Cells with k = 0. */
  IGNORED("ignore_count", Parts::ignored),
  /** Cells with k = 0 and m = 0. */
  IGNORED_BACKGROUND("ignore_count_background", Parts::ignoredBackground),
  /** Values that are not finite. */
  NON_FINITE("non_finite", Parts::nonFinite),
  /** Elements of the gradient that are not finite. */
  FOUND_INF("found_inf", Parts::foundInf);

  /** All counts. */
  public static final List<Count> ALL = List.of(values());

  /** The name in JSON, which for three of them is not the field's but that of the golden cases. */
  public final String jsonName;

  private final ToLongFunction<Parts> value;

  Count(String jsonName, ToLongFunction<Parts> value) {
    this.jsonName = jsonName;
    this.value = value;
  }

  /**
   * {@return this count}
   *
   * @param parts of a layer or a row
   */
  public long of(Parts parts) {
    return value.applyAsLong(parts);
  }
}
