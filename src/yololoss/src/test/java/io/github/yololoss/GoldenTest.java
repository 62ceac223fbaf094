package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Every golden case through Java, over every device: loss, parts, counts, gradient, truths. */
@Tag("cuda")
class GoldenTest {
  static Stream<Arguments> cases() {
    List<Object[]> devices = new ArrayList<>();
    devices.add(new Object[] {LossDevice.REFERENCE, 0});
    devices.add(new Object[] {LossDevice.AUTO, 0});
    devices.add(new Object[] {LossDevice.CPU, 1});
    devices.add(new Object[] {LossDevice.CPU, 3});
    CudaDevice.list().forEach(d -> devices.add(new Object[] {d.device(), 0}));
    return Golden.NAMES.stream()
        .flatMap(name -> devices.stream().map(d -> Arguments.of(name, d[0], d[1])));
  }

  @ParameterizedTest(name = "{0}, {1}, {2} threads")
  @MethodSource("cases")
  void lossAndGradient(String name, LossDevice device, int threads) {
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden(name, arena);
      try (YoloLoss loss = g.open(device, threads)) {
        MemorySegment[] grads = g.garbage(arena);
        LossResult dense = loss.compute(g.batch, g.feats, Targets.dense(g.yTrue), grads);
        compare(g, dense);
        compareGradient(g, grads);
        assertEquals(
            dense.total(), loss.compute(g.batch, g.feats, Targets.dense(g.yTrue), null).total());
        if (g.boxes == null) {
          return;
        }
        MemorySegment[] gradsOfBoxes = g.garbage(arena);
        LossResult sparse = loss.compute(g.batch, g.feats, g.boxes, gradsOfBoxes);
        MemorySegment[] built = g.garbage(arena);
        assertEquals(sparse.boxes(), loss.buildYTrue(g.batch, g.boxes, built));
        assertEquals(dense.total(), sparse.total());
        for (int l = 0; l < grads.length; l++) {
          assertEquals(-1, grads[l].mismatch(gradsOfBoxes[l]), "gradient of boxes, layer " + l);
          assertEquals(-1, g.yTrue[l].mismatch(built[l]), "y_true of layer " + l);
          for (int image = 0; image < g.batch; image++) {
            assertEquals(dense.row(image, l), sparse.row(image, l));
          }
        }
      }
    }
  }

  private static void compare(Golden g, LossResult got) {
    near(g.expected.get("total").doubleValue(), got.total(), "total");
    long objects = 0;
    for (int l = 0; l < got.layers(); l++) {
      JsonNode want = g.expected.get("layers").get(l);
      LossResult.Parts layer = got.layer(l);
      near(want.get("xy").doubleValue(), layer.xy(), "xy");
      near(want.get("wh").doubleValue(), layer.wh(), "wh");
      near(want.get("confidence").doubleValue(), layer.confidence(), "confidence");
      near(want.get("class").doubleValue(), layer.classes(), "class");
      assertEquals(want.get("object_count").longValue(), layer.objects());
      assertEquals(want.get("ignore_count").longValue(), layer.ignored());
      assertEquals(want.get("ignore_count_background").longValue(), layer.ignoredBackground());
      assertEquals(0, layer.nonFinite());
      objects += layer.objects();
      double sum = 0;
      for (int image = 0; image < g.batch; image++) {
        sum += got.row(image, l).sum();
      }
      assertEquals(layer.sum(), sum / got.normaliser(), 1e-12 * Math.abs(sum));
    }
    assertEquals(g.batch, got.normaliser());
    assertEquals(objects, got.objects());
  }

  private static void near(double want, double got, String what) {
    assertEquals(want, got, 1e-5 * Math.abs(want) + 1e-6, what);
  }

  private static void compareGradient(Golden g, MemorySegment[] grads) {
    for (int l = 0; l < grads.length; l++) {
      float[] want = Golden.values(g.wantedGrads[l]);
      float largest = 0;
      for (float w : want) {
        largest = Math.max(largest, Math.abs(w));
      }
      assertArrayEquals(
          want, Golden.values(grads[l]), 1e-6f + 1e-5f * largest, "gradient of layer " + l);
    }
  }

  @ParameterizedTest(name = "{0}, {1}, {2} threads")
  @MethodSource("cases")
  void gradientOverFeats(String name, LossDevice device, int threads) {
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden(name, arena);
      MemorySegment[] inPlace = g.garbage(arena);
      MemorySegment[] grads = g.garbage(arena);
      for (int l = 0; l < inPlace.length; l++) {
        inPlace[l].copyFrom(g.feats[l]);
      }
      try (YoloLoss loss = g.open(device, threads)) {
        double total = loss.compute(g.batch, g.feats, Targets.dense(g.yTrue), grads).total();
        assertEquals(
            total, loss.compute(g.batch, inPlace, Targets.dense(g.yTrue), inPlace).total());
        for (int l = 0; l < grads.length; l++) {
          assertEquals(-1, grads[l].mismatch(inPlace[l]));
        }
        MemorySegment[] again = g.garbage(arena);
        LossResult result = loss.newResult();
        for (boolean refresh : new boolean[] {false, true}) {
          LossOptions options =
              LossOptions.DEFAULT.withGradientMode(
                  refresh ? LossOptions.GradientMode.REFRESH : LossOptions.GradientMode.OVERWRITE);
          loss.compute(g.batch, g.feats, Targets.dense(g.yTrue), again, options, result);
          for (int l = 0; l < grads.length; l++) {
            assertEquals(-1, grads[l].mismatch(again[l]), "refresh " + refresh);
          }
        }
      }
    }
  }

  @ParameterizedTest(name = "{0}, {1}, {2} threads")
  @MethodSource("cases")
  void options(String name, LossDevice device, int threads) {
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden(name, arena);
      MemorySegment[] grads = g.garbage(arena);
      MemorySegment[] scaled = g.garbage(arena);
      try (YoloLoss loss = g.open(device, threads)) {
        LossResult result = loss.newResult();
        loss.compute(g.batch, g.feats, Targets.dense(g.yTrue), grads, LossOptions.DEFAULT, result);
        double raw = result.total() * g.batch;
        loss.compute(
            g.batch,
            g.feats,
            Targets.dense(g.yTrue),
            scaled,
            new LossOptions(LossOptions.Normaliser.OBJECTS, 4),
            result);
        double objects = Math.max(1, result.objects());
        assertEquals(objects, result.normaliser());
        assertEquals(raw / objects, result.total(), 1e-12 * raw);
        for (int l = 0; l < grads.length; l++) {
          float[] want = Golden.values(grads[l]);
          float[] got = Golden.values(scaled[l]);
          for (int i = 0; i < want.length; i++) {
            double expected = want[i] * 4.0 * g.batch / objects;
            assertEquals(expected, got[i], 4e-7 * Math.abs(expected) + 1e-40);
          }
        }
        loss.compute(
            g.batch,
            g.feats,
            Targets.dense(g.yTrue),
            null,
            new LossOptions(LossOptions.Normaliser.value(0.25), 1),
            result);
        assertEquals(raw / 0.25, result.total(), 1e-12 * raw / 0.25);
        loss.compute(
            g.batch,
            g.feats,
            Targets.dense(g.yTrue),
            null,
            new LossOptions(LossOptions.Normaliser.NONE, 1),
            result);
        assertEquals(raw, result.total(), 1e-12 * raw);
        assertTrue(result.toString().contains("total"));
      }
    }
  }
}
