package io.github.yololoss;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Memory for the outputs of {@link YoloLoss#yoloHead}: float32, C order. An output that is null is
 * not computed.
 *
 * @param grid (H, W, 1, 2): column, row
 * @param boxXy (B, H, W, A, 2): centre as a fraction of the input
 * @param boxWh (B, H, W, A, 2): size as a fraction of the input
 * @param boxConfidence (B, H, W, A, 1): sigmoid of the objectness
 * @param boxClassProbs (B, H, W, A, C): sigmoid of the class logits
 */
public record YoloHead(
    MemorySegment grid,
    MemorySegment boxXy,
    MemorySegment boxWh,
    MemorySegment boxConfidence,
    MemorySegment boxClassProbs) {

  /** {@return the names of the outputs that are computed} */
  @Override
  public String toString() {
    List<String> names = new ArrayList<>();
    MemorySegment[] outputs = {grid, boxXy, boxWh, boxConfidence, boxClassProbs};
    String[] all = {"grid", "boxXy", "boxWh", "boxConfidence", "boxClassProbs"};
    for (int i = 0; i < all.length; i++) {
      if (outputs[i] != null) {
        names.add(all[i]);
      }
    }
    return "yolo_head outputs " + names;
  }
}
