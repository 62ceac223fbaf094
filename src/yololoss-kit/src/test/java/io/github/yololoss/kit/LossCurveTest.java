package io.github.yololoss.kit;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossResult;
import io.github.yololoss.LossSum;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Losses as JSON and as a log, written and read back. */
class LossCurveTest {
  private static final Path GOLDEN = Path.of("src/test/resources/golden/a_small_3scale");

  @TempDir Path folder;

  /** What the golden case gives, in a call of both images and in one of each. */
  @Test
  void theFieldsOfAGoldenCase() throws IOException {
    ObjectNode expected = Json.read(GOLDEN.resolve("expected.json"));
    YoloSpec spec = SpecFile.read(GOLDEN.resolve("expected.json")).spec();
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = YoloLoss.open(spec, 2)) {
      MemorySegment[] feats = layers("feats", arena);
      MemorySegment[] yTrue = layers("y_true", arena);
      LossOptions options =
          LossOptions.DEFAULT.withStatistics(true).withSearch(LossOptions.Search.USED);
      LossResult result = loss.newResult();
      loss.compute(2, feats, Targets.dense(yTrue), null, options, result);
      ObjectNode json = LossJson.of(spec, result);
      assertContains(expected, json, "/total");
      for (int l = 0; l < 3; l++) {
        for (String field : names(expected.get("layers").get(l))) {
          assertContains(expected, json, "/layers/" + l + "/" + field);
        }
      }
      assertEquals(-1, json.toString().indexOf("statistics"));
      LossJson.putStatistics(json, IntStream.range(0, 3).mapToObj(result::statistics).toList());
      LossJson.putOffender(json, result.offender());
      assertEquals(1, json.at("/layers/0/statistics/object_count").asInt());
      assertTrue(json.get("offender").isNull());
      assertTrue(json.path("boxes").isMissingNode()); // the truths are dense

      LossSum sum = LossSum.zero(3);
      for (int image = 0; image < 2; image++) {
        int i = image;
        List<LossResult.Parts> rows = new ArrayList<>();
        IntStream.range(0, 3).forEach(l -> rows.add(result.row(i, l)));
        sum = sum.merge(LossSum.of(rows));
      }
      ObjectNode merged = LossJson.of(spec, sum, Normaliser.BATCH);
      assertEquals(2, merged.get("batch").asInt());
      assertEquals(2, merged.get("normaliser").asDouble());
      for (int l = 0; l < 3; l++) {
        for (String field : names(expected.get("layers").get(l))) {
          assertContains(expected, merged, "/layers/" + l + "/" + field);
        }
      }
    }
  }

  private static MemorySegment[] layers(String name, Arena arena) throws IOException {
    MemorySegment[] layers = new MemorySegment[3];
    for (int l = 0; l < 3; l++) {
      layers[l] = Npy.map(GOLDEN.resolve(name + "_" + l + ".npy"), arena).floats(arena);
    }
    return layers;
  }

  private static List<String> names(JsonNode node) {
    List<String> names = new ArrayList<>();
    node.fieldNames().forEachRemaining(names::add);
    return names;
  }

  private static void assertContains(JsonNode expected, JsonNode json, String path) {
    double want = expected.at(path).asDouble();
    assertTrue(json.at(path).isNumber(), path + " is missing");
    assertEquals(want, json.at(path).asDouble(), 1e-5 * Math.abs(want), path);
  }

  @Test
  void aLogIsReadBack() throws IOException {
    Path file = folder.resolve("steps.jsonl");
    YoloSpec spec = YoloSpec.tinyYolov3(3, 64, 96);
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = YoloLoss.open(spec, 1)) {
      MemorySegment[] feats = spec.allocate(arena, 1);
      MemorySegment boxes = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 8, 10, 60, 50, 2);
      LossResult good = loss.compute(1, feats, Targets.boxes(boxes, 1), null);
      double total = good.total();
      try (LossLog log = LossLog.create(file)) {
        log.write(1, good);
      }
      Files.writeString(file, Files.readString(file) + "{\"step\":2,\"tot"); // killed
      feats[0].setAtIndex(ValueLayout.JAVA_FLOAT, 4, Float.NaN);
      LossResult bad = loss.compute(1, feats, Targets.boxes(boxes, 1), null);
      try (LossLog log = LossLog.append(file)) {
        log.write(2, bad);
      }
      LossCurve curve = LossCurve.read(file);
      assertEquals(List.of(2), curve.malformedLines());
      assertEquals(2, curve.steps().size());
      LossCurve.Step first = curve.steps().getFirst();
      assertEquals(1, first.number());
      assertEquals(total, first.total());
      double parts = first.parts().values().stream().mapToDouble(p -> p).sum();
      assertEquals(total, parts, 1e-9 * total);
      assertTrue(Double.isNaN(curve.steps().getLast().total()));
    }
    JsonNode line = new ObjectMapper().readTree(Files.readAllLines(file).getFirst());
    assertEquals(List.of("step", "seconds", "batch", "normaliser", "total", "layers"), names(line));
    assertEquals(
        List.of(
            "layer",
            "xy",
            "wh",
            "confidence_object",
            "confidence_background",
            "class",
            "object_count",
            "ignore_count_background",
            "non_finite"),
        names(line.at("/layers/1")));
  }

  @Test
  void aStepThatIsThereTwice() throws IOException {
    Path file = folder.resolve("steps.jsonl");
    String line = "{\"step\": %d, \"total\": %s, \"layers\": [{\"xy\": 1}, {\"xy\": \"NaN\"}]}";
    Files.write(
        file,
        List.of(
            line.formatted(3, "1"),
            line.formatted(1, "\"Infinity\""),
            "",
            "[]",
            "null",
            "{\"step\": 1.5, \"layers\": []}",
            line.formatted(3, "2"),
            "{\"step\": 4, \"layers\": 1}"));
    LossCurve curve = LossCurve.read(file);
    assertEquals(List.of(1L, 3L), curve.steps().stream().map(LossCurve.Step::number).toList());
    assertEquals(Double.POSITIVE_INFINITY, curve.steps().getFirst().total());
    assertEquals(2, curve.steps().getLast().total());
    assertEquals(Arrays.asList(4, 5, 6, 8), curve.malformedLines());
    Files.writeString(file, "text\n");
    String sentence = assertThrows(IOException.class, () -> LossCurve.read(file)).getMessage();
    assertTrue(sentence.startsWith(file + ": no line is a JSON object with step"), sentence);
  }
}
