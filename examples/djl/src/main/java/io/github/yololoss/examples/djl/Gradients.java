package io.github.yololoss.examples.djl;

import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.training.GradientCollector;
import ai.djl.training.loss.Loss;
import java.util.ArrayList;
import java.util.List;

/**
 * The value of a loss, and its gradients with respect to outputs that are cut off their network.
 *
 * @param arrays a gradient for each output
 */
record Gradients(double value, NDList arrays) {

  static Gradients of(Loss loss, NDArray boxes, NDList outputs) {
    NDList leaves = new NDList();
    for (NDArray output : outputs) {
      NDArray leaf = output.duplicate();
      leaf.setRequiresGradient(true);
      leaves.add(leaf);
    }
    try (GradientCollector collector = Engine.getInstance().newGradientCollector()) {
      NDArray value = loss.evaluate(new NDList(boxes), leaves);
      collector.backward(value);
      NDList arrays = new NDList();
      leaves.forEach(leaf -> arrays.add(leaf.getGradient().duplicate()));
      return new Gradients(value.getFloat(), arrays);
    }
  }

  /** The largest difference from others, relative to the largest element of its output. */
  double difference(Gradients others) {
    double worst = 0;
    for (int l = 0; l < arrays.size(); l++) {
      NDArray other = others.arrays.get(l);
      double largest = other.abs().max().getFloat();
      worst = Math.max(worst, arrays.get(l).sub(other).abs().max().getFloat() / largest);
    }
    return worst;
  }

  /** Seconds of each of 20 times, after 10 that are not counted. */
  static List<Double> time(Loss loss, NDArray boxes, NDList outputs) {
    List<Double> seconds = new ArrayList<>();
    for (int i = 0; i < 30; i++) {
      try (NDManager scratch = boxes.getManager().newSubManager()) {
        NDList copies = new NDList();
        for (NDArray output : outputs) {
          NDArray copy = output.duplicate();
          copy.attach(scratch);
          copies.add(copy);
        }
        long start = System.nanoTime();
        of(loss, boxes, copies);
        seconds.add((System.nanoTime() - start) / 1e9);
      }
    }
    return seconds.subList(10, 30);
  }

  static double median(List<Double> values) {
    return values.stream().sorted().skip(values.size() / 2).findFirst().orElse(Double.NaN);
  }
}
