package io.github.yololoss.cli;

import io.github.yololoss.Statistics;
import java.util.function.Function;

/**
 * The statistics of a layer, in the order of {@code yl_stats}, as JSON and the table name them: the
 * one list of them in the command line.
 */
enum Statistic {
  OBJECTS("object_count", null, Statistics::objects),
  BACKGROUND("background_count", null, Statistics::background),
  IOU("mean_iou", " mean IoU", Statistics::meanIou),
  IOU_50("share_iou_50", "  IoU>0.5", Statistics::shareIou50),
  IOU_75("share_iou_75", "  IoU>0.75", Statistics::shareIou75),
  OBJECTNESS_OBJECT(
      "mean_objectness_object", "  objectness of objects", Statistics::meanObjectnessObject),
  OBJECTNESS_BACKGROUND(
      "mean_objectness_background", ", background", Statistics::meanObjectnessBackground),
  GRAD_XY("grad_norm_xy", "  gradient norm of xy", s -> Math.sqrt(s.gradXy())),
  GRAD_WH("grad_norm_wh", ", wh", s -> Math.sqrt(s.gradWh())),
  GRAD_OBJECT("grad_norm_object", ", object", s -> Math.sqrt(s.gradObject())),
  GRAD_BACKGROUND("grad_norm_background", ", background", s -> Math.sqrt(s.gradBackground())),
  GRAD_CLASS("grad_norm_class", ", class", s -> Math.sqrt(s.gradClass()));

  /** The name in JSON: of a mean, share or norm, where the field is a sum. */
  final String jsonName;

  /** Heading of its column, as wide as the column; null: not in the table. */
  final String heading;

  private final Function<Statistics, Number> value;

  Statistic(String jsonName, String heading, Function<Statistics, Number> value) {
    this.jsonName = jsonName;
    this.heading = heading;
    this.value = value;
  }

  /** A Long for a count, else a Double. */
  Number of(Statistics statistics) {
    return value.apply(statistics);
  }

  /** Its number in the table: a list of norms, and columns of numbers between 0 and 1. */
  String format() {
    if (jsonName.startsWith("grad_norm_")) {
      return heading.startsWith(",") ? ", %.4g" : "  %.4g";
    }
    return "%" + heading.length() + ".4f";
  }
}
