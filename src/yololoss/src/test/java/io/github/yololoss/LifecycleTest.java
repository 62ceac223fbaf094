package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Close and use, in every order and from several threads. */
class LifecycleTest {
  private static final YoloSpec SPEC = YoloSpec.yolov3(3, 416, 416);

  @Test
  void closeTwice() {
    YoloLoss loss = YoloLoss.open(SPEC, 1);
    loss.close();
    assertDoesNotThrow(loss::close);
  }

  @Test
  void useAfterCloseIsRefused() {
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden("a_small_3scale", arena);
      YoloLoss loss = g.open(LossDevice.CPU, 2);
      LossResult result = loss.compute(g.batch, g.feats, g.boxes, null);
      double total = result.total();
      loss.close();
      for (Callable<?> use :
          new Callable<?>[] {
            () -> loss.compute(g.batch, g.feats, g.boxes, null),
            () -> loss.buildYTrue(g.batch, g.boxes, g.garbage(arena)),
            () -> {
              loss.yoloHead(0, 1, g.feats[0], new YoloHead(null, null, null, null, null));
              return null;
            }
          }) {
        String sentence = assertThrows(IllegalStateException.class, use::call).getMessage();
        assertTrue(sentence.contains("this YoloLoss is closed"), sentence);
      }
      assertEquals(total, result.total(), "a result outlives its YoloLoss");
      assertEquals(g.spec, loss.spec());
    }
  }

  /**
   * While one thread calls without pause, another closes what the calls use: each attempt is
   * refused or comes between.
   */
  @Test
  void closeDuringACallIsRefused() throws Exception {
    int batch = 16;
    try (ExecutorService caller = Executors.newSingleThreadExecutor();
        Arena memory = Arena.ofShared()) {
      int refused = 0;
      for (int round = 0; round < 200 && refused < 3; round++) {
        YoloLoss loss = YoloLoss.builder(SPEC).maxBatch(batch).device(LossDevice.REFERENCE).open();
        MemorySegment[] feats = SPEC.allocate(memory, batch);
        AtomicBoolean started = new AtomicBoolean();
        Future<Double> call =
            caller.submit(
                () -> {
                  started.set(true);
                  return loss.compute(batch, feats, Targets.dense(feats), null).total();
                });
        while (!started.get()) {
          Thread.onSpinWait();
        }
        Thread.sleep(round % 20);
        try {
          loss.close();
        } catch (IllegalStateException e) {
          assertTrue(e.getMessage().contains("a call is running"), e.getMessage());
          assertTrue(call.get() > 0, "the call goes on");
          refused++;
        }
        try {
          call.get();
        } catch (java.util.concurrent.ExecutionException e) {
          assertTrue(e.getCause() instanceof IllegalStateException, e.toString());
        }
        loss.close();
      }
      assertTrue(refused > 0, "no close ever met a call");
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {2, 9}) // fewer than Held.FEW, and more
  void closingTheMemoryOfARunningCallIsRefused(int scopes) throws Exception {
    int batch = 64;
    try (ExecutorService caller = Executors.newSingleThreadExecutor();
        YoloLoss loss =
            YoloLoss.builder(SPEC).maxBatch(batch).device(LossDevice.REFERENCE).open()) {
      int refused = 0;
      for (int round = 0; round < 200 && refused < 3; round++) {
        Arena[] arenas = new Arena[scopes];
        Arrays.setAll(arenas, i -> Arena.ofShared());
        MemorySegment[] feats = spread(SPEC, batch, arenas, 0);
        MemorySegment[] yTrue = spread(SPEC, batch, arenas, 3);
        MemorySegment[] grads = spread(SPEC, batch, arenas, 6);
        AtomicBoolean started = new AtomicBoolean();
        Future<Double> call =
            caller.submit(
                () -> {
                  started.set(true);
                  return loss.compute(batch, feats, Targets.dense(yTrue), grads).total();
                });
        while (!started.get()) {
          Thread.onSpinWait();
        }
        Thread.sleep(1 + round % 20);
        int refusedNow = 0;
        for (Arena arena : arenas) {
          try {
            arena.close();
          } catch (IllegalStateException e) {
            refusedNow++; // "Session is acquired"
          }
        }
        refused += refusedNow == scopes ? 1 : 0; // a call that was running held all of them
        try {
          call.get();
        } catch (java.util.concurrent.ExecutionException e) {
          assertTrue(e.getCause() instanceof IllegalStateException, e.toString());
        }
        for (Arena arena : arenas) {
          if (arena.scope().isAlive()) {
            arena.close();
          }
        }
      }
      assertTrue(refused > 0, "no call held all of its memory");
    }
  }

  /**
   * Each tensor in an arena of its own, then all in one: what is closed by then is not asked for.
   */
  @Test
  void memoryOfManyArenasAndOfOne() {
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden("a_small_3scale", arena);
      try (YoloLoss loss = g.open(LossDevice.CPU, 2)) {
        MemorySegment[] want = g.garbage(arena);
        double total = loss.compute(g.batch, g.feats, Targets.dense(g.yTrue), want).total();
        Arena[] arenas = new Arena[9];
        Arrays.setAll(arenas, i -> i % 2 == 0 ? Arena.ofShared() : Arena.ofConfined());
        MemorySegment[] feats = spread(g.spec, g.batch, arenas, 0);
        MemorySegment[] yTrue = spread(g.spec, g.batch, arenas, 3);
        MemorySegment[] grads = spread(g.spec, g.batch, arenas, 6);
        for (int l = 0; l < 3; l++) {
          feats[l].copyFrom(g.feats[l]);
          yTrue[l].copyFrom(g.yTrue[l]);
        }
        assertEquals(total, loss.compute(g.batch, feats, Targets.dense(yTrue), grads).total());
        for (int l = 0; l < 3; l++) {
          assertEquals(-1, want[l].mismatch(grads[l]));
        }
        for (Arena each : arenas) {
          each.close();
        }
        assertThrows(
            IllegalStateException.class,
            () -> loss.compute(g.batch, g.feats, Targets.dense(yTrue), null));
        MemorySegment[] again = g.garbage(arena);
        for (MemorySegment[] written : new MemorySegment[][] {null, again}) {
          assertEquals(total, loss.compute(g.batch, g.feats, g.boxes, written).total());
        }
        assertEquals(-1, want[0].mismatch(again[0]));
      }
    }
  }

  private static MemorySegment[] spread(YoloSpec spec, int batch, Arena[] arenas, int first) {
    MemorySegment[] segments = new MemorySegment[3];
    Arrays.setAll(
        segments,
        l ->
            arenas[(first + l) % arenas.length].allocate(
                spec.bytes(l, batch, FeatsType.FLOAT32), 64));
    return segments;
  }

  /** Calls into a result that is used again: not one byte on the heap. */
  @Test
  void aCallCreatesNoObject() throws Exception {
    // By reflection: the module does not read jdk.management.
    Object threads =
        Class.forName("java.lang.management.ManagementFactory")
            .getMethod("getThreadMXBean")
            .invoke(null);
    Method allocated =
        Class.forName("com.sun.management.ThreadMXBean")
            .getMethod("getCurrentThreadAllocatedBytes");
    try (Arena arena = Arena.ofShared()) {
      Golden g = new Golden("a_small_3scale", arena);
      MemorySegment[] grads = g.garbage(arena);
      try (YoloLoss loss = g.open(LossDevice.CPU, 1)) {
        LossResult result = loss.newResult();
        long least = Long.MAX_VALUE;
        for (int round = 0; round < 20 && least > 0; round++) { // until it is compiled
          long before = (long) allocated.invoke(threads), idle = (long) allocated.invoke(threads);
          for (int i = 0; i < 20_000; i++) {
            loss.compute(g.batch, g.feats, g.boxes, grads, LossOptions.DEFAULT, result);
          }
          long after = (long) allocated.invoke(threads);
          least = Math.min(least, after - idle - (idle - before));
        }
        assertEquals(0, least, "bytes in 20,000 calls");
        System.out.printf("guarantee: %d bytes on the heap in 20,000 calls%n", least);
      }
    }
  }

  @Test
  void severalThreadsShareOne() throws Exception {
    try (Arena arena = Arena.ofShared();
        ExecutorService callers = Executors.newFixedThreadPool(4)) {
      Golden g = new Golden("d_nonsquare", arena);
      try (YoloLoss loss = g.open(LossDevice.CPU, 2)) {
        double total = loss.compute(g.batch, g.feats, g.boxes, null).total();
        AtomicInteger right = new AtomicInteger();
        for (int t = 0; t < 4; t++) {
          MemorySegment[] grads = g.garbage(arena);
          LossResult result = loss.newResult();
          callers.submit(
              () -> {
                for (int i = 0; i < 100; i++) {
                  Targets<MemorySegment> targets = i % 2 == 0 ? g.boxes : Targets.dense(g.yTrue);
                  loss.compute(
                      g.batch,
                      g.feats,
                      targets,
                      i % 3 == 0 ? null : grads,
                      LossOptions.DEFAULT,
                      result);
                  right.addAndGet(result.total() == total ? 1 : 0);
                }
              });
        }
        callers.shutdown();
        assertTrue(callers.awaitTermination(60, java.util.concurrent.TimeUnit.SECONDS));
        assertEquals(400, right.get());
      }
    }
  }

  /** Drops 200 objects without close; a program of its own, since it looks at the log. */
  static final class Dropping {
    private static long threads() throws Exception {
      try (Stream<Path> tasks = Files.list(Path.of("/proc/self/task"))) {
        return tasks.count();
      }
    }

    private static double compute(MemorySegment[] feats, MemorySegment boxes) {
      YoloLoss loss = YoloLoss.builder(SPEC).device(LossDevice.CPU).threads(3).open();
      return loss.compute(1, feats, Targets.boxes(boxes, 1), null).total();
    }

    public static void main(String[] arguments) throws Exception {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment[] feats = SPEC.allocate(arena, 1);
        MemorySegment boxes = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 48, 60, 220, 310, 2);
        compute(feats, boxes); // starts the cleaner, and threads of the JVM
        final long before = threads();
        long most = 0;
        for (int i = 0; i < 200; i++) {
          compute(feats, boxes);
          most = Math.max(most, threads());
        }
        long deadline = System.nanoTime() + 60_000_000_000L;
        while (threads() > before && System.nanoTime() < deadline) {
          System.gc();
          Thread.sleep(20);
        }
        System.out.printf(
            "dropped: 200, threads: %s, at most %d%n",
            threads() > before ? "left behind" : "none left", most);
      }
    }
  }

  @Test
  void objectsThatAreDroppedAreFreedWithAWarning() throws Exception {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin/java").toString());
    command.add("--enable-native-access=ALL-UNNAMED");
    command.add("-XX:+UseSerialGC");
    String library = System.getProperty("yololoss.library");
    if (library != null) {
      command.add("-Dyololoss.library=" + library);
    }
    command.add("-cp");
    command.add("target/yololoss/classes:target/yololoss/test-classes");
    command.add(Dropping.class.getName());
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), text);
    assertTrue(text.contains("dropped: 200, threads: none left"), text);
    String warning = "a YoloLoss on cpu was dropped without close()";
    assertTrue(text.contains(warning), text);
    assertEquals(text.indexOf(warning), text.lastIndexOf(warning), "warned once: " + text);
    System.out.println("guarantee: 200 objects dropped without close leave no threads behind");
  }

  /** The last call on an object is the last use of it: nothing may free it meanwhile. */
  @Test
  void anObjectIsNotFreedDuringItsLastCall() throws Exception {
    try (Arena arena = Arena.ofShared();
        ExecutorService collector = Executors.newSingleThreadExecutor()) {
      Golden g = new Golden("a_small_3scale", arena);
      AtomicBoolean done = new AtomicBoolean();
      Future<?> collecting =
          collector.submit(
              () -> {
                while (!done.get()) {
                  System.gc();
                }
              });
      double total = Double.NaN;
      try {
        for (int i = 0; i < 300; i++) {
          double now =
              g.open(i % 2 == 0 ? LossDevice.REFERENCE : LossDevice.CPU, 2)
                  .compute(g.batch, g.feats, g.boxes, null)
                  .total();
          assertEquals(i < 1 ? now : total, now, 1e-5 * now);
          total = now;
        }
      } finally {
        done.set(true);
      }
      collecting.get();
    }
  }

  @Test
  void openAndCloseManyTimes() {
    for (int i = 0; i < 300; i++) {
      try (YoloLoss loss = YoloLoss.builder(SPEC).maxBatch(32).threads(1 + i % 4).open()) {
        assertEquals("cpu", loss.deviceName());
      }
    }
  }
}
