package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import org.junit.jupiter.api.Test;

/** The snippets of the Javadoc, compiled and run. */
class SnippetsTest {
  @Test
  void aLoss() {
    // @start region="loss"
    YoloSpec spec = YoloSpec.yolov3(80, 416, 416); // 80 classes, input of 416 x 416
    try (Arena arena = Arena.ofShared();
        YoloLoss loss = YoloLoss.open(spec, 8)) { // for batches up to 8
      MemorySegment[] feats = spec.allocate(arena, 8); // the network's outputs
      MemorySegment[] grads = spec.allocate(arena, 8);
      MemorySegment boxes = arena.allocate(ValueLayout.JAVA_FLOAT, 8 * 20 * 5); // 20 an image
      LossResult result = loss.newResult(); // used again: the calls create nothing
      for (int step = 0; step < 3; step++) {
        // ... fill feats and boxes
        loss.compute(8, feats, Targets.boxes(boxes, 20), grads, LossOptions.DEFAULT, result);
        // ... hand grads to the network, and log result.total()
      }
      // @end
      assertTrue(result.total() > 0);
    }
  }

  @Test
  void aSpec() {
    // @start region="spec"
    float[][] anchors = {{20, 19}, {43, 43}, {56, 45}, {49, 54}, {62, 57}, {108, 97}};
    int[][] anchorMask = {{3, 4, 5}, {0, 1, 2}}; // stride 32, then 16
    YoloSpec spec = YoloSpec.of(3, 256, 320, anchors, anchorMask, 0.5f); // 256 high, 320 wide
    // @end
    assertEquals(8 * 10 * 3, spec.cells(0));
  }

  @Test
  void aLossScale() {
    YoloSpec spec = YoloSpec.tinyYolov3(3, 128, 128);
    // @start region="scale"
    try (Arena arena = Arena.ofShared();
        YoloLoss loss = YoloLoss.builder(spec).featsType(FeatsType.FLOAT16).open()) {
      MemorySegment[] feats = spec.allocate(arena, 1, FeatsType.FLOAT16);
      MemorySegment[] grads = spec.allocate(arena, 1, FeatsType.FLOAT16);
      MemorySegment boxes = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 8, 10, 90, 100, 2);
      LossResult result = loss.newResult();
      double scale = 1 << 20;
      do {
        scale /= 2; // until nothing overflows
        LossOptions options = new LossOptions(LossOptions.Normaliser.BATCH, scale);
        loss.compute(1, feats, Targets.boxes(boxes, 1), grads, options, result);
      } while (result.foundInf() > 0);
      // @end
      assertTrue(scale >= 1024 && scale < 1 << 19, "scale " + scale);
    }
  }

  @Test
  void aSum() {
    YoloSpec spec = YoloSpec.tinyYolov3(3, 128, 128);
    List<Integer> shards = List.of(1, 4, 2);
    // @start region="sum"
    LossSum all =
        shards.parallelStream() // or on the executors of a cluster
            .map(
                images -> {
                  try (Arena arena = Arena.ofConfined();
                      YoloLoss loss = YoloLoss.builder(spec).maxBatch(images).threads(1).open()) {
                    MemorySegment[] feats = spec.allocate(arena, images); // of the shard
                    MemorySegment boxes = arena.allocate(ValueLayout.JAVA_FLOAT, images * 20L * 5);
                    return LossSum.of(loss.compute(images, feats, Targets.boxes(boxes, 20), null));
                  }
                })
            .reduce(LossSum.zero(spec.layers().size()), LossSum::merge);
    double loss = all.total(LossOptions.Normaliser.BATCH); // of all images
    // @end
    assertEquals(7, all.images());
    assertTrue(loss > 0);
  }

  @Test
  void someParts() {
    LossResult.Parts parts = LossResult.Parts.ZERO;
    StringBuilder line = new StringBuilder();
    // @start region="parts"
    for (Part part : Part.ALL) {
      line.append(part.jsonName()).append(' ').append(part.of(parts)).append('\n');
    }
    // @end
    assertEquals(5, line.toString().lines().count());
  }
}
