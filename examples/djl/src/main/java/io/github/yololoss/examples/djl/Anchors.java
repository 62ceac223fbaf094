package io.github.yololoss.examples.djl;

import io.github.yololoss.YoloSpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Random;

/** Anchors of a data set: k-means over widths and heights with the distance 1 - IoU, as YOLOv2. */
public final class Anchors {
  private Anchors() {}

  /**
   * A network with three anchors for each scale, the largest for the coarsest.
   *
   * @param sizes width and height of each box of the data set
   * @param scales 2 (strides 32, 16) or 3 (8 too)
   */
  public static YoloSpec spec(
      List<double[]> sizes, int scales, int classes, int height, int width, long seed) {
    int count = 3 * scales;
    float[][] anchors = kMeans(sizes, count, new Random(seed));
    int[][] masks = new int[scales][];
    for (int l = 0; l < scales; l++) {
      int first = count - 3 * (l + 1);
      masks[l] = new int[] {first, first + 1, first + 2};
    }
    return YoloSpec.of(classes, height, width, anchors, masks, 0.5f);
  }

  /** Pairs of width and height, smallest area first; the best of several starts. */
  static float[][] kMeans(List<double[]> sizes, int k, Random random) {
    if (sizes.size() < k) {
      throw new IllegalArgumentException(
          sizes.size() + " boxes for " + k + " anchors; more boxes are needed");
    }
    double[][] best = null;
    for (int start = 0; start < 10; start++) {
      double[][] centres = cluster(sizes, k, random);
      if (best == null || meanIou(sizes, centres) > meanIou(sizes, best)) {
        best = centres;
      }
    }
    Arrays.sort(best, Comparator.comparingDouble(c -> c[0] * c[1]));
    float[][] anchors = new float[k][];
    for (int n = 0; n < k; n++) {
      anchors[n] = new float[] {Math.round(best[n][0]), Math.round(best[n][1])};
    }
    return anchors;
  }

  private static double[][] cluster(List<double[]> sizes, int k, Random random) {
    List<double[]> centres = new ArrayList<>(); // k-means++: far from those that are there already
    centres.add(sizes.get(random.nextInt(sizes.size())).clone());
    while (centres.size() < k) {
      double[] distances = new double[sizes.size()];
      for (int i = 0; i < distances.length; i++) {
        double d = 1 - iou(sizes.get(i), nearest(sizes.get(i), centres.toArray(double[][]::new)));
        distances[i] = d * d;
      }
      double draw = random.nextDouble() * Arrays.stream(distances).sum();
      int chosen = 0;
      while (chosen < distances.length - 1 && (draw -= distances[chosen]) > 0) {
        chosen++;
      }
      centres.add(sizes.get(chosen).clone());
    }
    double[][] means = centres.toArray(double[][]::new);
    for (int round = 0; round < 100; round++) {
      double[][] sums = new double[k][3];
      for (double[] size : sizes) {
        double[] sum = sums[Arrays.asList(means).indexOf(nearest(size, means))];
        sum[0] += size[0];
        sum[1] += size[1];
        sum[2]++;
      }
      boolean moved = false;
      for (int n = 0; n < k; n++) {
        if (sums[n][2] > 0) {
          double[] mean = {sums[n][0] / sums[n][2], sums[n][1] / sums[n][2]};
          moved |= !Arrays.equals(mean, means[n]);
          means[n] = mean;
        }
      }
      if (!moved) {
        break;
      }
    }
    return means;
  }

  /** Mean IoU of the boxes with their best anchors, at common centres. */
  static double meanIou(List<double[]> sizes, double[][] anchors) {
    return sizes.stream().mapToDouble(s -> iou(s, nearest(s, anchors))).average().orElse(0);
  }

  private static double[] nearest(double[] size, double[][] anchors) {
    double[] best = anchors[0];
    for (double[] anchor : anchors) {
      if (iou(size, anchor) > iou(size, best)) {
        best = anchor;
      }
    }
    return best;
  }

  private static double iou(double[] a, double[] b) {
    double both = Math.min(a[0], b[0]) * Math.min(a[1], b[1]);
    return both / (a[0] * a[1] + b[0] * b[1] - both);
  }
}
