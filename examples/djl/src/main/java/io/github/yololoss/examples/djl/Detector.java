package io.github.yololoss.examples.djl;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import ai.djl.ndarray.NDList;
import io.github.yololoss.YoloHead;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.examples.djl.Boxes.Box;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** Detections from the outputs of the network, and how good they are. */
final class Detector {
  private static final double NMS_IOU = 0.45;

  private Detector() {}

  /**
   * The detections of each image, best first: decoded by the library, and of those of a class that
   * overlap the best only.
   *
   * @param outputs of the network, a layer each
   * @param least score that counts: objectness times the probability of the class
   */
  static List<List<Box>> detect(YoloLoss loss, NDList outputs, double least) {
    YoloSpec spec = loss.spec();
    int batch = (int) outputs.getFirst().getShape().get(0);
    int classes = spec.numClasses();
    List<List<Box>> images = new ArrayList<>();
    for (int b = 0; b < batch; b++) {
      images.add(new ArrayList<>());
    }
    try (Arena arena = Arena.ofConfined()) {
      for (int l = 0; l < outputs.size(); l++) {
        long ofImage = spec.cells(l);
        long cells = ofImage * batch;
        MemorySegment xy = arena.allocate(JAVA_FLOAT, 2 * cells);
        MemorySegment wh = arena.allocate(JAVA_FLOAT, 2 * cells);
        MemorySegment confidence = arena.allocate(JAVA_FLOAT, cells);
        MemorySegment probability = arena.allocate(JAVA_FLOAT, classes * cells);
        loss.yoloHead(
            l,
            batch,
            NativeLoss.segment(outputs.get(l)),
            new YoloHead(null, xy, wh, confidence, probability));
        for (long i = 0; i < cells; i++) {
          for (int c = 0; c < classes; c++) {
            double score =
                confidence.getAtIndex(JAVA_FLOAT, i)
                    * (double) probability.getAtIndex(JAVA_FLOAT, i * classes + c);
            if (score >= least) {
              images.get((int) (i / ofImage)).add(box(spec, xy, wh, i, c, score));
            }
          }
        }
      }
    }
    images.replaceAll(Detector::suppress);
    return images;
  }

  private static Box box(
      YoloSpec spec, MemorySegment xy, MemorySegment wh, long i, int classId, double score) {
    double x = xy.getAtIndex(JAVA_FLOAT, 2 * i) * spec.inputWidth();
    double y = xy.getAtIndex(JAVA_FLOAT, 2 * i + 1) * spec.inputHeight();
    double halfWidth = wh.getAtIndex(JAVA_FLOAT, 2 * i) * spec.inputWidth() / 2;
    double halfHeight = wh.getAtIndex(JAVA_FLOAT, 2 * i + 1) * spec.inputHeight() / 2;
    return new Box(x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight, classId, score);
  }

  private static List<Box> suppress(List<Box> found) {
    found.sort(Comparator.comparingDouble(Box::score).reversed());
    List<Box> kept = new ArrayList<>();
    for (Box box : found) {
      if (kept.stream()
          .noneMatch(k -> k.classId() == box.classId() && Boxes.iou(k, box) > NMS_IOU)) {
        kept.add(box);
      }
    }
    return kept;
  }

  /**
   * Average precision of a class at IoU 0.5: the area under the precision that can be had at each
   * recall (all points, as PASCAL VOC since 2010). NaN if there is no truth of the class.
   */
  static double averagePrecision(List<List<Box>> detections, List<List<Box>> truths, int classId) {
    record Found(int image, Box box) {}
    List<Found> found = new ArrayList<>();
    List<List<Box>> left = new ArrayList<>(); // truths without a detection, of each image
    int positives = 0;
    for (int image = 0; image < truths.size(); image++) {
      for (Box box : detections.get(image)) {
        if (box.classId() == classId) {
          found.add(new Found(image, box));
        }
      }
      List<Box> ofClass = new ArrayList<>(truths.get(image));
      ofClass.removeIf(box -> box.classId() != classId);
      left.add(ofClass);
      positives += ofClass.size();
    }
    found.sort(Comparator.comparingDouble((Found f) -> f.box.score()).reversed());
    double[] precision = new double[found.size()];
    boolean[] hit = new boolean[found.size()];
    int hits = 0;
    for (int i = 0; i < found.size(); i++) {
      List<Box> candidates = left.get(found.get(i).image);
      Box box = found.get(i).box;
      Box best =
          candidates.stream().max(Comparator.comparingDouble(t -> Boxes.iou(t, box))).orElse(null);
      if (best != null && Boxes.iou(best, box) >= 0.5) {
        candidates.remove(best);
        hit[i] = true;
        hits++;
      }
      precision[i] = (double) hits / (i + 1);
    }
    double area = 0;
    double highest = 0;
    for (int i = found.size() - 1; i >= 0; i--) {
      highest = Math.max(highest, precision[i]);
      area += hit[i] ? highest : 0;
    }
    return positives == 0 ? Double.NaN : area / positives;
  }
}
