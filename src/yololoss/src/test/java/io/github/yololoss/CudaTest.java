package io.github.yololoss;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * The CUDA path from Java: device memory, streams, results that are read later. Runs where a GPU
 * is, and in every build over the kernels on the host (the second execution of surefire in the
 * pom).
 */
@Tag("cuda")
class CudaTest {
  private static final LossDevice CUDA = LossDevice.cuda(0);

  @BeforeAll
  static void requireCuda() {
    String why = "";
    try {
      YoloLoss.checkDevice(CUDA);
    } catch (YoloLossException e) {
      why = e.getMessage();
    }
    assumeTrue(why.isEmpty(), "skipped: no CUDA device: " + why);
  }

  /** A golden case in device memory; closes what it allocates. */
  private static final class OnDevice implements AutoCloseable {
    final List<DeviceBuffer> all = new ArrayList<>();
    final Golden g;
    final DeviceBuffer[] feats;
    final DeviceBuffer[] yTrue;
    final DeviceBuffer[] grads;
    final Targets.Boxes<DeviceBuffer> boxes;

    OnDevice(Golden g) {
      this.g = g;
      feats = upload(g.feats);
      yTrue = upload(g.yTrue);
      grads = upload(g.feats);
      boxes = g.boxes == null ? null : Targets.boxes(upload(g.boxes.boxes()), g.boxes.perImage());
    }

    DeviceBuffer upload(MemorySegment host) {
      DeviceBuffer buffer = DeviceBuffer.allocate(CUDA, host.byteSize());
      all.add(buffer);
      buffer.copyFrom(host);
      return buffer;
    }

    DeviceBuffer[] upload(MemorySegment[] host) {
      return Stream.of(host).map(this::upload).toArray(DeviceBuffer[]::new);
    }

    MemorySegment[] gradients(Arena arena) {
      MemorySegment[] host = g.garbage(arena);
      for (int l = 0; l < host.length; l++) {
        grads[l].copyTo(host[l]);
      }
      return host;
    }

    CudaYoloLoss open() {
      return YoloLoss.builder(g.spec).maxBatch(g.batch).openCuda(0);
    }

    @Override
    public void close() {
      all.forEach(DeviceBuffer::close);
    }
  }

  private static void refused(Class<? extends Throwable> type, String words, Executable call) {
    String sentence = assertThrows(type, call).getMessage();
    assertTrue(sentence.contains(words), sentence);
  }

  private static void assertSame(MemorySegment[] want, MemorySegment[] got) {
    for (int l = 0; l < want.length; l++) {
      assertEquals(-1, want[l].mismatch(got[l]), "layer " + l);
    }
  }

  static List<String> cases() {
    return Golden.NAMES;
  }

  @ParameterizedTest
  @MethodSource("cases")
  void deviceMemoryGivesTheBitsOfHostMemory(String name) {
    try (Arena arena = Arena.ofConfined();
        CudaStream stream = CudaStream.open(CUDA)) {
      Golden g = new Golden(name, arena);
      try (OnDevice d = new OnDevice(g);
          YoloLoss host = g.open(CUDA, 1);
          CudaYoloLoss loss = d.open()) {
        assertEquals("cuda:0", loss.deviceName());
        assertEquals(CUDA, loss.device());
        MemorySegment[] grads = g.garbage(arena);
        LossResult want = host.compute(g.batch, g.feats, Targets.dense(g.yTrue), grads);
        assertEquals(
            g.expected.get("total").doubleValue(), want.total(), 1e-5 * want.total() + 1e-6);
        LossResult result = loss.newResult();
        Targets<DeviceBuffer> dense = Targets.dense(d.yTrue);
        for (Targets<DeviceBuffer> targets :
            d.boxes == null ? List.of(dense) : List.of(dense, d.boxes)) {
          loss.compute(g.batch, d.feats, targets, d.grads, result);
          assertEquals(want.total(), result.total());
          assertEquals(want.total(), loss.compute(g.batch, d.feats, targets, null).total());
          assertSame(grads, d.gradients(arena));
          loss.computeAsync(g.batch, d.feats, targets, d.grads, stream, result);
          for (int l = 0; l < want.layers(); l++) {
            assertEquals(want.layer(l), result.layer(l));
            assertEquals(want.row(g.batch - 1, l), result.row(g.batch - 1, l));
          }
          assertEquals(want.total(), result.await().total());
          assertSame(grads, d.gradients(arena));
        }
        // Over feats, and refreshed.
        LossOptions refresh =
            LossOptions.DEFAULT.withGradientMode(LossOptions.GradientMode.REFRESH);
        loss.compute(g.batch, d.feats, dense, d.grads, refresh, result);
        assertSame(grads, d.gradients(arena));
        loss.compute(g.batch, d.feats, dense, d.feats, LossOptions.DEFAULT, result);
        MemorySegment[] inPlace = g.garbage(arena);
        for (int l = 0; l < inPlace.length; l++) {
          d.feats[l].copyTo(inPlace[l]);
        }
        assertSame(grads, inPlace);
        if (d.boxes != null) {
          assertEquals(result.boxes().dropped(), 0);
          assertEquals(
              host.buildYTrue(g.batch, g.boxes, g.garbage(arena)),
              loss.buildYTrue(g.batch, d.boxes, d.grads));
          assertSame(g.yTrue, d.gradients(arena));
        }
      }
    }
  }

  @Test
  void aBufferCannotBeReadByMistake() {
    try (Arena arena = Arena.ofConfined()) {
      DeviceBuffer buffer = DeviceBuffer.allocate(CUDA, 100);
      assertEquals(100, buffer.byteSize());
      assertEquals(0, buffer.address().byteSize());
      assertThrows(IndexOutOfBoundsException.class, () -> buffer.address().get(JAVA_BYTE, 0));
      assertThrows(IndexOutOfBoundsException.class, () -> buffer.address().set(JAVA_FLOAT, 0, 1));
      MemorySegment out = arena.allocate(100).fill((byte) 7);
      buffer.copyFrom(out);
      MemorySegment back = arena.allocate(40);
      DeviceBuffer part = buffer.slice(60, 40);
      part.copyTo(back);
      assertEquals(7, back.get(JAVA_BYTE, 39));
      assertThrows(IndexOutOfBoundsException.class, () -> buffer.slice(61, 40));
      refused(IllegalArgumentException.class, "host holds 100 bytes", () -> part.copyFrom(out));
      refused(
          IllegalArgumentException.class,
          "lies on the heap",
          () -> buffer.copyFrom(MemorySegment.ofArray(new byte[4])));
      refused(IllegalArgumentException.class, "read-only", () -> buffer.copyTo(out.asReadOnly()));
      DeviceBuffer foreign = DeviceBuffer.of(CUDA, buffer.address().address(), 100);
      foreign.close();
      foreign.copyTo(out);
      part.close();
      buffer.copyTo(out);
      buffer.close();
      assertDoesNotThrow(buffer::close);
      assertThrows(IllegalStateException.class, () -> buffer.copyTo(out));
      assertThrows(IllegalStateException.class, () -> part.copyTo(back));
      refused(
          IllegalArgumentException.class,
          "a CUDA device is expected",
          () -> DeviceBuffer.allocate(LossDevice.CPU, 8));
      refused(YoloLossException.class, "bytes is 0", () -> DeviceBuffer.allocate(CUDA, 0));
      refused(
          YoloLossException.class, "out of memory", () -> DeviceBuffer.allocate(CUDA, 1L << 60));
      assertThrows(IllegalArgumentException.class, () -> DeviceBuffer.of(CUDA, 0, 8));
    }
  }

  @Test
  void devicesAreListed() {
    List<CudaDevice> devices = CudaDevice.list();
    assertFalse(devices.isEmpty());
    for (CudaDevice d : devices) {
      assertFalse(d.name().isEmpty());
      assertTrue(d.freeMemory() > 0 && d.freeMemory() <= d.totalMemory(), d.toString());
      assertDoesNotThrow(() -> YoloLoss.checkDevice(d.device()));
    }
    refused(
        YoloLossException.class,
        "numbered from 0",
        () -> YoloLoss.checkDevice(LossDevice.cuda(devices.size())));
  }

  @Test
  void pinnedMemoryIsMemoryOfAnArena() {
    MemorySegment closed;
    try (PinnedArena pinned = PinnedArena.ofShared();
        Arena arena = Arena.ofConfined()) {
      Golden g = new Golden("a_small_3scale", arena);
      MemorySegment[] feats = g.spec.allocate(pinned, g.batch);
      MemorySegment[] grads = g.spec.allocate(pinned, g.batch);
      closed = feats[0];
      assertEquals(0, feats[0].address() % 256);
      assertEquals(0, feats[1].get(JAVA_FLOAT, 4));
      for (int l = 0; l < feats.length; l++) {
        feats[l].copyFrom(g.feats[l]);
      }
      MemorySegment[] want = g.garbage(arena);
      try (YoloLoss loss = g.open(CUDA, 1)) {
        double total = loss.compute(g.batch, g.feats, Targets.dense(g.yTrue), want).total();
        assertEquals(total, loss.compute(g.batch, feats, Targets.dense(g.yTrue), grads).total());
        assertSame(want, grads);
      }
      assertEquals(0, pinned.allocate(0, 1).byteSize());
      refused(IllegalArgumentException.class, "power of 2", () -> pinned.allocate(8, 512));
      refused(IllegalArgumentException.class, "size of at least 0", () -> pinned.allocate(-1, 8));
    }
    assertThrows(IllegalStateException.class, () -> closed.get(JAVA_FLOAT, 0));
    assertThrows(
        WrongThreadException.class,
        () -> {
          PinnedArena confined = PinnedArena.ofConfined();
          Throwable[] thrown = new Throwable[1];
          Thread thread =
              new Thread(
                  () -> {
                    try {
                      confined.allocate(8, 8);
                    } catch (Throwable t) {
                      thrown[0] = t;
                    }
                  });
          thread.start();
          thread.join();
          confined.close();
          throw thrown[0];
        });
  }

  @Test
  void aRefusedRowOfBoxesIsToldWhenTheResultIsRead() {
    try (Arena arena = Arena.ofConfined();
        CudaStream stream = CudaStream.open(CUDA)) {
      Golden g = new Golden("e_empty_and_crowded", arena);
      try (OnDevice d = new OnDevice(g);
          CudaYoloLoss loss = d.open()) {
        MemorySegment rows = arena.allocate(g.boxes.boxes().byteSize()).copyFrom(g.boxes.boxes());
        rows.setAtIndex(JAVA_FLOAT, 5L * (g.boxes.perImage() + 3) + 2, -1); // image 1, row 3
        DeviceBuffer bad = d.upload(rows);
        Targets<DeviceBuffer> boxes = Targets.boxes(bad, g.boxes.perImage());
        LossResult result = loss.newResult();
        loss.computeAsync(g.batch, d.feats, boxes, d.grads, LossOptions.DEFAULT, stream, result);
        refused(
            YoloLossException.class, "boxes: image 1, row 3 is not a valid object", result::total);
        refused(YoloLossException.class, "image 1, row 3", () -> result.layer(0));
        assertSame(g.feats, d.gradients(arena)); // as uploaded: nothing is written
        refused(
            YoloLossException.class,
            "image 1, row 3 [",
            () -> loss.compute(g.batch, d.feats, boxes, d.grads, LossOptions.DEFAULT, result));
        Targets<DeviceBuffer> skipped =
            new Targets.Boxes<>(bad, g.boxes.perImage(), Targets.BoxPolicy.SKIP);
        loss.computeAsync(g.batch, d.feats, skipped, d.grads, LossOptions.DEFAULT, stream, result);
        assertEquals(1, result.boxes().skipped());
      }
    }
  }

  @Test
  void valuesThatTheDeviceReads() {
    try (Arena arena = Arena.ofConfined();
        PinnedArena pinned = PinnedArena.ofConfined()) {
      Golden g = new Golden("a_small_3scale", arena);
      try (OnDevice d = new OnDevice(g);
          CudaYoloLoss loss = d.open()) {
        MemorySegment host = pinned.allocateFrom(JAVA_FLOAT, 12.5f, -8);
        DeviceBuffer values = d.upload(host);
        LossResult result = loss.newResult();
        Targets<DeviceBuffer> targets = Targets.dense(d.yTrue);
        LossOptions byValue = new LossOptions(LossOptions.Normaliser.value(12.5), -8);
        loss.compute(g.batch, d.feats, targets, d.grads, byValue, result);
        final MemorySegment[] want = d.gradients(arena);
        final double total = result.total();
        CudaYoloLoss.Scalars both =
            new CudaYoloLoss.Scalars(values.slice(0, 4), values.slice(4, 4));
        LossOptions none = LossOptions.DEFAULT;
        loss.compute(g.batch, d.feats, targets, d.grads, none, null, both, result);
        assertEquals(12.5, result.normaliser());
        assertEquals(total, result.total());
        assertSame(want, d.gradients(arena));
        CudaYoloLoss.Scalars scale = new CudaYoloLoss.Scalars(null, values.slice(4, 4));
        LossOptions normaliser = none.withNormaliser(LossOptions.Normaliser.value(12.5));
        loss.compute(g.batch, d.feats, targets, d.grads, normaliser, null, scale, result);
        assertEquals(total, result.total());
        assertSame(want, d.gradients(arena));
        CudaYoloLoss.Scalars small = new CudaYoloLoss.Scalars(values.slice(0, 2), null);
        refused(
            IllegalArgumentException.class,
            "normaliser holds 2 bytes, 4 are expected",
            () -> loss.compute(g.batch, d.feats, targets, null, none, null, small, result));
      }
    }
  }

  @Test
  void memoryThatDoesNotFitIsRefused() {
    try (Arena arena = Arena.ofConfined();
        CudaStream stream = CudaStream.open(CUDA)) {
      Golden g = new Golden("a_small_3scale", arena);
      try (OnDevice d = new OnDevice(g);
          CudaYoloLoss loss = d.open();
          YoloLoss host = g.open(CUDA, 1)) {
        LossResult result = loss.newResult();
        LossOptions options = LossOptions.DEFAULT;
        Targets<DeviceBuffer> dense = Targets.dense(d.yTrue);
        LossResult hostResult = host.newResult();
        refused(
            IllegalArgumentException.class,
            "result is null or of another",
            () -> loss.computeAsync(g.batch, d.feats, dense, null, options, stream, hostResult));
        refused(
            IllegalArgumentException.class,
            "stream is null",
            () -> loss.computeAsync(g.batch, d.feats, dense, null, options, null, result));
        refused(
            IllegalArgumentException.class,
            "stream is of cuda:1, this CudaYoloLoss is on cuda:0",
            () ->
                loss.computeAsync(
                    g.batch,
                    d.feats,
                    dense,
                    null,
                    options,
                    CudaStream.of(LossDevice.cuda(1), 0),
                    result));
        refused(
            IllegalArgumentException.class,
            "device is cpu, a CUDA device is expected",
            () -> CudaStream.open(LossDevice.CPU));
        DeviceBuffer[] feats = d.feats.clone();
        feats[1] = feats[1].slice(0, 8);
        refused(
            IllegalArgumentException.class,
            "feats[1] holds 8 bytes",
            () -> loss.compute(g.batch, feats, dense, null, options, result));
        feats[1] = DeviceBuffer.of(LossDevice.cuda(1), 4096, 1 << 20);
        refused(
            IllegalArgumentException.class,
            "feats[1] is memory of cuda:1, this CudaYoloLoss is on cuda:0",
            () -> loss.compute(g.batch, feats, dense, null, options, result));
        feats[1] = DeviceBuffer.of(CUDA, g.feats[1].address(), g.feats[1].byteSize());
        refused(
            YoloLossException.class,
            "is host memory, which cuda:0 cannot reach",
            () -> loss.compute(g.batch, feats, dense, null, options, result));
        feats[1] = null;
        refused(
            IllegalArgumentException.class,
            "feats[1] is null",
            () -> loss.compute(g.batch, feats, dense, null, options, result));
        DeviceBuffer closed = DeviceBuffer.allocate(CUDA, d.feats[1].byteSize());
        closed.close();
        feats[1] = closed;
        refused(
            IllegalStateException.class,
            "feats[1] is closed",
            () -> loss.compute(g.batch, feats, dense, null, options, result));
        stream.close();
        refused(
            IllegalStateException.class,
            "this CudaStream is closed",
            () -> loss.computeAsync(g.batch, d.feats, dense, null, options, stream, result));
        assertDoesNotThrow(stream::close);
        assertDoesNotThrow(stream::synchronize);
        loss.compute(g.batch, d.feats, dense, d.grads, options, result);
        assertTrue(result.total() > 0);
        refused(
            YoloLossException.class,
            "grad_mode is refresh",
            () ->
                loss.compute(
                    g.batch,
                    d.feats,
                    dense,
                    d.feats,
                    options.withGradientMode(LossOptions.GradientMode.REFRESH),
                    result));
      }
    }
  }

  @Test
  void enqueuedCallsOfOneObjectFollowEachOther() {
    try (Arena arena = Arena.ofConfined();
        CudaStream a = CudaStream.open(CUDA);
        CudaStream b = CudaStream.open(CUDA)) {
      Golden g = new Golden("c_tiny_2scale", arena);
      LossResult kept;
      try (OnDevice d = new OnDevice(g);
          CudaYoloLoss loss = d.open()) {
        LossResult[] results = Stream.generate(loss::newResult).limit(4).toArray(LossResult[]::new);
        Targets<DeviceBuffer> dense = Targets.dense(d.yTrue);
        LossOptions options = LossOptions.DEFAULT;
        CudaStream legacy = CudaStream.of(CUDA, 0);
        loss.computeAsync(g.batch, d.feats, dense, d.grads, options, a, results[0]);
        loss.computeAsync(g.batch, d.feats, dense, d.grads, options, b, results[1]);
        loss.compute(g.batch, d.feats, dense, d.grads, options, results[2]);
        loss.computeAsync(g.batch, d.feats, dense, d.grads, options, legacy, results[3]);
        for (LossResult result : results) {
          assertEquals(results[0].total(), result.total());
        }
        loss.computeAsync(g.batch, d.feats, dense, null, options, a, results[0]);
        kept = results[0];
      }
      assertTrue(kept.total() > 0, "a result outlives its YoloLoss and its memory");
      assertEquals(a.device(), CUDA);
      assertTrue(a.handle() != 0);
    }
  }

  /** The snippet of {@link CudaYoloLoss}. */
  @Test
  void aLossOnTheGpu() {
    YoloSpec spec = YoloSpec.tinyYolov3(3, 128, 128);
    MemorySegment rows = Arena.ofAuto().allocate(8 * 20 * 5 * 4);
    // @start region="cuda"
    LossDevice gpu = LossDevice.cuda(0);
    DeviceBuffer[] feats = spec.allocate(gpu, 8); // or your framework's, by DeviceBuffer.of
    DeviceBuffer[] grads = spec.allocate(gpu, 8);
    try (CudaYoloLoss loss = YoloLoss.builder(spec).maxBatch(8).openCuda(0);
        CudaStream stream = CudaStream.open(gpu); // or your framework's, by CudaStream.of
        DeviceBuffer boxes = DeviceBuffer.allocate(gpu, 8 * 20 * 5 * 4)) { // 20 an image
      boxes.copyFrom(rows);
      LossResult result = loss.newResult();
      loss.computeAsync(8, feats, Targets.boxes(boxes, 20), grads, stream, result);
      // ... enqueue the backward pass of the network
      double total = result.total(); // waits for the call
      // @end
      assertTrue(total >= 0 || Double.isNaN(total)); // feats hold anything
    }
    for (int l = 0; l < feats.length; l++) {
      feats[l].close();
      grads[l].close();
    }
  }
}
