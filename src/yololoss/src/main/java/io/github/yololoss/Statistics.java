package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import java.lang.foreign.MemorySegment;

/**
 * Statistics of one layer, as sums over the images of a call. Those of the shards of a batch can be
 * added. A mean of nothing is 0.
 *
 * @param objects number of cells with m != 0
 * @param background number of cells with m = 0
 * @param iou sum of the IoUs of the predictions of objects with their own truths
 * @param iou50 number of objects whose IoU is above 0.5
 * @param iou75 number of objects whose IoU is above 0.75
 * @param objectnessObject sum of the sigmoids of the objectness logits of objects
 * @param objectnessBackground the same sum for background
 * @param gradXy sum of the squares of the gradient's elements of the centre part, before they are
 *     rounded to a 16-bit type; 0 without a gradient
 * @param gradWh the same sum for the size part
 * @param gradObject the same sum for the confidence of objects
 * @param gradBackground the same sum for the confidence of background
 * @param gradClass the same sum for the class part
 */
public record Statistics(
    long objects,
    long background,
    double iou,
    long iou50,
    long iou75,
    double objectnessObject,
    double objectnessBackground,
    double gradXy,
    double gradWh,
    double gradObject,
    double gradBackground,
    double gradClass) {

  /** Reads the yl_stats of a layer. */
  static Statistics read(MemorySegment stats, long layer) {
    return new Statistics(
        Abi.Stats.getObjects(stats, layer),
        Abi.Stats.getBackground(stats, layer),
        Abi.Stats.getIou(stats, layer),
        Abi.Stats.getIou50(stats, layer),
        Abi.Stats.getIou75(stats, layer),
        Abi.Stats.getObjectnessObject(stats, layer),
        Abi.Stats.getObjectnessBackground(stats, layer),
        Abi.Stats.getGradXy(stats, layer),
        Abi.Stats.getGradWh(stats, layer),
        Abi.Stats.getGradObject(stats, layer),
        Abi.Stats.getGradBackground(stats, layer),
        Abi.Stats.getGradClass(stats, layer));
  }

  /** Zeros, to start a sum. */
  public static final Statistics ZERO = new Statistics(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

  /**
   * {@return the sum of both}
   *
   * @param other statistics of another shard
   */
  public Statistics plus(Statistics other) {
    return new Statistics(
        objects + other.objects,
        background + other.background,
        iou + other.iou,
        iou50 + other.iou50,
        iou75 + other.iou75,
        objectnessObject + other.objectnessObject,
        objectnessBackground + other.objectnessBackground,
        gradXy + other.gradXy,
        gradWh + other.gradWh,
        gradObject + other.gradObject,
        gradBackground + other.gradBackground,
        gradClass + other.gradClass);
  }

  /** {@return the mean IoU of the predictions of objects with their truths} */
  public double meanIou() {
    return mean(iou, objects);
  }

  /** {@return the share of objects with an IoU above 0.5} */
  public double shareIou50() {
    return mean(iou50, objects);
  }

  /** {@return the share of objects with an IoU above 0.75} */
  public double shareIou75() {
    return mean(iou75, objects);
  }

  /** {@return the mean sigmoid of the objectness of objects} */
  public double meanObjectnessObject() {
    return mean(objectnessObject, objects);
  }

  /** {@return the mean sigmoid of the objectness of background} */
  public double meanObjectnessBackground() {
    return mean(objectnessBackground, background);
  }

  /**
   * {@return the norm of the whole gradient of the layer} That of a part is the root of its sum.
   */
  public double gradNorm() {
    return Math.sqrt(gradXy + gradWh + gradObject + gradBackground + gradClass);
  }

  private static double mean(double sum, long count) {
    return count == 0 ? 0 : sum / count;
  }
}
