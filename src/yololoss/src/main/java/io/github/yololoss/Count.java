package io.github.yololoss;

import io.github.yololoss.LossResult.Parts;
import java.util.List;
import java.util.function.ToLongFunction;

/** The counts that come with the parts of the loss, in the order of {@code yl_parts}. */
public enum Count {
  /** Cells with m != 0. */
  OBJECTS("object_count", Parts::objects),
  /** Cells with k = 0, objects included. */
  IGNORED("ignore_count", Parts::ignored),
  /** Cells with k = 0 and m = 0. */
  IGNORED_BACKGROUND("ignore_count_background", Parts::ignoredBackground),
  /** NaN and infinities among the values that count. */
  NON_FINITE("non_finite", Parts::nonFinite),
  /** Elements of the gradient that were written as NaN or infinity. */
  FOUND_INF("found_inf", Parts::foundInf);

  /** All counts, in order. */
  public static final List<Count> ALL = List.of(values());

  private final String jsonName;
  private final ToLongFunction<Parts> value;

  Count(String jsonName, ToLongFunction<Parts> value) {
    this.jsonName = jsonName;
    this.value = value;
  }

  /**
   * {@return the name in JSON and in logs, such as {@code object_count}} It is that of the golden
   * cases, which differs from the field of {@code yl_parts} for three of the counts.
   */
  public String jsonName() {
    return jsonName;
  }

  /**
   * {@return this count}
   *
   * @param parts of a layer, a row or a sum
   */
  public long of(Parts parts) {
    return value.applyAsLong(parts);
  }
}
