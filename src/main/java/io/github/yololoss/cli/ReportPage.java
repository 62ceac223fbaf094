package io.github.yololoss.cli;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.yololoss.Audit;
import io.github.yololoss.cli.ReportData.Heat;
import io.github.yololoss.cli.ReportData.Pictures;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** A report's tree as a page: every number of it stands in the tree. */
final class ReportPage {
  /** Parts as people call them, in the order of {@link ReportData#PARTS}. */
  static final List<String> PART_NAMES =
      List.of(
          "xy (centres)", "wh (sizes)", "confidence, objects", "confidence, background", "class");

  private static final Map<Heat, String> HEAT_NAMES =
      new EnumMap<>(
          Map.of(
              Heat.OBJECTNESS, "objectness",
              Heat.CONFIDENCE_LOSS, "confidence loss",
              Heat.IGNORED, "ignored",
              Heat.POSITIVES, "positives"));

  private final JsonNode report;
  private final List<Pictures> pictures;
  private final List<String> classNames;
  private final Html out;

  /** The page. */
  static String of(JsonNode report, List<Pictures> pictures, List<String> classNames) {
    ReportPage page = new ReportPage(report, pictures, classNames);
    page.headline();
    page.parts();
    page.images();
    page.cells();
    page.histograms();
    page.labels();
    page.explain();
    return page.out.end();
  }

  private ReportPage(JsonNode report, List<Pictures> pictures, List<String> classNames) {
    this.report = report;
    this.pictures = pictures;
    this.classNames = classNames;
    out = new Html(report, "yololoss report: " + report.get("folder").asText());
  }

  private String layerName(int l) {
    JsonNode grid = report.at("/grids/" + l);
    return "layer " + l + ", " + grid.get("width").asInt() + "x" + grid.get("height").asInt();
  }

  private int layers() {
    return report.get("grids").size();
  }

  private String className(int c) {
    return c < classNames.size() ? classNames.get(c) : "class " + c;
  }

  // ---- the whole batch

  private void headline() {
    out.open("h1").text("Where the loss comes from: ");
    out.element("span", report.get("folder").asText(), "class", "name").close(1);
    out.open("div", "class", "headline");
    figure("/loss/total", "loss");
    figure("/loss/batch", "images");
    figure("/objects", "objects");
    figure("/ignored_background", "ignored background cells");
    figure("/loss/non_finite", "values that are not finite");
    out.close(1);
    out.open("ul", "class", "advice");
    report.get("advice").forEach(sentence -> out.element("li", sentence.asText()));
    out.close(1);
  }

  private void figure(String pointer, String name) {
    out.open("div").open("b").number(pointer).close(1).element("span", name).close(1);
  }

  private void parts() {
    out.element("h2", "Parts and layers");
    legend();
    double largest = 0;
    for (int l = 0; l < layers(); l++) {
      largest = Math.max(largest, share("/shares/layers/" + l + "/sum"));
    }
    for (int l = 0; l < layers(); l++) {
      bar(layerName(l), "/shares/layers/" + l, largest);
    }
    out.element(
        "p", "Bars: share of the total, the longest layer filling the width.", "class", "faint");
    List<String> columns = new ArrayList<>(List.of("layer"));
    columns.addAll(PART_NAMES);
    columns.addAll(
        List.of(
            "sum",
            "share",
            "objects",
            "ignored",
            "mean IoU",
            "objectness of objects",
            "of background"));
    out.table(columns.toArray(String[]::new));
    for (int l = 0; l < layers(); l++) {
      String loss = "/loss/layers/" + l + "/";
      out.open("tr").element("th", layerName(l), "scope", "row", "class", "label");
      ReportData.PARTS.forEach(part -> out.cell(loss + part));
      out.cell(loss + "sum").percentCell("/shares/layers/" + l + "/sum");
      out.cell(loss + "object_count").cell(loss + "ignore_count_background");
      out.cell(loss + "statistics/mean_iou");
      out.cell(loss + "statistics/mean_objectness_object");
      out.cell(loss + "statistics/mean_objectness_background").close(1);
    }
    out.open("tr").element("th", "all", "scope", "row");
    ReportData.PARTS.forEach(part -> out.cell("/parts/" + part));
    out.cell("/loss/total").single("td").cell("/objects").cell("/ignored_background").close(1);
    out.open("tr").element("th", "share", "scope", "row");
    ReportData.PARTS.forEach(part -> out.percentCell("/shares/" + part));
    out.close(4);
  }

  private void legend() {
    out.open("ul", "class", "legend");
    for (int p = 0; p < PART_NAMES.size(); p++) {
      out.open("li").element("i", "", "class", ReportData.PARTS.get(p));
      out.text(PART_NAMES.get(p)).close(1);
    }
    out.close(1);
  }

  /** A share that can be drawn. */
  private double share(String pointer) {
    double share = report.at(pointer).asDouble();
    return Double.isFinite(share) ? Math.clamp(share, 0, 1) : 0;
  }

  private void bar(String label, String shares, double largest) {
    out.open("div", "class", "bar").element("span", label, "class", "label");
    out.open("div", "class", "track");
    for (String part : ReportData.PARTS) {
      double width = largest > 0 ? share(shares + "/" + part) / largest : 0;
      if (width > 0) {
        String style = String.format(Locale.ROOT, "width: %.2f%%", 100 * width);
        out.element("span", "", "class", part, "style", style, "title", part);
      }
    }
    out.close(1).open("span", "class", "n").percent(shares + "/sum").close(2);
  }

  // ---- images

  private void images() {
    out.element("h2", "Images");
    out.open("p")
        .text("Loss of an image, summed over its cells: least ")
        .number("/image_loss/least");
    out.text(", median ").number("/image_loss/median").text(", mean ").number("/image_loss/mean");
    out.text(", largest ")
        .number("/image_loss/largest")
        .text(". The costliest, in order:")
        .close(1);
    out.open("ul", "class", "legend");
    out.open("li").element("i", "", "class", "truth").text("true boxes").close(1);
    out.open("li").element("i", "", "class", "prediction").text("predicted boxes").close(1);
    scale("objectness, the largest of the anchors", "none", "certain");
    scale("confidence loss, the sum over the anchors", "none", "the image's largest");
    scale("ignored background and positives", "none", "all anchors");
    out.close(1);
    for (int i = 0; i < pictures.size(); i++) {
      image("/images/" + i, pictures.get(i));
    }
  }

  private void scale(String name, String least, String largest) {
    out.open("li", "class", "scale").text(name + ": " + least);
    out.element("i", "", "style", "background: " + HeatMap.gradient()).text(largest).close(1);
  }

  private void image(String at, Pictures picture) {
    JsonNode image = report.at(at);
    out.open("section", "class", "image").open("div", "class", "wide").open("h3");
    out.text("Image ").number(at + "/image");
    if (image.has("file")) {
      out.text(", ").element("span", image.get("file").asText(), "class", "name");
    }
    out.text(": loss ").number(at + "/loss").text(", ").percent(at + "/share").text(" of all");
    out.close(1).open("p", "class", "faint");
    for (int p = 0; p < PART_NAMES.size(); p++) {
      out.text(PART_NAMES.get(p) + " ").number(at + "/" + ReportData.PARTS.get(p)).text("; ");
    }
    out.text("objects ").number(at + "/object_count");
    out.text(", ignored ").number(at + "/ignore_count_background").close(2);
    photo(image, picture.photo());
    heatMaps(at, picture);
    out.open("div", "class", "wide");
    cellTable(at + "/cells", false);
    out.open("details").element("summary", "all true and predicted boxes, in input pixels");
    out.table("box", "class", "score", "x_min", "y_min", "x_max", "y_max");
    boxes(at + "/truths", "true");
    boxes(at + "/predictions", "predicted");
    out.close(3 + 3);
  }

  private void boxes(String at, String kind) {
    for (int i = 0; i < report.at(at).size(); i++) {
      String box = at + "/" + i + "/";
      out.open("tr")
          .element("td", kind)
          .element("td", className(report.at(box + "class").asInt()), "class", "label");
      for (String field : List.of("score", "x_min", "y_min", "x_max", "y_max")) {
        out.cell(box + field);
      }
      out.close(1);
    }
  }

  private void photo(JsonNode image, String uri) {
    int height = report.at("/input_shape/0").asInt();
    int width = report.at("/input_shape/1").asInt();
    out.open("div")
        .open("div", "class", "photo", "style", "aspect-ratio: " + width + " / " + height);
    if (uri != null) {
      out.single("img", "src", uri, "alt", "the photograph in the network's input");
    }
    out.open("svg", "viewBox", "0 0 " + width + " " + height, "role", "img", "aria-label", "boxes");
    for (String kind : List.of("halo", "truth")) {
      image.get("truths").forEach(box -> rectangle(box, kind));
    }
    image.get("predictions").forEach(box -> rectangle(box, "prediction"));
    out.close(3);
  }

  private void rectangle(JsonNode box, String kind) {
    double x = box.get("x_min").asDouble();
    double y = box.get("y_min").asDouble();
    double w = box.get("x_max").asDouble() - x;
    double h = box.get("y_max").asDouble() - y;
    if (w >= 0 && h >= 0 && Double.isFinite(x + y + w + h)) {
      out.single(
          "rect", "class", kind, "x", two(x), "y", two(y), "width", two(w), "height", two(h));
    }
  }

  private static String two(double value) {
    return String.format(Locale.ROOT, "%.2f", value);
  }

  private void heatMaps(String at, Pictures picture) {
    out.open("div").open("div", "class", "heat").element("span", "");
    for (Heat heat : Heat.values()) {
      out.element("span", HEAT_NAMES.get(heat));
    }
    for (int l = 0; l < layers(); l++) {
      out.element("span", layerName(l), "class", "label");
      for (Heat heat : Heat.values()) {
        String what = HEAT_NAMES.get(heat) + " of " + layerName(l);
        out.single("img", "src", picture.heat().get(l).get(heat), "alt", what, "title", what);
      }
    }
    out.close(1).open("p", "class", "faint").text("Lightest place of confidence loss: ");
    out.number(at + "/confidence_loss_scale").close(2);
  }

  // ---- cells

  private void cells() {
    out.element("h2", "The cells that cost most");
    cellTable("/cells", true);
  }

  private void cellTable(String at, boolean ofAll) {
    List<String> columns = new ArrayList<>(List.of("loss"));
    columns.addAll(ofAll ? List.of("image", "file") : List.of());
    columns.addAll(List.of("layer", "row", "column", "anchor", "kind"));
    columns.addAll(PART_NAMES);
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
      ReportData.PARTS.forEach(part -> out.cell(cell + part));
      out.cell(cell + "objectness").cell(cell + "best_iou");
      box(cell + "predicted");
      box(cell + "truth");
      out.close(1);
    }
    out.close(3);
  }

  private void box(String at) {
    if (report.at(at).isMissingNode()) {
      out.single("td");
      return;
    }
    out.open("td").element("span", className(report.at(at + "/class").asInt()), "class", "label");
    for (String field : List.of("x_min", "y_min", "x_max", "y_max")) {
      out.text(field.equals("x_min") ? " " : ", ").number(at + "/" + field);
    }
    out.close(1);
  }

  // ---- histograms

  private void histograms() {
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
            + " has with a truth that it is compared with; none where there is no such truth.",
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
          two(10 * bin + 0.5),
          "width",
          "9",
          "y",
          two(100 - height),
          "height",
          two(height),
          "fill",
          name.endsWith("object") ? "var(--confidence_object)" : "var(--xy)");
    }
    out.close(1).open("div", "class", "ticks").element("span", "0", "class", "tick");
    out.element("span", unit).element("span", "1", "class", "tick").close(2);
  }

  // ---- labels and anchors

  private void labels() {
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
        out.open("tr").cell(at + "image").cell(at + "row");
        out.element(
            "td",
            Audit.Reason.valueOf(report.at(at + "reason").asText().toUpperCase(Locale.ROOT))
                .text());
        out.element("td", report.at(at + "action").asText());
        for (String field : List.of("layer", "grid_row", "grid_column", "anchor", "value")) {
          out.cell(at + field);
        }
        out.close(1);
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
    for (int l = 0; l < layers(); l++) {
      columns.add("boxes in layer " + l);
    }
    out.table(columns.toArray(String[]::new));
    for (int n = 0; n < report.at("/audit/anchors").size(); n++) {
      out.open("tr").element("th", String.valueOf(n), "scope", "row", "class", "label");
      out.cell("/audit/anchors/" + n + "/0").cell("/audit/anchors/" + n + "/1");
      for (int l = 0; l < layers(); l++) {
        out.cell("/audit/anchor_use/" + l + "/" + n);
      }
      out.close(1);
    }
    out.close(3);
  }

  private void explain() {
    out.element("h2", "How to read this");
    out.element(
        "p",
        "The loss is keras-yolo3's: sums over cells, divided by the normaliser (by default the"
            + " number of images). A cell is an anchor at a place of a layer's grid. Losses of"
            + " images and cells are raw sums, before the division. Boxes are in pixels of the"
            + " network's input. Sums and counts are those of yololoss loss --json; report --json"
            + " writes every number of this page.");
    out.open("p", "class", "faint").text("Normaliser ").number("/loss/normaliser");
    out.text("; computed on ")
        .element(
            "span",
            report.at("/loss/device/name").asText() + ": " + report.at("/loss/device/why").asText(),
            "class",
            "label");
    out.text(".").close(1);
  }
}
