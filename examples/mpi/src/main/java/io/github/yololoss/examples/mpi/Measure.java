package io.github.yololoss.examples.mpi;

import io.github.yololoss.LossSum;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Locale;

/**
 * Times the all-reduce between the ranks, for the model in docs/scale.md: medians of many calls of
 * growing size, and the latency and bandwidth that fit them.
 */
final class Measure {
  private static final int[] BYTES = {
    8, 1 << 10, 8 << 10, 64 << 10, 1 << 20, 6_465_728, 32 << 20, 128 << 20
  };

  private Measure() {}

  public static void main(String[] arguments) {
    try (Mpi mpi = new Mpi();
        Arena arena = Arena.ofConfined()) {
      double[] seconds = new double[BYTES.length];
      for (int i = 0; i < BYTES.length; i++) {
        MemorySegment values = arena.allocate(BYTES[i], 64);
        double[] times = new double[BYTES[i] > 1 << 22 ? 11 : 101];
        for (int n = -3; n < times.length; n++) {
          mpi.sumLongs(new long[1]); // all begin together
          long start = System.nanoTime();
          mpi.sum(values, false);
          if (n >= 0) {
            times[n] = (System.nanoTime() - start) / 1e9;
          }
        }
        Arrays.sort(times);
        seconds[i] = times[times.length / 2];
        if (mpi.rank() == 0) {
          System.out.printf(Locale.ROOT, "%11d bytes %12.1f us%n", BYTES[i], 1e6 * seconds[i]);
        }
      }
      long[] words = LossSum.zero(3).words();
      double[] times = new double[101];
      for (int n = 0; n < times.length; n++) {
        long start = System.nanoTime();
        mpi.sumLongs(words);
        times[n] = (System.nanoTime() - start) / 1e9;
      }
      Arrays.sort(times);
      if (mpi.rank() == 0) {
        System.out.printf(
            Locale.ROOT,
            "%11d bytes %12.1f us: an exact sum of three layers%n",
            8 * words.length,
            1e6 * times[times.length / 2]);
        print(seconds, mpi.size());
      }
    }
  }

  /** Least squares of relative errors: seconds = rounds * (latency + bytes / bandwidth). */
  private static void print(double[] seconds, int ranks) {
    double rounds = Math.log(ranks) / Math.log(2);
    double a = 0;
    double b = 0;
    double c = 0;
    double d = 0;
    double e = 0;
    for (int i = 0; i < seconds.length; i++) {
      double one = rounds / seconds[i];
      double bytes = one * BYTES[i];
      a += one * one;
      b += one * bytes;
      c += bytes * bytes;
      d += one;
      e += bytes;
    }
    double latency = (d * c - e * b) / (a * c - b * b);
    double perByte = (a * e - b * d) / (a * c - b * b);
    System.out.printf(
        Locale.ROOT,
        "%d ranks: %.1f us and %.2f GB/s in each of %.0f rounds%n",
        ranks,
        1e6 * latency,
        1e-9 / perByte,
        rounds);
  }
}
