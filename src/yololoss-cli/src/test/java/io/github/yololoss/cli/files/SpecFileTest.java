package io.github.yololoss.cli.files;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.yololoss.cli.CommandTest;
import io.github.yololoss.cli.TestFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Specs that are read, and sentences for those that are not. */
class SpecFileTest extends CommandTest {
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "\"num_classes\": 3 | \"num_classes\": 4 | feats_0.npy: shape (2, 2, 2, 24), expected (2,"
            + " 2, 2, 27)",
        "\"num_classes\": 3 | \"num_classes\": 0 | num_classes is 0, at least 1",
        "\"num_classes\": 3 | \"num_classes\": 3.5 | num_classes is 3.5, a whole number is"
            + " expected",
        "\"num_classes\": 3 | \"classes\": 3 | the field num_classes is missing",
        "\"input_shape\": [64, 64] | \"input_shape\": [64] | input_shape is [64], [height, width]"
            + " is expected",
        "\"input_shape\": [64, 64] | \"input_shape\": [70, 64] | input_shape [70, 64] is not a"
            + " multiple of the stride 32",
        "\"input_shape\": [64, 64] | \"input_shape\": 64 | input_shape is 64, a list of whole"
            + " numbers is expected",
        "\"ignore_thresh\": 0.5 | \"ignore_thresh\": \"x\" | ignore_thresh is \"x\", a number is"
            + " expected",
        "[5, 6] | [5] | anchors[0] is [5], [width, height] is expected",
        "[5, 6] | [5, -6] | finite sizes > 0 in pixels",
        "[0, 1, 2] | [0, 1, 9] | anchor_mask of layer 2 names anchor 9, expected 0..8",
        "[0, 1, 2] | [] | number of anchors of a layer is 0",
        "\"batch\": 2 | \"batch\": 2, | not JSON"
      })
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
    TestFiles.copy(
        sample, two, path -> !path.getFileName().toString().matches(".*_[012].npy|boxes.npy"));
    for (int l = 0; l < 2; l++) {
      Files.copy(sample.resolve("feats_" + (l + 1) + ".npy"), two.resolve("feats_" + l + ".npy"));
      Files.copy(sample.resolve("y_true_" + (l + 1) + ".npy"), two.resolve("y_true_" + l + ".npy"));
    }
    Files.writeString(
        two.resolve("spec.json"),
        "{\"strides\": [16, 8], \"num_classes\": 3, \"ignore_thresh\": 0.5, "
            + "\"input_shape\": [64, 64], \"anchor_mask\": [[3, 4, 5], [0, 1, 2]], \"anchors\": "
            + root.get("anchors")
            + "}");
    Ended ended = run("loss", two, "--spec", two.resolve("spec.json"), "--json", "-");
    assertEquals(0, ended.code(), ended.err());
    assertEquals(
        root.get("layers").get(2).get("class").doubleValue(),
        new ObjectMapper().readTree(ended.out()).get("layers").get(1).get("class").doubleValue(),
        1e-5);
  }
}
