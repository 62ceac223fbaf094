package io.github.yololoss.cli.report;

import io.github.yololoss.Audit;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.Part;
import io.github.yololoss.Statistics;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.run.AuditJson;
import io.github.yololoss.cli.run.RunResult;
import io.github.yololoss.kit.Detections.Box;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/**
 * Says where the loss of a batch comes from. {@link ReportBuilder} computes a report; {@link
 * ReportPage} shows it, {@link ReportJson} writes it as JSON, and {@link Advice} explains it.
 *
 * @param folder name of the batch's folder
 * @param spec of the network
 * @param grids the grid of each layer
 * @param loss the outputs of the run
 * @param parts the parts, divided by the normaliser, and the counts, summed over the layers
 * @param shares of the total
 * @param background number of cells without an object
 * @param imageLoss how the loss is distributed over the images
 * @param histograms of all cells
 * @param images the costliest images in detail, in descending order of their loss
 * @param cells the costliest cells of all images, in descending order of their loss
 * @param labels what the audit found in the truths
 */
public record Report(
    String folder,
    YoloSpec spec,
    List<Grid> grids,
    Loss loss,
    Parts parts,
    Shares shares,
    long background,
    ImageLoss imageLoss,
    Histograms histograms,
    List<Image> images,
    List<Cell> cells,
    Labels labels) {

  /** Returns sentences about known patterns in the numbers, the most urgent first. */
  public List<String> advice() {
    return Advice.of(this);
  }

  /**
   * The grid of a layer.
   *
   * @param height rows
   * @param width columns
   * @param anchors at each place of the grid
   * @param cells of all images
   */
  public record Grid(int height, int width, int anchors, long cells) {}

  /**
   * The loss.
   *
   * @param run its total, normaliser, boxes and device
   * @param layers its layers
   */
  public record Loss(RunResult run, List<LayerLoss> layers) {
    /** Returns the total. */
    public double total() {
      return run.totals().total();
    }
  }

  /**
   * The loss of a layer.
   *
   * @param parts divided by the normaliser, and counts
   * @param statistics over all images
   */
  public record LayerLoss(Parts parts, Statistics statistics) {}

  /**
   * The shares of the total.
   *
   * @param layers of each layer
   * @param parts of each part, over all layers
   */
  public record Shares(List<LayerShares> layers, Map<Part, Double> parts) {}

  /**
   * The shares of a layer in the total.
   *
   * @param sum of all parts
   * @param parts of each part
   */
  public record LayerShares(double sum, Map<Part, Double> parts) {}

  /** The distribution of the loss over the images: raw sums over the cells of an image. */
  public record ImageLoss(double least, double median, double mean, double largest) {}

  /**
   * Histograms of all cells, with equal bins.
   *
   * @param edges of the bins, one more than bins
   * @param counts of each bin
   */
  public record Histograms(List<Double> edges, Map<Histogram, List<Long>> counts) {}

  /** What a histogram counts. */
  public enum Histogram {
    /** The best IoU of cells with an object. */
    BEST_IOU_OBJECT("Best IoU, object cells", "best IoU, objects", "IoU", true),
    /** The best IoU of cells without an object. */
    BEST_IOU_BACKGROUND("Best IoU, background cells", "best IoU, background", "IoU", false),
    /** The objectness of cells with an object. */
    OBJECTNESS_OBJECT("Objectness, object cells", "objectness, objects", "objectness", true),
    /** The objectness of cells without an object. */
    OBJECTNESS_BACKGROUND(
        "Objectness, background cells", "objectness, background", "objectness", false);

    final String title;
    final String column;
    final String unit;
    final boolean object;

    Histogram(String title, String column, String unit, boolean object) {
      this.title = title;
      this.column = column;
      this.unit = unit;
      this.object = object;
    }
  }

  /**
   * An image in detail. Its losses are raw sums over its cells.
   *
   * @param index in the batch
   * @param file name of its photograph, or null
   * @param loss of all its cells
   * @param share of the total
   * @param sum parts and counts over the layers
   * @param layers parts and counts of each layer
   * @param truths true boxes in input pixels, as the objects of y_true represent them
   * @param predictions predicted boxes in input pixels
   * @param confidenceScale the largest confidence part of a place of any layer
   * @param cells its costliest cells
   * @param pictures that the page shows and the JSON leaves out
   */
  public record Image(
      int index,
      String file,
      double loss,
      double share,
      Parts sum,
      List<Parts> layers,
      List<Box> truths,
      List<Box> predictions,
      double confidenceScale,
      List<Cell> cells,
      Pictures pictures) {}

  /**
   * The pictures of an image.
   *
   * @param photo a data URI, or null
   * @param heat for each layer a data URI for each {@link Heat}
   */
  public record Pictures(String photo, List<EnumMap<Heat, String>> heat) {}

  /** What a heat map shows of a place of the grid, over its anchors. */
  public enum Heat {
    /** The largest objectness. */
    OBJECTNESS("objectness"),
    /** The sum of the confidence loss. */
    CONFIDENCE_LOSS("confidence loss"),
    /** The number of background cells that are ignored. */
    IGNORED("ignored"),
    /** The number of objects. */
    POSITIVES("positives");

    final String label;

    Heat(String label) {
      this.label = label;
    }
  }

  /**
   * A cell.
   *
   * @param image index of its image in the batch
   * @param layer of the cell
   * @param row of the grid
   * @param column of the grid
   * @param anchor of the layer
   * @param object whether it has an object
   * @param loss of all parts
   * @param parts of the loss
   * @param objectness that is predicted
   * @param bestIou the largest IoU of its prediction with a truth
   * @param predicted its predicted box in input pixels
   * @param truth its true box in input pixels, whose score is the mask; null without an object
   * @param file name of the image's photograph, or null
   */
  public record Cell(
      int image,
      int layer,
      int row,
      int column,
      int anchor,
      boolean object,
      double loss,
      Map<Part, Double> parts,
      double objectness,
      double bestIou,
      Box predicted,
      Box truth,
      String file) {
    Cell withFile(String name) {
      return new Cell(
          image,
          layer,
          row,
          column,
          anchor,
          object,
          loss,
          parts,
          objectness,
          bestIou,
          predicted,
          truth,
          name);
    }
  }

  /**
   * The truths and how they fit the anchors.
   *
   * @param spec with the anchors
   * @param audit of all images
   * @param images number of images
   * @param best the best possible IoU of the boxes; null for dense truths
   */
  public record Labels(YoloSpec spec, Audit audit, int images, AuditJson.BestIou best) {}
}
