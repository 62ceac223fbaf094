package io.github.yololoss.examples.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.nn.AbstractBlock;
import ai.djl.nn.Activation;
import ai.djl.nn.Block;
import ai.djl.nn.SequentialBlock;
import ai.djl.nn.convolutional.Conv2d;
import ai.djl.nn.norm.BatchNorm;
import ai.djl.training.ParameterStore;
import ai.djl.util.PairList;
import java.util.ArrayList;
import java.util.List;

/**
 * A small YOLOv3: a backbone of strided convolutions, and two or three outputs at strides 32, 16,
 * 8, each fed by its stage of the backbone and by the coarser output's features, doubled in size.
 * Outputs are (B, A*(5+C), H, W), what yololoss calls NCHW.
 */
public final class Network extends AbstractBlock {
  private static final int[] CHANNELS = {256, 128, 64}; // of the backbone at strides 32, 16, 8

  private final int scales;
  private final int outputs;
  private final boolean batchNorm;
  private final Block stem; // to stride 8
  private final Block to16;
  private final Block to32;
  private final List<Block> joins = new ArrayList<>(); // of scale l: the features of its output
  private final List<Block> lifts = new ArrayList<>(); // of scale l >= 1: what comes from l - 1
  private final List<Block> heads = new ArrayList<>();

  /**
   * @param scales 2 or 3
   * @param outputs channels of each output, A*(5+C)
   * @param batchNorm after each convolution; else biases: then no image knows of its batch, so that
   *     a batch may be divided among processes
   */
  public Network(int scales, int outputs, boolean batchNorm) {
    this.scales = scales;
    this.outputs = outputs;
    this.batchNorm = batchNorm;
    stem =
        addChildBlock(
            "stem",
            new SequentialBlock()
                .add(convolution(16, 3, 2))
                .add(convolution(32, 3, 2))
                .add(convolution(32, 3, 1))
                .add(convolution(64, 3, 2))
                .add(convolution(64, 3, 1)));
    to16 =
        addChildBlock(
            "to16", new SequentialBlock().add(convolution(128, 3, 2)).add(convolution(128, 3, 1)));
    to32 =
        addChildBlock(
            "to32", new SequentialBlock().add(convolution(256, 3, 2)).add(convolution(256, 3, 1)));
    for (int l = 0; l < scales; l++) {
      int channels = CHANNELS[l];
      if (l > 0) {
        lifts.add(addChildBlock("lift" + l, convolution(channels / 2, 1, 1)));
      }
      joins.add(
          addChildBlock(
              "join" + l,
              new SequentialBlock()
                  .add(convolution(channels / 2, 1, 1))
                  .add(convolution(channels, 3, 1))));
      heads.add(
          addChildBlock(
              "head" + l,
              Conv2d.builder().setKernelShape(new Shape(1, 1)).setFilters(outputs).build()));
    }
  }

  private Block convolution(int channels, int size, int stride) {
    SequentialBlock block =
        new SequentialBlock()
            .add(
                Conv2d.builder()
                    .setKernelShape(new Shape(size, size))
                    .optStride(new Shape(stride, stride))
                    .optPadding(new Shape(size / 2, size / 2))
                    .setFilters(channels)
                    .optBias(!batchNorm)
                    .build());
    if (batchNorm) {
      block.add(BatchNorm.builder().build());
    }
    return block.add(Activation.leakyReluBlock(0.1f));
  }

  @Override
  protected NDList forwardInternal(
      ParameterStore store, NDList inputs, boolean training, PairList<String, Object> params) {
    NDArray at8 = stem.forward(store, inputs, training).singletonOrThrow();
    NDArray at16 = to16.forward(store, new NDList(at8), training).singletonOrThrow();
    NDArray at32 = to32.forward(store, new NDList(at16), training).singletonOrThrow();
    NDArray[] stages = {at32, at16, at8};
    NDList results = new NDList();
    NDArray features = null;
    for (int l = 0; l < scales; l++) {
      NDArray in = stages[l];
      if (l > 0) {
        NDArray lifted =
            lifts.get(l - 1).forward(store, new NDList(features), training).singletonOrThrow();
        in = in.concat(lifted.repeat(2, 2).repeat(3, 2), 1);
      }
      features = joins.get(l).forward(store, new NDList(in), training).singletonOrThrow();
      results.addAll(heads.get(l).forward(store, new NDList(features), training));
    }
    return results;
  }

  @Override
  public void initializeChildBlocks(NDManager manager, DataType type, Shape... inputs) {
    Shape at8 = initialize(stem, manager, type, inputs[0]);
    Shape at16 = initialize(to16, manager, type, at8);
    Shape[] stages = {initialize(to32, manager, type, at16), at16, at8};
    Shape features = null;
    for (int l = 0; l < scales; l++) {
      Shape in = stages[l];
      if (l > 0) {
        Shape lifted = initialize(lifts.get(l - 1), manager, type, features);
        in = new Shape(in.get(0), in.get(1) + lifted.get(1), in.get(2), in.get(3));
      }
      features = initialize(joins.get(l), manager, type, in);
      initialize(heads.get(l), manager, type, features);
    }
  }

  private static Shape initialize(Block block, NDManager manager, DataType type, Shape in) {
    block.initialize(manager, type, in);
    return block.getOutputShapes(new Shape[] {in})[0];
  }

  @Override
  public Shape[] getOutputShapes(Shape[] inputs) {
    Shape[] shapes = new Shape[scales];
    for (int l = 0; l < scales; l++) {
      long stride = 32 >> l;
      shapes[l] =
          new Shape(
              inputs[0].get(0), outputs, inputs[0].get(2) / stride, inputs[0].get(3) / stride);
    }
    return shapes;
  }
}
