package io.github.yololoss.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.yololoss.Npy;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The commands: results, exit codes, and the one sentence for what is wrong. */
class CommandLineTest {
  private static final Path GOLDEN = Path.of("src/test/resources/golden");

  @TempDir
  Path folder;

  private Path sample; // a copy of the sample, to spoil
  private Path spec;

  private record Ended(int code, String out, String err) {}

  private static Ended run(Object... arguments) {
    StringWriter out = new StringWriter();
    StringWriter err = new StringWriter();
    int code = Main.run(new PrintWriter(out), new PrintWriter(err),
        Arrays.stream(arguments).map(Object::toString).toArray(String[]::new));
    return new Ended(code, out.toString(), err.toString());
  }

  private static void refused(int code, String words, Object... arguments) {
    Ended ended = run(arguments);
    assertEquals(code, ended.code, ended.err);
    assertTrue(ended.err.startsWith("yololoss: ") && ended.err.contains(words), ended.err);
    assertEquals(code == Main.USAGE ? 2 : 1, ended.err.lines().count(), "one sentence: " + ended.err);
    assertFalse(ended.err.contains("Exception"), ended.err);
    assertEquals("", ended.out);
  }

  @BeforeEach
  void writeSample() {
    sample = folder.resolve("sample");
    spec = sample.resolve("expected.json");
    Ended ended = run("sample", "--output", sample);
    assertEquals(0, ended.code, ended.err);
  }

  @Test
  void theSampleByItself() {
    Ended ended = run("loss", "--sample");
    assertEquals(0, ended.code, ended.err);
    assertTrue(ended.out.contains("total") && ended.out.contains("99.9065"), ended.out);
    assertEquals(ended.out, run("loss", sample, "--spec", spec).out);
    assertTrue(ended.err.contains("batch 2, cpu (auto: "), ended.err);
  }

  @ParameterizedTest
  @CsvSource({"cpu,dense", "cpu,boxes", "reference,dense", "reference,boxes", "auto,dense"})
  void lossAsJsonAndGradient(String device, String targets) throws IOException {
    Path gradient = folder.resolve("a/b");
    Ended ended = run("loss", sample, "--spec", spec, "--device", device, "--targets", targets, "--json", "-",
        "--gradient", gradient);
    assertEquals(0, ended.code, ended.err);
    JsonNode got = new ObjectMapper().readTree(ended.out);
    JsonNode want = new ObjectMapper().readTree(Files.readAllBytes(spec));
    assertEquals(want.get("total").doubleValue(), got.get("total").doubleValue(), 1e-4);
    for (int l = 0; l < 3; l++) {
      for (String field : new String[] {"xy", "wh", "confidence", "class", "object_count", "ignore_count",
          "ignore_count_background", "ignore_mask_sum"}) {
        assertEquals(want.get("layers").get(l).get(field).doubleValue(),
            got.get("layers").get(l).get(field).doubleValue(), 1e-4, field);
      }
    }
    assertEquals(device.equals("auto") ? "cpu" : device, got.get("device").get("name").textValue());
    assertFalse(got.get("device").get("why").textValue().isEmpty());
    assertEquals(targets.equals("boxes"), got.has("boxes"));
    Files.copy(spec, gradient.resolve("expected.json"));
    Ended verified = run("verify", sample, "--spec", spec, "--against", gradient);
    assertEquals(0, verified.code, verified.out);
  }

  @Test
  void jsonFileAndPrintLoss() throws IOException {
    Path json = folder.resolve("r.json");
    Ended ended = run("loss", sample, "--spec", spec, "--json", json, "--print-loss");
    assertEquals(0, ended.code, ended.err);
    assertEquals(99.9065, new ObjectMapper().readTree(Files.readAllBytes(json)).get("total").doubleValue(), 1e-4);
    String[] lines = ended.out.lines().filter(line -> line.startsWith("loss: ")).toArray(String[]::new);
    assertEquals(3, lines.length);
    assertTrue(lines[0].matches("loss: \\[11\\.3017\\d*\\]\\[0\\.99152\\d*\\]\\[0\\.00705\\d*\\]\\[10\\.0993\\d*\\]"
        + "\\[0\\.20381\\d*\\]\\[22\\]"), lines[0]);
    assertTrue(lines[2].startsWith("loss: [99.9065") && lines[2].endsWith("[370]"), lines[2]);
    assertEquals(0, run("verify", sample, "--spec", spec, "--against", json).code);
  }

  @ParameterizedTest
  @ValueSource(strings = {"b_one_class_416", "c_tiny_2scale", "d_nonsquare", "e_empty_and_crowded", "e2_all_empty",
      "f_soft_targets", "g_extreme_logits", "h_builder_edges"})
  void goldenCasesVerify(String name) throws IOException {
    Path c = GOLDEN.resolve(name);
    for (String device : new String[] {"cpu", "reference"}) {
      Ended ended = run("verify", c, "--spec", c.resolve("expected.json"), "--against", c, "--device", device);
      assertEquals(0, ended.code, ended.out);
      assertTrue(ended.out.contains("grad_1") && ended.out.contains("layer 1 class") && ended.out.contains("all "));
    }
    if (Files.exists(c.resolve("boxes.npy"))) {
      Path made = folder.resolve(name);
      Ended ended = run("targets", "--boxes", c.resolve("boxes.npy"), "--spec", c.resolve("expected.json"), "--output", made);
      assertEquals(0, ended.code, ended.err);
      for (int l = 0; Files.exists(c.resolve("y_true_" + l + ".npy")); l++) {
        assertArrayEquals(Files.readAllBytes(c.resolve("y_true_" + l + ".npy")),
            Files.readAllBytes(made.resolve("y_true_" + l + ".npy")), "the file, to the byte");
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
    assertEquals(1, ended.code, ended.out);
    assertTrue(ended.out.contains("worst at image 1, row 2, column 3, anchor 1, class 2"), ended.out);
    assertTrue(ended.out.contains("1 of 25 differ"), ended.out);
    assertEquals(0, run("verify", sample, "--spec", spec, "--against", theirs, "--grad-atol", "0.3").code);
    Files.writeString(theirs.resolve("r.json"), "{\"total\": 99.8}");
    ended = run("verify", sample, "--spec", spec, "--against", theirs.resolve("r.json"));
    assertEquals(1, ended.code, ended.out);
    assertTrue(ended.out.startsWith("FAIL total"), ended.out);
  }

  @Test
  void usage() {
    refused(2, "Unmatched argument", "lose");
    refused(2, "Unknown option: '--sparse'", "loss", "--sparse");
    refused(2, "unknown device 'gpu', expected auto, reference, cpu, cuda or cuda:N", "loss", sample, "--spec", spec,
        "--device", "gpu");
    refused(2, "--targets", "loss", sample, "--spec", spec, "--targets", "both");
    refused(2, "give DIR and --spec FILE, or --sample alone", "loss", sample);
    refused(2, "give DIR and --spec FILE, or --sample alone", "loss", sample, "--sample");
    refused(2, "Missing required", "targets", "--spec", spec, "--output", folder);
    refused(2, "Missing required option: '--against=FILE|DIR'", "verify", sample, "--spec", spec);
    Ended nothing = run();
    assertEquals(2, nothing.code);
    assertTrue(nothing.err.contains("Usage: yololoss") && nothing.out.isEmpty());
    Ended help = run("--help");
    assertEquals(0, help.code);
    assertTrue(help.out.contains("Exit codes:"), help.out);
    assertEquals(0, run("loss", "--help").code);
    assertEquals(0, run("--version").code);
  }

  @Test
  void missingDevice() {
    refused(4, "cuda:0 cannot be used: ", "loss", sample, "--spec", spec, "--device", "cuda");
    refused(4, "cuda:7 cannot be used: ", "verify", sample, "--spec", spec, "--against", sample, "--device", "cuda:7");
  }

  @Test
  void badFiles() throws IOException {
    refused(3, "none: no such folder", "loss", folder.resolve("none"), "--spec", spec);
    refused(3, "expected.json: not a folder", "loss", spec, "--spec", spec);
    refused(3, "none.json: no such file or folder", "loss", sample, "--spec", folder.resolve("none.json"));
    refused(3, "neither y_true_0.npy nor boxes.npy", "loss", emptied("y_true_0.npy", "boxes.npy"), "--spec", spec);
    refused(3, "boxes.npy: no such file or folder", "loss", emptied("boxes.npy"), "--spec", spec, "--targets", "boxes");
    refused(3, "feats_2.npy: no such file or folder", "loss", emptied("feats_2.npy"), "--spec", spec);
    refused(3, "r.json: no such file or folder", "loss", sample, "--spec", spec, "--json", folder.resolve("none/r.json"));
    refused(3, "expected.json/x: Not a directory", "loss", sample, "--spec", spec, "--gradient", spec.resolve("x"));
    refused(3, "neither expected.json nor grad_0.npy", "verify", sample, "--spec", spec, "--against",
        Files.createDirectories(folder.resolve("empty")));
    refused(3, "no such file or folder", "verify", sample, "--spec", spec, "--against", folder.resolve("none"));

    Files.copy(sample.resolve("feats_0.npy"), sample.resolve("feats_3.npy"));
    refused(3, "feats_3.npy: the spec has only 3 layers", "loss", sample, "--spec", spec);
    Files.delete(sample.resolve("feats_3.npy"));
    Files.copy(sample.resolve("feats_1.npy"), sample.resolve("feats_0.npy"), java.nio.file.StandardCopyOption.REPLACE_EXISTING);
    refused(3, "feats_0.npy: shape (2, 4, 4, 24), expected (2, 2, 2, 24) (B, H, W, A*(5+C)) with A = 3 and C = 3 of the "
        + "spec", "loss", sample, "--spec", spec);
    Files.writeString(sample.resolve("feats_0.npy"), "text, not numbers");
    refused(3, "feats_0.npy: not a .npy file", "loss", sample, "--spec", spec);
  }

  private Path emptied(String... names) throws IOException {
    Path copy = Files.createTempDirectory(folder, "copy").resolve("x");
    TestFiles.copy(sample, copy, path -> !java.util.List.of(names).contains(path.getFileName().toString()));
    return copy;
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', value = {
      "\"num_classes\": 3 | \"num_classes\": 4 | feats_0.npy: shape (2, 2, 2, 24), expected (2, 2, 2, 27)",
      "\"num_classes\": 3 | \"num_classes\": 0 | num_classes is 0, at least 1",
      "\"num_classes\": 3 | \"num_classes\": 3.5 | num_classes is 3.5, a whole number is expected",
      "\"num_classes\": 3 | \"classes\": 3 | the field num_classes is missing",
      "\"input_shape\": [64, 64] | \"input_shape\": [64] | input_shape is [64], [height, width] is expected",
      "\"input_shape\": [64, 64] | \"input_shape\": [70, 64] | input_shape [70, 64] is not a multiple of the stride 32",
      "\"input_shape\": [64, 64] | \"input_shape\": 64 | input_shape is 64, a list of whole numbers is expected",
      "\"ignore_thresh\": 0.5 | \"ignore_thresh\": \"x\" | ignore_thresh is \"x\", a number is expected",
      "[5, 6] | [5] | anchors[0] is [5], [width, height] is expected",
      "[5, 6] | [5, -6] | finite sizes > 0 in pixels",
      "[0, 1, 2] | [0, 1, 9] | anchor_mask of layer 2 names anchor 9, expected 0..8",
      "[0, 1, 2] | [] | number of anchors of a layer is 0",
      "\"batch\": 2 | \"batch\": 2, | not JSON"})
  void badSpecs(String from, String to, String words) throws IOException {
    String text = Files.readString(spec);
    assertTrue(text.contains(from));
    Files.writeString(spec, text.replace(from, to));
    refused(3, words, "loss", sample, "--spec", spec);
  }

  @Test
  void specsOfOtherForms() throws IOException {
    for (String text : new String[] {"", "[1]", "{", "null", "\"x\""}) {
      Files.writeString(spec, text);
      refused(3, "expected.json: ", "loss", sample, "--spec", spec);
    }
  }

  @Test
  void stridesOfASpec() throws IOException {
    // The sample's layers 1 and 2 as a network of their own.
    JsonNode root = new ObjectMapper().readTree(Files.readAllBytes(spec));
    Path two = folder.resolve("two");
    TestFiles.copy(sample, two, path -> !path.getFileName().toString().matches(".*_[012].npy|boxes.npy"));
    for (int l = 0; l < 2; l++) {
      Files.copy(sample.resolve("feats_" + (l + 1) + ".npy"), two.resolve("feats_" + l + ".npy"));
      Files.copy(sample.resolve("y_true_" + (l + 1) + ".npy"), two.resolve("y_true_" + l + ".npy"));
    }
    Files.writeString(two.resolve("spec.json"), "{\"strides\": [16, 8], \"num_classes\": 3, \"ignore_thresh\": 0.5, "
        + "\"input_shape\": [64, 64], \"anchor_mask\": [[3, 4, 5], [0, 1, 2]], \"anchors\": " + root.get("anchors") + "}");
    Ended ended = run("loss", two, "--spec", two.resolve("spec.json"), "--json", "-");
    assertEquals(0, ended.code, ended.err);
    assertEquals(root.get("layers").get(2).get("class").doubleValue(),
        new ObjectMapper().readTree(ended.out).get("layers").get(1).get("class").doubleValue(), 1e-5);
  }

  private Path annotations(String text) throws IOException {
    for (int[] size : new int[][] {{640, 480}, {100, 200}}) {
      BufferedImage picture = new BufferedImage(size[0], size[1], BufferedImage.TYPE_BYTE_GRAY);
      ImageIO.write(picture, size[0] == 640 ? "jpg" : "png", folder.resolve("p" + size[0] + ".img").toFile());
    }
    return Files.writeString(folder.resolve("train.txt"), text);
  }

  @Test
  void targetsFromAnnotations() throws IOException {
    // 640x480 into 64x64: scale 0.1, dy = 8. 100x200: scale 0.32, dx = 16.
    Path file = annotations("p640.img 100,99,300,201,1 0,0,639,479,2\n\np100.img\np100.img 11,50,60,110,0\n");
    Path made = folder.resolve("made");
    Ended ended = run("targets", "--annotations", file, "--spec", spec, "--output", made);
    assertEquals(0, ended.code, ended.err);
    assertTrue(ended.out.startsWith("3 images, at most 2 boxes in one; 3 boxes used, 0 skipped"), ended.out);
    try (Arena arena = Arena.ofConfined()) {
      Npy boxes = Npy.map(made.resolve("boxes.npy"), arena);
      assertArrayEquals(new long[] {3, 2, 5}, boxes.shape());
      assertArrayEquals(new float[] {10, 17, 30, 28, 1, 0, 8, 63, 55, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 19, 16, 35, 35, 0,
          0, 0, 0, 0, 0}, boxes.data().toArray(ValueLayout.JAVA_FLOAT));
    }
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', value = {
      "p640.img 1,2,3,4 | train.txt: line 1: the box '1,2,3,4' is not x_min,y_min,x_max,y_max,class in whole numbers",
      "p640.img 1,2,3,4,x | the box '1,2,3,4,x' is not",
      "none.jpg 1,2,30,40,0 | none.jpg: no such file",
      "train.txt 1,2,30,40,0 | train.txt: not a picture",
      "p640.img 10,20,300,400,3 | image 0, row 0 [1, 10, 30, 48, 3] has a class that is not a whole number in 0..C-1",
      "p640.img 10,20,10,400,1 | has no area"})
  void badAnnotations(String text, String words) throws IOException {
    refused(3, words, "targets", "--annotations", annotations(text), "--spec", spec, "--output", folder.resolve("out"));
  }

  @Test
  void badBoxesCanBeSkipped() throws IOException {
    Path file = annotations("p640.img 10,20,300,400,3 10,20,300,400,2");
    Ended ended = run("targets", "--annotations", file, "--spec", spec, "--output", folder.resolve("out"), "--bad-boxes", "skip");
    assertEquals(0, ended.code, ended.err);
    assertTrue(ended.out.contains("1 boxes used, 1 skipped"), ended.out);
    refused(3, "train.txt: no image in it", "targets", "--annotations", annotations(" \n"), "--spec", spec, "--output", folder);
    refused(3, "boxes.npy: shape (2, 2, 2, 24), expected (B, T, 5)", "targets", "--boxes",
        Files.copy(sample.resolve("feats_0.npy"), Files.createDirectories(folder.resolve("wrong")).resolve("boxes.npy")),
        "--spec", spec, "--output", folder);
  }

  /** Real photographs, where the data set lies beside the checkout; skipped elsewhere. */
  @Test
  void truthsOfTheBloodCells() throws IOException {
    Path train = Path.of("../shared/bccd/train.txt");
    assumeTrue(Files.exists(train), "no BCCD data set beside the checkout");
    Ended ended = run("targets", "--annotations", train, "--spec", GOLDEN.resolve("bccd_416.spec.json"), "--output", folder);
    assertEquals(0, ended.code, ended.err);
    JsonNode want = new ObjectMapper().readTree(Files.readAllBytes(GOLDEN.resolve("bccd_416.expected.json")));
    try (Arena arena = Arena.ofConfined()) {
      assertArrayEquals(new long[] {want.get("images").longValue(), want.get("largest").longValue(), 5},
          Npy.map(folder.resolve("boxes.npy"), arena).shape());
      for (int l = 0; l < 3; l++) {
        MemorySegment yTrue = Npy.map(folder.resolve("y_true_" + l + ".npy"), arena).data();
        double[] sums = new double[8];
        for (long i = 0; i < yTrue.byteSize() / 4; i++) {
          sums[(int) (i % 8)] += yTrue.getAtIndex(ValueLayout.JAVA_FLOAT, i);
        }
        assertEquals(want.get("objects").get(l).doubleValue(), sums[4]);
        assertEquals(want.get("class_flags").get(l).doubleValue(), sums[5] + sums[6] + sums[7]);
        for (int i = 0; i < 4; i++) {
          assertEquals(want.get("coordinate_sums").get(l).get(i).doubleValue(), sums[i], 1e-9);
        }
      }
    }
  }

  @Test
  void info() {
    Ended ended = run("info");
    assertEquals(0, ended.code, ended.err);
    assertTrue(ended.out.contains("library    0.1.0, ") && ended.out.contains("cpu        usable: cpu")
        && ended.out.contains("cuda:0     not used: "), ended.out);
  }
}
