package io.github.yololoss;

/**
 * Where a call writes what it found for each cell, float32, one array for each layer of shape (B,
 * H, W, A), or (B, A, H, W) for {@link Layout#NCHW}. Each is null where it is not wanted.
 *
 * @param <M> {@link java.lang.foreign.MemorySegment} or {@link DeviceBuffer}: where feats lie
 * @param ignoreMask k: 1 where the cell counts as background, 0 where it is ignored
 * @param bestIou the largest IoU of the prediction with a truth that it is compared with; 0 if
 *     there is none
 * @param cellLoss the parts of the cell, weighted, not divided by the normaliser
 */
public record CellMaps<M>(M[] ignoreMask, M[] bestIou, M[] cellLoss) {}
