package io.github.yololoss.cli.commands;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.FeatsType;
import io.github.yololoss.cli.CommandTest;
import io.github.yololoss.kit.Npy;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Options of {@code loss} and {@code verify}, rules in a spec, and {@code audit}. */
class OptionsCommandTest extends CommandTest {
  private JsonNode loss(Path dir, Object... more) throws IOException {
    Object[] start = {"loss", dir, "--spec", spec, "--json", "-"};
    Object[] all = Arrays.copyOf(start, start.length + more.length);
    System.arraycopy(more, 0, all, start.length, more.length);
    return json(all);
  }

  /** (B, H, W, C) as (B, C, H, W), in a type of two or four bytes. */
  static void asPlanes(Path from, Path to, FeatsType type) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      Npy array = Npy.map(from, arena);
      long[] s = array.shape();
      MemorySegment out = arena.allocate(array.size() * type.bytes(), 8);
      for (long i = 0; i < array.size(); i++) {
        long channel = i % s[3];
        long place = i / s[3] % (s[1] * s[2]);
        long image = i / s[3] / s[1] / s[2];
        long at = (image * s[3] + channel) * s[1] * s[2] + place;
        float value = (float) array.get(i);
        if (type == FeatsType.FLOAT32) {
          out.setAtIndex(JAVA_FLOAT, at, value);
        } else {
          out.setAtIndex(JAVA_SHORT, at, Float.floatToFloat16(value));
        }
      }
      Npy.write(to, type, out, s[0], s[3], s[1], s[2]);
    }
  }

  @Test
  void planes() throws Exception {
    Path planes = Files.createDirectories(folder.resolve("planes"));
    for (int l = 0; l < 3; l++) {
      String end = "_" + l + ".npy";
      asPlanes(sample.resolve("feats" + end), planes.resolve("feats" + end), FeatsType.FLOAT32);
      asPlanes(sample.resolve("grad" + end), planes.resolve("grad" + end), FeatsType.FLOAT32);
      Files.copy(sample.resolve("y_true" + end), planes.resolve("y_true" + end));
    }
    Files.copy(spec, planes.resolve("expected.json"));
    assertEquals(
        loss(sample).get("total").asDouble(),
        loss(planes, "--layout", "nchw").get("total").asDouble());
    Ended verified = run("verify", planes, "--spec", spec, "--against", planes, "--layout", "nchw");
    assertEquals(0, verified.code(), verified.out() + verified.err());
    verified = run("verify", planes, "--spec", spec, "--against", planes);
    assertEquals(1, verified.code(), verified.out() + verified.err());
    assertTrue(
        verified
            .out()
            .contains("no value differs, but the layout does: feats are NCHW, not NHWC\n"),
        verified.out());
    assertTrue(verified.out().endsWith("all 25 agree with --layout nchw\n"), verified.out());
    Path gradients = Files.createDirectories(folder.resolve("gradients"));
    Files.copy(planes.resolve("grad_0.npy"), gradients.resolve("grad_0.npy"));
    refused(
        3,
        "grad_0.npy: shape (2, 24, 2, 2) is NCHW, feats are NHWC; permute one of them",
        "verify",
        sample,
        "--spec",
        spec,
        "--against",
        gradients);
    refused(
        3,
        "expected (2, 24, 2, 2) (B, A*(5+C), H, W)",
        "loss",
        sample,
        "--spec",
        spec,
        "--layout",
        "nchw");
    refused(2, "--layout", "loss", sample, "--spec", spec, "--layout", "chwn");
  }

  /** What another program does differently is named: here it is this one with other switches. */
  @Test
  void verifyNamesTheConvention() throws Exception {
    Path crowded = Path.of("src/test/resources/golden/e_empty_and_crowded");
    Path image =
        Files.writeString(
            folder.resolve("image.json"),
            Files.readString(crowded.resolve("expected.json"))
                .replaceFirst("\\{", "{\"ignore_scope\": \"image\","));
    record Convention(Path spec, String normaliser, String named) {}
    for (Convention c :
        new Convention[] {
          new Convention(crowded.resolve("expected.json"), "none", "--normaliser none\n"),
          new Convention(crowded.resolve("expected.json"), "objects", "--normaliser objects\n"),
          new Convention(crowded.resolve("expected.json"), "8400", "--normaliser 8400\n"),
          new Convention(crowded.resolve("expected.json"), "0.7", "--normaliser 0.7"),
          new Convention(image, "batch", "\"ignore_scope\": \"image\" in the spec\n"),
          new Convention(
              image, "8400", "--normaliser 8400, \"ignore_scope\": \"image\" in the spec"),
        }) {
      Path theirs = Files.createDirectories(folder.resolve("theirs"));
      Ended made =
          run(
              "loss",
              crowded,
              "--spec",
              c.spec,
              "--gradient",
              theirs,
              "--normaliser",
              c.normaliser,
              "--json",
              theirs.resolve("expected.json"));
      assertEquals(0, made.code(), made.err());
      Ended verified =
          run("verify", crowded, "--spec", crowded.resolve("expected.json"), "--against", theirs);
      assertEquals(1, verified.code(), verified.out());
      assertTrue(verified.out().contains("agree with " + c.named), verified.out());
    }
    // One total alone fits any divisor: only a whole one is named.
    for (String json :
        new String[] {"{\"total\": 99.8}", "{\"total\": 0, \"layers\": [{\"xy\": 0}, {}, {}]}"}) {
      Path total = Files.writeString(folder.resolve("total.json"), json);
      Ended verified = run("verify", sample, "--spec", spec, "--against", total);
      assertEquals(1, verified.code(), verified.out() + verified.err());
      assertTrue(
          verified.out().endsWith("no other layout, normaliser or ignore scope makes them agree\n"),
          verified.out());
    }
  }

  @Test
  void halves() throws Exception {
    Path halves = Files.createDirectories(folder.resolve("halves"));
    for (int l = 0; l < 3; l++) {
      String end = "_" + l + ".npy";
      asPlanes(sample.resolve("feats" + end), halves.resolve("feats" + end), FeatsType.FLOAT16);
      Files.copy(sample.resolve("y_true" + end), halves.resolve("y_true" + end));
    }
    Path out = folder.resolve("out");
    JsonNode fine = loss(halves, "--layout", "nchw", "--gradient", out);
    assertEquals(99.9065, fine.get("total").asDouble(), 0.05);
    assertEquals(0, fine.get("found_inf").asInt());
    try (Arena arena = Arena.ofConfined()) {
      assertEquals(FeatsType.FLOAT16, Npy.map(out.resolve("grad_0.npy"), arena).valueType());
    }
    JsonNode lost =
        loss(
            halves,
            "--layout",
            "nchw",
            "--gradient",
            out,
            "--gradient-scale",
            "1e6",
            "--find-nan",
            "used");
    assertTrue(lost.get("found_inf").asInt() > 0);
    assertEquals("OVERFLOW", lost.get("offender").get("cause").asText());
    Ended told =
        run(
            "loss",
            halves,
            "--spec",
            spec,
            "--layout",
            "nchw",
            "--gradient",
            out,
            "--gradient-scale",
            "1e6");
    assertTrue(told.err().contains("elements of the gradient are not finite"), told.err());
    JsonNode wide =
        loss(
            halves,
            "--layout",
            "nchw",
            "--gradient",
            out,
            "--gradient-scale",
            "1e6",
            "--f32-gradient");
    assertEquals(0, wide.get("found_inf").asInt());
    Files.copy(
        sample.resolve("feats_1.npy"),
        halves.resolve("feats_1.npy"),
        java.nio.file.StandardCopyOption.REPLACE_EXISTING);
    refused(3, "feats_1.npy: ", "loss", halves, "--spec", spec, "--layout", "nchw");
  }

  @Test
  void rulesOfTheSpec() throws Exception {
    JsonNode plain = loss(sample);
    Path original = spec;
    ObjectNode changed = (ObjectNode) new ObjectMapper().readTree(Files.readAllBytes(original));
    changed.putObject("weights").put("xy", 2).put("background", 0);
    spec = folder.resolve("rules.json");
    new ObjectMapper().writeValue(spec.toFile(), changed);
    JsonNode weighted = loss(sample);
    for (int l = 0; l < 3; l++) {
      JsonNode a = plain.get("layers").get(l);
      JsonNode b = weighted.get("layers").get(l);
      assertEquals(2 * a.get("xy").asDouble(), b.get("xy").asDouble());
      assertEquals(0, b.get("confidence_background").asDouble());
      assertEquals(a.get("class").asDouble(), b.get("class").asDouble());
    }
    changed.remove("weights");
    changed.putArray("class_weights").add(0).add(0).add(0);
    changed.put("label_smoothing", 0.1).put("ignore_scope", "image");
    changed.putArray("ignore_thresh").add(0.5).add(0.6).add(0.7);
    new ObjectMapper().writeValue(spec.toFile(), changed);
    assertEquals(0, loss(sample).get("layers").get(0).get("class").asDouble());
    changed.putArray("class_weights").add(1);
    new ObjectMapper().writeValue(spec.toFile(), changed);
    refused(3, "class_weights has 1 values, 3 are expected", "loss", sample, "--spec", spec);
    changed.remove("class_weights");
    changed.put("ignore_scope", "world");
    new ObjectMapper().writeValue(spec.toFile(), changed);
    refused(3, "ignore_scope is \"world\"", "loss", sample, "--spec", spec);
    changed.remove("ignore_scope");
    changed.putObject("weights").put("boxes", 2);
    new ObjectMapper().writeValue(spec.toFile(), changed);
    refused(3, "weights has boxes", "loss", sample, "--spec", spec);
  }

  @Test
  void normaliserStatisticsMapsAndAccumulation() throws Exception {
    double total = loss(sample).get("total").asDouble();
    assertEquals(2 * total, loss(sample, "--normaliser", "none").get("total").asDouble(), 1e-9);
    assertEquals(
        2 * total / 7, loss(sample, "--normaliser", "objects").get("total").asDouble(), 1e-9);
    assertEquals(2 * total / 5, loss(sample, "--normaliser", "5").get("total").asDouble(), 1e-9);
    for (String value : List.of("NaN", "Infinity")) {
      String words = "--gradient-scale is " + value + ", a finite number is expected";
      refused(2, words, "loss", sample, "--spec", spec, "--gradient-scale", value);
    }
    for (int chunk : new int[] {0, -1}) {
      String words = "--chunk is " + chunk + ", at least 1 is expected";
      refused(2, words, "loss", sample, "--spec", spec, "--chunk", chunk);
    }
    refused(2, "is not batch", "loss", sample, "--spec", spec, "--normaliser", "-1");
    JsonNode first = loss(sample, "--statistics").get("layers").get(1).get("statistics");
    assertEquals(3, first.get("object_count").asInt());
    assertTrue(first.get("mean_iou").asDouble() > 0);
    Ended table = run("loss", sample, "--spec", spec, "--statistics", "--find-nan", "all");
    assertTrue(table.out().contains("mean IoU"), table.out());
    assertTrue(table.out().contains("every value that was searched is finite"), table.out());

    Path out = folder.resolve("out");
    Path maps = folder.resolve("maps");
    loss(sample, "--gradient", out, "--maps", maps);
    loss(sample, "--gradient", out, "--accumulate");
    try (Arena arena = Arena.ofConfined()) {
      Npy once = Npy.map(sample.resolve("grad_2.npy"), arena);
      Npy twice = Npy.map(out.resolve("grad_2.npy"), arena);
      for (long i = 0; i < once.size(); i++) {
        assertEquals(2 * once.get(i), twice.get(i), 1e-5);
      }
      Npy mask = Npy.map(maps.resolve("ignore_mask_2.npy"), arena);
      assertEquals("(2, 8, 8, 3)", mask.shapeText());
      long ignored = 0;
      for (long i = 0; i < mask.size(); i++) {
        ignored += mask.get(i) == 0 ? 1 : 0;
      }
      assertEquals(14, ignored);
    }
    refused(2, "--accumulate needs", "loss", sample, "--spec", spec, "--accumulate");
    Path none = folder.resolve("none");
    refused(3, "no such file", "loss", sample, "--spec", spec, "--gradient", none, "--accumulate");
  }

  @Test
  void audits() throws Exception {
    Path file = folder.resolve("boxes.npy");
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment rows =
          arena.allocateFrom(JAVA_FLOAT, 10, 10, 30, 40, 1, 60, 10, 68, 30, 0, 5, 5, 9, 30, 7);
      Npy.write(file, rows, 1, 3, 5);
    }
    Ended found = run("audit", "--boxes", file, "--spec", spec);
    assertEquals(1, found.code(), found.err());
    assertTrue(
        found.out().contains("image 0, row 1: centre outside the input (64.0), refused"),
        found.out());
    assertTrue(
        found.out().contains("image 0, row 2: class out of range (7.0), refused"), found.out());
    assertTrue(found.out().contains("1 images, 2 faults"), found.out());
    assertTrue(found.out().contains("use of the anchors"), found.out());
    Ended clamp =
        run("audit", "--boxes", file, "--spec", spec, "--bad-boxes", "clamp", "--json", "-");
    JsonNode json = new ObjectMapper().readTree(clamp.out());
    assertEquals("clamped", json.get("findings").get(0).get("action").asText());
    assertEquals(1, json.get("counts").get("class").asInt());
    Ended dense = run("audit", "--y-true", sample, "--spec", spec);
    assertEquals(0, dense.code(), dense.out() + dense.err());
    refused(2, "--poor-iou", "audit", "--boxes", file, "--spec", spec, "--poor-iou", "3");

    // The same rows under the policies of loss, with weights beside them.
    Path dir = Files.createDirectories(folder.resolve("dir"));
    for (int l = 0; l < 3; l++) {
      try (Arena arena = Arena.ofConfined()) {
        Npy feats = Npy.map(sample.resolve("feats_" + l + ".npy"), arena);
        long[] s = feats.shape();
        Npy.write(
            dir.resolve("feats_" + l + ".npy"),
            feats.data().asSlice(0, feats.data().byteSize() / 2),
            1,
            s[1],
            s[2],
            s[3]);
      }
    }
    Files.copy(file, dir.resolve("boxes.npy"));
    refused(3, "boxes.npy: boxes: image 0, row 1", "loss", dir, "--spec", spec);
    JsonNode boxes = loss(dir, "--bad-boxes", "clamp").get("boxes");
    assertEquals(2, boxes.get("used").asInt());
    assertEquals(1, boxes.get("clamped").asInt());
    assertEquals(1, boxes.get("skipped").asInt());
    double whole = loss(dir, "--bad-boxes", "skip").get("layers").get(0).get("xy").asDouble();
    double sum = 0;
    try (Arena arena = Arena.ofConfined()) {
      Npy.write(dir.resolve("box_weights.npy"), arena.allocate(JAVA_FLOAT, 3), 1, 3);
      for (int l = 0; l < 3; l++) {
        sum += loss(dir, "--bad-boxes", "skip").get("layers").get(l).get("xy").asDouble();
      }
      assertEquals(0, sum);
      assertTrue(whole >= 0);
      Npy.write(dir.resolve("box_weights.npy"), arena.allocate(JAVA_FLOAT, 4), 1, 4);
    }
    refused(3, "box_weights.npy: shape (1, 4), expected (1, 3)", "loss", dir, "--spec", spec);
  }
}
