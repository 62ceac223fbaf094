package io.github.yololoss.cli.commands;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.cli.CommandTest;
import io.github.yololoss.cli.files.ExitCode;
import io.github.yololoss.kit.Npy;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

class BenchCommandTest extends CommandTest {
  private final ObjectMapper mapper = new ObjectMapper();

  @Test
  void theShortForm() throws IOException {
    Path json = folder.resolve("bench.json");
    Ended ended =
        run(
            "bench",
            "--classes",
            "1,2",
            "--batch",
            "2",
            "--seconds",
            "0.001",
            "--threads",
            "2",
            "--json",
            json);
    assertEquals(0, ended.code(), ended.err());
    List<String> lines = ended.out().lines().toList();
    assertEquals(3 + 2 * 3, lines.size(), ended.out());
    assertTrue(lines.get(0).startsWith("cpu (") && lines.get(0).contains("2 threads"), ended.out());
    assertTrue(
        lines.get(8).strip().matches("2 +2 +boxes-refresh .*\\(.*\\) .*\\(.*\\)"), ended.out());
    JsonNode all = mapper.readTree(json.toFile());
    assertEquals(12, all.get("figures").size());
    for (JsonNode figure : all.get("figures")) {
      JsonNode other = all.get("figures").get(figure.get("classes").asInt() == 1 ? 0 : 6);
      assertEquals(other.get("loss").asDouble(), figure.get("loss").asDouble(), "dense or boxes");
      assertTrue(figure.get("median_ms").asDouble() > 0 && figure.get("calls").asInt() >= 3);
    }
    assertTrue(!all.get("machine").asText().isEmpty() && all.get("date").asText().startsWith("20"));
    Ended quiet =
        run("bench", "--classes", "1", "--batch", "1", "--seconds", "0.001", "--json", "-");
    assertEquals(6, mapper.readTree(quiet.out()).get("figures").size());
  }

  @Test
  void refusals() {
    refused(ExitCode.USAGE.code(), "whole numbers from 1 on", "bench", "--batch", "0");
    refused(ExitCode.USAGE.code(), "--seconds is 0.0", "bench", "--seconds", "0");
    refused(ExitCode.USAGE.code(), "", "bench", "--device", "abacus");
    refused(ExitCode.BAD_INPUT.code(), "threads is 2000", "bench", "--threads", "2000");
  }

  /** The sample as the programs beside ours have it: its loss, gradient and errors by the line. */
  @Test
  void serves() throws IOException {
    JsonNode expected = mapper.readTree(spec.toFile());
    ObjectNode meta = mapper.createObjectNode();
    meta.put("classes", 3).put("batch", 2).put("input", 64);
    expected.get("anchors").forEach(pair -> pair.forEach(meta.withArray("anchors")::add));
    meta.set("loss_f64", expected.get("total"));
    mapper.writeValue(sample.resolve("meta.json").toFile(), meta);
    try (Arena arena = Arena.ofConfined()) {
      Npy given = Npy.map(sample.resolve("boxes.npy"), arena);
      MemorySegment rows = arena.allocate(4 * given.size(), 4);
      for (long i = 0; i < given.size(); i += 5) {
        double[] values = {
          (given.get(i) + given.get(i + 2)) / 128,
          (given.get(i + 1) + given.get(i + 3)) / 128,
          (given.get(i + 2) - given.get(i)) / 64,
          (given.get(i + 3) - given.get(i + 1)) / 64,
          given.get(i + 4)
        };
        for (int k = 0; k < 5; k++) {
          rows.setAtIndex(ValueLayout.JAVA_FLOAT, i + k, (float) values[k]);
        }
      }
      long[] shape = given.shape();
      Files.delete(sample.resolve("boxes.npy"));
      Npy.write(sample.resolve("boxes.npy"), rows, shape);
    }
    InputStream before = System.in;
    String asked =
        sample
            + " grad dense 0.001\n"
            + sample
            + " grad boxes-refresh 0.001\n"
            + sample
            + " fwd boxes 0.001\n"
            + sample
            + " fwd sideways 1\n"
            + folder.resolve("none")
            + " fwd dense 1\nwhat\n";
    System.setIn(new ByteArrayInputStream(asked.getBytes(StandardCharsets.UTF_8)));
    Ended ended;
    try {
      ended = run("bench", "--serve", "--device", "cpu");
    } finally {
      System.setIn(before);
    }
    assertEquals(0, ended.code(), ended.err());
    List<String> lines = ended.out().lines().toList();
    assertEquals(7, lines.size(), ended.out());
    assertEquals("ready", lines.get(0));
    JsonNode dense = mapper.readTree(lines.get(1));
    JsonNode refreshed = mapper.readTree(lines.get(2));
    assertTrue(dense.get("rel_err").asDouble() < 1e-6, lines.get(1));
    assertEquals(dense.get("loss"), refreshed.get("loss"));
    assertEquals(dense.get("grad"), refreshed.get("grad"));
    double[] digest = new double[2];
    try (Arena arena = Arena.ofConfined()) {
      for (int l = 0; l < 3; l++) {
        Npy grad = Npy.map(sample.resolve("grad_" + l + ".npy"), arena);
        for (long i = 0; i < grad.size(); i++) {
          digest[0] += Math.abs(grad.get(i));
          digest[1] += grad.get(i) * (1 + i % 1009);
        }
      }
    }
    for (int i = 0; i < 2; i++) {
      assertEquals(digest[i], dense.get("grad").get(i).asDouble(), 1e-5 * Math.abs(digest[i]));
    }
    assertTrue(mapper.readTree(lines.get(3)).get("grad").isNull(), lines.get(3));
    assertTrue(lines.get(4).contains("unknown variant sideways"), lines.get(4));
    assertTrue(lines.get(5).contains("error"), lines.get(5));
    assertTrue(lines.get(6).contains("is not DIR fwd|grad VARIANT SECONDS"), lines.get(6));
  }
}
