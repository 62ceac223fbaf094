package io.github.yololoss.cli.report;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.yololoss.Part;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** The curves of trainings as a page: every number of it stands in the tree. */
public final class ComparePage {
  private static final int RUN_STYLES = 6; // in report.css; more runs begin again, dashed

  private final JsonNode root;
  private final Html out;

  /** The page. */
  public static String of(JsonNode root) {
    ComparePage page = new ComparePage(root);
    page.table();
    page.charts();
    return page.out.end();
  }

  private ComparePage(JsonNode root) {
    this.root = root;
    out = new Html(root, "yololoss compare");
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
    for (int r = 0; r < root.get("runs").size(); r++) {
      String run = "/runs/" + r + "/";
      out.open("tr").open("td").element("i", "", "class", "key " + style(r));
      out.element("span", root.at(run + "file").asText(), "class", "name").close(1);
      out.cell(run + "steps").cell(run + "first/total").cell(run + "least_total");
      Curves.NAMES.forEach(curve -> out.cell(run + "last_tenth/" + curve));
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
    chart("total", "total");
    Part.ALL.forEach(part -> chart(part.jsonName(), part.label()));
    out.close(1);
  }

  private void chart(String curve, String title) {
    JsonNode axis = root.at("/axes/" + curve);
    boolean logarithmic = axis.get("logarithmic").asBoolean();
    out.open("figure");
    out.element("figcaption", title + (logarithmic ? ", logarithmic" : ""));
    out.open("div", "class", "ticks").open("span").number("/axes/" + curve + "/largest").close(2);
    out.open("svg", "viewBox", "0 0 100 100", "preserveAspectRatio", "none", "role", "img");
    for (int r = 0; r < root.get("runs").size(); r++) {
      line(root.at("/runs/" + r + "/points"), curve, axis, logarithmic, style(r));
    }
    out.close(1).open("div", "class", "ticks").open("span");
    out.number("/axes/" + curve + "/least").close(2).open("div", "class", "ticks").open("span");
    out.text("step ").number("/axes/first_step").close(1).open("span").number("/axes/last_step");
    out.close(3);
  }

  /** A line that is broken where a value is not finite. */
  private void line(
      JsonNode points, String curve, JsonNode axis, boolean logarithmic, String style) {
    double first = root.at("/axes/first_step").asDouble();
    double steps = Math.max(1, root.at("/axes/last_step").asDouble() - first);
    double least = scaled(axis.get("least").asDouble(), logarithmic);
    double span = scaled(axis.get("largest").asDouble(), logarithmic) - least;
    StringBuilder path = new StringBuilder();
    boolean broken = true;
    for (JsonNode point : points) {
      double value = point.get(curve).asDouble(Double.NaN);
      if (Double.isFinite(value)) {
        double x = 100 * (point.get("step").asDouble() - first) / steps;
        double y = 100 - 100 * (span > 0 ? (scaled(value, logarithmic) - least) / span : 0.5);
        path.append(String.format(Locale.ROOT, "%s%.2f %.2f", broken ? "M" : "L", x, y));
      }
      broken = !Double.isFinite(value);
    }
    if (!path.isEmpty()) {
      out.single("path", "class", "line " + style, "d", path.toString());
    }
  }

  private static double scaled(double value, boolean logarithmic) {
    return logarithmic ? Math.log(value) : value;
  }
}
