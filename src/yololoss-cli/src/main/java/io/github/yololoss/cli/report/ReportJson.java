package io.github.yololoss.cli.report;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.Audit;
import io.github.yololoss.Audit.Finding;
import io.github.yololoss.Count;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.Part;
import io.github.yololoss.Statistics;
import io.github.yololoss.YoloSpec.Anchor;
import io.github.yololoss.cli.report.Report.Cell;
import io.github.yololoss.cli.report.Report.Grid;
import io.github.yololoss.cli.report.Report.Histogram;
import io.github.yololoss.cli.report.Report.Histograms;
import io.github.yololoss.cli.report.Report.Image;
import io.github.yololoss.cli.report.Report.ImageLoss;
import io.github.yololoss.cli.report.Report.Labels;
import io.github.yololoss.cli.report.Report.LayerLoss;
import io.github.yololoss.cli.report.Report.LayerShares;
import io.github.yololoss.cli.report.Report.Loss;
import io.github.yololoss.cli.report.Report.Shares;
import io.github.yololoss.cli.run.AuditJson;
import io.github.yololoss.cli.run.AuditJson.BestIou;
import io.github.yololoss.kit.Detections.Box;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * Writes a report as JSON, and names its fields for the page. Each nested class has the fields of
 * one record, in the order of the JSON.
 */
public final class ReportJson {
  private ReportJson() {}

  /** Returns the tree that {@code report --json} writes. */
  public static ObjectNode of(Report report) {
    return Field.toJson(report, OfReport.ALL);
  }

  private static String lower(Enum<?> constant) {
    return constant.name().toLowerCase(Locale.ROOT);
  }

  /** The fields of parts and counts. */
  static final class OfParts {
    static final Field<Parts, Double> SUM = Field.number("sum", Parts::sum);
    static final List<Field<Parts, ?>> PARTS =
        List.copyOf(Part.ALL.stream().map(OfParts::of).toList());
    static final List<Field<Parts, ?>> ALL =
        Field.join(PARTS, List.of(of(Count.OBJECTS), of(Count.IGNORED_BACKGROUND)));

    static Field<Parts, Double> of(Part part) {
      return Field.number(part.jsonName(), part::of);
    }

    static Field<Parts, Long> of(Count count) {
      return Field.number(count.jsonName(), count::of);
    }
  }

  /** The fields of a number for each part. */
  static final class OfEachPart {
    static final List<Field<Map<Part, Double>, ?>> ALL =
        List.copyOf(Part.ALL.stream().map(OfEachPart::of).toList());

    static Field<Map<Part, Double>, Double> of(Part part) {
      return Field.number(part.jsonName(), numbers -> numbers.get(part));
    }
  }

  /** The fields of a box. */
  static final class OfBox {
    static final Field<Box, Double> X_MIN = Field.number("x_min", Box::x0);
    static final Field<Box, Double> Y_MIN = Field.number("y_min", Box::y0);
    static final Field<Box, Double> X_MAX = Field.number("x_max", Box::x1);
    static final Field<Box, Double> Y_MAX = Field.number("y_max", Box::y1);
    static final Field<Box, Integer> CLASS = Field.number("class", Box::classId);
    static final Field<Box, Double> SCORE = Field.number("score", Box::score);
    static final List<Field<Box, Double>> CORNERS = List.of(X_MIN, Y_MIN, X_MAX, Y_MAX);
    static final List<Field<Box, ?>> ALL = Field.join(CORNERS, List.of(CLASS, SCORE));
  }

  /** The fields of a cell. */
  static final class OfCell {
    static final Field<Cell, Integer> IMAGE = Field.number("image", Cell::image);
    static final Field<Cell, Integer> LAYER = Field.number("layer", Cell::layer);
    static final Field<Cell, Integer> ROW = Field.number("row", Cell::row);
    static final Field<Cell, Integer> COLUMN = Field.number("column", Cell::column);
    static final Field<Cell, Integer> ANCHOR = Field.number("anchor", Cell::anchor);
    static final Field<Cell, Boolean> OBJECT = Field.flag("object", Cell::object);
    static final Field<Cell, Double> LOSS = Field.number("loss", Cell::loss);
    static final Field<Cell, Double> OBJECTNESS = Field.number("objectness", Cell::objectness);
    static final Field<Cell, Double> BEST_IOU = Field.number("best_iou", Cell::bestIou);
    static final Field<Cell, Box> PREDICTED = Field.object("predicted", Cell::predicted, OfBox.ALL);
    static final Field<Cell, Box> TRUTH = Field.object("truth", Cell::truth, OfBox.ALL);
    static final Field<Cell, String> FILE = Field.text("file", Cell::file);
    static final List<Field<Cell, ?>> ALL =
        Field.join(
            List.of(IMAGE, LAYER, ROW, COLUMN, ANCHOR, OBJECT, LOSS),
            Part.ALL.stream().map(OfCell::of).toList(),
            List.of(OBJECTNESS, BEST_IOU, PREDICTED, TRUTH, FILE));

    static Field<Cell, Double> of(Part part) {
      return OfEachPart.of(part).through(Cell::parts);
    }
  }

  /** The fields of an image. */
  static final class OfImage {
    static final Field<Image, Integer> INDEX = Field.number("image", Image::index);
    static final Field<Image, String> FILE = Field.text("file", Image::file);
    static final Field<Image, Double> LOSS = Field.number("loss", Image::loss);
    static final Field<Image, Double> SHARE = Field.number("share", Image::share);
    static final Field<Image, List<Parts>> LAYERS =
        Field.objects("layers", Image::layers, OfParts.ALL);
    static final Field<Image, List<Box>> TRUTHS = Field.objects("truths", Image::truths, OfBox.ALL);
    static final Field<Image, List<Box>> PREDICTIONS =
        Field.objects("predictions", Image::predictions, OfBox.ALL);
    static final Field<Image, Double> CONFIDENCE_SCALE =
        Field.number("confidence_loss_scale", Image::confidenceScale);
    static final Field<Image, List<Cell>> CELLS = Field.objects("cells", Image::cells, OfCell.ALL);
    static final List<Field<Image, ?>> ALL =
        Field.join(
            List.of(INDEX, FILE, LOSS, SHARE),
            OfParts.ALL.stream().map(field -> field.through(Image::sum)).toList(),
            List.of(LAYERS, TRUTHS, PREDICTIONS, CONFIDENCE_SCALE, CELLS));

    static Field<Image, Double> of(Part part) {
      return OfParts.of(part).through(Image::sum);
    }

    static Field<Image, Long> of(Count count) {
      return OfParts.of(count).through(Image::sum);
    }
  }

  /** The fields of the shares of a layer. */
  static final class OfLayerShares {
    static final Field<LayerShares, Double> SUM = Field.number("sum", LayerShares::sum);
    static final List<Field<LayerShares, ?>> ALL =
        Field.join(
            List.of(SUM),
            OfEachPart.ALL.stream().map(field -> field.through(LayerShares::parts)).toList());
  }

  /** The fields of the shares. */
  static final class OfShares {
    static final Field<Shares, List<LayerShares>> LAYERS =
        Field.objects("layers", Shares::layers, OfLayerShares.ALL);
    static final List<Field<Shares, ?>> ALL =
        Field.join(List.of(LAYERS), Part.ALL.stream().map(OfShares::of).toList());

    static Field<Shares, Double> of(Part part) {
      return OfEachPart.of(part).through(Shares::parts);
    }
  }

  /** The fields of the distribution of the loss over the images. */
  static final class OfImageLoss {
    static final Field<ImageLoss, Double> LEAST = Field.number("least", ImageLoss::least);
    static final Field<ImageLoss, Double> MEDIAN = Field.number("median", ImageLoss::median);
    static final Field<ImageLoss, Double> MEAN = Field.number("mean", ImageLoss::mean);
    static final Field<ImageLoss, Double> LARGEST = Field.number("largest", ImageLoss::largest);
    static final List<Field<ImageLoss, ?>> ALL = List.of(LEAST, MEDIAN, MEAN, LARGEST);
  }

  /** The fields of the histograms. */
  static final class OfHistograms {
    static final Field<Histograms, List<Double>> EDGES = Field.numbers("edges", Histograms::edges);
    static final List<Field<Histograms, ?>> ALL =
        Field.join(
            List.of(EDGES), Arrays.stream(Histogram.values()).map(OfHistograms::of).toList());

    static Field<Histograms, List<Long>> of(Histogram histogram) {
      return Field.numbers(lower(histogram), histograms -> histograms.counts().get(histogram));
    }
  }

  /** The fields of the loss of a layer that the page shows; LossJson writes them. */
  static final class OfLayerLoss {
    static final Field<LayerLoss, Double> SUM = OfParts.SUM.through(LayerLoss::parts);
    static final Field<LayerLoss, Statistics> STATISTICS =
        Field.address("statistics", LayerLoss::statistics);
    static final Field<Statistics, Double> MEAN_IOU =
        Field.address("mean_iou", Statistics::meanIou);
    static final Field<Statistics, Double> MEAN_OBJECTNESS_OBJECT =
        Field.address("mean_objectness_object", Statistics::meanObjectnessObject);
    static final Field<Statistics, Double> MEAN_OBJECTNESS_BACKGROUND =
        Field.address("mean_objectness_background", Statistics::meanObjectnessBackground);

    static Field<LayerLoss, Double> of(Part part) {
      return OfParts.of(part).through(LayerLoss::parts);
    }

    static Field<LayerLoss, Long> of(Count count) {
      return OfParts.of(count).through(LayerLoss::parts);
    }
  }

  /** The fields of the loss that the page shows; LossJson writes them. */
  static final class OfLoss {
    static final Field<Loss, Double> TOTAL = Field.address("total", Loss::total);
    static final Field<Loss, Integer> BATCH =
        Field.address("batch", loss -> loss.run().totals().images());
    static final Field<Loss, Double> NORMALISER =
        Field.address("normaliser", loss -> loss.run().totals().normaliser());
    static final Field<Loss, Long> NON_FINITE =
        Field.address("non_finite", loss -> loss.run().totals().nonFinite());
    static final Field<Loss, List<LayerLoss>> LAYERS = Field.address("layers", Loss::layers);
  }

  /** The fields of a finding that the page shows; AuditJson writes them. */
  static final class OfFinding {
    static final Field<Finding, Integer> IMAGE = Field.address("image", Finding::image);
    static final Field<Finding, Integer> ROW = Field.address("row", Finding::row);
    static final Field<Finding, Integer> LAYER = Field.address("layer", Finding::layer);
    static final Field<Finding, Integer> GRID_ROW = Field.address("grid_row", Finding::gridRow);
    static final Field<Finding, Integer> GRID_COLUMN =
        Field.address("grid_column", Finding::gridColumn);
    static final Field<Finding, Integer> ANCHOR = Field.address("anchor", Finding::anchor);
    static final Field<Finding, Float> VALUE = Field.address("value", Finding::value);
  }

  /** The fields of the best possible IoU; AuditJson writes them. */
  static final class OfBestIou {
    static final Field<BestIou, Integer> BOXES = Field.address("boxes", BestIou::boxes);
    static final Field<BestIou, Double> MEAN = Field.address("mean", BestIou::mean);
    static final Field<BestIou, Float> MEDIAN = Field.address("median", BestIou::median);
    static final Field<BestIou, Float> LEAST = Field.address("least", BestIou::least);
    static final Field<BestIou, Long> BELOW_HALF = Field.address("below_half", BestIou::belowHalf);
  }

  /** The fields of the labels that the page shows; AuditJson writes them. */
  static final class OfLabels {
    static final Field<Labels, Long> FAULTS =
        Field.address("faults", labels -> labels.audit().faults());
    static final Field<Labels, Audit> COUNTS = Field.address("counts", Labels::audit);
    static final Field<Labels, List<List<Float>>> ANCHORS =
        Field.address(
            "anchors", labels -> labels.spec().anchors().stream().map(OfLabels::size).toList());
    static final Field<Labels, List<List<Long>>> ANCHOR_USE =
        Field.address("anchor_use", labels -> labels.audit().anchorUse());
    static final Field<Labels, BestIou> BEST_IOU = Field.address("best_possible_iou", Labels::best);
    static final Field<Labels, List<Finding>> FINDINGS =
        Field.address("findings", labels -> labels.audit().findings());

    static Field<Audit, Long> of(Audit.Reason reason) {
      return Field.address(lower(reason), audit -> audit.count(reason));
    }

    private static List<Float> size(Anchor anchor) {
      return List.of(anchor.width(), anchor.height());
    }
  }

  /** The fields of a grid; the page has no number of them. */
  private static final List<Field<Grid, ?>> OF_GRID =
      List.of(
          Field.number("height", Grid::height),
          Field.number("width", Grid::width),
          Field.number("anchors", Grid::anchors),
          Field.number("cells", Grid::cells));

  /** The fields of a report. */
  static final class OfReport {
    static final Field<Report, Loss> LOSS =
        new Field<>("loss", Report::loss, loss -> loss.run().toJson());
    static final Field<Report, Parts> PARTS = Field.object("parts", Report::parts, OfParts.PARTS);
    static final Field<Report, Shares> SHARES =
        Field.object("shares", Report::shares, OfShares.ALL);
    static final Field<Report, Long> OBJECTS =
        Field.number("objects", report -> report.parts().objects());
    static final Field<Report, Long> IGNORED_BACKGROUND =
        Field.number("ignored_background", report -> report.parts().ignoredBackground());
    static final Field<Report, ImageLoss> IMAGE_LOSS =
        Field.object("image_loss", Report::imageLoss, OfImageLoss.ALL);
    static final Field<Report, Histograms> HISTOGRAMS =
        Field.object("histograms", Report::histograms, OfHistograms.ALL);
    static final Field<Report, List<Image>> IMAGES =
        Field.objects("images", Report::images, OfImage.ALL);
    static final Field<Report, List<Cell>> CELLS =
        Field.objects("cells", Report::cells, OfCell.ALL);
    static final Field<Report, Labels> LABELS =
        new Field<>(
            "audit",
            Report::labels,
            labels -> AuditJson.of(labels.spec(), labels.audit(), labels.images()));
    static final List<Field<Report, ?>> ALL =
        List.of(
            Field.text("folder", Report::folder),
            Field.number("num_classes", report -> report.spec().numClasses()),
            Field.number("ignore_thresh", report -> report.spec().ignoreThresh()),
            Field.numbers(
                "input_shape",
                report -> List.of(report.spec().inputHeight(), report.spec().inputWidth())),
            Field.objects("grids", Report::grids, OF_GRID),
            LOSS,
            PARTS,
            SHARES,
            OBJECTS,
            IGNORED_BACKGROUND,
            Field.number("background", Report::background),
            IMAGE_LOSS,
            HISTOGRAMS,
            IMAGES,
            CELLS,
            LABELS,
            Field.texts("advice", Report::advice));
  }
}
