package io.github.yololoss.examples.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.nn.Block;
import ai.djl.nn.Parameter;
import ai.djl.training.optimizer.Optimizer;
import ai.djl.training.tracker.Tracker;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.util.HashMap;
import java.util.Map;

/** Adam whose state can be saved: DJL's own forgets it, so that training could not be resumed. */
final class Adam extends Optimizer {
  private static final float BETA1 = 0.9f;
  private static final float BETA2 = 0.999f;
  private static final float EPSILON = 1e-8f;

  /** The state of a parameter. */
  private static final class Moments {
    private int steps;
    private NDArray mean;
    private NDArray variance;
  }

  private static final class Builder extends OptimizerBuilder<Builder> {
    @Override
    protected Builder self() {
      return this;
    }
  }

  private final Tracker learningRate;
  private final Map<String, Moments> moments = new HashMap<>();

  Adam(Tracker learningRate) {
    super(new Builder());
    this.learningRate = learningRate;
  }

  /**
   * Returns the learning rate of each step: a warm-up of one epoch, then a cosine down to a
   * hundredth.
   *
   * @param highest what the warm-up reaches
   * @param batches steps of an epoch
   */
  static Tracker schedule(float highest, int batches, int epochs) {
    return Tracker.warmUp()
        .optWarmUpSteps(batches)
        .optWarmUpBeginValue(highest / 20)
        .setMainTracker(
            Tracker.cosine()
                .setBaseValue(highest)
                .optFinalValue(highest / 100)
                .setMaxUpdates(batches * epochs)
                .build())
        .build();
  }

  @Override
  public void update(String id, NDArray weight, NDArray grad) {
    Moments m = moments.computeIfAbsent(id, key -> new Moments());
    if (m.mean == null) {
      m.mean = weight.zerosLike();
      m.variance = weight.zerosLike();
    }
    m.steps++;
    float rate = learningRate.getNewValue(m.steps);
    double correction = Math.sqrt(1 - Math.pow(BETA2, m.steps)) / (1 - Math.pow(BETA1, m.steps));
    weight
        .getNDArrayInternal()
        .adamUpdate(
            new NDList(weight, grad, m.mean, m.variance),
            new NDList(weight),
            rate,
            (float) (rate * correction),
            0, // weight decay
            rescaleGrad,
            clipGrad,
            BETA1,
            BETA2,
            EPSILON,
            true,
            false);
  }

  void save(Block network, DataOutputStream out) throws IOException {
    for (Parameter parameter : network.getParameters().values()) {
      Moments m = moments.get(parameter.getId());
      out.writeBoolean(m != null);
      if (m != null) {
        out.writeInt(m.steps);
        byte[] arrays = new NDList(m.mean, m.variance).encode();
        out.writeInt(arrays.length);
        out.write(arrays);
      }
    }
  }

  void load(Block network, NDManager manager, DataInputStream in) throws IOException {
    for (Parameter parameter : network.getParameters().values()) {
      if (in.readBoolean()) {
        Moments m = new Moments();
        m.steps = in.readInt();
        NDList arrays = NDList.decode(manager, in.readNBytes(in.readInt()));
        m.mean = arrays.get(0);
        m.variance = arrays.get(1);
        moments.put(parameter.getId(), m);
      }
    }
  }
}
