package io.github.yololoss;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.function.IntFunction;
import java.util.function.IntToLongFunction;
import java.util.function.Supplier;

/**
 * What calls of the public interface are made of: guarded memory that holds right arguments, what
 * can be done to them, and the results that plain memory gives.
 */
abstract class CallMemory implements AutoCloseable {
  static final YoloSpec SPEC = YoloSpec.yolov3(2, 64, 32);
  static final int LAYERS = 3;
  static final int MAX_BATCH = 2;
  static final int ROWS = 3; // of boxes, for each image
  static final byte UNTOUCHED = (byte) 0xA5;
  static final Class<IllegalArgumentException> BAD = IllegalArgumentException.class;

  final Random random;
  final Arena memory = Arena.ofShared();
  final Arena confined = Arena.ofConfined();
  final Map<String, GuardedMemory> guarded = new HashMap<>();
  final Map<String, MemorySegment> plain = new HashMap<>(); // what guarded inputs hold
  final Map<String, Object> expected = new HashMap<>();
  final List<String> used = new ArrayList<>(); // guarded memory of this call
  final YoloLoss open = YoloLoss.builder(SPEC).maxBatch(MAX_BATCH).threads(2).open();
  final YoloLoss oneThread = YoloLoss.builder(SPEC).maxBatch(MAX_BATCH).threads(1).open();
  final YoloLoss closed = YoloLoss.open(SPEC, MAX_BATCH);
  final LossResult otherResult;
  final LossResult written; // by a call of batch 2
  final DeviceBuffer device = DeviceBuffer.of(LossDevice.cuda(0), 4096, 1 << 20);
  final MemorySegment closedMemory;
  final MemorySegment foreignMemory;
  final MemorySegment untouched = memory.allocate(1 << 16).fill(UNTOUCHED);

  CallMemory(Random random) {
    this.random = random;
    closed.close();
    try (YoloLoss tiny = YoloLoss.open(YoloSpec.tinyYolov3(2, 64, 32), MAX_BATCH)) {
      otherResult = tiny.newResult();
    }
    try (Arena arena = Arena.ofShared()) {
      closedMemory = arena.allocate(1 << 16, 64);
    }
    foreignMemory =
        CompletableFuture.supplyAsync(() -> Arena.ofConfined().allocate(1 << 16, 64)).join();
    for (int l = 0; l < LAYERS; l++) {
      MemorySegment feats = memory.allocate(SPEC.bytes(l, MAX_BATCH), 64);
      for (long i = 0; i < feats.byteSize() / 4; i++) {
        feats.setAtIndex(JAVA_FLOAT, i, random.nextFloat() * 6 - 3);
      }
      plain.put("feats" + l, feats);
    }
    float[] rows = {
      2, 3, 30, 40, 1, 0, 0, 0, 0, 0, 5, 5, 9, 9, 0, 1, 1, 20, 60, 0, 3, 9, 12, 30, 1, 7, 7, 6, 6, 1
    };
    plain.put("boxes0", memory.allocateFrom(JAVA_FLOAT, rows));
    plain.put("weights0", memory.allocateFrom(JAVA_FLOAT, 1, 0.5f, 0, 0.25f, 1, 2));
    written =
        open.compute(
            MAX_BATCH,
            each(l -> plain.get("feats" + l)),
            Targets.boxes(plain.get("boxes0"), 0),
            null);
    MemorySegment[] yTrue = SPEC.allocate(memory, MAX_BATCH);
    open.buildYTrue(MAX_BATCH, boxes(plain.get("boxes0"), ROWS, null), yTrue);
    for (int l = 0; l < LAYERS; l++) {
      plain.put("y_true" + l, yTrue[l]);
    }
  }

  static Targets.Boxes<MemorySegment> boxes(
      MemorySegment rows, int perImage, MemorySegment weights) {
    return new Targets.Boxes<>(rows, perImage, Targets.BoxPolicy.SKIP, weights);
  }

  /** The guards of the memory of the last call, and what it was only to read. */
  void requireGuards(String what) {
    for (String key : used) {
      assertTrue(guarded.get(key).isWhole(), what + ": wrote beside " + key);
      MemorySegment was = plain.get(key.substring(0, key.indexOf(' ')));
      if (was != null) {
        MemorySegment is = guarded.get(key).segment();
        assertEquals(
            -1, is.mismatch(was.asSlice(0, is.byteSize())), what + ": wrote to input " + key);
      }
    }
  }

  int pick(int... values) {
    return values[random.nextInt(values.length)];
  }

  MemorySegment guarded(String name, long size) {
    boolean atEnd = random.nextBoolean();
    String key = name + " " + size + " " + atEnd;
    GuardedMemory made =
        guarded.computeIfAbsent(
            key,
            k -> {
              GuardedMemory fresh = new GuardedMemory(memory, size, atEnd);
              MemorySegment content = plain.get(name);
              if (content != null) {
                fresh.segment().copyFrom(content.asSlice(0, size));
              }
              return fresh;
            });
    used.add(key);
    return made.segment();
  }

  MemorySegment[] inputs(String name, int batch) {
    return each(l -> guarded(name + l, SPEC.bytes(l, batch)));
  }

  MemorySegment[] outputs(String name, IntToLongFunction size) {
    return each(l -> guarded(name + l, size.applyAsLong(l)).fill(UNTOUCHED));
  }

  static MemorySegment[] each(IntFunction<MemorySegment> make) {
    MemorySegment[] made = new MemorySegment[LAYERS];
    Arrays.setAll(made, make);
    return made;
  }

  static MemorySegment copy(MemorySegment of, Arena arena, long size) {
    MemorySegment made = arena.allocate(size, 64);
    made.asSlice(0, of.byteSize()).copyFrom(of);
    return made;
  }

  @SuppressWarnings("unchecked")
  <T> T expected(String key, Supplier<T> make) {
    return (T) expected.computeIfAbsent(key, k -> make.get());
  }

  static void requireSame(String what, MemorySegment[] want, MemorySegment[] got) {
    for (int l = 0; want != null && l < want.length; l++) {
      long size = want[l].byteSize();
      assertEquals(-1, MemorySegment.mismatch(want[l], 0, size, got[l], 0, size), what + l);
    }
  }

  /**
   * Something done to an argument.
   *
   * @param place which argument; of several harms to one, the last would undo the others
   * @param refusal the exception that is documented for it; null: the result is right all the same
   * @param alone not together with others, which might undo it
   */
  record Harm(
      String place,
      String name,
      Class<? extends Throwable> refusal,
      boolean alone,
      Runnable apply) {
    Harm(String name, Class<? extends Throwable> refusal, boolean alone, Runnable apply) {
      this(name, name, refusal, alone, apply);
    }

    boolean interrupts() {
      return name.equals("interrupted");
    }

    @Override
    public String toString() {
      return name;
    }
  }

  /** A call, its arguments in fields so that they can be spoilt. */
  abstract class Call {
    final List<Harm> harms = new ArrayList<>(); // that can be done
    final List<Harm> done = new ArrayList<>();
    final List<MemorySegment> outputs = new ArrayList<>(); // before they are spoilt
    final int right = 1 + random.nextInt(MAX_BATCH); // the batch that the memory is for
    int batch = right;
    YoloLoss loss = open;

    void spoilBatchAndLoss() {
      int[] bad = {0, -1, MAX_BATCH + 1, Integer.MIN_VALUE, Integer.MAX_VALUE};
      spoil("batch", BAD, () -> batch = pick(bad));
      spoil("closed YoloLoss", IllegalStateException.class, () -> loss = closed);
      spoil("interrupted", null, () -> Thread.currentThread().interrupt());
    }

    abstract void run();

    abstract void requireRight(String what);

    void spoilAt(String place, String how, Class<? extends Throwable> refusal, Runnable apply) {
      harms.add(new Harm(place, place + " " + how, refusal, false, apply));
    }

    void spoil(String what, Class<? extends Throwable> refusal, Runnable apply) {
      harms.add(new Harm(what, refusal, false, apply));
    }

    /** Everything that can be wrong with a segment, and what only looks wrong. */
    void spoilSegment(String what, MemorySegment[] at, int l, boolean written) {
      MemorySegment good = at[l];
      long size = good.byteSize();
      if (written) {
        outputs.add(good);
      }
      Class<? extends Throwable> closedIs = IllegalStateException.class;
      spoilAt(what, "read-only", written ? BAD : null, () -> at[l] = good.asReadOnly());
      spoilAt(what, "heap", BAD, () -> at[l] = MemorySegment.ofArray(new byte[(int) size + 8]));
      spoilAt(what, "floats", BAD, () -> at[l] = MemorySegment.ofArray(new float[(int) size / 4]));
      spoilAt(what, "short", BAD, () -> at[l] = guarded("short", size - 1));
      spoilAt(what, "empty", BAD, () -> at[l] = good.asSlice(0, 0));
      spoilAt(what, "NULL", BAD, () -> at[l] = MemorySegment.NULL);
      spoilAt(
          what, "misaligned", BAD, () -> at[l] = guarded("odd", size + 8).asSlice(pick(1, 2, 3)));
      spoilAt(what, "closed", closedIs, () -> at[l] = closedMemory);
      spoilAt(what, "foreign", WrongThreadException.class, () -> at[l] = foreignMemory);
      spoilAt(what, "longer", null, () -> at[l] = copy(good, Arena.ofAuto(), size + pick(1, 5000)));
      spoilAt(what, "confined", null, () -> at[l] = copy(good, confined, size));
      spoilAt(what, "endless", null, () -> at[l] = good.reinterpret(Long.MAX_VALUE));
    }

    void spoilSegments(String what, MemorySegment[] at, boolean written) {
      for (int i = 0; i < at.length; i++) {
        int l = i;
        spoilSegment(what + l, at, l, written);
        spoilAt(what + l, "null", BAD, () -> at[l] = null);
      }
    }

    void requireUntouched(String what) {
      for (MemorySegment output : outputs) {
        long size = output.byteSize();
        assertEquals(
            -1, MemorySegment.mismatch(output, 0, size, untouched, 0, size), what + ": wrote");
      }
    }
  }

  @Override
  public void close() {
    open.close();
    oneThread.close();
    confined.close();
    memory.close();
  }
}
