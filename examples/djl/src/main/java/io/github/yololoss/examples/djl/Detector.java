package io.github.yololoss.examples.djl;

import ai.djl.ndarray.NDList;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.kit.Detections;
import io.github.yololoss.kit.Detections.Box;
import io.github.yololoss.kit.Detections.Limits;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** Detections from the outputs of the network, and how good they are. */
final class Detector {
  /** Average precision counts unsure detections, too, and any number of them. */
  static final Limits ALL = Limits.DEFAULT.withLeastScore(0.01).withMostOfClass(Integer.MAX_VALUE);

  private Detector() {}

  /**
   * Returns the detections of each image, best first.
   *
   * @param outputs of the network, one for each layer
   * @param limits which boxes are kept
   */
  static List<List<Box>> detect(YoloLoss loss, NDList outputs, Limits limits) {
    int batch = (int) outputs.getFirst().getShape().get(0);
    List<List<Box>> images = new ArrayList<>();
    try (Arena arena = Arena.ofConfined()) {
      Detections detections = new Detections(loss.spec(), batch, arena);
      MemorySegment[] feats =
          outputs.stream().map(NativeLoss::segment).toArray(MemorySegment[]::new);
      detections.decode(loss, batch, feats);
      for (int image = 0; image < batch; image++) {
        images.add(detections.of(image, limits));
      }
    }
    return images;
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
      Box best = candidates.stream().max(Comparator.comparingDouble(t -> t.iou(box))).orElse(null);
      if (best != null && best.iou(box) >= 0.5) {
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
