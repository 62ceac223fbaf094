package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/**
 * A long run in a JVM: each call has the bits of the first of its kind, and the process takes no
 * more memory, threads or files. {@code -Dyololoss.soak} chooses another length.
 */
@Tag("full")
class SoakTest {
  private static final int CALLS = Integer.getInteger("yololoss.soak", 1_000_000);
  private static final int CALLERS = 2;
  private static final int EVERY = 100; // calls on an object that is then closed

  /** What the process takes. */
  private record Usage(long kilobytes, long threads, long files) {
    static Usage now() throws IOException {
      String[] pages = Files.readString(Path.of("/proc/self/statm")).split(" ");
      return new Usage(
          Long.parseLong(pages[1]) * 4, entries("/proc/self/task"), entries("/proc/self/fd"));
    }

    private static long entries(String folder) throws IOException {
      try (Stream<Path> list = Files.list(Path.of(folder))) {
        return list.count();
      }
    }
  }

  @Test
  void aMillionCalls() throws Exception {
    try (ExecutorService callers = Executors.newFixedThreadPool(CALLERS)) {
      run(callers, CALLS / 2); // the compilers are done
      Usage before = settled();
      run(callers, CALLS);
      Usage after = settled();
      System.out.printf(
          "guarantee: %d calls in a JVM: %+d kB of memory, %+d threads, %+d files%n",
          CALLS,
          after.kilobytes - before.kilobytes,
          after.threads - before.threads,
          after.files - before.files);
      assertTrue(after.kilobytes - before.kilobytes < 32 << 10, before + " " + after);
      assertTrue(after.threads - before.threads < 4, before + " " + after); // the JVM's own
      assertTrue(after.files - before.files < 4, before + " " + after);
    }
  }

  /**
   * After what was garbage is gone, also off the heap (results have memory that is freed with
   * them).
   */
  private static Usage settled() throws Exception {
    for (int i = 0; i < 3; i++) {
      System.gc();
      Thread.sleep(100);
    }
    return Usage.now();
  }

  private static void run(ExecutorService callers, int calls) throws Exception {
    List<Callable<Integer>> each = new ArrayList<>();
    for (int c = 0; c < CALLERS; c++) {
      each.add(() -> wrong(calls / CALLERS));
    }
    for (var wrong : callers.invokeAll(each)) {
      assertEquals(0, wrong.get());
    }
  }

  /** Calls of one thread, on objects of its own that are opened anew now and then. */
  private static int wrong(int calls) {
    int wrong = 0;
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden("a_small_3scale", arena);
      MemorySegment[] grads = g.garbage(arena);
      MemorySegment[][] first = new MemorySegment[4][];
      double[] total = new double[4];
      Targets<MemorySegment> dense =
          Targets.dense(g.yTrue); // made once: no garbage that would make the heap grow
      LossOptions extras =
          LossOptions.DEFAULT.withStatistics(true).withSearch(LossOptions.Search.ALL);
      YoloLoss loss = g.open(LossDevice.CPU, 1);
      LossResult result = loss.newResult();
      for (int i = 0; i < calls; i++) {
        if (i % EVERY == EVERY - 1) {
          loss.close();
          loss = g.open(LossDevice.CPU, 1 + i / EVERY % 3);
          result = loss.newResult();
        }
        int batch = 1 + i % 2;
        LossOptions options = i % 4 > 1 ? extras : LossOptions.DEFAULT;
        Targets<MemorySegment> targets = i % 3 == 0 ? g.boxes : dense;
        loss.compute(batch, g.feats, targets, grads, options, result);
        int kind = i % 4;
        if (first[kind] == null) {
          total[kind] = result.total();
          first[kind] = g.garbage(arena);
          for (int l = 0; l < grads.length; l++) {
            first[kind][l].copyFrom(grads[l]);
          }
        }
        wrong += result.total() == total[kind] ? 0 : 1;
        for (int l = 0; l < grads.length; l++) {
          long bytes = g.spec.bytes(l, batch);
          wrong +=
              MemorySegment.mismatch(grads[l], 0, bytes, first[kind][l], 0, bytes) == -1 ? 0 : 1;
        }
      }
      loss.close();
    }
    return wrong;
  }
}
