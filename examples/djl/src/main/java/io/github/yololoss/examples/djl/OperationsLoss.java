package io.github.yololoss.examples.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.index.NDIndex;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.nn.Activation;
import ai.djl.training.loss.Loss;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * The same loss in DJL's own operations, its gradient by autograd: what {@link NativeLoss} is
 * checked against and timed beside. Dense, as keras-yolo3's, with the boxes of a batch padded for
 * the ignore mask.
 */
final class OperationsLoss extends Loss {
  private final YoloLoss truths; // builds y_true
  private final YoloSpec spec;

  OperationsLoss(YoloLoss truths) {
    super("operations");
    this.truths = truths;
    spec = truths.spec();
  }

  @Override
  public NDArray evaluate(NDList labels, NDList predictions) {
    NDArray boxes = labels.singletonOrThrow();
    int batch = (int) boxes.getShape().get(0);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment[] yTrue = spec.allocate(arena, batch);
      truths.buildYTrue(
          batch, Targets.boxes(NativeLoss.segment(boxes), (int) boxes.getShape().get(1)), yTrue);
      NDArray total = null;
      for (int l = 0; l < yTrue.length; l++) {
        NDArray part = layer(l, batch, predictions.get(l), yTrue[l]);
        total = total == null ? part : total.add(part);
      }
      return total.div(batch);
    }
  }

  private NDArray layer(int l, int batch, NDArray prediction, MemorySegment truth) {
    NDManager manager = prediction.getManager();
    YoloSpec.Layer layer = spec.layers().get(l);
    int h = layer.gridHeight();
    int w = layer.gridWidth();
    int a = layer.anchorMask().size();
    int d = 5 + spec.numClasses();
    float[] y = truth.toArray(ValueLayout.JAVA_FLOAT);
    NDArray yTrue = manager.create(y, new Shape(batch, h, w, a, d));
    NDArray feats = prediction.reshape(batch, a, d, h, w).transpose(0, 3, 4, 1, 2);
    NDArray grid = grid(manager, h, w);
    NDArray size = manager.create(new float[] {w, h});
    NDArray input = manager.create(new float[] {spec.inputWidth(), spec.inputHeight()});
    NDArray anchors = anchors(manager, layer);

    NDArray mask = channels(yTrue, 4, 5);
    NDArray noMask = mask.neg().add(1f);
    NDArray rawXy = channels(yTrue, 0, 2).mul(size).sub(grid);
    NDArray rawWh = channels(yTrue, 2, 4).mul(input).div(anchors).add(noMask).log(); // 0 where no m
    NDArray scale = mask.mul(channels(yTrue, 2, 3).mul(channels(yTrue, 3, 4)).neg().add(2f));
    NDArray keep =
        ignoreMask(feats.stopGradient(), y, batch, grid.div(size), size, anchors.div(input));

    NDArray xy = scale.mul(crossEntropy(rawXy, channels(feats, 0, 2))).sum();
    NDArray wh = scale.mul(rawWh.sub(channels(feats, 2, 4)).square()).sum().mul(0.5f);
    NDArray confidence =
        mask.add(noMask.mul(keep)).mul(crossEntropy(mask, channels(feats, 4, 5))).sum();
    NDArray classes = mask.mul(crossEntropy(channels(yTrue, 5, d), channels(feats, 5, d))).sum();
    return xy.add(wh).add(confidence).add(classes);
  }

  /** Of a target and a logit. */
  private static NDArray crossEntropy(NDArray target, NDArray logit) {
    return Activation.relu(logit)
        .sub(logit.mul(target))
        .add(Activation.softPlus(logit.abs().neg()));
  }

  private static NDArray channels(NDArray array, int from, int to) {
    return array.get(new NDIndex("...," + from + ":" + to));
  }

  private static NDArray grid(NDManager manager, int h, int w) {
    float[] grid = new float[h * w * 2];
    for (int i = 0; i < h * w; i++) {
      grid[2 * i] = i % w;
      grid[2 * i + 1] = i / w;
    }
    return manager.create(grid, new Shape(1, h, w, 1, 2));
  }

  private NDArray anchors(NDManager manager, YoloSpec.Layer layer) {
    float[] sizes = new float[2 * layer.anchorMask().size()];
    for (int n = 0; n < layer.anchorMask().size(); n++) {
      YoloSpec.Anchor anchor = spec.anchors().get(layer.anchorMask().get(n));
      sizes[2 * n] = anchor.width();
      sizes[2 * n + 1] = anchor.height();
    }
    return manager.create(sizes, new Shape(1, 1, 1, layer.anchorMask().size(), 2));
  }

  /** 1 where the best IoU with the truths of the image and layer is below the threshold. */
  private NDArray ignoreMask(
      NDArray feats, float[] y, int batch, NDArray corner, NDArray size, NDArray anchors) {
    NDArray xy = Activation.sigmoid(channels(feats, 0, 2)).div(size).add(corner).expandDims(4);
    NDArray wh = channels(feats, 2, 4).exp().mul(anchors).expandDims(4);
    NDArray truth = paddedTruths(feats.getManager(), y, batch);
    NDArray truthXy = channels(truth, 0, 2);
    NDArray truthWh = channels(truth, 2, 4);
    NDArray low = xy.sub(wh.div(2)).maximum(truthXy.sub(truthWh.div(2)));
    NDArray high = xy.add(wh.div(2)).minimum(truthXy.add(truthWh.div(2)));
    NDArray side = high.sub(low).maximum(0f);
    NDArray both = side.prod(new int[] {-1});
    NDArray areas = wh.prod(new int[] {-1}).add(truthWh.prod(new int[] {-1}));
    NDArray best = both.div(areas.sub(both)).max(new int[] {-1}, true);
    return best.lt(spec.ignoreThresh()).toType(DataType.FLOAT32, false);
  }

  /** (B, 1, 1, 1, T, 4); unused rows lie far away. */
  private NDArray paddedTruths(NDManager manager, float[] y, int batch) {
    int d = 5 + spec.numClasses();
    int ofImage = y.length / batch;
    List<List<float[]>> images = new ArrayList<>();
    int most = 1;
    for (int b = 0; b < batch; b++) {
      List<float[]> rows = new ArrayList<>();
      for (int i = b * ofImage; i < (b + 1) * ofImage; i += d) {
        if (y[i + 4] != 0) {
          rows.add(Arrays.copyOfRange(y, i, i + 4));
        }
      }
      images.add(rows);
      most = Math.max(most, rows.size());
    }
    float[] padded = new float[batch * most * 4];
    for (int b = 0; b < batch; b++) {
      for (int t = 0; t < most; t++) {
        float[] row = t < images.get(b).size() ? images.get(b).get(t) : new float[] {-9, -9, 0, 0};
        System.arraycopy(row, 0, padded, 4 * (b * most + t), 4);
      }
    }
    return manager.create(padded, new Shape(batch, 1, 1, 1, most, 4));
  }
}
