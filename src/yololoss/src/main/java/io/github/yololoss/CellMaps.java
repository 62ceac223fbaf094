package io.github.yololoss;

/**
 * Memory for values of each cell that a call computes: float32, one array for each layer, of shape
 * (B, H, W, A), or (B, A, H, W) for {@link FeatsLayout#NCHW}. A map that is null is not computed.
 *
 * @param <M> {@link java.lang.foreign.MemorySegment} for {@link YoloLoss}, {@link DeviceBuffer} for
 *     {@link CudaYoloLoss}
 * @param ignoreMask k: 1 where the cell counts as background, 0 where it is ignored
 * @param bestIou the largest IoU of the prediction with a truth that it is compared with; 0 if
 *     there is none
 * @param cellLoss the sum of the cell's parts, weighted, not divided by the normaliser
 */
public record CellMaps<M>(M[] ignoreMask, M[] bestIou, M[] cellLoss) {

  /** {@return the names of the maps that are computed} */
  @Override
  public String toString() {
    StringBuilder text = new StringBuilder();
    if (ignoreMask != null) {
      text.append(", ignoreMask");
    }
    if (bestIou != null) {
      text.append(", bestIou");
    }
    if (cellLoss != null) {
      text.append(", cellLoss");
    }
    return "CellMaps[" + (text.isEmpty() ? "none" : text.substring(2)) + "]";
  }
}
