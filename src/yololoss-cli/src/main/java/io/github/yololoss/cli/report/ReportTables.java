package io.github.yololoss.cli.report;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.yololoss.Audit;
import io.github.yololoss.Part;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** The sections of a report's page that are tables and histograms. */
public final class ReportTables {
  private final JsonNode report;
  private final Html out;
  private final List<String> classNames;

  public ReportTables(JsonNode report, Html out, List<String> classNames) {
    this.report = report;
    this.out = out;
    this.classNames = classNames;
  }

  public String className(int c) {
    return c < classNames.size() ? classNames.get(c) : "class " + c;
  }

  /** A number of a finding, which is -1 where it does not apply. */
  private void ifThere(String pointer) {
    if (report.at(pointer).asInt() < 0) {
      out.element("td", "");
    } else {
      out.cell(pointer);
    }
  }

  // ---- cells

  public void cells() {
    out.element("h2", "The cells that cost most");
    cellTable("/cells", true);
  }

  /** Cells in their order; ofAll: with their images. */
  public void cellTable(String at, boolean ofAll) {
    List<String> columns = new ArrayList<>(List.of("loss"));
    columns.addAll(ofAll ? List.of("image", "file") : List.of());
    columns.addAll(List.of("layer", "row", "column", "anchor", "kind"));
    Part.ALL.forEach(part -> columns.add(part.label()));
    columns.addAll(List.of("objectness", "best IoU", "predicted box", "true box"));
    boolean files = report.at(at + "/0").has("file");
    if (!files) {
      columns.remove("file");
    }
    out.table(columns.toArray(String[]::new));
    for (int i = 0; i < report.at(at).size(); i++) {
      String cell = at + "/" + i + "/";
      JsonNode node = report.at(at + "/" + i);
      out.open("tr").cell(cell + "loss");
      if (ofAll) {
        out.cell(cell + "image");
        if (files) {
          out.element("td", node.get("file").asText(), "class", "name");
        }
      }
      for (String field : List.of("layer", "row", "column", "anchor")) {
        out.cell(cell + field);
      }
      out.element("td", node.get("object").asBoolean() ? "object" : "background");
      Part.ALL.forEach(part -> out.cell(cell + part.jsonName()));
      out.cell(cell + "objectness").cell(cell + "best_iou");
      box(cell + "predicted");
      box(cell + "truth");
      out.close(1);
    }
    out.close(3);
  }

  private void box(String at) {
    if (report.at(at).isMissingNode()) {
      out.element("td", "");
      return;
    }
    out.open("td").element("span", className(report.at(at + "/class").asInt()), "class", "label");
    for (String field : List.of("x_min", "y_min", "x_max", "y_max")) {
      out.text(field.equals("x_min") ? " " : ", ").number(at + "/" + field);
    }
    out.close(1);
  }

  // ---- histograms

  public void histograms() {
    out.element("h2", "Predictions and truths");
    out.open("div", "class", "charts");
    histogram("best_iou_object", "Best IoU, object cells", "IoU");
    histogram("best_iou_background", "Best IoU, background cells", "IoU");
    histogram("objectness_object", "Objectness, object cells", "objectness");
    histogram("objectness_background", "Objectness, background cells", "objectness");
    out.close(1);
    out.element(
        "p",
        "Heights are logarithmic in the number of cells. Best IoU: the largest that a prediction"
            + " has with a truth that it is compared with, zero where there is no such truth.",
        "class",
        "faint");
    out.open("details").element("summary", "the counts");
    out.table(
        "from",
        "to",
        "best IoU, objects",
        "best IoU, background",
        "objectness, objects",
        "objectness, background");
    for (int bin = 0; bin + 1 < report.at("/histograms/edges").size(); bin++) {
      out.open("tr").cell("/histograms/edges/" + bin).cell("/histograms/edges/" + (bin + 1));
      for (String kind :
          List.of(
              "best_iou_object",
              "best_iou_background",
              "objectness_object",
              "objectness_background")) {
        out.cell("/histograms/" + kind + "/" + bin);
      }
      out.close(1);
    }
    out.close(4);
  }

  private void histogram(String name, String title, String unit) {
    JsonNode counts = report.at("/histograms/" + name);
    int fullest = 0;
    for (int bin = 1; bin < counts.size(); bin++) {
      fullest = counts.get(bin).asLong() > counts.get(fullest).asLong() ? bin : fullest;
    }
    double largest = Math.log1p(counts.get(fullest).asDouble());
    out.open("figure").element("figcaption", title).open("div", "class", "ticks").open("span");
    out.number("/histograms/" + name + "/" + fullest).text(" cells").close(2);
    out.open(
        "svg",
        "viewBox",
        "0 0 " + 10 * counts.size() + " 100",
        "preserveAspectRatio",
        "none",
        "role",
        "img",
        "aria-label",
        title);
    for (int bin = 0; bin < counts.size(); bin++) {
      double height = largest > 0 ? 100 * Math.log1p(counts.get(bin).asDouble()) / largest : 0;
      out.single(
          "rect",
          "x",
          ReportPage.two(10 * bin + 0.5),
          "width",
          "9",
          "y",
          ReportPage.two(100 - height),
          "height",
          ReportPage.two(height),
          "fill",
          name.endsWith("object") ? "var(--confidence_object)" : "var(--xy)");
    }
    out.close(1).open("div", "class", "ticks").element("span", "0", "class", "tick");
    out.element("span", unit).element("span", "1", "class", "tick").close(2);
  }

  // ---- labels and anchors

  public void labels() {
    out.element("h2", "Labels");
    out.open("p").text("Faults of the truths: ").number("/audit/faults").text(".").close(1);
    JsonNode counts = report.at("/audit/counts");
    if (counts.properties().stream().anyMatch(e -> e.getValue().asLong() > 0)) {
      out.table("finding", "kind", "how many");
      for (Audit.Reason reason : Audit.Reason.values()) {
        String name = reason.name().toLowerCase(Locale.ROOT);
        if (counts.get(name).asLong() > 0) {
          out.open("tr")
              .element("td", reason.text())
              .element("td", reason.isFault() ? "fault" : "fact");
          out.cell("/audit/counts/" + name).close(1);
        }
      }
      out.close(3);
      out.open("details").element("summary", "the first findings");
      out.table(
          "image",
          "row",
          "finding",
          "what a call does",
          "layer",
          "grid row",
          "grid column",
          "anchor",
          "value");
      for (int i = 0; i < report.at("/audit/findings").size(); i++) {
        String at = "/audit/findings/" + i + "/";
        out.open("tr").cell(at + "image");
        ifThere(at + "row");
        out.element(
            "td",
            Audit.Reason.valueOf(report.at(at + "reason").asText().toUpperCase(Locale.ROOT))
                .text());
        out.element("td", report.at(at + "action").asText());
        for (String field : List.of("layer", "grid_row", "grid_column", "anchor")) {
          ifThere(at + field);
        }
        out.cell(at + "value").close(1);
      }
      out.close(4);
    }
    out.element("h2", "Anchors");
    if (report.at("/audit").has("best_possible_iou")) {
      String best = "/audit/best_possible_iou/";
      out.open("p").text("Best IoU that a box can have with an anchor at its centre, over ");
      out.number(best + "boxes").text(" boxes: mean ").number(best + "mean").text(", median ");
      out.number(best + "median")
          .text(", least ")
          .number(best + "least")
          .text("; below one half: ");
      out.number(best + "below_half").text(".").close(1);
    }
    List<String> columns = new ArrayList<>(List.of("anchor", "width", "height"));
    for (int l = 0; l < report.get("grids").size(); l++) {
      columns.add("boxes in layer " + l);
    }
    out.table(columns.toArray(String[]::new));
    for (int n = 0; n < report.at("/audit/anchors").size(); n++) {
      out.open("tr").element("th", String.valueOf(n), "scope", "row", "class", "label");
      out.cell("/audit/anchors/" + n + "/0").cell("/audit/anchors/" + n + "/1");
      for (int l = 0; l < report.get("grids").size(); l++) {
        out.cell("/audit/anchor_use/" + l + "/" + n);
      }
      out.close(1);
    }
    out.close(3);
  }
}
