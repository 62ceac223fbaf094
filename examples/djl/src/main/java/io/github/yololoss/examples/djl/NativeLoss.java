package io.github.yololoss.examples.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.training.loss.Loss;
import io.github.yololoss.DataType;
import io.github.yololoss.Layout;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import java.lang.foreign.MemorySegment;

/**
 * yololoss as a loss of DJL, for any trainer of DJL's. The labels are boxes (B, T, 5), the
 * predictions the layers' outputs (B, A*(5+C), H, W), both on the CPU. Predictions are read where
 * DJL has them, and the gradient is written where DJL reads it: nothing is copied.
 */
public final class NativeLoss extends Loss implements AutoCloseable {
  private final YoloLoss loss;
  private final LossOptions options;
  private final LossResult result;

  /**
   * @param type of predictions and gradients
   * @param options with a normaliser other than the batch where a batch is spread over several
   *     calls or processes
   */
  public NativeLoss(YoloSpec spec, int maxBatch, DataType type, LossOptions options) {
    super("yololoss");
    this.options = options;
    loss = YoloLoss.builder(spec).maxBatch(maxBatch).dataType(type).layout(Layout.NCHW).open();
    result = loss.newResult();
  }

  /** A scalar whose value is the loss, and whose gradient is the one computed beside it. */
  @Override
  public NDArray evaluate(NDList labels, NDList predictions) {
    NDArray boxes = labels.singletonOrThrow();
    NDList grads = new NDList();
    for (NDArray prediction : predictions) {
      grads.add(prediction.getManager().create(prediction.getShape(), prediction.getDataType()));
    }
    compute(boxes, predictions, grads);
    NDArray product = null;
    for (int l = 0; l < grads.size(); l++) {
      NDArray p = predictions.get(l).mul(grads.get(l)).sum(); // d p / d prediction = gradient
      product = product == null ? p : product.add(p);
    }
    return product.sub(product.stopGradient()).add((float) result.total());
  }

  /** The loss alone. */
  double valueOf(NDArray boxes, NDList predictions) {
    compute(boxes, predictions, null);
    return result.total();
  }

  private void compute(NDArray boxes, NDList predictions, NDList grads) {
    int batch = (int) boxes.getShape().get(0);
    int perImage = (int) boxes.getShape().get(1);
    loss.compute(
        batch,
        segments(predictions),
        Targets.boxes(segment(boxes), perImage),
        grads == null ? null : segments(grads),
        options,
        result);
  }

  private static MemorySegment[] segments(NDList arrays) {
    return arrays.stream().map(NativeLoss::segment).toArray(MemorySegment[]::new);
  }

  /** The array's own memory: it is contiguous, as outputs of a convolution and new arrays are. */
  public static MemorySegment segment(NDArray array) {
    return MemorySegment.ofBuffer(array.toByteBuffer(true));
  }

  /** The parts of the last call. */
  public LossResult result() {
    return result;
  }

  /** For decoding and truths. */
  public YoloLoss library() {
    return loss;
  }

  @Override
  public void close() {
    loss.close();
  }
}
