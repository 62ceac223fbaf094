package io.github.yololoss.cli.report;

import io.github.yololoss.Part;
import io.github.yololoss.cli.report.Comparison.Axes;
import io.github.yololoss.cli.report.Comparison.Axis;
import io.github.yololoss.cli.report.Comparison.Point;
import io.github.yololoss.cli.report.Comparison.Run;
import io.github.yololoss.cli.report.ComparisonJson.OfAxes;
import io.github.yololoss.cli.report.ComparisonJson.OfAxis;
import io.github.yololoss.cli.report.ComparisonJson.OfComparison;
import io.github.yololoss.cli.report.ComparisonJson.OfCurves;
import io.github.yololoss.cli.report.ComparisonJson.OfRun;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * Shows the curves of trainings as a page. Every number of the page is a field of the comparison,
 * and has the address that the field has in the comparison's JSON.
 */
public final class ComparePage {
  private static final int RUN_STYLES = 6; // in report.css; more runs begin again, dashed

  private final List<Addressed<Run>> runs;
  private final Addressed<Axes> axes;
  private final Html out = new Html("yololoss compare");

  /** Returns the page. */
  public static String of(Comparison comparison) {
    ComparePage page = new ComparePage(comparison);
    page.table();
    page.charts();
    return page.out.end();
  }

  private ComparePage(Comparison model) {
    Addressed<Comparison> comparison = Addressed.root(model);
    runs = comparison.items(OfComparison.RUNS);
    axes = comparison.get(OfComparison.AXES);
  }

  private static String style(int run) {
    return "run" + run % RUN_STYLES + (run / RUN_STYLES % 2 == 1 ? " dashed" : "");
  }

  private void table() {
    out.element("h1", "The loss over the steps");
    List<String> columns =
        new ArrayList<>(List.of("run", "steps", "first total", "least total", "last total"));
    Part.ALL.forEach(part -> columns.add(part.shortLabel()));
    out.table(columns.toArray(String[]::new));
    for (int r = 0; r < runs.size(); r++) {
      Addressed<Run> run = runs.get(r);
      out.open("tr").open("td").element("i", "", "class", "key " + style(r));
      out.element("span", run.value().file(), "class", "name").close(1);
      out.cell(run.get(OfRun.STEPS));
      out.cell(run.get(OfRun.FIRST).get(OfCurves.of(Curve.TOTAL)));
      out.cell(run.get(OfRun.LEAST_TOTAL));
      Curve.ALL.forEach(curve -> out.cell(run.get(OfRun.LAST_TENTH).get(OfCurves.of(curve))));
      out.close(1);
    }
    out.close(3);
    out.element(
        "p",
        "Last total and the parts: means over the last tenth of the steps. Points of the curves are"
            + " means of neighbouring steps where there are many.",
        "class",
        "faint");
  }

  private void charts() {
    out.open("div", "class", "charts curves");
    Curve.ALL.forEach(this::chart);
    out.close(1);
  }

  private void chart(Curve curve) {
    Addressed<Axis> axis = axes.get(OfAxes.of(curve));
    out.open("figure");
    out.element("figcaption", curve.label() + (axis.value().logarithmic() ? ", logarithmic" : ""));
    out.open("div", "class", "ticks").open("span").number(axis.get(OfAxis.LARGEST)).close(2);
    out.open("svg", "viewBox", "0 0 100 100", "preserveAspectRatio", "none", "role", "img");
    for (int r = 0; r < runs.size(); r++) {
      line(runs.get(r).value().points(), curve, axis.value(), style(r));
    }
    out.close(1).open("div", "class", "ticks").open("span");
    out.number(axis.get(OfAxis.LEAST)).close(2).open("div", "class", "ticks").open("span");
    out.text("step ").number(axes.get(OfAxes.FIRST_STEP)).close(1).open("span");
    out.number(axes.get(OfAxes.LAST_STEP)).close(3);
  }

  /** Draws a line that is broken where a value is not finite. */
  private void line(List<Point> points, Curve curve, Axis axis, String style) {
    double first = axes.value().firstStep();
    double steps = Math.max(1, axes.value().lastStep() - first);
    double least = scaled(axis.least(), axis);
    double span = scaled(axis.largest(), axis) - least;
    StringBuilder path = new StringBuilder();
    boolean broken = true;
    for (Point point : points) {
      double value = point.means().get(curve);
      if (Double.isFinite(value)) {
        double x = 100 * (point.step() - first) / steps;
        double y = 100 - 100 * (span > 0 ? (scaled(value, axis) - least) / span : 0.5);
        path.append(String.format(Locale.ROOT, "%s%.2f %.2f", broken ? "M" : "L", x, y));
      }
      broken = !Double.isFinite(value);
    }
    if (!path.isEmpty()) {
      out.single("path", "class", "line " + style, "d", path.toString());
    }
  }

  private static double scaled(double value, Axis axis) {
    return axis.logarithmic() ? Math.log(value) : value;
  }
}
