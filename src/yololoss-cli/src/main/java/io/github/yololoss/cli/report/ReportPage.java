package io.github.yololoss.cli.report;

import io.github.yololoss.Count;
import io.github.yololoss.Part;
import io.github.yololoss.Statistics;
import io.github.yololoss.cli.report.Report.Grid;
import io.github.yololoss.cli.report.Report.Heat;
import io.github.yololoss.cli.report.Report.Image;
import io.github.yololoss.cli.report.Report.ImageLoss;
import io.github.yololoss.cli.report.Report.LayerLoss;
import io.github.yololoss.cli.report.Report.LayerShares;
import io.github.yololoss.cli.report.Report.Loss;
import io.github.yololoss.cli.report.Report.Shares;
import io.github.yololoss.cli.report.ReportJson.OfBox;
import io.github.yololoss.cli.report.ReportJson.OfImage;
import io.github.yololoss.cli.report.ReportJson.OfImageLoss;
import io.github.yololoss.cli.report.ReportJson.OfLayerLoss;
import io.github.yololoss.cli.report.ReportJson.OfLayerShares;
import io.github.yololoss.cli.report.ReportJson.OfLoss;
import io.github.yololoss.cli.report.ReportJson.OfParts;
import io.github.yololoss.cli.report.ReportJson.OfReport;
import io.github.yololoss.cli.report.ReportJson.OfShares;
import io.github.yololoss.cli.run.RunResult;
import io.github.yololoss.kit.Detections.Box;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * Shows a report as a page. Every number of the page is a field of the report, and has the address
 * that the field has in the report's JSON.
 */
public final class ReportPage {
  private final Addressed<Report> report;
  private final Addressed<Loss> loss;
  private final Addressed<Shares> shares;
  private final List<Addressed<LayerShares>> layerShares;
  private final Html out;
  private final ReportTables tables;

  /** Returns the page. */
  public static String of(Report report, List<String> classNames) {
    ReportPage page = new ReportPage(report, classNames);
    page.headline();
    page.parts();
    page.images();
    page.tables.cells();
    page.tables.histograms();
    page.tables.labels();
    page.explain();
    return page.out.end();
  }

  private ReportPage(Report model, List<String> classNames) {
    report = Addressed.root(model);
    loss = report.get(OfReport.LOSS);
    shares = report.get(OfReport.SHARES);
    layerShares = shares.items(OfShares.LAYERS);
    out = new Html("yololoss report: " + model.folder());
    tables = new ReportTables(report, out, classNames);
  }

  private String layerName(int l) {
    Grid grid = report.value().grids().get(l);
    return "layer " + l + ", " + grid.width() + "x" + grid.height();
  }

  private int layers() {
    return report.value().grids().size();
  }

  // ---- the whole batch

  private void headline() {
    out.open("h1").text("Where the loss comes from: ");
    out.element("span", report.value().folder(), "class", "name").close(1);
    out.open("div", "class", "headline");
    figure(loss.get(OfLoss.TOTAL), "loss");
    figure(loss.get(OfLoss.BATCH), "images");
    figure(report.get(OfReport.OBJECTS), "objects");
    figure(report.get(OfReport.IGNORED_BACKGROUND), "ignored background cells");
    figure(loss.get(OfLoss.NON_FINITE), "values that are not finite");
    out.close(1).open("p").text("Of the loss, ");
    for (Part part : Part.ALL) {
      out.text(part.label() + ": ").percent(shares.get(OfShares.of(part))).text("; ");
    }
    for (int l = 0; l < layers(); l++) {
      out.element("span", (l == 0 ? "" : ", ") + "layer " + l + ": ", "class", "label");
      out.percent(layerShares.get(l).get(OfLayerShares.SUM));
    }
    out.text(".").close(1);
    out.open("ul", "class", "advice");
    report.value().advice().forEach(sentence -> out.element("li", sentence));
    out.close(1);
  }

  private void figure(Addressed<? extends Number> number, String name) {
    out.open("div").open("b").number(number).close(1).element("span", name).close(1);
  }

  private void parts() {
    out.element("h2", "Parts and layers");
    legend();
    double largest = 0;
    for (Addressed<LayerShares> layer : layerShares) {
      largest = Math.max(largest, drawable(layer.value().sum()));
    }
    for (int l = 0; l < layers(); l++) {
      bar(layerName(l), layerShares.get(l), largest);
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
      Addressed<LayerLoss> layer = loss.items(OfLoss.LAYERS).get(l);
      out.open("tr").element("th", layerName(l), "scope", "row", "class", "label");
      Part.ALL.forEach(part -> out.cell(layer.get(OfLayerLoss.of(part))));
      out.cell(layer.get(OfLayerLoss.SUM));
      out.percentCell(layerShares.get(l).get(OfLayerShares.SUM));
      out.cell(layer.get(OfLayerLoss.of(Count.OBJECTS)));
      out.cell(layer.get(OfLayerLoss.of(Count.IGNORED_BACKGROUND)));
      Addressed<Statistics> statistics = layer.get(OfLayerLoss.STATISTICS);
      out.cell(statistics.get(OfLayerLoss.MEAN_IOU));
      out.cell(statistics.get(OfLayerLoss.MEAN_OBJECTNESS_OBJECT));
      out.cell(statistics.get(OfLayerLoss.MEAN_OBJECTNESS_BACKGROUND)).close(1);
    }
    out.open("tr").element("th", "all", "scope", "row");
    Part.ALL.forEach(part -> out.cell(report.get(OfReport.PARTS).get(OfParts.of(part))));
    out.cell(loss.get(OfLoss.TOTAL)).element("td", "");
    out.cell(report.get(OfReport.OBJECTS));
    out.cell(report.get(OfReport.IGNORED_BACKGROUND)).close(1);
    out.open("tr").element("th", "share", "scope", "row");
    Part.ALL.forEach(part -> out.percentCell(shares.get(OfShares.of(part))));
    out.close(4);
  }

  private void legend() {
    out.open("ul", "class", "legend");
    for (Part part : Part.ALL) {
      out.open("li").element("i", "", "class", part.jsonName()).text(part.label()).close(1);
    }
    out.close(1);
  }

  /** Returns a share that can be drawn: within 0..1, and 0 for a NaN. */
  private static double drawable(double share) {
    return Double.isFinite(share) ? Math.clamp(share, 0, 1) : 0;
  }

  private void bar(String label, Addressed<LayerShares> layer, double largest) {
    out.open("div", "class", "bar").element("span", label, "class", "label");
    out.open("div", "class", "track");
    for (Part part : Part.ALL) {
      String name = part.jsonName();
      double width = largest > 0 ? drawable(layer.value().parts().get(part)) / largest : 0;
      if (width > 0) {
        String style = String.format(Locale.ROOT, "width: %.2f%%", 100 * width);
        out.element("span", "", "class", name, "style", style, "title", name);
      }
    }
    out.close(1).open("span", "class", "n").percent(layer.get(OfLayerShares.SUM)).close(2);
  }

  // ---- images

  private void images() {
    out.element("h2", "Images");
    Addressed<ImageLoss> spread = report.get(OfReport.IMAGE_LOSS);
    out.open("p").text("Loss of an image, summed over its cells: least ");
    out.number(spread.get(OfImageLoss.LEAST)).text(", median ");
    out.number(spread.get(OfImageLoss.MEDIAN)).text(", mean ");
    out.number(spread.get(OfImageLoss.MEAN)).text(", largest ");
    out.number(spread.get(OfImageLoss.LARGEST)).text(". The costliest, in order:").close(1);
    out.open("ul", "class", "legend");
    out.open("li").element("i", "", "class", "truth").text("true boxes").close(1);
    out.open("li").element("i", "", "class", "prediction").text("predicted boxes").close(1);
    scale("objectness, the largest of the anchors", "none", "certain");
    scale("confidence loss, the sum over the anchors", "none", "the image's largest");
    scale("ignored background and positives", "none", "all anchors");
    out.close(1);
    report.items(OfReport.IMAGES).forEach(this::image);
  }

  private void scale(String name, String least, String largest) {
    out.open("li", "class", "scale").text(name + ": " + least);
    out.element("i", "", "style", "background: " + HeatMap.gradient()).text(largest).close(1);
  }

  private void image(Addressed<Image> image) {
    out.open("section", "class", "image").open("div", "class", "wide").open("h3");
    out.text("Image ").number(image.get(OfImage.INDEX));
    if (image.value().file() != null) {
      out.text(", ").element("span", image.value().file(), "class", "name");
    }
    out.text(": loss ").number(image.get(OfImage.LOSS));
    out.text(", ").percent(image.get(OfImage.SHARE)).text(" of all");
    out.close(1).open("p", "class", "faint");
    for (Part part : Part.ALL) {
      out.text(part.label() + " ").number(image.get(OfImage.of(part))).text("; ");
    }
    out.text("objects ").number(image.get(OfImage.of(Count.OBJECTS)));
    out.text(", ignored ").number(image.get(OfImage.of(Count.IGNORED_BACKGROUND))).close(2);
    photo(image.value());
    heatMaps(image);
    out.open("div", "class", "wide");
    tables.cellTable(image.items(OfImage.CELLS), false);
    out.open("details").element("summary", "all true and predicted boxes, in input pixels");
    out.table("box", "class", "score", "x_min", "y_min", "x_max", "y_max");
    image.items(OfImage.TRUTHS).forEach(box -> box(box, "true"));
    image.items(OfImage.PREDICTIONS).forEach(box -> box(box, "predicted"));
    out.close(3 + 3);
  }

  private void box(Addressed<Box> box, String kind) {
    out.open("tr").element("td", kind);
    out.element("td", tables.className(box.value().classId()), "class", "label");
    out.cell(box.get(OfBox.SCORE));
    OfBox.CORNERS.forEach(corner -> out.cell(box.get(corner)));
    out.close(1);
  }

  private void photo(Image image) {
    int height = report.value().spec().inputHeight();
    int width = report.value().spec().inputWidth();
    out.open("div")
        .open("div", "class", "photo", "style", "aspect-ratio: " + width + " / " + height);
    if (image.pictures().photo() != null) {
      String alt = "the photograph in the network's input";
      out.single("img", "src", image.pictures().photo(), "alt", alt);
    }
    out.open("svg", "viewBox", "0 0 " + width + " " + height, "role", "img", "aria-label", "boxes");
    for (String kind : List.of("halo", "truth")) {
      image.truths().forEach(box -> rectangle(box, kind));
    }
    image.predictions().forEach(box -> rectangle(box, "prediction"));
    out.close(3);
  }

  private void rectangle(Box box, String kind) {
    double x = box.x0();
    double y = box.y0();
    double w = box.x1() - x;
    double h = box.y1() - y;
    if (w >= 0 && h >= 0 && Double.isFinite(x + y + w + h)) {
      out.single(
          "rect", "class", kind, "x", two(x), "y", two(y), "width", two(w), "height", two(h));
    }
  }

  /** Returns a coordinate with two digits after the point. */
  static String two(double value) {
    return String.format(Locale.ROOT, "%.2f", value);
  }

  private void heatMaps(Addressed<Image> image) {
    out.open("div").open("div", "class", "heat").element("span", "");
    for (Heat heat : Heat.values()) {
      out.element("span", heat.label);
    }
    for (int l = 0; l < layers(); l++) {
      out.element("span", layerName(l), "class", "label");
      for (Heat heat : Heat.values()) {
        String what = heat.label + " of " + layerName(l);
        String uri = image.value().pictures().heat().get(l).get(heat);
        out.single("img", "src", uri, "alt", what, "title", what);
      }
    }
    out.close(1).open("p", "class", "faint").text("Lightest place of confidence loss: ");
    out.number(image.get(OfImage.CONFIDENCE_SCALE)).close(2);
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
    out.open("p", "class", "faint").text("Normaliser ").number(loss.get(OfLoss.NORMALISER));
    RunResult run = loss.value().run();
    out.text("; computed on ")
        .element("span", run.deviceName() + ": " + run.deviceWhy(), "class", "label");
    out.text(".").close(1);
  }
}
