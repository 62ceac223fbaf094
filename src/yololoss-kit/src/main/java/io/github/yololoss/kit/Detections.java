package io.github.yololoss.kit;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.YoloHead;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * The predicted boxes of one image: decoded by the library, thinned by suppression in each class
 * with the IoU of keras-yolo3's detector.
 */
public final class Detections {
  private static final double SUPPRESS_FROM = 0.45;
  private static final int MOST = 100; // as COCO's evaluation

  /**
   * A box.
   *
   * @param x0 left, in input pixels
   * @param y0 top
   * @param x1 right
   * @param y1 bottom
   * @param classId 0..C-1
   * @param score objectness times class probability
   */
  public record Box(double x0, double y0, double x1, double y1, int classId, double score) {
    /**
     * Makes a box of its centre and size.
     *
     * @param spec whose input it is in
     * @param x centre, as a fraction of the input's width
     * @param y centre, as a fraction of the input's height
     * @param w width, as a fraction of the input's width
     * @param h height, as a fraction of the input's height
     * @param c class
     * @param s score
     * @return the box in input pixels
     */
    public static Box centred(YoloSpec spec, double x, double y, double w, double h, int c, double s) {
      return new Box(
          (x - w / 2) * spec.inputWidth(),
          (y - h / 2) * spec.inputHeight(),
          (x + w / 2) * spec.inputWidth(),
          (y + h / 2) * spec.inputHeight(),
          c,
          s);
    }

    private double area() {
      return (x1 - x0) * (y1 - y0);
    }

    private double iou(Box other) {
      double width = Math.min(x1, other.x1) - Math.max(x0, other.x0);
      double height = Math.min(y1, other.y1) - Math.max(y0, other.y0);
      double both = Math.max(width, 0) * Math.max(height, 0);
      return both / (area() + other.area() - both);
    }
  }

  private final YoloSpec spec;
  private final MemorySegment[] xy;
  private final MemorySegment[] wh;
  private final MemorySegment[] confidence;
  private final MemorySegment[] probability;

  /**
   * Allocates memory for the decoded outputs of one image.
   *
   * @param spec of the network
   * @param arena owns the memory
   */
  public Detections(YoloSpec spec, Arena arena) {
    int layers = spec.layers().size();
    this.spec = spec;
    xy = new MemorySegment[layers];
    wh = new MemorySegment[layers];
    confidence = new MemorySegment[layers];
    probability = new MemorySegment[layers];
    for (int l = 0; l < layers; l++) {
      xy[l] = arena.allocate(JAVA_FLOAT, 2 * spec.cells(l));
      wh[l] = arena.allocate(JAVA_FLOAT, 2 * spec.cells(l));
      confidence[l] = arena.allocate(JAVA_FLOAT, spec.cells(l));
      probability[l] = arena.allocate(JAVA_FLOAT, spec.cells(l) * spec.numClasses());
    }
  }

  /**
   * Decodes an image.
   *
   * @param loss in host memory
   * @param feats of the image, one segment for each layer
   */
  public void load(YoloLoss loss, MemorySegment[] feats) {
    for (int l = 0; l < feats.length; l++) {
      loss.yoloHead(
          l, 1, feats[l], new YoloHead(null, xy[l], wh[l], confidence[l], probability[l]));
    }
  }

  /**
   * Returns the prediction of a cell, as its likeliest class.
   *
   * @param l layer
   * @param cell of the layer, in the order (H, W, A)
   * @return the box
   */
  public Box at(int l, int cell) {
    int best = 0;
    for (int c = 1; c < spec.numClasses(); c++) {
      best = score(l, cell, c) > score(l, cell, best) ? c : best;
    }
    return Box.centred(
        spec,
        xy[l].getAtIndex(JAVA_FLOAT, 2L * cell),
        xy[l].getAtIndex(JAVA_FLOAT, 2L * cell + 1),
        wh[l].getAtIndex(JAVA_FLOAT, 2L * cell),
        wh[l].getAtIndex(JAVA_FLOAT, 2L * cell + 1),
        best,
        score(l, cell, best));
  }

  private double score(int l, int cell, int c) {
    return (double) confidence[l].getAtIndex(JAVA_FLOAT, cell)
        * probability[l].getAtIndex(JAVA_FLOAT, (long) cell * spec.numClasses() + c);
  }

  /**
   * Returns boxes after suppression, the surest first.
   *
   * @param least score
   * @return the boxes
   */
  public List<Box> best(double least) {
    List<Box> found = new ArrayList<>();
    for (int l = 0; l < xy.length; l++) {
      for (int cell = 0; cell < spec.cells(l); cell++) {
        Box box = at(l, cell);
        if (box.score >= least && Double.isFinite(box.area())) {
          found.add(box);
        }
      }
    }
    found.sort(Comparator.comparingDouble(Box::score).reversed());
    List<Box> kept = new ArrayList<>();
    for (Box box : found) {
      if (kept.size() < MOST
          && kept.stream()
              .noneMatch(k -> k.classId == box.classId && k.iou(box) >= SUPPRESS_FROM)) {
        kept.add(box);
      }
    }
    return kept;
  }
}
