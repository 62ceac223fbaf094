package io.github.yololoss.cli.report;

import io.github.yololoss.Audit;
import io.github.yololoss.Audit.Finding;
import io.github.yololoss.Part;
import io.github.yololoss.cli.report.Report.Cell;
import io.github.yololoss.cli.report.Report.Histogram;
import io.github.yololoss.cli.report.Report.Histograms;
import io.github.yololoss.cli.report.Report.Labels;
import io.github.yololoss.cli.report.ReportJson.OfBestIou;
import io.github.yololoss.cli.report.ReportJson.OfBox;
import io.github.yololoss.cli.report.ReportJson.OfCell;
import io.github.yololoss.cli.report.ReportJson.OfFinding;
import io.github.yololoss.cli.report.ReportJson.OfHistograms;
import io.github.yololoss.cli.report.ReportJson.OfLabels;
import io.github.yololoss.cli.report.ReportJson.OfReport;
import io.github.yololoss.cli.run.AuditJson.BestIou;
import io.github.yololoss.kit.Detections.Box;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/** Writes the sections of a report's page that are tables and histograms. */
final class ReportTables {
  private final Addressed<Report> report;
  private final Html out;
  private final List<String> classNames;

  ReportTables(Addressed<Report> report, Html out, List<String> classNames) {
    this.report = report;
    this.out = out;
    this.classNames = classNames;
  }

  /** Returns the name of a class, or its number if it has none. */
  String className(int c) {
    return c < classNames.size() ? classNames.get(c) : "class " + c;
  }

  /** Writes a number of a finding, or an empty cell for -1: it does not apply. */
  private void ifThere(Addressed<Integer> number) {
    if (number.value() < 0) {
      out.element("td", "");
    } else {
      out.cell(number);
    }
  }

  // ---- cells

  void cells() {
    out.element("h2", "The cells that cost most");
    cellTable(report.items(OfReport.CELLS), true);
  }

  /** Writes a table of cells; with their images if they are those of all images. */
  void cellTable(List<Addressed<Cell>> cells, boolean ofAll) {
    boolean files = ofAll && !cells.isEmpty() && cells.getFirst().value().file() != null;
    List<String> columns = new ArrayList<>(List.of("loss"));
    columns.addAll(ofAll ? List.of("image") : List.of());
    columns.addAll(files ? List.of("file") : List.of());
    columns.addAll(List.of("layer", "row", "column", "anchor", "kind"));
    Part.ALL.forEach(part -> columns.add(part.label()));
    columns.addAll(List.of("objectness", "best IoU", "predicted box", "true box"));
    out.table(columns.toArray(String[]::new));
    for (Addressed<Cell> cell : cells) {
      out.open("tr").cell(cell.get(OfCell.LOSS));
      if (ofAll) {
        out.cell(cell.get(OfCell.IMAGE));
      }
      if (files) {
        out.element("td", cell.value().file(), "class", "name");
      }
      List.of(OfCell.LAYER, OfCell.ROW, OfCell.COLUMN, OfCell.ANCHOR)
          .forEach(field -> out.cell(cell.get(field)));
      out.element("td", cell.value().object() ? "object" : "background");
      Part.ALL.forEach(part -> out.cell(cell.get(OfCell.of(part))));
      out.cell(cell.get(OfCell.OBJECTNESS)).cell(cell.get(OfCell.BEST_IOU));
      box(cell.get(OfCell.PREDICTED));
      box(cell.get(OfCell.TRUTH));
      out.close(1);
    }
    out.close(3);
  }

  private void box(Addressed<Box> box) {
    if (box.value() == null) {
      out.element("td", "");
      return;
    }
    out.open("td").element("span", className(box.value().classId()), "class", "label");
    String before = " ";
    for (Field<Box, Double> corner : OfBox.CORNERS) {
      out.text(before).number(box.get(corner));
      before = ", ";
    }
    out.close(1);
  }

  // ---- histograms

  void histograms() {
    Addressed<Histograms> histograms = report.get(OfReport.HISTOGRAMS);
    out.element("h2", "Predictions and truths");
    out.open("div", "class", "charts");
    for (Histogram histogram : Histogram.values()) {
      chart(histogram, histograms.items(OfHistograms.of(histogram)));
    }
    out.close(1);
    out.element(
        "p",
        "Heights are logarithmic in the number of cells. Best IoU: the largest that a prediction"
            + " has with a truth that it is compared with, zero where there is no such truth.",
        "class",
        "faint");
    out.open("details").element("summary", "the counts");
    List<String> columns = new ArrayList<>(List.of("from", "to"));
    Arrays.stream(Histogram.values()).forEach(histogram -> columns.add(histogram.column));
    out.table(columns.toArray(String[]::new));
    List<Addressed<Double>> edges = histograms.items(OfHistograms.EDGES);
    for (int bin = 0; bin + 1 < edges.size(); bin++) {
      out.open("tr").cell(edges.get(bin)).cell(edges.get(bin + 1));
      for (Histogram histogram : Histogram.values()) {
        out.cell(histograms.items(OfHistograms.of(histogram)).get(bin));
      }
      out.close(1);
    }
    out.close(4);
  }

  private void chart(Histogram histogram, List<Addressed<Long>> counts) {
    Addressed<Long> fullest = counts.getFirst();
    for (Addressed<Long> count : counts) {
      fullest = count.value() > fullest.value() ? count : fullest;
    }
    double largest = Math.log1p(fullest.value());
    out.open("figure").element("figcaption", histogram.title);
    out.open("div", "class", "ticks").open("span");
    out.number(fullest).text(" cells").close(2);
    out.open(
        "svg",
        "viewBox",
        "0 0 " + 10 * counts.size() + " 100",
        "preserveAspectRatio",
        "none",
        "role",
        "img",
        "aria-label",
        histogram.title);
    for (int bin = 0; bin < counts.size(); bin++) {
      double height = largest > 0 ? 100 * Math.log1p(counts.get(bin).value()) / largest : 0;
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
          histogram.object ? "var(--confidence_object)" : "var(--xy)");
    }
    out.close(1).open("div", "class", "ticks").element("span", "0", "class", "tick");
    out.element("span", histogram.unit).element("span", "1", "class", "tick").close(2);
  }

  // ---- labels and anchors

  void labels() {
    Addressed<Labels> labels = report.get(OfReport.LABELS);
    out.element("h2", "Labels");
    out.open("p").text("Faults of the truths: ").number(labels.get(OfLabels.FAULTS)).text(".");
    out.close(1);
    Addressed<Audit> counts = labels.get(OfLabels.COUNTS);
    List<Audit.Reason> found =
        Arrays.stream(Audit.Reason.values()).filter(r -> counts.value().count(r) > 0).toList();
    if (!found.isEmpty()) {
      out.table("finding", "kind", "how many");
      for (Audit.Reason reason : found) {
        out.open("tr")
            .element("td", reason.text())
            .element("td", reason.isFault() ? "fault" : "fact");
        out.cell(counts.get(OfLabels.of(reason))).close(1);
      }
      out.close(3);
      findings(labels.items(OfLabels.FINDINGS));
    }
    anchors(labels);
  }

  private void findings(List<Addressed<Finding>> findings) {
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
    for (Addressed<Finding> finding : findings) {
      out.open("tr").cell(finding.get(OfFinding.IMAGE));
      ifThere(finding.get(OfFinding.ROW));
      out.element("td", finding.value().reason().text());
      out.element("td", finding.value().action().name().toLowerCase(Locale.ROOT));
      List.of(OfFinding.LAYER, OfFinding.GRID_ROW, OfFinding.GRID_COLUMN, OfFinding.ANCHOR)
          .forEach(field -> ifThere(finding.get(field)));
      out.cell(finding.get(OfFinding.VALUE)).close(1);
    }
    out.close(4);
  }

  private void anchors(Addressed<Labels> labels) {
    out.element("h2", "Anchors");
    Addressed<BestIou> best = labels.get(OfLabels.BEST_IOU);
    if (best.value() != null) {
      out.open("p").text("Best IoU that a box can have with an anchor at its centre, over ");
      out.number(best.get(OfBestIou.BOXES)).text(" boxes: mean ");
      out.number(best.get(OfBestIou.MEAN)).text(", median ");
      out.number(best.get(OfBestIou.MEDIAN)).text(", least ");
      out.number(best.get(OfBestIou.LEAST)).text("; below one half: ");
      out.number(best.get(OfBestIou.BELOW_HALF)).text(".").close(1);
    }
    List<List<Addressed<Long>>> use = Addressed.nested(labels.items(OfLabels.ANCHOR_USE));
    List<List<Addressed<Float>>> anchors = Addressed.nested(labels.items(OfLabels.ANCHORS));
    List<String> columns = new ArrayList<>(List.of("anchor", "width", "height"));
    for (int l = 0; l < use.size(); l++) {
      columns.add("boxes in layer " + l);
    }
    out.table(columns.toArray(String[]::new));
    for (int n = 0; n < anchors.size(); n++) {
      out.open("tr").element("th", String.valueOf(n), "scope", "row", "class", "label");
      anchors.get(n).forEach(out::cell);
      for (List<Addressed<Long>> layer : use) {
        out.cell(layer.get(n));
      }
      out.close(1);
    }
    out.close(3);
  }
}
