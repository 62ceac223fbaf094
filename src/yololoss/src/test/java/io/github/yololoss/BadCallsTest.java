package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import io.github.yololoss.CallMemory.Call;
import io.github.yololoss.CallMemory.Harm;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

/**
 * Calls of the whole public interface with arguments that are spoilt at random: each ends in the
 * exception that is documented for what was done to it, having written nothing, or in the right
 * result; and the JVM lives. {@code -Dyololoss.calls} and {@code -Dyololoss.seed} choose others.
 */
class BadCallsTest {
  private static final int CALLS = Integer.getInteger("yololoss.calls", 200_000);
  private static final long SEED = Long.getLong("yololoss.seed", 20261126);

  @Test
  void everyCallIsRightOrRefused() {
    Random random = new Random(SEED);
    Map<String, Integer> ends = new TreeMap<>();
    int right = 0;
    try (BadCalls calls = new BadCalls(random)) {
      for (int i = 0; i < CALLS; i++) {
        Call call = calls.next();
        List<Harm> harms = call.done;
        List<Harm> possible = new ArrayList<>(call.harms);
        Collections.shuffle(possible, random);
        int wanted =
            Math.min(possible.size(), new int[] {0, 1, 1, 1, 1, 1, 2, 2, 3}[random.nextInt(9)]);
        for (Harm harm : possible.subList(0, wanted)) {
          if (harm.alone() && wanted > 1
              || harms.stream().anyMatch(h -> h.place().equals(harm.place()))) {
            continue;
          }
          harm.apply().run();
          harms.add(harm);
        }
        List<Harm> refused = harms.stream().filter(h -> h.refusal() != null).toList();
        String what = "seed " + SEED + ", call " + i + ", " + call + ", " + harms;
        try {
          call.run();
          assertTrue(refused.isEmpty(), what + ": was not refused");
          call.requireRight(what);
          right++;
        } catch (RuntimeException | Error e) {
          if (e instanceof org.opentest4j.AssertionFailedError) {
            throw e;
          }
          if (refused.stream().noneMatch(h -> h.refusal().isInstance(e))) {
            throw new AssertionError(what + ": " + e, e);
          }
          if (e.getMessage() == null || e.getMessage().length() < 4) {
            fail(what + ": " + e.getClass() + " has no sentence: " + e.getMessage());
          }
          ends.merge(e.getClass().getSimpleName(), 1, Integer::sum);
          call.requireUntouched(what);
        } finally {
          boolean wasInterrupted = Thread.interrupted();
          assertEquals(harms.stream().anyMatch(Harm::interrupts), wasInterrupted, what);
        }
        calls.requireGuards(what);
      }
    }
    System.out.printf(
        "guarantee: %d calls from Java: %d right, refused %s, JVM alive, guards whole%n",
        CALLS, right, ends);
    assertTrue(right > CALLS / 10 && ends.size() >= 5, ends.toString());
  }

  private static MemorySegment rows() {
    return Arena.ofAuto().allocate(4, 4);
  }

  /** Memory and objects that another thread closes, at any moment of a call. */
  @Test
  void closingAtAnyTime() throws Exception {
    YoloSpec spec = BadCalls.SPEC;
    AtomicLong right = new AtomicLong();
    AtomicLong refused = new AtomicLong();
    ConcurrentLinkedQueue<Throwable> others = new ConcurrentLinkedQueue<>();
    record Shared(YoloLoss loss, Arena arena, MemorySegment[] feats, MemorySegment[] grads) {}
    Shared[] current = new Shared[1];
    double total;
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = YoloLoss.open(spec, 2)) {
      total = loss.compute(2, spec.allocate(arena, 2), Targets.boxes(rows(), 0), null).total();
    }
    int rounds = Math.max(100, CALLS / 100);
    try (ExecutorService callers = Executors.newFixedThreadPool(3)) {
      for (int round = 0; round < rounds; round++) {
        Arena arena = Arena.ofShared();
        current[0] =
            new Shared(
                YoloLoss.builder(spec).maxBatch(2).threads(1 + round % 2).open(),
                arena,
                spec.allocate(arena, 2),
                spec.allocate(arena, 2));
        List<java.util.concurrent.Future<?>> running = new ArrayList<>();
        for (int t = 0; t < 3; t++) {
          int caller = t;
          Shared s = current[0];
          running.add(
              callers.submit(
                  () -> {
                    for (int i = 0; i < 12; i++) {
                      try {
                        switch (caller) {
                          case 0 -> {
                            LossResult result =
                                s.loss.compute(2, s.feats, Targets.boxes(rows(), 0), s.grads);
                            if (result.total() != total) {
                              others.add(new AssertionError("total " + result.total()));
                            }
                          }
                          case 1 -> s.loss.buildYTrue(2, Targets.boxes(rows(), 0), s.grads);
                          default ->
                              s.loss.yoloHead(
                                  0,
                                  2,
                                  s.feats[0],
                                  new YoloHead(null, null, null, s.grads[0], null));
                        }
                        right.incrementAndGet();
                      } catch (IllegalStateException e) {
                        refused.incrementAndGet();
                      } catch (Throwable e) {
                        others.add(e);
                      }
                    }
                  }));
        }
        for (int spin = round % 50 * 40; spin > 0; spin--) {
          Thread.onSpinWait();
        }
        for (AutoCloseable each : new AutoCloseable[] {current[0].loss, arena}) {
          for (int tries = 0; tries < 100_000; tries++) {
            try {
              each.close();
              break;
            } catch (IllegalStateException e) { // in use: again
              Thread.onSpinWait();
            }
          }
        }
        for (var each : running) {
          each.get(60, TimeUnit.SECONDS);
        }
        if (current[0].loss != null) {
          current[0].loss.close();
        }
        if (arena.scope().isAlive()) {
          arena.close();
        }
      }
    }
    assertEquals(List.of(), List.copyOf(others));
    System.out.printf(
        "guarantee: %d calls during and after close: %d right, %d refused%n",
        right.get() + refused.get(), right.get(), refused.get());
    assertTrue(right.get() > 0 && refused.get() > 0);
  }
}
