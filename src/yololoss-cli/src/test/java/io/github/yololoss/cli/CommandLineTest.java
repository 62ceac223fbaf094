package io.github.yololoss.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.yololoss.CudaDevice;
import io.github.yololoss.kit.Npy;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** The commands: results, exit codes, and the one sentence for what is wrong. */
class CommandLineTest extends CommandTest {
  @Test
  void theSampleByItself() {
    Ended ended = run("loss", "--sample");
    assertEquals(0, ended.code(), ended.err());
    assertTrue(ended.out().contains("total") && ended.out().contains("99.9065"), ended.out());
    assertEquals(ended.out(), run("loss", sample, "--spec", spec).out());
    assertTrue(ended.err().contains("batch 2, cpu (auto: "), ended.err());
  }

  @ParameterizedTest
  @CsvSource({"cpu,dense", "cpu,boxes", "reference,dense", "reference,boxes", "auto,dense"})
  void lossAsJsonAndGradient(String device, String targets) throws IOException {
    Path gradient = folder.resolve("a/b");
    Ended ended =
        run(
            "loss",
            sample,
            "--spec",
            spec,
            "--device",
            device,
            "--targets",
            targets,
            "--json",
            "-",
            "--gradient",
            gradient);
    assertEquals(0, ended.code(), ended.err());
    JsonNode got = new ObjectMapper().readTree(ended.out());
    JsonNode want = new ObjectMapper().readTree(Files.readAllBytes(spec));
    assertEquals(want.get("total").doubleValue(), got.get("total").doubleValue(), 1e-4);
    for (int l = 0; l < 3; l++) {
      for (String field :
          new String[] {
            "xy",
            "wh",
            "confidence",
            "class",
            "object_count",
            "ignore_count",
            "ignore_count_background",
            "ignore_mask_sum"
          }) {
        assertEquals(
            want.get("layers").get(l).get(field).doubleValue(),
            got.get("layers").get(l).get(field).doubleValue(),
            1e-4,
            field);
      }
    }
    assertEquals(device.equals("auto") ? "cpu" : device, got.get("device").get("name").textValue());
    assertFalse(got.get("device").get("why").textValue().isEmpty());
    assertEquals(targets.equals("boxes"), got.has("boxes"));
    Files.copy(spec, gradient.resolve("expected.json"));
    Ended verified = run("verify", sample, "--spec", spec, "--against", gradient);
    assertEquals(0, verified.code(), verified.out());
  }

  @Test
  void jsonFileAndPrintLoss() throws IOException {
    Path json = folder.resolve("r.json");
    Ended ended = run("loss", sample, "--spec", spec, "--json", json, "--print-loss");
    assertEquals(0, ended.code(), ended.err());
    assertEquals(
        99.9065,
        new ObjectMapper().readTree(Files.readAllBytes(json)).get("total").doubleValue(),
        1e-4);
    String[] lines =
        ended.out().lines().filter(line -> line.startsWith("loss: ")).toArray(String[]::new);
    assertEquals(3, lines.length);
    assertTrue(
        lines[0].matches(
            "loss: \\[11\\.3017\\d*\\]\\[0\\.99152\\d*\\]\\[0\\.00705\\d*\\]\\[10\\.0993\\d*\\]"
                + "\\[0\\.20381\\d*\\]\\[22\\]"),
        lines[0]);
    assertTrue(lines[2].startsWith("loss: [99.9065") && lines[2].endsWith("[370]"), lines[2]);
    assertEquals(0, run("verify", sample, "--spec", spec, "--against", json).code());
  }

  static List<Path> goldenCases() throws IOException {
    try (Stream<Path> folders = Files.list(GOLDEN)) {
      return folders.filter(c -> Files.exists(c.resolve("expected.json"))).sorted().toList();
    }
  }

  @ParameterizedTest
  @MethodSource("goldenCases")
  void goldenCasesVerify(Path c) throws IOException {
    for (String device : new String[] {"cpu", "reference"}) {
      Ended ended =
          run(
              "verify",
              c,
              "--spec",
              c.resolve("expected.json"),
              "--against",
              c,
              "--device",
              device);
      assertEquals(0, ended.code(), ended.out());
      assertTrue(
          ended.out().contains("grad_1")
              && ended.out().contains("layer 1 class")
              && ended.out().contains("all "));
    }
    if (Files.exists(c.resolve("boxes.npy"))) {
      Path made = folder.resolve(c.getFileName());
      Ended ended =
          run(
              "targets",
              "--boxes",
              c.resolve("boxes.npy"),
              "--spec",
              c.resolve("expected.json"),
              "--output",
              made);
      assertEquals(0, ended.code(), ended.err());
      for (int l = 0; Files.exists(c.resolve("y_true_" + l + ".npy")); l++) {
        assertArrayEquals(
            Files.readAllBytes(c.resolve("y_true_" + l + ".npy")),
            Files.readAllBytes(made.resolve("y_true_" + l + ".npy")),
            "the file, to the byte");
      }
    }
  }

  @Test
  void verifyFindsWhatDiffers() throws IOException {
    Path theirs = folder.resolve("theirs");
    TestFiles.copy(sample, theirs, path -> true);
    try (Arena arena = Arena.ofConfined()) {
      Npy grad = Npy.map(sample.resolve("grad_1.npy"), arena);
      MemorySegment changed = arena.allocate(grad.data().byteSize()).copyFrom(grad.data());
      // image 1, row 2, column 3, anchor 1, class 2 of the 4x4 grid with 3 anchors of 8 channels
      long at = (((1 * 4 + 2) * 4 + 3) * 3 + 1) * 8 + 7;
      changed.setAtIndex(ValueLayout.JAVA_FLOAT, at, 0.25f);
      Npy.write(theirs.resolve("grad_1.npy"), changed, grad.shape());
    }
    Ended ended = run("verify", sample, "--spec", spec, "--against", theirs);
    assertEquals(1, ended.code(), ended.out());
    assertTrue(
        ended.out().contains("worst at image 1, row 2, column 3, anchor 1, class 2"), ended.out());
    assertTrue(ended.out().contains("1 of 25 differ"), ended.out());
    assertEquals(
        0, run("verify", sample, "--spec", spec, "--against", theirs, "--grad-atol", "0.3").code());
    Files.writeString(theirs.resolve("r.json"), "{\"total\": 99.8}");
    ended = run("verify", sample, "--spec", spec, "--against", theirs.resolve("r.json"));
    assertEquals(1, ended.code(), ended.out());
    assertTrue(ended.out().startsWith("FAIL total"), ended.out());
  }

  @Test
  void verifyIsNotSatisfiedByInfinities() throws IOException {
    Path theirs = folder.resolve("theirs");
    Files.createDirectories(theirs);
    for (int l = 1; l < 3; l++) {
      Files.copy(sample.resolve("grad_" + l + ".npy"), theirs.resolve("grad_" + l + ".npy"));
    }
    for (float value : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
      try (Arena arena = Arena.ofConfined()) {
        Npy grad = Npy.map(sample.resolve("grad_0.npy"), arena);
        MemorySegment changed = arena.allocate(grad.data().byteSize()).copyFrom(grad.data());
        changed.setAtIndex(ValueLayout.JAVA_FLOAT, 4, value);
        Npy.write(theirs.resolve("grad_0.npy"), changed, grad.shape());
      }
      Ended ended = run("verify", sample, "--spec", spec, "--against", theirs);
      assertEquals(1, ended.code(), ended.out());
      assertTrue(ended.out().contains("worst at image 0, row 0, column 0, anchor 0, objectness"));
      assertTrue(ended.out().contains("1 of 3 differ"), ended.out());
    }
    Files.writeString(theirs.resolve("r.json"), "{\"total\": 1e999}");
    assertEquals(
        1, run("verify", sample, "--spec", spec, "--against", theirs.resolve("r.json")).code());
  }

  @Test
  void usage() {
    refused(2, "Unmatched argument", "lose");
    refused(2, "Unknown option: '--sparse'", "loss", "--sparse");
    refused(2, "did you mean --layout?", "loss", sample, "--spec", spec, "--layuot", "nchw");
    refused(2, "did you mean loss?", "losss");
    refused(
        2,
        "--loss-rtol is -1.0, a finite number, at least 0, is expected",
        "verify",
        sample,
        "--spec",
        spec,
        "--against",
        sample,
        "--loss-rtol",
        "-1");
    refused(
        2,
        "unknown device 'gpu', expected auto, reference, cpu, cuda or cuda:N",
        "loss",
        sample,
        "--spec",
        spec,
        "--device",
        "gpu");
    refused(2, "--targets", "loss", sample, "--spec", spec, "--targets", "both");
    refused(2, "give DIR and --spec FILE, or --sample alone", "loss", sample);
    refused(2, "give DIR and --spec FILE, or --sample alone", "loss", sample, "--sample");
    refused(2, "Missing required", "targets", "--spec", spec, "--output", folder);
    refused(2, "Missing required option: '--against=FILE|DIR'", "verify", sample, "--spec", spec);
    Ended nothing = run();
    assertEquals(2, nothing.code());
    assertTrue(nothing.err().contains("Usage: yololoss") && nothing.out().isEmpty());
    Ended help = run("--help");
    assertEquals(0, help.code());
    assertTrue(help.out().contains("Exit codes:"), help.out());
    assertEquals(0, run("loss", "--help").code());
    assertEquals(0, run("--version").code());
  }

  @Test
  void missingDevice() {
    if (CudaDevice.list().isEmpty()) {
      refused(4, "cuda:0 cannot be used: ", "loss", sample, "--spec", spec, "--device", "cuda");
    } else {
      assertEquals(0, run("loss", sample, "--spec", spec, "--device", "cuda").code());
    }
    refused(
        4,
        "cuda:7 cannot be used: ",
        "verify",
        sample,
        "--spec",
        spec,
        "--against",
        sample,
        "--device",
        "cuda:7");
  }

  @Test
  void badFiles() throws IOException {
    refused(3, "none: no such folder", "loss", folder.resolve("none"), "--spec", spec);
    refused(3, "expected.json: not a folder", "loss", spec, "--spec", spec);
    refused(
        3,
        "none.json: no such file or folder",
        "loss",
        sample,
        "--spec",
        folder.resolve("none.json"));
    refused(
        3,
        "neither y_true_0.npy nor boxes.npy",
        "loss",
        emptied("y_true_0.npy", "boxes.npy"),
        "--spec",
        spec);
    refused(
        3,
        "boxes.npy: no such file or folder",
        "loss",
        emptied("boxes.npy"),
        "--spec",
        spec,
        "--targets",
        "boxes");
    refused(
        3, "feats_2.npy: no such file or folder", "loss", emptied("feats_2.npy"), "--spec", spec);
    refused(
        3,
        "r.json: no such file or folder",
        "loss",
        sample,
        "--spec",
        spec,
        "--json",
        folder.resolve("none/r.json"));
    refused(
        3,
        "expected.json/x: Not a directory",
        "loss",
        sample,
        "--spec",
        spec,
        "--gradient",
        spec.resolve("x"));
    refused(
        3,
        "neither expected.json nor grad_0.npy",
        "verify",
        sample,
        "--spec",
        spec,
        "--against",
        Files.createDirectories(folder.resolve("empty")));
    refused(
        3,
        "no such file or folder",
        "verify",
        sample,
        "--spec",
        spec,
        "--against",
        folder.resolve("none"));

    byte[] original = Files.readAllBytes(sample.resolve("feats_0.npy"));
    Files.copy(sample.resolve("feats_0.npy"), sample.resolve("feats_3.npy"));
    refused(3, "feats_3.npy: the spec has only 3 layers", "loss", sample, "--spec", spec);
    Files.delete(sample.resolve("feats_3.npy"));
    Files.copy(
        sample.resolve("feats_1.npy"),
        sample.resolve("feats_0.npy"),
        java.nio.file.StandardCopyOption.REPLACE_EXISTING);
    refused(
        3,
        "feats_0.npy: shape (2, 4, 4, 24), expected (2, 2, 2, 24) (B, H, W, A*(5+C)) with A = 3 and"
            + " C = 3 of the spec",
        "loss",
        sample,
        "--spec",
        spec);
    try (Arena arena = Arena.ofConfined()) {
      Npy.write(sample.resolve("feats_0.npy"), arena.allocate(0), 0, 2, 2, 24);
    }
    refused(
        3,
        "feats_0.npy: shape (0, 2, 2, 24), expected (B, 2, 2, 24)",
        "loss",
        sample,
        "--spec",
        spec);
    refused(3, "sample: is a folder, a JSON file is expected", "loss", sample, "--spec", sample);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment rows = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 1, 1, 9, 9, 7, 1, 1, 9, 9, 0);
      Npy.write(sample.resolve("boxes.npy"), rows, 2, 1, 5);
      Files.write(sample.resolve("feats_0.npy"), original);
    }
    refused(
        3,
        "boxes.npy: boxes: image 0, row 0 [1, 1, 9, 9, 7] has a class",
        "loss",
        sample,
        "--spec",
        spec,
        "--targets",
        "boxes");
    Files.writeString(sample.resolve("feats_0.npy"), "text, not numbers");
    refused(3, "feats_0.npy: not a .npy file", "loss", sample, "--spec", spec);
  }

  private Path emptied(String... names) throws IOException {
    Path copy = Files.createTempDirectory(folder, "copy").resolve("x");
    TestFiles.copy(
        sample, copy, path -> !java.util.List.of(names).contains(path.getFileName().toString()));
    return copy;
  }

  @Test
  void info() throws Exception {
    Ended ended = run("info");
    assertEquals(0, ended.code(), ended.err());
    assertTrue(ended.out().contains("ok    library         0.1.0, "), ended.out());
    assertTrue(ended.out().contains("ok    cpu             usable: cpu"), ended.out());
    assertTrue(ended.out().contains("ok    JVM flags       native access is allowed"), ended.out());
    boolean cuda = !CudaDevice.list().isEmpty();
    assertTrue(
        ended.out().contains("cuda:0          " + (cuda ? "usable: " : "cuda:0 cannot be used: ")),
        ended.out());
    JsonNode json = new ObjectMapper().readTree(run("info", "--json").out());
    assertEquals(ended.out().lines().count(), json.get("checks").size());
    assertTrue(json.get("usable").asBoolean());
  }
}
