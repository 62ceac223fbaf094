package io.github.yololoss.cli.commands;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.yololoss.cli.CommandTest;
import io.github.yololoss.kit.Npy;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Truths from annotation files and boxes. */
class TargetsCommandTest extends CommandTest {
  private Path annotations(String text) throws IOException {
    for (int[] size : new int[][] {{640, 480}, {100, 200}}) {
      BufferedImage picture = new BufferedImage(size[0], size[1], BufferedImage.TYPE_BYTE_GRAY);
      ImageIO.write(
          picture, size[0] == 640 ? "jpg" : "png", folder.resolve("p" + size[0] + ".img").toFile());
    }
    return Files.writeString(folder.resolve("train.txt"), text);
  }

  @Test
  void targetsFromAnnotations() throws IOException {
    // 640x480 into 64x64: scale 0.1, dy = 8. 100x200: scale 0.32, dx = 16.
    Path file =
        annotations(
            "p640.img 100,99,300,201,1 0,0,639,479,2\n\np100.img\np100.img 11,50,60,110,0\n");
    Path made = folder.resolve("made");
    Ended ended = run("targets", "--annotations", file, "--spec", spec, "--output", made);
    assertEquals(0, ended.code(), ended.err());
    assertTrue(
        ended.out().startsWith("3 images, at most 2 boxes in one; 3 boxes used, 0 skipped"),
        ended.out());
    try (Arena arena = Arena.ofConfined()) {
      Npy boxes = Npy.map(made.resolve("boxes.npy"), arena);
      assertArrayEquals(new long[] {3, 2, 5}, boxes.shape());
      assertArrayEquals(
          new float[] {
            10, 17, 30, 28, 1, 0, 8, 63, 55, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 19, 16, 35, 35, 0, 0,
            0, 0, 0, 0
          },
          boxes.data().toArray(ValueLayout.JAVA_FLOAT));
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "p640.img 1,2,3,4 | train.txt: line 1: the box '1,2,3,4' is not"
            + " x_min,y_min,x_max,y_max,class in whole numbers",
        "p640.img 1,2,3,4,x | the box '1,2,3,4,x' is not",
        "none.jpg 1,2,30,40,0 | none.jpg: no such file",
        "train.txt 1,2,30,40,0 | train.txt: not a picture",
        "../p640.img 1,2,30,40,0 | train.txt: line 1: ../p640.img is outside the folder of the"
            + " list",
        "x/../../p640.img 1,2,30,40,0 | is outside",
        "/etc/hostname 1,2,30,40,0 | line 1: /etc/hostname is outside",
        "p640.img 10,20,300,400,3 | image 0, row 0 [1, 10, 30, 48, 3] has a class that is not a"
            + " whole number in 0..C-1",
        "p640.img 10,20,10,400,1 | has no area"
      })
  void badAnnotations(String text, String words) throws IOException {
    refused(
        3,
        words,
        "targets",
        "--annotations",
        annotations(text),
        "--spec",
        spec,
        "--output",
        folder.resolve("out"));
  }

  @Test
  void aPathThatIsNone() throws IOException {
    refused(
        3,
        "train.txt: line 1: not a path: Nul character not allowed",
        "targets",
        "--annotations",
        annotations("a\0b.jpg 1,2,30,40,0"),
        "--spec",
        spec,
        "--output",
        folder.resolve("out"));
  }

  @Test
  void badBoxesCanBeSkipped() throws IOException {
    Path file = annotations("p640.img 10,20,300,400,3 10,20,300,400,2");
    Ended ended =
        run(
            "targets",
            "--annotations",
            file,
            "--spec",
            spec,
            "--output",
            folder.resolve("out"),
            "--bad-boxes",
            "skip");
    assertEquals(0, ended.code(), ended.err());
    assertTrue(ended.out().contains("1 boxes used, 1 skipped"), ended.out());
    refused(
        3,
        "train.txt: no image in it",
        "targets",
        "--annotations",
        annotations(" \n"),
        "--spec",
        spec,
        "--output",
        folder);
    refused(
        3,
        "boxes.npy: shape (2, 2, 2, 24), expected (B, T, 5)",
        "targets",
        "--boxes",
        Files.copy(
            sample.resolve("feats_0.npy"),
            Files.createDirectories(folder.resolve("wrong")).resolve("boxes.npy")),
        "--spec",
        spec,
        "--output",
        folder);
  }

  @Test
  void tooLarge() throws IOException {
    Path boxes = sample.resolve("boxes.npy");
    String text = Files.readString(spec);
    Files.writeString(spec, text.replace("[64, 64]", "[2147483616, 2147483616]"));
    refused(3, "cells", "targets", "--boxes", boxes, "--spec", spec, "--output", folder);
    Files.writeString(spec, text);
    String header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2147483647, 0, 5), }";
    byte[] start = {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (byte) header.length(), 0};
    Files.write(boxes, start);
    Files.writeString(boxes, header, java.nio.file.StandardOpenOption.APPEND);
    Ended ended = run("targets", "--boxes", boxes, "--spec", spec, "--output", folder);
    assertEquals(3, ended.code(), ended.err()); // not addressable, or more than the memory
    assertEquals(1, ended.err().lines().count(), ended.err());
  }

  /** Real photographs, where the data set lies beside the checkout; skipped elsewhere. */
  @Test
  void truthsOfTheBloodCells() throws IOException {
    Path train = Path.of("../shared/bccd/train.txt");
    assumeTrue(Files.exists(train), "no BCCD data set beside the checkout");
    Ended ended =
        run(
            "targets",
            "--annotations",
            train,
            "--spec",
            GOLDEN.resolve("bccd_416.spec.json"),
            "--output",
            folder);
    assertEquals(0, ended.code(), ended.err());
    JsonNode want =
        new ObjectMapper().readTree(Files.readAllBytes(GOLDEN.resolve("bccd_416.expected.json")));
    try (Arena arena = Arena.ofConfined()) {
      assertArrayEquals(
          new long[] {want.get("images").longValue(), want.get("largest").longValue(), 5},
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
}
