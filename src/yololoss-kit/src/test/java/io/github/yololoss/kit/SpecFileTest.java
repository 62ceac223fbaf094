package io.github.yololoss.kit;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.LossRules;
import io.github.yololoss.YoloSpec;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Specs that are written and read back, and messages for those that cannot be. */
class SpecFileTest {
  private static final String TINY =
      """
      {"anchors": [[10, 14], [23, 27], [37, 58]], "anchor_mask": [[1, 2], [0, 1]],
       "num_classes": 3, "ignore_thresh": 0.5, "input_shape": [96, 64]}
      """;

  @TempDir Path folder;

  @Test
  void aGoldenCaseIsASpec() throws IOException {
    for (String name : List.of("a_small_3scale", "c_tiny_2scale", "d_nonsquare")) {
      Path file = Path.of("src/test/resources/golden", name, "expected.json");
      SpecFile read = SpecFile.read(file);
      assertEquals(LossRules.DEFAULT, read.rules());
      Path written = folder.resolve(name + ".json");
      read.write(written);
      assertEquals(read, SpecFile.read(written));
      ObjectNode mine = Json.read(written);
      ObjectNode theirs = Json.read(file);
      for (String field : List.of("anchor_mask", "num_classes", "input_shape")) {
        assertEquals(theirs.get(field), mine.get(field));
      }
    }
  }

  @Test
  void theFieldsOfAFile() {
    assertEquals(
        "{\"anchors\":[[10.0,14.0],[23.0,27.0],[37.0,58.0],[81.0,82.0],[135.0,169.0],"
            + "[344.0,319.0]],\"anchor_mask\":[[3,4,5],[1,2,3]],\"strides\":[32,16],"
            + "\"num_classes\":2,\"ignore_thresh\":0.5,\"input_shape\":[64,96]}",
        new SpecFile(YoloSpec.tinyYolov3(2, 64, 96)).toJson().toString());
  }

  @Test
  void rulesGoBothWays() throws IOException {
    YoloSpec spec = YoloSpec.tinyYolov3(2, 64, 96);
    List<LossRules> all =
        List.of(
            LossRules.DEFAULT,
            LossRules.DEFAULT.withWeights(0.1f, 1, 1, 1, 1),
            LossRules.DEFAULT.withWeights(1, 1, 1, 1, 0),
            LossRules.DEFAULT.withClassWeights(List.of(0.3f, 2f)),
            LossRules.DEFAULT.withIgnoreThresholds(List.of(0.5f, 0.7f)),
            LossRules.DEFAULT.withLabelSmoothing(0.05f),
            LossRules.DEFAULT.withIgnoreScope(LossRules.IgnoreScope.IMAGE),
            LossRules.DEFAULT
                .withWeights(2, 3, 4, 5, 6)
                .withClassWeights(List.of(1f, 1f))
                .withLabelSmoothing(1)
                .withIgnoreThresholds(List.of(0.5f, 0.5f))
                .withIgnoreScope(LossRules.IgnoreScope.IMAGE));
    for (LossRules rules : all) {
      SpecFile file = new SpecFile(spec, rules);
      assertEquals(file, SpecFile.parse(file.toJson().toString(), "x"), rules.toString());
    }
    assertFalse(new SpecFile(spec).toJson().has("weights"));
  }

  @Test
  void numbersKeepTheirBits() throws IOException {
    Random random = new Random(1);
    for (int i = 0; i < 2000; i++) {
      float value = Float.intBitsToFloat(random.nextInt(0x7f800000)); // any that is finite, > 0
      float[][] anchors = {{value, Math.max(value / 3, Float.MIN_VALUE)}};
      SpecFile file = new SpecFile(YoloSpec.of(1, 32, 32, anchors, new int[][] {{0}}, value));
      assertEquals(file, SpecFile.parse(file.toJson().toPrettyString(), "x"));
    }
  }

  @Test
  void stridesOfItsOwn() throws IOException {
    int[] strides = {8, 4};
    SpecFile file =
        new SpecFile(
            YoloSpec.of(1, 64, 40, new float[][] {{1, 2}}, new int[][] {{0}, {0}}, strides, 0.5f));
    assertEquals(file, SpecFile.parse(file.toJson().toString(), "x"));
    YoloSpec odd =
        new YoloSpec(
            1,
            64,
            64,
            List.of(new YoloSpec.Anchor(1, 2)),
            List.of(new YoloSpec.Layer(2, 4, List.of(0))),
            0.5f);
    assertEquals(
        "the grid 2x4 is not the input 64x64 divided by one stride; a spec file cannot express"
            + " that",
        assertThrows(IllegalArgumentException.class, () -> new SpecFile(odd).toJson())
            .getMessage());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "\"num_classes\": 3 | \"num_classes\": 0 | num_classes is 0, at least 1 is expected",
        "\"num_classes\": 3 | \"num_classes\": 3.5 | num_classes is 3.5, a whole number is"
            + " expected",
        "\"num_classes\": 3 | \"num_classes\": 99999999999 | a whole number is expected",
        "\"num_classes\": 3 | \"classes\": 3 | the field num_classes is missing",
        "[96, 64] | [64] | input_shape is [64], [height, width] is expected",
        "[96, 64] | [70, 64] | input_shape [70, 64] is not a multiple of the stride 32 of layer 0",
        "[96, 64] | 64 | input_shape is 64, a list of whole numbers is expected",
        "0.5 | \"x\" | ignore_thresh is \"x\", a number is expected",
        "0.5 | [] | ignore_thresh is [], a number is expected",
        "0.5 | [0.5] | ignore_thresh has 1 values, 2 are expected, one for each layer",
        "[10, 14] | [10] | anchors[0] is [10], [width, height] is expected",
        "[10, 14] | [10, -14] | finite sizes > 0 in pixels are expected",
        "[0, 1] | [0, 9] | anchor_mask of layer 1 names anchor 9, expected 0..2",
        "[0, 1] | [] | number of anchors of a layer is 0",
        "[0, 1] | 0 | anchor_mask[1] is 0, a list of whole numbers is expected",
        "\"num_classes\" | \"strides\": [32], \"num_classes\" | 1 strides for 2 layers",
        "\"num_classes\" | \"class_weights\": [1], \"num_classes\" | class_weights has 1 values, 3"
            + " are expected, one for each class",
        "\"num_classes\" | \"weights\": 1, \"num_classes\" | weights is 1, an object is expected",
        "\"num_classes\" | \"weights\": {\"hw\": 1}, \"num_classes\" | weights has hw, expected"
            + " some",
        "\"num_classes\" | \"ignore_scope\": \"all\", \"num_classes\" | ignore_scope is \"all\","
            + " \"layer\" or \"image\" is expected",
        "\"num_classes\": 3 | \"num_classes\": 3, | not JSON"
      })
  void refusedSpecs(String from, String to, String words) {
    assertTrue(TINY.contains(from), from);
    String text = TINY.replace(from, to);
    String sentence =
        assertThrows(IOException.class, () -> SpecFile.parse(text, "here")).getMessage();
    assertTrue(sentence.startsWith("here: ") && sentence.contains(words), sentence);
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "[1]", "{", "null", "\"x\"", "{}"})
  void otherJson(String text) throws IOException {
    Path file = Files.writeString(folder.resolve("spec.json"), text);
    String sentence = assertThrows(IOException.class, () -> SpecFile.read(file)).getMessage();
    assertTrue(sentence.startsWith(file + ": "), sentence);
  }

  @Test
  void noFile() {
    assertThrows(NoSuchFileException.class, () -> SpecFile.read(folder.resolve("none.json")));
    String sentence = assertThrows(IOException.class, () -> SpecFile.read(folder)).getMessage();
    assertTrue(sentence.endsWith("is a folder, a JSON file is expected"), sentence);
  }
}
