package io.github.yololoss.cli.report;

import io.github.yololoss.kit.LossCurve.Step;
import java.util.ArrayList;
import java.util.DoubleSummaryStatistics;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.LongSummaryStatistics;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * Compares trainings by their logs. {@link ComparePage} draws it, and {@link ComparisonJson} writes
 * it as JSON.
 *
 * @param runs the trainings, each with at least one step
 * @param axes of the charts
 */
public record Comparison(List<Run> runs, Axes axes) {
  private static final int POINTS = 400; // of a curve

  /** Compares runs. */
  public static Comparison of(List<Run> runs) {
    return new Comparison(List.copyOf(runs), Axes.of(runs));
  }

  /**
   * A training.
   *
   * @param file its log
   * @param steps number of steps
   * @param firstStep number of the first step
   * @param lastStep number of the last step
   * @param first the values of the first step
   * @param lastTenth the means over the last tenth of the steps
   * @param leastTotal the least total of a step
   * @param points of the curves, at most 400
   */
  public record Run(
      String file,
      int steps,
      long firstStep,
      long lastStep,
      Map<Curve, Double> first,
      Map<Curve, Double> lastTenth,
      double leastTotal,
      List<Point> points) {

    /**
     * Summarises a log.
     *
     * @param file its name
     * @param steps of the log, at least one
     */
    public static Run of(String file, List<Step> steps) {
      int count = steps.size();
      int tenth = Math.max(1, count / 10);
      List<Point> points = new ArrayList<>();
      int size = (count + POINTS - 1) / POINTS; // of a bucket
      for (int first = 0; first < count; first += size) {
        int end = Math.min(count, first + size);
        points.add(new Point(steps.get(end - 1).number(), means(steps.subList(first, end))));
      }
      return new Run(
          file,
          count,
          steps.getFirst().number(),
          steps.getLast().number(),
          means(steps.subList(0, 1)),
          means(steps.subList(count - tenth, count)),
          steps.stream().mapToDouble(Step::total).min().orElse(Double.NaN),
          points);
    }

    private static Map<Curve, Double> means(List<Step> steps) {
      Map<Curve, Double> means = new LinkedHashMap<>();
      for (Curve curve : Curve.ALL) {
        means.put(curve, steps.stream().mapToDouble(curve.value()).average().orElse(0));
      }
      return means;
    }
  }

  /**
   * A point of the curves.
   *
   * @param step number of the last step that it covers
   * @param means over the steps that it covers
   */
  public record Point(long step, Map<Curve, Double> means) {}

  /**
   * The axes of the charts.
   *
   * @param curves the vertical axis of each curve
   * @param firstStep the least step of all points
   * @param lastStep the largest step of all points
   */
  public record Axes(Map<Curve, Axis> curves, long firstStep, long lastStep) {
    static Axes of(List<Run> runs) {
      List<Point> points = runs.stream().flatMap(run -> run.points().stream()).toList();
      LongSummaryStatistics steps =
          points.stream().collect(Collectors.summarizingLong(Point::step));
      Map<Curve, Axis> curves = new LinkedHashMap<>();
      for (Curve curve : Curve.ALL) {
        curves.put(
            curve,
            Axis.of(
                points.stream()
                    .mapToDouble(point -> point.means().get(curve))
                    .filter(Double::isFinite)
                    .summaryStatistics()));
      }
      return new Axes(curves, steps.getMin(), steps.getMax());
    }
  }

  /**
   * A vertical axis. It is logarithmic where values are positive and far apart.
   *
   * @param least value at its lower end
   * @param largest value at its upper end
   * @param logarithmic whether it is logarithmic
   */
  public record Axis(double least, double largest, boolean logarithmic) {
    static Axis of(DoubleSummaryStatistics values) {
      if (values.getCount() == 0) {
        return new Axis(0, 1, false);
      }
      double least = values.getMin();
      double largest = values.getMax();
      boolean logarithmic = least > 0 && largest > 10 * least;
      return new Axis(logarithmic ? least : Math.min(0, least), largest, logarithmic);
    }
  }
}
