package io.github.yololoss.cli.report;

import io.github.yololoss.Part;
import io.github.yololoss.kit.LossCurve;
import java.util.List;
import java.util.function.ToDoubleFunction;
import java.util.stream.Stream;

/**
 * A curve that {@code compare} draws: the total or a part over the steps of a training.
 *
 * @param name of its field in a log and in JSON
 * @param label its name for people
 * @param value reads it from a step
 */
public record Curve(String name, String label, ToDoubleFunction<LossCurve.Step> value) {
  /** The total. */
  public static final Curve TOTAL = new Curve("total", "total", LossCurve.Step::total);

  /** The parts, in order. */
  public static final List<Curve> PARTS = Part.ALL.stream().map(Curve::of).toList();

  /** The total and each part. */
  public static final List<Curve> ALL = Stream.concat(Stream.of(TOTAL), PARTS.stream()).toList();

  private static Curve of(Part part) {
    return new Curve(part.jsonName(), part.label(), step -> step.parts().get(part));
  }
}
