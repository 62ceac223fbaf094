package io.github.yololoss.kit;

import io.github.yololoss.Statistics;
import java.lang.reflect.RecordComponent;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * A statistic of a layer as JSON and the table show it, derived from a component of {@link
 * Statistics}: of a sum over cells the mean, of a number of objects their share, of squares of the
 * gradient the norm.
 *
 * @param jsonName its name in JSON
 * @param heading the heading of its column, as wide as the column; null: not in the table
 * @param format of its number in the table
 * @param component of Statistics
 */
public record Statistic(String jsonName, String heading, String format, RecordComponent component) {
  /** All, in the order of {@code yl_stats}. */
  public static final List<Statistic> ALL =
      Arrays.stream(Statistics.class.getRecordComponents()).map(Statistic::of).toList();

  private static final String SHARE = "share_";
  private static final String MEAN = "mean_";
  private static final String NORM = "grad_norm_";

  private static Statistic of(RecordComponent component) {
    String field = // as the header writes it
        component.getName().replaceAll("([a-z])([A-Z]|\\d)", "$1_$2").toLowerCase(Locale.ROOT);
    if (field.equals("objects") || field.equals("background")) {
      return new Statistic(field.replaceAll("s$", "") + "_count", null, null, component);
    }
    if (field.startsWith("grad_")) {
      String part = field.substring("grad_".length());
      boolean first = part.equals("xy");
      return new Statistic(
          NORM + part,
          first ? "  gradient norm of xy" : ", " + part,
          first ? "  %.4g" : ", %.4g",
          component);
    }
    String heading =
        field.matches("iou_\\d+")
            ? "  IoU>" + Double.parseDouble(field.replace("iou_", "0."))
            : Map.of(
                    "iou", " mean IoU",
                    "objectness_object", "  objectness of objects",
                    "objectness_background", ", background")
                .getOrDefault(field, "  " + field);
    return new Statistic(
        (component.getType() == long.class ? SHARE : MEAN) + field,
        heading,
        "%" + heading.length() + ".4f",
        component);
  }

  /**
   * Returns the statistic of a layer.
   *
   * @param statistics of the layer
   * @return a Long for a count, otherwise a Double; 0 where there is nothing to average
   */
  public Number of(Statistics statistics) {
    Number value;
    try {
      value = (Number) component.getAccessor().invoke(statistics);
    } catch (ReflectiveOperationException e) {
      throw new AssertionError(e); // a public record's accessor, which throws nothing
    }
    if (heading == null) {
      return value;
    }
    if (jsonName.startsWith(NORM)) {
      return Math.sqrt(value.doubleValue());
    }
    long cells = jsonName.endsWith("_background") ? statistics.background() : statistics.objects();
    return cells == 0 ? 0.0 : value.doubleValue() / cells;
  }
}
