package io.github.yololoss;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** What a trainer can ask for beyond the loss, through Java, over every device. */
@Tag("cuda")
class OptionsTest {
  static Stream<LossDevice> devices() {
    Stream<LossDevice> host = Stream.of(LossDevice.REFERENCE, LossDevice.CPU);
    try {
      YoloLoss.checkDevice(LossDevice.cuda(0));
      return Stream.concat(host, Stream.of(LossDevice.cuda(0)));
    } catch (YoloLossException e) {
      return host;
    }
  }

  private static void refused(Class<? extends Throwable> type, String words, Executable call) {
    String sentence = assertThrows(type, call).getMessage();
    assertTrue(sentence.contains(words), sentence);
  }

  /** Place of element i of (B, H, W, A*(5+C)) in the order of a layout. */
  private static long place(YoloSpec spec, FeatsLayout layout, int l, long i) {
    if (layout == FeatsLayout.NHWC) {
      return i;
    }
    long channels = 5L + spec.numClasses();
    long anchors = spec.layers().get(l).anchorMask().size();
    long cells = spec.cells(l);
    long channel = i % channels;
    long cell = i / channels % cells;
    long image = i / channels / cells;
    return ((image * anchors + cell % anchors) * channels + channel) * (cells / anchors)
        + cell / anchors;
  }

  private static void put(MemorySegment to, FeatsType type, long index, double value) {
    switch (type) {
      case FLOAT32 -> to.setAtIndex(JAVA_FLOAT, index, (float) value);
      case FLOAT64 -> to.setAtIndex(JAVA_DOUBLE, index, value);
      case FLOAT16 -> to.setAtIndex(JAVA_SHORT, index, Float.floatToFloat16((float) value));
      case BFLOAT16 -> // cut, not rounded: any value of the type will do
          to.setAtIndex(JAVA_SHORT, index, (short) (Float.floatToRawIntBits((float) value) >>> 16));
    }
  }

  /** The logits of a golden case in a type and order. */
  private static MemorySegment[] feats(Golden g, FeatsType type, FeatsLayout layout, Arena arena) {
    MemorySegment[] feats = g.spec.allocate(arena, g.batch, type);
    for (int l = 0; l < feats.length; l++) {
      for (long i = 0; i < g.feats[l].byteSize() / 4; i++) {
        put(feats[l], type, place(g.spec, layout, l, i), g.feats[l].getAtIndex(JAVA_FLOAT, i));
      }
    }
    return feats;
  }

  private static double[] gradient(
      Golden g, MemorySegment grads, FeatsType type, FeatsLayout layout, int l) {
    return IntStream.range(0, (int) (g.feats[l].byteSize() / 4))
        .mapToDouble(i -> type.get(grads, place(g.spec, layout, l, i)))
        .toArray();
  }

  @ParameterizedTest
  @MethodSource("devices")
  void typesAndLayouts(LossDevice device) {
    for (String name : List.of("a_small_3scale", "f_soft_targets")) {
      for (FeatsType type : FeatsType.values()) {
        try (Arena arena = Arena.ofConfined()) {
          Golden g = new Golden(name, arena);
          MemorySegment[] rounded = feats(g, type, FeatsLayout.NHWC, arena);
          MemorySegment[] wide = g.spec.allocate(arena, g.batch, FeatsType.FLOAT64);
          for (int l = 0; l < wide.length; l++) {
            for (long i = 0; i < g.feats[l].byteSize() / 4; i++) {
              wide[l].setAtIndex(JAVA_DOUBLE, i, type.get(rounded[l], i));
            }
          }
          MemorySegment[] want = g.spec.allocate(arena, g.batch, FeatsType.FLOAT64);
          double total;
          try (YoloLoss loss =
              YoloLoss.builder(g.spec)
                  .maxBatch(g.batch)
                  .device(LossDevice.REFERENCE)
                  .featsType(FeatsType.FLOAT64)
                  .open()) {
            total = loss.compute(g.batch, wide, Targets.dense(g.yTrue), want).total();
          }
          for (FeatsLayout layout : FeatsLayout.values()) {
            for (boolean f32 : new boolean[] {false, true}) {
              try (YoloLoss loss =
                  YoloLoss.builder(g.spec)
                      .maxBatch(g.batch)
                      .device(device)
                      .featsType(type)
                      .layout(layout)
                      .float32Gradients(f32)
                      .open()) {
                MemorySegment[] grads = g.spec.allocate(arena, g.batch, loss.gradientType());
                LossResult result =
                    loss.compute(
                        g.batch, feats(g, type, layout, arena), Targets.dense(g.yTrue), grads);
                String where = name + " " + type + " " + layout + " " + f32;
                assertEquals(total, result.total(), 1e-5 * total, where);
                assertEquals(0, result.foundInf(), where);
                double step =
                    switch (loss.gradientType()) {
                      case FLOAT16 -> 5e-4;
                      case BFLOAT16 -> 4e-3;
                      default -> 1e-5;
                    };
                for (int l = 0; l < grads.length; l++) {
                  double[] got = gradient(g, grads[l], loss.gradientType(), layout, l);
                  for (int i = 0; i < got.length; i++) {
                    double expected = want[l].getAtIndex(JAVA_DOUBLE, i);
                    assertEquals(expected, got[i], step * Math.abs(expected) + 2e-5, where);
                  }
                }
              }
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void rules(LossDevice device) {
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden("h_builder_edges", arena);
      LossResult plain;
      try (YoloLoss loss = g.open(device, 0)) {
        plain = loss.compute(g.batch, g.feats, g.boxes, null);
      }
      LossRules rules = LossRules.DEFAULT.withWeights(2, 0, 4, 0.5f, 8);
      try (YoloLoss loss =
          YoloLoss.builder(g.spec).maxBatch(g.batch).device(device).rules(rules).open()) {
        LossResult weighted = loss.compute(g.batch, g.feats, g.boxes, null);
        for (int l = 0; l < plain.layers(); l++) {
          LossResult.Parts a = plain.layer(l);
          LossResult.Parts b = weighted.layer(l);
          assertEquals(2 * a.xy(), b.xy());
          assertEquals(0, b.wh());
          assertEquals(4 * a.confidenceObject(), b.confidenceObject());
          assertEquals(0.5 * a.confidenceBackground(), b.confidenceBackground());
          assertEquals(8 * a.classes(), b.classes());
        }
      }
      double other = plain.total();
      for (LossRules changed :
          List.of(
              LossRules.DEFAULT.withLabelSmoothing(0.1f),
              LossRules.DEFAULT.withClassWeights(List.of(1f, 2f, 3f)),
              LossRules.DEFAULT.withIgnoreScope(LossRules.IgnoreScope.IMAGE),
              LossRules.DEFAULT.withIgnoreThresholds(List.of(0.9f, 0.2f, 0.3f)))) {
        try (YoloLoss loss =
            YoloLoss.builder(g.spec).maxBatch(g.batch).device(device).rules(changed).open()) {
          double total = loss.compute(g.batch, g.feats, g.boxes, null).total();
          assertTrue(Math.abs(total - other) > 1e-4 && total > 0, changed + ": " + total);
          other = total;
        }
      }
      YoloLoss.Builder builder = YoloLoss.builder(g.spec).device(device);
      refused(
          IllegalArgumentException.class,
          "classWeights has 1 values, 3 are expected, one for each class",
          () -> builder.rules(LossRules.DEFAULT.withClassWeights(List.of(1f))).open());
      refused(
          IllegalArgumentException.class,
          "ignoreThresholds has 2 values, 3 are expected",
          () -> builder.rules(LossRules.DEFAULT.withIgnoreThresholds(List.of(1f, 1f))).open());
      refused(
          YoloLossException.class,
          "rules.label_smoothing is 2, expected 0..1",
          () -> builder.rules(LossRules.DEFAULT.withLabelSmoothing(2)).open());
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void accumulationAndBoxWeights(LossDevice device) {
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = new Golden("h_builder_edges", arena).open(device, 0)) {
      Golden g = new Golden("h_builder_edges", arena);
      MemorySegment[] once = g.garbage(arena);
      MemorySegment[] twice = g.garbage(arena);
      LossResult result = loss.compute(g.batch, g.feats, g.boxes, once);
      loss.compute(g.batch, g.feats, g.boxes, twice);
      LossOptions add = LossOptions.DEFAULT.withGradientMode(LossOptions.GradientMode.ACCUMULATE);
      loss.compute(g.batch, g.feats, g.boxes, twice, add, result);
      for (int l = 0; l < once.length; l++) {
        float[] want = Golden.values(once[l]);
        float[] got = Golden.values(twice[l]);
        for (int i = 0; i < want.length; i++) {
          assertEquals(2 * want[i], got[i]);
        }
      }
      int rows = g.batch * g.boxes.perImage();
      MemorySegment zeros = arena.allocate(JAVA_FLOAT, rows);
      Targets.Boxes<MemorySegment> weighted =
          new Targets.Boxes<>(g.boxes.boxes(), g.boxes.perImage(), Targets.BoxPolicy.ERROR, zeros);
      loss.compute(g.batch, g.feats, weighted, once, LossOptions.DEFAULT, result);
      assertEquals(0, result.layer(2).xy());
      assertTrue(result.objects() > 0 && result.layer(2).confidenceBackground() > 0);
      refused(
          IllegalArgumentException.class,
          "weights holds 4 bytes",
          () ->
              loss.compute(
                  g.batch,
                  g.feats,
                  new Targets.Boxes<>(
                      g.boxes.boxes(),
                      g.boxes.perImage(),
                      Targets.BoxPolicy.ERROR,
                      zeros.asSlice(0, 4)),
                  null));
      refused(
          YoloLossException.class,
          "boxes.weights must be NULL: y_true has no field for weights",
          () -> loss.buildYTrue(g.batch, weighted, g.spec.allocate(arena, g.batch)));
      zeros.set(JAVA_FLOAT, 0, Float.NaN);
      refused(
          YoloLossException.class,
          "image 0, row 0",
          () -> loss.compute(g.batch, g.feats, weighted, null));
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void statisticsAndMaps(LossDevice device) {
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden("h_builder_edges", arena);
      for (FeatsLayout layout : FeatsLayout.values()) {
        try (YoloLoss loss =
            YoloLoss.builder(g.spec).maxBatch(g.batch).device(device).layout(layout).open()) {
          MemorySegment[] grads = g.garbage(arena);
          CellMaps<MemorySegment> maps =
              new CellMaps<>(
                  g.spec.allocateMap(arena, g.batch),
                  g.spec.allocateMap(arena, g.batch),
                  g.spec.allocateMap(arena, g.batch));
          LossResult result = loss.newResult();
          MemorySegment[] feats = feats(g, FeatsType.FLOAT32, layout, arena);
          LossOptions options = LossOptions.DEFAULT.withStatistics(true);
          loss.compute(g.batch, feats, g.boxes, grads, options, maps, result);
          long ignored = 0;
          for (int l = 0; l < grads.length; l++) {
            Statistics s = result.statistics(l);
            assertEquals(result.layer(l).objects(), s.objects());
            assertEquals(g.spec.cells(l) * g.batch, s.objects() + s.background());
            assertTrue(s.meanIou() > 0 && s.meanIou() <= 1 && s.shareIou50() >= s.shareIou75());
            assertTrue(s.meanObjectnessBackground() > 0 && s.meanObjectnessObject() < 1);
            double squares = 0;
            for (float d : Golden.values(grads[l])) {
              squares += (double) d * d;
            }
            assertEquals(Math.sqrt(squares), s.gradNorm(), 1e-5 * Math.sqrt(squares));
            double cells = 0;
            for (float value : Golden.values(maps.cellLoss()[l])) {
              cells += value;
            }
            assertEquals(result.layer(l).sum() * g.batch, cells, 1e-5 * cells);
            for (float k : Golden.values(maps.ignoreMask()[l])) {
              assertTrue(k == 0 || k == 1);
              ignored += k == 0 ? 1 : 0;
            }
            int above = 0;
            for (float best : Golden.values(maps.bestIou()[l])) {
              above += best >= 0.5f ? 1 : 0;
            }
            assertEquals(result.layer(l).ignored(), above);
          }
          assertEquals(result.ignored(), ignored);
          refused(IllegalStateException.class, "withSearch", result::offender);
          loss.compute(g.batch, feats, g.boxes, grads, LossOptions.DEFAULT, result);
          refused(IllegalStateException.class, "withStatistics", () -> result.statistics(0));
        }
      }
      // Nothing to average is no NaN.
      assertEquals(0, Statistics.ZERO.meanIou());
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void offenders(LossDevice device) {
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden("d_nonsquare", arena);
      MemorySegment[] feats = feats(g, FeatsType.FLOAT32, FeatsLayout.NHWC, arena);
      int channels = 5 + g.spec.numClasses();
      // Image 1, layer 2, row 30, column 51, anchor 2: background, class 1 and objectness.
      long cell = ((1L * 40 + 30) * 52 + 51) * 3 + 2;
      LossOptions used = LossOptions.DEFAULT.withSearch(LossOptions.Search.USED);
      LossOptions all = LossOptions.DEFAULT.withSearch(LossOptions.Search.ALL);
      try (YoloLoss loss = g.open(device, 0)) {
        LossResult result = loss.newResult();
        Targets<MemorySegment> dense = Targets.dense(g.yTrue);
        loss.compute(g.batch, feats, dense, null, all, result);
        assertNull(result.offender());
        feats[2].setAtIndex(JAVA_FLOAT, cell * channels + 6, Float.NaN);
        loss.compute(g.batch, feats, dense, null, used, result);
        assertNull(result.offender());
        assertEquals(0, result.nonFinite());
        loss.compute(g.batch, feats, dense, null, all, result);
        assertEquals(
            new Offender(Offender.Cause.FEATS, 1, 2, 30, 51, 2, 6, Double.NaN, 0),
            result.offender());
        assertEquals(1, result.nonFinite());
        assertTrue(
            result
                .offender()
                .toString()
                .contains("NaN at image 1, layer 2, row 30, column 51, anchor 2, class 1"));
        feats[2].setAtIndex(JAVA_FLOAT, cell * channels + 4, Float.NEGATIVE_INFINITY);
        loss.compute(g.batch, feats, dense, null, used, result);
        assertEquals(4, result.offender().channel());
        assertEquals(Double.NEGATIVE_INFINITY, result.offender().value());
      }
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void lossScaler(LossDevice device) {
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden("a_small_3scale", arena);
      MemorySegment[] feats = feats(g, FeatsType.FLOAT16, FeatsLayout.NCHW, arena);
      MemorySegment[] grads = g.spec.allocate(arena, g.batch, FeatsType.FLOAT16);
      try (YoloLoss loss =
          YoloLoss.builder(g.spec)
              .maxBatch(g.batch)
              .device(device)
              .featsType(FeatsType.FLOAT16)
              .layout(FeatsLayout.NCHW)
              .open()) {
        LossResult result = loss.newResult();
        double scale = 1 << 20;
        int lowered = 0;
        while (true) {
          LossOptions options =
              new LossOptions(LossOptions.Normaliser.BATCH, scale)
                  .withSearch(LossOptions.Search.USED);
          loss.compute(g.batch, feats, Targets.dense(g.yTrue), grads, options, result);
          long found = 0;
          for (MemorySegment layer : grads) {
            for (long i = 0; i < layer.byteSize() / 2; i++) {
              found += Double.isFinite(FeatsType.FLOAT16.get(layer, i)) ? 0 : 1;
            }
          }
          assertEquals(found, result.foundInf());
          assertTrue(Double.isFinite(result.total()));
          if (result.foundInf() == 0) {
            break;
          }
          assertEquals(Offender.Cause.OVERFLOW, result.offender().cause());
          assertTrue(Math.abs(result.offender().gradient()) >= 65520);
          scale /= 2;
          lowered++;
        }
        assertTrue(lowered > 0 && scale > 1);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void audits(LossDevice device) {
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden("c_tiny_2scale", arena);
      int t = g.boxes.perImage();
      MemorySegment rows = arena.allocate(g.boxes.boxes().byteSize(), 4);
      rows.copyFrom(g.boxes.boxes());
      List<Audit.Reason> reasons = new ArrayList<>();
      try (YoloLoss loss = g.open(device, 0)) {
        Audit fine = loss.audit(g.batch, g.boxes, 0.3f, 50);
        assertEquals(0, fine.faults());
        assertEquals(1, fine.count(Audit.Reason.NO_LAYER));
        fine.findings().forEach(f -> reasons.add(f.reason()));
        assertTrue(reasons.contains(Audit.Reason.TWO_LAYERS), reasons.toString());
        assertEquals(g.batch, fine.bestIou().size());
        assertEquals(t, fine.bestIou().get(0).size());
        assertEquals(0, fine.anchorUse().get(0).get(0));
        assertEquals(0, fine.anchorUse().get(1).get(0));

        rows.setAtIndex(JAVA_FLOAT, 5L * t + 4, 2); // image 1, row 0: a class that is not there
        Targets.Boxes<MemorySegment> bad = new Targets.Boxes<>(rows, t, Targets.BoxPolicy.SKIP);
        Audit found = loss.audit(g.batch, bad, 0, 1);
        assertEquals(1, found.faults());
        assertEquals(1, found.findings().size());
        Audit all = loss.audit(g.batch, bad, 0, 1000);
        Audit.Finding f =
            all.findings().stream().filter(x -> x.reason() == Audit.Reason.CLASS).findFirst().get();
        assertEquals(
            new Audit.Finding(
                Audit.Reason.CLASS, Audit.Action.SKIPPED, 1, 0, -1, -1, -1, -1, -1, 2),
            f);
        assertEquals("image 1, row 0: class out of range (2.0), skipped", f.toString());
        assertEquals(0, loss.audit(g.batch, Targets.dense(g.yTrue), 0, 5).faults());
        refused(
            IllegalArgumentException.class,
            "maxFindings is -1",
            () -> loss.audit(g.batch, bad, 0, -1));
        refused(YoloLossException.class, "poor_iou is 2", () -> loss.audit(g.batch, bad, 2, 1));
        refused(
            IllegalArgumentException.class,
            "targets is null",
            () -> loss.audit(g.batch, null, 0, 1));

        // Fractions of the input.
        rows.fill((byte) 0);
        MemorySegment.copy(new float[] {0.25f, 0.5f, 0.75f, 1, 1}, 0, rows, JAVA_FLOAT, 20, 5);
        Audit normalised = loss.audit(g.batch, Targets.boxes(rows, t), 0, 5);
        assertEquals(
            "image 0, row 1: coordinates in 0..1, not in pixels (0.25), refused",
            normalised.findings().getFirst().toString());
        assertEquals(1, normalised.faults());

        // A row that reaches out of the input.
        rows.copyFrom(g.boxes.boxes());
        MemorySegment.copy(new float[] {400, 20, 440, 80, 1}, 0, rows, JAVA_FLOAT, 20L * t, 5);
        Targets.Boxes<MemorySegment> clamp = new Targets.Boxes<>(rows, t, Targets.BoxPolicy.CLAMP);
        assertEquals(1, loss.compute(g.batch, g.feats, clamp, null).boxes().clamped());
        assertEquals(
            Audit.Action.CLAMPED,
            loss.audit(g.batch, clamp, 0, 100).findings().stream()
                .filter(x -> x.reason() == Audit.Reason.OUTSIDE)
                .findFirst()
                .get()
                .action());
      }
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void onTheDevice(LossDevice device) {
    if (device.kind() != LossDevice.Kind.CUDA) {
      return;
    }
    List<DeviceBuffer> all = new ArrayList<>();
    try (Arena arena = Arena.ofConfined();
        CudaStream stream = CudaStream.open(device)) {
      Golden g = new Golden("h_builder_edges", arena);
      MemorySegment ones = arena.allocate(JAVA_FLOAT, (long) g.batch * g.boxes.perImage());
      ones.fill((byte) 0);
      for (long i = 0; i < ones.byteSize() / 4; i++) {
        ones.setAtIndex(JAVA_FLOAT, i, 0.5f);
      }
      CellMaps<MemorySegment> hostMaps =
          new CellMaps<>(
              g.spec.allocateMap(arena, g.batch), g.spec.allocateMap(arena, g.batch), null);
      LossOptions options =
          LossOptions.DEFAULT.withStatistics(true).withSearch(LossOptions.Search.ALL);
      LossResult want;
      try (YoloLoss loss = g.open(device, 1)) {
        want = loss.newResult();
        Targets<MemorySegment> weighted =
            new Targets.Boxes<>(g.boxes.boxes(), g.boxes.perImage(), Targets.BoxPolicy.ERROR, ones);
        loss.compute(g.batch, g.feats, weighted, null, options, hostMaps, want);
      }
      DeviceBuffer[] feats = upload(g.feats, device, all);
      DeviceBuffer[][] maps = {
        upload(hostMaps.ignoreMask(), device, all), upload(hostMaps.bestIou(), device, all)
      };
      DeviceBuffer[] boxes = upload(new MemorySegment[] {g.boxes.boxes(), ones}, device, all);
      Targets<DeviceBuffer> weighted =
          new Targets.Boxes<>(boxes[0], g.boxes.perImage(), Targets.BoxPolicy.ERROR, boxes[1]);
      try (CudaYoloLoss loss =
          YoloLoss.builder(g.spec).maxBatch(g.batch).device(device).openCuda(device.index())) {
        LossResult result = loss.newResult();
        CellMaps<DeviceBuffer> wanted = new CellMaps<>(maps[0], maps[1], null);
        loss.computeAsync(g.batch, feats, weighted, null, options, wanted, null, stream, result);
        assertEquals(want.total(), result.total());
        assertNull(result.offender());
        for (int l = 0; l < feats.length; l++) {
          assertEquals(want.statistics(l), result.statistics(l));
          for (int m = 0; m < 2; m++) {
            MemorySegment host = (m == 0 ? hostMaps.ignoreMask() : hostMaps.bestIou())[l];
            MemorySegment back = arena.allocate(host.byteSize(), 4);
            maps[m][l].copyTo(back);
            assertArrayEquals(Golden.values(host), Golden.values(back));
          }
        }
        assertEquals(0, loss.audit(g.batch, weighted, 0, 10).faults());
      }
    } finally {
      all.forEach(DeviceBuffer::close);
    }
  }

  private static DeviceBuffer[] upload(
      MemorySegment[] host, LossDevice device, List<DeviceBuffer> all) {
    DeviceBuffer[] buffers =
        Arrays.stream(host)
            .map(
                segment -> {
                  DeviceBuffer buffer = DeviceBuffer.allocate(device, segment.byteSize());
                  buffer.copyFrom(segment);
                  return buffer;
                })
            .toArray(DeviceBuffer[]::new);
    Collections.addAll(all, buffers);
    return buffers;
  }
}
