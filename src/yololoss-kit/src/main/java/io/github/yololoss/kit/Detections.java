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
import java.util.Objects;

/**
 * The boxes that a network predicts: its outputs, decoded by the library, after non-maximum
 * suppression in each class.
 *
 * {@snippet class="io.github.yololoss.kit.SnippetsTest" region="detections"}
 *
 * <p>The rules are those of keras-yolo3's {@code yolo_eval}: the score of a cell for a class is its
 * confidence times its probability of the class, so one cell may give a box of several classes; a
 * score has to be at least the threshold; and a box is dropped if its IoU with a better one of its
 * class is above the threshold.
 */
public final class Detections {
  /** Best score first; of the same score the lower class, then the order of the cells. */
  private static final Comparator<Box> SUREST_FIRST =
      Comparator.comparingDouble(Box::score).reversed().thenComparingInt(Box::classId);

  /**
   * A box.
   *
   * @param x0 left, in pixels of the input unless {@link Letterbox#toPicture} has moved it
   * @param y0 top
   * @param x1 right
   * @param y1 bottom
   * @param classId 0..C-1
   * @param score confidence times class probability, 0..1; of a true box 1
   */
  public record Box(double x0, double y0, double x1, double y1, int classId, double score) {
    /**
     * Makes a box of its centre and size.
     *
     * @param spec whose input the box is in
     * @param x centre, as a fraction of the input's width
     * @param y centre, as a fraction of the input's height
     * @param w width, as a fraction of the input's width
     * @param h height, as a fraction of the input's height
     * @param classId 0..C-1
     * @param score of the box
     * @return the box in pixels of the input
     */
    public static Box centred(
        YoloSpec spec, double x, double y, double w, double h, int classId, double score) {
      return new Box(
          (x - w / 2) * spec.inputWidth(),
          (y - h / 2) * spec.inputHeight(),
          (x + w / 2) * spec.inputWidth(),
          (y + h / 2) * spec.inputHeight(),
          classId,
          score);
    }

    /** {@return width times height} */
    public double area() {
      return (x1 - x0) * (y1 - y0);
    }

    /**
     * Returns the intersection over the union of two boxes.
     *
     * @param other in the same pixels; its class may be another
     * @return 0..1; 0 if one of the boxes has no area
     */
    public double iou(Box other) {
      double width = Math.min(x1, other.x1) - Math.max(x0, other.x0);
      double height = Math.min(y1, other.y1) - Math.max(y0, other.y0);
      if (!(width > 0 && height > 0)) {
        return 0;
      }
      double both = width * height;
      return both / (area() + other.area() - both);
    }

    private boolean isFinite() {
      return Double.isFinite(area()) && Double.isFinite(x0 + y0 + x1 + y1);
    }
  }

  /**
   * Which boxes are kept.
   *
   * @param leastScore a box is kept if its score is at least this
   * @param mostIou a box is dropped if its IoU with a better one of its class is above this
   * @param mostOfClass boxes that are kept of each class in an image, the best ones
   */
  public record Limits(double leastScore, double mostIou, int mostOfClass) {
    /**
     * The defaults of keras-yolo3's detector ({@code yolo.py}, {@code yolo_eval}): score 0.3, IoU
     * 0.45, 20 boxes of each class.
     */
    public static final Limits DEFAULT = new Limits(0.3, 0.45, 20);

    /**
     * Checks the limits.
     *
     * @throws IllegalArgumentException if a threshold is not in 0..1, or mostOfClass is negative
     */
    public Limits {
      require("leastScore", leastScore);
      require("mostIou", mostIou);
      if (mostOfClass < 0) {
        throw new IllegalArgumentException(
            "mostOfClass is " + mostOfClass + ", at least 0 is expected");
      }
    }

    private static void require(String name, double value) {
      if (!(value >= 0 && value <= 1)) {
        throw new IllegalArgumentException(name + " is " + value + ", 0..1 is expected");
      }
    }

    /**
     * Returns the same with another score.
     *
     * @param score the least that is kept
     * @return a copy
     */
    public Limits withLeastScore(double score) {
      return new Limits(score, mostIou, mostOfClass);
    }

    /**
     * Returns the same with another number of boxes.
     *
     * @param most boxes of each class
     * @return a copy
     */
    public Limits withMostOfClass(int most) {
      return new Limits(leastScore, mostIou, most);
    }
  }

  private final YoloSpec spec;
  private final int maxBatch;
  private final MemorySegment[] xy;
  private final MemorySegment[] wh;
  private final MemorySegment[] confidence;
  private final MemorySegment[] probability;
  private int batch;

  /**
   * Allocates memory for decoded outputs.
   *
   * @param spec of the network
   * @param maxBatch images that are decoded at once
   * @param arena owns the memory: 4*(5+C) bytes for each cell of each image
   */
  public Detections(YoloSpec spec, int maxBatch, Arena arena) {
    if (maxBatch < 1) {
      throw new IllegalArgumentException("maxBatch is " + maxBatch + ", at least 1 is expected");
    }
    int layers = spec.layers().size();
    this.spec = spec;
    this.maxBatch = maxBatch;
    xy = new MemorySegment[layers];
    wh = new MemorySegment[layers];
    confidence = new MemorySegment[layers];
    probability = new MemorySegment[layers];
    for (int l = 0; l < layers; l++) {
      long cells = Math.multiplyExact(spec.cells(l), maxBatch);
      xy[l] = arena.allocate(JAVA_FLOAT, 2 * cells);
      wh[l] = arena.allocate(JAVA_FLOAT, 2 * cells);
      confidence[l] = arena.allocate(JAVA_FLOAT, cells);
      probability[l] = arena.allocate(JAVA_FLOAT, cells * spec.numClasses());
    }
  }

  /**
   * Decodes the outputs of a network. What was decoded before is lost.
   *
   * @param loss of the same spec, whose type and layout the outputs have
   * @param images B, at most maxBatch
   * @param feats the outputs, one segment for each layer
   * @throws IllegalArgumentException if there are more images, or outputs have another size
   */
  public void decode(YoloLoss loss, int images, MemorySegment... feats) {
    if (images < 0 || images > maxBatch) {
      throw new IllegalArgumentException(
          "images is " + images + ", 0.." + maxBatch + " is expected");
    }
    if (feats.length != xy.length) {
      throw new IllegalArgumentException(
          feats.length + " outputs, " + xy.length + " are expected, one for each layer");
    }
    batch = 0; // nothing can be read if a layer is refused
    for (int l = 0; l < feats.length && images > 0; l++) {
      long cells = images * spec.cells(l);
      YoloHead head =
          new YoloHead(
              null,
              xy[l].asSlice(0, 8 * cells),
              wh[l].asSlice(0, 8 * cells),
              confidence[l].asSlice(0, 4 * cells),
              probability[l].asSlice(0, 4 * cells * spec.numClasses()));
      loss.yoloHead(l, images, feats[l], head);
    }
    batch = images;
  }

  /**
   * Returns the prediction of a cell, as its likeliest class, whatever its score.
   *
   * @param image 0..B-1
   * @param layer 0..L-1
   * @param cell of the layer, in the order (H, W, A)
   * @return the box in pixels of the input
   * @throws IndexOutOfBoundsException if there is no such cell
   */
  public Box at(int image, int layer, long cell) {
    long index = index(image, layer) + Objects.checkIndex(cell, spec.cells(layer));
    int best = 0;
    for (int c = 1; c < spec.numClasses(); c++) {
      best = score(layer, index, c) > score(layer, index, best) ? c : best;
    }
    return box(layer, index, best);
  }

  /** Returns the first cell of an image in a layer. */
  private long index(int image, int layer) {
    return Objects.checkIndex(image, batch) * spec.cells(layer);
  }

  private Box box(int l, long index, int c) {
    return Box.centred(
        spec,
        xy[l].getAtIndex(JAVA_FLOAT, 2 * index),
        xy[l].getAtIndex(JAVA_FLOAT, 2 * index + 1),
        wh[l].getAtIndex(JAVA_FLOAT, 2 * index),
        wh[l].getAtIndex(JAVA_FLOAT, 2 * index + 1),
        c,
        score(l, index, c));
  }

  /** Multiplies in float32, as keras-yolo3 does. */
  private float score(int l, long index, int c) {
    return confidence[l].getAtIndex(JAVA_FLOAT, index)
        * probability[l].getAtIndex(JAVA_FLOAT, index * spec.numClasses() + c);
  }

  /**
   * Returns the detections in an image.
   *
   * @param image 0..B-1
   * @param limits which boxes are kept
   * @return the boxes in pixels of the input, the surest first; those that are not finite are left
   *     out
   * @throws IndexOutOfBoundsException if there is no such image
   */
  public List<Box> of(int image, Limits limits) {
    List<Box> found = new ArrayList<>();
    for (int l = 0; l < xy.length; l++) {
      long first = index(image, l);
      for (long index = first; index < first + spec.cells(l); index++) {
        for (int c = 0; c < spec.numClasses(); c++) {
          if (score(l, index, c) >= (float) limits.leastScore()) {
            found.add(box(l, index, c));
          }
        }
      }
    }
    return suppress(found, limits);
  }

  /**
   * Thins boxes: of those of a class that overlap, the best one is kept.
   *
   * @param boxes in any order; of boxes with the same score the first one counts as the better
   * @param limits which boxes are kept
   * @return the boxes that are kept, the surest first; those that are not finite, or whose score is
   *     NaN, are left out
   */
  public static List<Box> suppress(List<Box> boxes, Limits limits) {
    List<Box> candidates =
        boxes.stream()
            .filter(box -> (float) box.score() >= (float) limits.leastScore() && box.isFinite())
            .sorted(SUREST_FIRST)
            .toList();
    int classes = candidates.stream().mapToInt(Box::classId).max().orElse(-1) + 1;
    List<List<Box>> byClass = new ArrayList<>();
    for (int c = 0; c < classes; c++) {
      byClass.add(new ArrayList<>());
    }
    List<Box> kept = new ArrayList<>();
    for (Box box : candidates) {
      List<Box> better = byClass.get(box.classId());
      if (better.size() < limits.mostOfClass()
          && better.stream().noneMatch(b -> b.iou(box) > limits.mostIou())) {
        better.add(box);
        kept.add(box);
      }
    }
    return kept;
  }
}
