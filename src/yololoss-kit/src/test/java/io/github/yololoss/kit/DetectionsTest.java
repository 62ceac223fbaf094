package io.github.yololoss.kit;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.kit.Detections.Box;
import io.github.yololoss.kit.Detections.Limits;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Suppression and decoding, with numbers that are computed by hand. */
class DetectionsTest {
  private static final Limits LIMITS = new Limits(0.3, 0.5, 20);

  private static Box box(double x0, double y0, double x1, double y1, int classId, double score) {
    return new Box(x0, y0, x1, y1, classId, score);
  }

  @Test
  void iou() {
    Box a = box(0, 0, 10, 10, 0, 1);
    assertEquals(1, a.iou(a));
    assertEquals(0.5, a.iou(box(0, 0, 10, 5, 1, 1))); // 50 / 100
    assertEquals(25.0 / 175, a.iou(box(5, 5, 15, 15, 0, 1)));
    assertEquals(0, a.iou(box(10, 0, 20, 10, 0, 1))); // they touch
    assertEquals(0, a.iou(box(4, 4, 4, 8, 0, 1))); // no area
    Box none = box(4, 4, 4, 4, 0, 1);
    assertEquals(0, none.iou(none)); // not NaN
  }

  @Test
  void aboveTheThresholdIsDroppedAndAtItIsKept() {
    Box best = box(0, 0, 10, 10, 0, 0.9);
    Box half = box(0, 0, 10, 5, 0, 0.8); // an IoU of exactly 0.5
    Box more = box(0, 0, 10, 6, 0, 0.7); // 0.6 with best
    assertEquals(List.of(best, half), Detections.suppress(List.of(more, half, best), LIMITS));
    Limits strict = new Limits(0.3, 0.49, 20);
    assertEquals(List.of(best), Detections.suppress(List.of(more, half, best), strict));
    Limits none = new Limits(0.3, 1, 20);
    assertEquals(3, Detections.suppress(List.of(more, half, best), none).size());
  }

  @Test
  void whatADroppedBoxCoversIsKept() {
    Box a = box(0, 0, 10, 10, 0, 0.9);
    Box b = box(3, 0, 13, 10, 0, 0.8); // 70 / 130 with a: dropped
    Box c = box(6, 0, 16, 10, 0, 0.7); // 70 / 130 with b, 40 / 160 with a: kept
    assertEquals(List.of(a, c), Detections.suppress(List.of(c, b, a), LIMITS));
  }

  @Test
  void classesDoNotSuppressEachOther() {
    Box a = box(0, 0, 10, 10, 0, 0.9);
    Box b = box(0, 0, 10, 10, 2, 0.8);
    assertEquals(List.of(a, b), Detections.suppress(List.of(b, a), LIMITS));
  }

  @Test
  void ofTheSameScoreTheFirstIsTheBetter() {
    Box a = box(0, 0, 10, 10, 0, 0.9);
    Box b = box(1, 0, 11, 10, 0, 0.9);
    assertEquals(List.of(a), Detections.suppress(List.of(a, b), LIMITS));
    assertEquals(List.of(b), Detections.suppress(List.of(b, a), LIMITS));
  }

  @Test
  void scores() {
    Box at = box(0, 0, 10, 10, 0, 0.3f); // float32, as it is computed
    Box below = box(20, 0, 30, 10, 0, Math.nextDown(0.3f));
    Box nan = box(40, 0, 50, 10, 0, Double.NaN);
    assertEquals(List.of(at), Detections.suppress(List.of(nan, below, at), LIMITS));
  }

  @Test
  void boxesThatAreNotFiniteAreLeftOut() {
    Box good = box(0, 0, 10, 10, 0, 0.4);
    List<Box> boxes = new ArrayList<>(List.of(good));
    for (double value : new double[] {Double.NaN, Double.POSITIVE_INFINITY}) {
      boxes.add(box(value, 0, 10, 10, 0, 0.9));
      boxes.add(box(0, -value, 10, 10, 0, 0.9));
      boxes.add(box(0, 0, value, 10, 0, 0.9));
      boxes.add(box(0, 0, 10, value, 0, 0.9));
    }
    assertEquals(List.of(good), Detections.suppress(boxes, LIMITS));
  }

  @Test
  void mostOfEachClass() {
    List<Box> boxes = new ArrayList<>();
    for (int i = 0; i < 50; i++) {
      boxes.add(box(20 * i, 0, 20 * i + 10, 10, i % 2, 0.4 + 0.01 * i));
    }
    List<Box> kept = Detections.suppress(boxes, LIMITS.withMostOfClass(3));
    assertEquals(6, kept.size());
    assertEquals(boxes.get(49), kept.getFirst());
    assertEquals(boxes.get(44), kept.getLast());
    assertEquals(40, Detections.suppress(boxes, LIMITS).size());
    assertEquals(List.of(), Detections.suppress(boxes, LIMITS.withMostOfClass(0)));
  }

  @Test
  void badLimits() {
    assertThrows(IllegalArgumentException.class, () -> new Limits(Double.NaN, 0.5, 1));
    assertThrows(IllegalArgumentException.class, () -> new Limits(0.3, 1.5, 1));
    assertThrows(IllegalArgumentException.class, () -> new Limits(0.3, 0.5, -1));
  }

  @Test
  void outputsOfANetwork() {
    // One layer of 2x3 cells of 32 pixels, one anchor of 40x20, two classes.
    YoloSpec spec = YoloSpec.of(2, 64, 96, new float[][] {{40, 20}}, new int[][] {{0}}, 0.5f);
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = YoloLoss.open(spec, 2)) {
      MemorySegment feats = spec.allocate(arena, 2)[0];
      for (long cell = 0; cell < 12; cell++) {
        feats.setAtIndex(JAVA_FLOAT, 7 * cell + 4, -20); // no object
      }
      long cell = 6 + 1 * 3 + 2; // image 1, row 1, column 2
      float[] logits = {0, 0, 0, 0, 30, 30, 2};
      MemorySegment.copy(logits, 0, feats, JAVA_FLOAT, 28 * cell, 7);
      Detections detections = new Detections(spec, 2, arena);
      assertThrows(IndexOutOfBoundsException.class, () -> detections.of(0, Limits.DEFAULT));
      detections.decode(loss, 2, feats);
      assertEquals(List.of(), detections.of(0, Limits.DEFAULT));
      List<Box> found = detections.of(1, Limits.DEFAULT);
      assertEquals(2, found.size()); // of both classes
      for (Box box : found) {
        assertEquals(80 - 20, box.x0(), 1e-4); // the centre of the cell is (80, 48)
        assertEquals(48 - 10, box.y0(), 1e-4);
        assertEquals(80 + 20, box.x1(), 1e-4);
        assertEquals(48 + 10, box.y1(), 1e-4);
      }
      assertEquals(0, found.getFirst().classId());
      assertEquals(1, found.getFirst().score(), 1e-6);
      assertEquals(1, found.getLast().classId());
      assertEquals(1 / (1 + Math.exp(-2)), found.getLast().score(), 1e-6);
      assertEquals(found.getFirst(), detections.at(1, 0, 5));
      assertEquals(1, detections.of(1, Limits.DEFAULT.withLeastScore(0.9)).size());

      feats.setAtIndex(JAVA_FLOAT, 7 * cell + 2, Float.NaN);
      detections.decode(loss, 2, feats);
      assertEquals(List.of(), detections.of(1, Limits.DEFAULT));
      detections.decode(loss, 1, feats.asSlice(0, 7 * 6 * 4));
      assertThrows(IndexOutOfBoundsException.class, () -> detections.of(1, Limits.DEFAULT));
      String sentence =
          assertThrows(IllegalArgumentException.class, () -> detections.decode(loss, 3, feats))
              .getMessage();
      assertTrue(sentence.contains("images is 3, 0..2 is expected"), sentence);
    }
  }
}
