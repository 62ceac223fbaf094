package io.github.yololoss.cli.commands;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.CommandTest;
import io.github.yololoss.cli.Page;
import io.github.yololoss.cli.report.Curve;
import io.github.yololoss.kit.LossLog;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Logs that the library writes, and what {@code compare} makes of them. */
class CompareCommandTest extends CommandTest {
  private final List<LossResult.Parts> written = new ArrayList<>(); // over the layers
  private final List<Double> totals = new ArrayList<>();

  /** A log of a training whose objectness falls from step to step. */
  private Path log(String name, int first, int steps, boolean append) throws IOException {
    Path file = folder.resolve(name);
    YoloSpec tiny = YoloSpec.tinyYolov3(3, 64, 64);
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = YoloLoss.open(tiny, 1);
        LossLog log = append ? LossLog.append(file) : LossLog.create(file)) {
      MemorySegment[] feats = tiny.allocate(arena, 1);
      MemorySegment boxes = arena.allocateFrom(JAVA_FLOAT, 8, 10, 60, 50, 2);
      LossResult result = loss.newResult();
      for (int step = first; step < first + steps; step++) {
        for (MemorySegment layer : feats) {
          for (long i = 4; i < layer.byteSize() / 4; i += 8) {
            layer.setAtIndex(JAVA_FLOAT, i, -step / 100f);
          }
        }
        if (name.equals("nan.jsonl") && step == 2) {
          feats[0].setAtIndex(JAVA_FLOAT, 4, Float.NaN);
        }
        loss.compute(1, feats, Targets.boxes(boxes, 1), null, LossOptions.DEFAULT, result);
        log.write(step, result);
        written.add(result.layer(0).plus(result.layer(1)));
        totals.add(result.total());
      }
    }
    return file;
  }

  @Test
  void aLogIsReadAsItWasWritten() throws Exception {
    Path log = log("run.jsonl", 0, 10, false);
    JsonNode line = new ObjectMapper().readTree(Files.readAllLines(log).get(3));
    assertEquals(3, line.get("step").asInt());
    assertEquals(totals.get(3), line.get("total").asDouble());
    assertEquals(1, line.get("batch").asInt());
    assertTrue(line.get("seconds").asDouble() > 0);
    assertEquals(
        1, line.at("/layers/0/object_count").asInt() + line.at("/layers/1/object_count").asInt());
    JsonNode json = json("compare", log, "--json", "-");
    assertEquals(10, json.at("/runs/0/points").size());
    for (int i = 0; i < 10; i++) {
      JsonNode point = json.at("/runs/0/points/" + i);
      assertEquals(i, point.get("step").asInt());
      assertEquals(totals.get(i), point.get("total").asDouble());
      assertEquals(written.get(i).xy(), point.get("xy").asDouble());
      assertEquals(written.get(i).wh(), point.get("wh").asDouble());
      assertEquals(written.get(i).confidenceObject(), point.get("confidence_object").asDouble());
      assertEquals(
          written.get(i).confidenceBackground(), point.get("confidence_background").asDouble());
      assertEquals(written.get(i).classes(), point.get("class").asDouble());
    }
    assertEquals(totals.getFirst(), json.at("/runs/0/first/total").asDouble());
    assertEquals(totals.getLast(), json.at("/runs/0/last_tenth/total").asDouble());
    assertEquals(
        totals.stream().mapToDouble(t -> t).min().orElseThrow(),
        json.at("/runs/0/least_total").asDouble());
  }

  /** What a training that was killed and resumed leaves. */
  @Test
  void aResumedTraining() throws Exception {
    Path log = log("run.jsonl", 0, 5, false);
    Files.writeString(log, "{\"step\": 5, \"total\": 1", StandardOpenOption.APPEND);
    log("run.jsonl", 3, 4, true);
    Ended ended = run("compare", log, "--json", "-");
    assertTrue(
        ended.err().contains("malformed lines are skipped: 1, the first is line 6"), ended.err());
    JsonNode points = new ObjectMapper().readTree(ended.out()).at("/runs/0/points");
    assertEquals(7, points.size());
    assertEquals(totals.get(6), points.get(4).get("total").asDouble(), "the later line of step 4");
    assertEquals(6, points.get(6).get("step").asInt());
  }

  @Test
  void manySteps() throws Exception {
    Path log = log("run.jsonl", 100, 1000, false);
    JsonNode run = json("compare", log, "--json", "-").at("/runs/0");
    assertEquals(1000, run.get("steps").asInt());
    assertEquals(334, run.get("points").size(), "means of 3");
    assertEquals(
        (totals.get(3) + totals.get(4) + totals.get(5)) / 3,
        run.at("/points/1/total").asDouble(),
        1e-12 * totals.get(3));
    assertEquals(105, run.at("/points/1/step").asInt());
    assertEquals(1099, run.at("/points/333/step").asInt());
    assertEquals(
        totals.subList(900, 1000).stream().mapToDouble(t -> t).average().orElseThrow(),
        run.at("/last_tenth/total").asDouble(),
        1e-12);
  }

  @Test
  void thePage() throws Exception {
    Path a = log("<img src=x onerror=alert(1)>.jsonl", 0, 30, false);
    Path b = log("nan.jsonl", 0, 5, false);
    Path html = folder.resolve("curves.html");
    JsonNode json = json("compare", a, b, "--output", html, "--json", "-");
    Page page = Page.read(html);
    page.assertStandsAlone();
    assertTrue(page.assertNumbersAreThoseOf(json) > 30);
    assertTrue(page.texts("name").contains(a.toString()), page.texts("name").toString());
    assertTrue(!page.source().contains("<img"));
    int charts = Curve.ALL.size();
    assertEquals(2 * charts, page.elements("path").size(), "two runs on each chart");
    String broken = page.elements("path").get(1).getAttribute("d"); // total of the one with NaN
    assertEquals("M", broken.replaceAll("[^M]", "").substring(1), "in two pieces: " + broken);
    assertEquals("NaN", json.at("/runs/1/points/2/total").asText());
    Ended table = run("compare", a, b);
    assertEquals(4, table.out().lines().count(), table.out());
  }

  @Test
  void refused() throws Exception {
    refused(3, "no such file", "compare", folder.resolve("none.jsonl"));
    refused(3, "no line is a JSON object with step", "compare", spec);
    refused(3, "not UTF-8", "compare", sample.resolve("feats_0.npy"));
    refused(2, "RUN.jsonl", "compare");
  }
}
