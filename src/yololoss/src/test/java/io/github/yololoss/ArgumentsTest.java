package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** Bad arguments: the right exception, a sentence that names the argument, and nothing written. */
class ArgumentsTest {
  private final Arena arena = Arena.ofShared();
  private final Golden g = new Golden("a_small_3scale", arena);
  private final MemorySegment[] grads = g.garbage(arena);
  private YoloLoss loss;

  @BeforeEach
  void open() {
    loss = g.open(LossDevice.CPU, 2);
  }

  @AfterEach
  void close() {
    for (MemorySegment grad : grads) {
      MemorySegment untouched = arena.allocate(grad.byteSize()).fill((byte) 0xFF);
      assertEquals(-1, grad.mismatch(untouched), "a refused call wrote a gradient");
    }
    loss.close();
    arena.close();
  }

  private static void refused(Class<? extends Throwable> type, String words, Executable call) {
    String sentence = assertThrows(type, call).getMessage();
    assertTrue(sentence.contains(words), sentence);
  }

  private MemorySegment[] with(MemorySegment[] segments, int layer, MemorySegment other) {
    MemorySegment[] changed = segments.clone();
    changed[layer] = other;
    return changed;
  }

  private void compute(
      MemorySegment[] feats, Targets<MemorySegment> targets, MemorySegment[] gradients) {
    loss.compute(g.batch, feats, targets, gradients);
  }

  @Test
  void segments() throws Exception {
    Targets<MemorySegment> dense = Targets.dense(g.yTrue);
    long size = g.feats[1].byteSize();
    MemorySegment small = arena.allocate(size - 1, 64);
    MemorySegment heap = MemorySegment.ofArray(new float[(int) size / 4]);
    MemorySegment misaligned = arena.allocate(size + 8, 64).asSlice(1);
    Arena ended = Arena.ofConfined();
    MemorySegment closed = ended.allocate(size, 64);
    ended.close();
    MemorySegment foreign =
        CompletableFuture.supplyAsync(() -> Arena.ofConfined().allocate(size, 64)).get();
    Class<IllegalArgumentException> bad = IllegalArgumentException.class;

    refused(
        bad,
        "feats[1] holds " + (size - 1) + " bytes, " + size,
        () -> compute(with(g.feats, 1, small), dense, grads));
    refused(bad, "feats[1] lies on the heap", () -> compute(with(g.feats, 1, heap), dense, grads));
    refused(bad, "not aligned to 4", () -> compute(with(g.feats, 1, misaligned), dense, grads));
    refused(bad, "feats[1] is null", () -> compute(with(g.feats, 1, null), dense, grads));
    refused(
        bad,
        "feats[1] holds 0 bytes",
        () -> compute(with(g.feats, 1, MemorySegment.NULL), dense, grads));
    refused(
        IllegalStateException.class,
        "feats[1] is closed",
        () -> compute(with(g.feats, 1, closed), dense, grads));
    refused(
        WrongThreadException.class,
        "feats[1] is confined",
        () -> compute(with(g.feats, 1, foreign), dense, grads));
    refused(bad, "feats is null", () -> compute(null, dense, grads));
    refused(bad, "feats has 2 segments, 3", () -> compute(Arrays.copyOf(g.feats, 2), dense, grads));
    refused(bad, "targets is null", () -> compute(g.feats, null, grads));
    refused(
        bad,
        "y_true[0] is null",
        () -> compute(g.feats, Targets.dense(with(g.yTrue, 0, null)), grads));
    refused(
        bad, "grads[2] holds", () -> compute(g.feats, dense, with(grads, 2, arena.allocate(16))));
    refused(
        bad,
        "grads[1] is read-only",
        () -> compute(g.feats, dense, with(grads, 1, grads[1].asReadOnly())));
    refused(
        bad, "grads[0] is read-only", () -> compute(g.feats, dense, g.feats)); // mapped read-only
    refused(
        YoloLossException.class,
        "overlap",
        () -> compute(g.feats, dense, with(grads, 0, grads[2])));
    refused(bad, "boxes holds", () -> compute(g.feats, Targets.boxes(arena.allocate(8), 4), grads));
    refused(bad, "boxes lies on the heap", () -> compute(g.feats, Targets.boxes(heap, 1), grads));
  }

  @Test
  void numbers() {
    Targets<MemorySegment> dense = Targets.dense(g.yTrue);
    Class<IllegalArgumentException> bad = IllegalArgumentException.class;
    refused(bad, "batch is 0, expected 1..2", () -> loss.compute(0, g.feats, dense, null));
    refused(bad, "batch is 3", () -> loss.compute(3, g.feats, dense, null));
    refused(bad, "batch is -1", () -> loss.compute(-1, g.feats, dense, null));
    refused(
        bad,
        "result is null",
        () -> loss.compute(2, g.feats, dense, null, LossOptions.DEFAULT, null));
    try (YoloLoss other = YoloLoss.open(YoloSpec.tinyYolov3(3, 64, 64), 2)) {
      refused(
          bad,
          "of another YoloLoss",
          () -> loss.compute(2, g.feats, dense, null, LossOptions.DEFAULT, other.newResult()));
    }
    refused(
        bad,
        "options is null",
        () -> loss.compute(2, g.feats, dense, null, null, loss.newResult()));
    refused(bad, "head is null", () -> loss.yoloHead(0, 1, g.feats[0], null));
    refused(bad, "source is null", () -> loss.buildYTrue(1, null, grads));
    refused(bad, "normaliser is 0", () -> LossOptions.Normaliser.value(0));
    refused(
        bad,
        "only VALUE takes one",
        () -> new LossOptions.Normaliser(LossOptions.Normaliser.Kind.BATCH, 2));
    refused(bad, "normaliser is NaN", () -> LossOptions.Normaliser.value(Double.NaN));
    refused(
        bad,
        "gradientScale is Infinity",
        () -> new LossOptions(LossOptions.Normaliser.BATCH, Double.POSITIVE_INFINITY));
    refused(bad, "perImage is -1", () -> Targets.boxes(MemorySegment.NULL, -1));
    LossResult written = loss.compute(1, g.feats, dense, null);
    refused(IndexOutOfBoundsException.class, "3", () -> written.layer(3));
    refused(IndexOutOfBoundsException.class, "1", () -> written.row(1, 0)); // the batch was 1
  }

  @Test
  void aResultThatNoCallHasWritten() {
    LossResult result = loss.newResult();
    for (Executable read :
        new Executable[] {
          result::total,
          result::normaliser,
          result::objects,
          result::ignored,
          result::ignoredBackground,
          result::nonFinite,
          result::foundInf,
          result::offender,
          result::boxes,
          result::await,
          () -> result.statistics(0),
          () -> result.layer(0),
          () -> result.row(0, 0),
          () -> LossSum.of(result)
        }) {
      refused(IllegalStateException.class, "no call has written this result", read);
    }
    assertEquals("no call has written this result", result.toString());
    assertEquals(0, result.batch());
    // A refused call does not write it either.
    refused(
        IllegalArgumentException.class,
        "feats is null",
        () -> loss.compute(1, null, null, null, result));
    refused(IllegalStateException.class, "no call has written this result", result::total);
  }

  @Test
  void boxes() {
    MemorySegment rows =
        arena.allocateFrom(
            ValueLayout.JAVA_FLOAT, 0, 0, 0, 0, 0, 1, 1, 20, 30, 1, 5, 5, 9, 9, 3, 0, 0, 0, 0, 0);
    YoloLossException e =
        assertThrows(
            YoloLossException.class, () -> compute(g.feats, Targets.boxes(rows, 2), grads));
    assertEquals(YoloLossException.Status.INVALID_BOXES, e.status());
    assertTrue(e.getMessage().contains("image 1, row 0 [5, 5, 9, 9, 3]"), e.getMessage());
    LossResult result =
        loss.compute(g.batch, g.feats, new Targets.Boxes<>(rows, 2, Targets.BoxPolicy.SKIP), null);
    assertEquals(new Targets.BoxCounts(1, 1, 0, 0, 0), result.boxes());
    assertEquals(1, result.objects());
  }

  /** Fractions of the input are refused under the default policy, and the sentence helps. */
  @Test
  void boxesThatLookNormalised() {
    MemorySegment rows =
        arena.allocateFrom(
            ValueLayout.JAVA_FLOAT, 0, 0, 0, 0, 0, 0.25f, 0.5f, 0.75f, 1, 2, 0, 0, 0, 0, 0);
    YoloLossException e =
        assertThrows(
            YoloLossException.class, () -> loss.compute(1, g.feats, Targets.boxes(rows, 3), grads));
    assertEquals(YoloLossException.Status.INVALID_BOXES, e.status());
    assertEquals(
        "boxes: all coordinates of image 0 are in 0..1, as in row 1 [0.25, 0.5, 0.75, 1, 2]; pixels"
            + " of the input are expected: multiply x by the width "
            + g.spec.inputWidth()
            + " and y by the height "
            + g.spec.inputHeight(),
        e.getMessage());
    refused(
        YoloLossException.class,
        "all coordinates of image 0 are in 0..1",
        () -> loss.buildYTrue(1, Targets.boxes(rows, 3), grads));
    Targets<MemorySegment> skip = new Targets.Boxes<>(rows, 3, Targets.BoxPolicy.SKIP);
    assertEquals(1, loss.compute(1, g.feats, skip, null).objects());
    rows.setAtIndex(ValueLayout.JAVA_FLOAT, 8, 2); // one coordinate in pixels
    assertEquals(1, loss.compute(1, g.feats, Targets.boxes(rows, 3), null).objects());
  }

  @Test
  void specs() {
    Class<IllegalArgumentException> bad = IllegalArgumentException.class;
    refused(bad, "not a multiple of the stride 32 of layer 0", () -> YoloSpec.yolov3(3, 100, 96));
    refused(bad, "num_classes is 0", () -> YoloSpec.yolov3(0, 96, 96));
    refused(bad, "finite sizes > 0", () -> new YoloSpec.Anchor(0, 3));
    refused(
        bad, "ignore_thresh is NaN", () -> YoloSpec.yolov3(3, 96, 96).withIgnoreThresh(Float.NaN));
    refused(
        bad,
        "names anchor 9, expected 0..0",
        () -> YoloSpec.of(1, 32, 32, new float[][] {{1, 2}}, new int[][] {{9}}, 0.5f));
    refused(
        bad,
        "2 strides for 1 layers",
        () ->
            YoloSpec.of(
                1, 32, 32, new float[][] {{1, 2}}, new int[][] {{0}}, new int[] {8, 4}, 0.5f));
    refused(YoloLossException.class, "max_batch is 0", () -> YoloLoss.open(g.spec, 0));
    refused(
        YoloLossException.class,
        "threads is 9999",
        () -> YoloLoss.builder(g.spec).threads(9999).open());
    LossDevice absent = LossDevice.cuda(99);
    YoloLossException e =
        assertThrows(YoloLossException.class, () -> YoloLoss.builder(g.spec).device(absent).open());
    assertEquals(YoloLossException.Status.NO_DEVICE, e.status());
    assertEquals(
        YoloLossException.Status.NO_DEVICE,
        assertThrows(YoloLossException.class, () -> YoloLoss.checkDevice(absent)).status());
    refused(
        bad,
        "device is cpu, but openCuda(0) opens cuda:0",
        () -> YoloLoss.builder(g.spec).device(LossDevice.CPU).openCuda(0));
    refused(YoloLossException.class, "cuda", () -> YoloLoss.builder(g.spec).openCuda(99));
    for (LossDevice device :
        new LossDevice[] {
          LossDevice.AUTO, LossDevice.CPU, LossDevice.REFERENCE, LossDevice.cuda(3)
        }) {
      assertEquals(device, LossDevice.parse(device.toString()));
    }
    refused(bad, "unknown device 'gpu'", () -> LossDevice.parse("gpu"));
    refused(bad, "device index 1", () -> new LossDevice(LossDevice.Kind.CPU, 1));
    assertEquals(4L * 2 * 52 * 52 * 3 * 8, YoloSpec.yolov3(3, 416, 416).bytes(2, 2));
  }
}
