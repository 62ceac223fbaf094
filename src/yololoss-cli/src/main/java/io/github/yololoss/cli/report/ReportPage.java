package io.github.yololoss.cli.report;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.yololoss.Part;
import io.github.yololoss.cli.report.ReportData.Heat;
import io.github.yololoss.cli.report.ReportData.Pictures;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** A report's tree as a page: every number of it stands in the tree. */
public final class ReportPage {
  private static final Map<Heat, String> HEAT_NAMES =
      new EnumMap<>(
          Map.of(
              Heat.OBJECTNESS, "objectness",
              Heat.CONFIDENCE_LOSS, "confidence loss",
              Heat.IGNORED, "ignored",
              Heat.POSITIVES, "positives"));

  private final JsonNode report;
  private final List<Pictures> pictures;
  private final Html out;
  private final ReportTables tables;

  /** The page. */
  public static String of(JsonNode report, List<Pictures> pictures, List<String> classNames) {
    ReportPage page = new ReportPage(report, pictures, classNames);
    page.headline();
    page.parts();
    page.images();
    page.tables.cells();
    page.tables.histograms();
    page.tables.labels();
    page.explain();
    return page.out.end();
  }

  private ReportPage(JsonNode report, List<Pictures> pictures, List<String> classNames) {
    this.report = report;
    this.pictures = pictures;
    out = new Html(report, "yololoss report: " + report.get("folder").asText());
    tables = new ReportTables(report, out, classNames);
  }

  private String layerName(int l) {
    JsonNode grid = report.at("/grids/" + l);
    return "layer " + l + ", " + grid.get("width").asInt() + "x" + grid.get("height").asInt();
  }

  private int layers() {
    return report.get("grids").size();
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
    out.close(1).open("p").text("Of the loss, ");
    for (Part part : Part.ALL) {
      out.text(part.label() + ": ").percent("/shares/" + part.jsonName()).text("; ");
    }
    for (int l = 0; l < layers(); l++) {
      out.element("span", (l == 0 ? "" : ", ") + "layer " + l + ": ", "class", "label");
      out.percent("/shares/layers/" + l + "/sum");
    }
    out.text(".").close(1);
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
    Part.ALL.forEach(part -> columns.add(part.label()));
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
      Part.ALL.forEach(part -> out.cell(loss + part.jsonName()));
      out.cell(loss + "sum").percentCell("/shares/layers/" + l + "/sum");
      out.cell(loss + "object_count").cell(loss + "ignore_count_background");
      out.cell(loss + "statistics/mean_iou");
      out.cell(loss + "statistics/mean_objectness_object");
      out.cell(loss + "statistics/mean_objectness_background").close(1);
    }
    out.open("tr").element("th", "all", "scope", "row");
    Part.ALL.forEach(part -> out.cell("/parts/" + part.jsonName()));
    out.cell("/loss/total").element("td", "").cell("/objects").cell("/ignored_background").close(1);
    out.open("tr").element("th", "share", "scope", "row");
    Part.ALL.forEach(part -> out.percentCell("/shares/" + part.jsonName()));
    out.close(4);
  }

  private void legend() {
    out.open("ul", "class", "legend");
    for (Part part : Part.ALL) {
      out.open("li").element("i", "", "class", part.jsonName()).text(part.label()).close(1);
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
    for (Part part : Part.ALL) {
      String name = part.jsonName();
      double width = largest > 0 ? share(shares + "/" + name) / largest : 0;
      if (width > 0) {
        String style = String.format(Locale.ROOT, "width: %.2f%%", 100 * width);
        out.element("span", "", "class", name, "style", style, "title", name);
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
    for (Part part : Part.ALL) {
      out.text(part.label() + " ").number(at + "/" + part.jsonName()).text("; ");
    }
    out.text("objects ").number(at + "/object_count");
    out.text(", ignored ").number(at + "/ignore_count_background").close(2);
    photo(image, picture.photo());
    heatMaps(at, picture);
    out.open("div", "class", "wide");
    tables.cellTable(at + "/cells", false);
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
          .element("td", tables.className(report.at(box + "class").asInt()), "class", "label");
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

  public static String two(double value) {
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
