package io.github.yololoss.cli.report;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.cli.report.Comparison.Axes;
import io.github.yololoss.cli.report.Comparison.Axis;
import io.github.yololoss.cli.report.Comparison.Point;
import io.github.yololoss.cli.report.Comparison.Run;
import java.util.List;
import java.util.Map;

/**
 * Writes a comparison as JSON, and names its fields for the page. Each nested class has the fields
 * of one record, in the order of the JSON.
 */
public final class ComparisonJson {
  private ComparisonJson() {}

  /** Returns the tree that {@code compare --json} writes. */
  public static ObjectNode of(Comparison comparison) {
    return Field.toJson(comparison, OfComparison.ALL);
  }

  /** The fields of a value for each curve. */
  static final class OfCurves {
    static final List<Field<Map<Curve, Double>, ?>> ALL =
        List.copyOf(Curve.ALL.stream().map(OfCurves::of).toList());

    static Field<Map<Curve, Double>, Double> of(Curve curve) {
      return Field.number(curve.name(), values -> values.get(curve));
    }
  }

  /** The fields of a point. */
  private static final List<Field<Point, ?>> OF_POINT =
      Field.join(
          List.of(Field.number("step", Point::step)),
          OfCurves.ALL.stream().map(field -> field.through(Point::means)).toList());

  /** The fields of a run. */
  static final class OfRun {
    static final Field<Run, Integer> STEPS = Field.number("steps", Run::steps);
    static final Field<Run, Map<Curve, Double>> FIRST =
        Field.object("first", Run::first, OfCurves.ALL);
    static final Field<Run, Map<Curve, Double>> LAST_TENTH =
        Field.object("last_tenth", Run::lastTenth, OfCurves.ALL);
    static final Field<Run, Double> LEAST_TOTAL = Field.number("least_total", Run::leastTotal);
    static final List<Field<Run, ?>> ALL =
        List.of(
            Field.text("file", Run::file),
            STEPS,
            Field.number("first_step", Run::firstStep),
            Field.number("last_step", Run::lastStep),
            FIRST,
            LAST_TENTH,
            LEAST_TOTAL,
            Field.objects("points", Run::points, OF_POINT));
  }

  /** The fields of an axis. */
  static final class OfAxis {
    static final Field<Axis, Double> LEAST = Field.number("least", Axis::least);
    static final Field<Axis, Double> LARGEST = Field.number("largest", Axis::largest);
    static final List<Field<Axis, ?>> ALL =
        List.of(LEAST, LARGEST, Field.flag("logarithmic", Axis::logarithmic));
  }

  /** The fields of the axes. */
  static final class OfAxes {
    static final Field<Axes, Long> FIRST_STEP = Field.number("first_step", Axes::firstStep);
    static final Field<Axes, Long> LAST_STEP = Field.number("last_step", Axes::lastStep);
    static final List<Field<Axes, ?>> ALL =
        Field.join(Curve.ALL.stream().map(OfAxes::of).toList(), List.of(FIRST_STEP, LAST_STEP));

    static Field<Axes, Axis> of(Curve curve) {
      return Field.object(curve.name(), axes -> axes.curves().get(curve), OfAxis.ALL);
    }
  }

  /** The fields of a comparison. */
  static final class OfComparison {
    static final Field<Comparison, List<Run>> RUNS =
        Field.objects("runs", Comparison::runs, OfRun.ALL);
    static final Field<Comparison, Axes> AXES = Field.object("axes", Comparison::axes, OfAxes.ALL);
    static final List<Field<Comparison, ?>> ALL = List.of(RUNS, AXES);
  }
}
