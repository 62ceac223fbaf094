package io.github.yololoss;

import java.lang.foreign.MemorySegment;

/**
 * Outputs of {@link YoloLoss#yoloHead}, float32; each may be null.
 *
 * @param grid (H, W, 1, 2): column, row
 * @param boxXy (B, H, W, A, 2): centre as a fraction of the input
 * @param boxWh (B, H, W, A, 2): size as a fraction of the input
 * @param boxConfidence (B, H, W, A, 1)
 * @param boxClassProbs (B, H, W, A, C)
 */
public record YoloHead(
    MemorySegment grid,
    MemorySegment boxXy,
    MemorySegment boxWh,
    MemorySegment boxConfidence,
    MemorySegment boxClassProbs) {}
