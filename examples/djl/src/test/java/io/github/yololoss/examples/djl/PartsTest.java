package io.github.yololoss.examples.djl;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.kit.Detections.Box;
import java.awt.image.BufferedImage;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import picocli.CommandLine;

/** What training is made of, without training. */
class PartsTest {
  @TempDir Path folder;

  private static Box box(double x, double score) {
    return new Box(x, 0, x + 10, 10, 0, score);
  }

  @Test
  void averagePrecision() {
    List<List<Box>> truths = List.of(List.of(box(0, 1), box(50, 1)), List.of(box(0, 1)));
    // By score: hit, miss (a second detection of the same truth), hit, miss; one truth is not
    // found.
    List<List<Box>> found =
        List.of(List.of(box(0, 0.9), box(1, 0.8), box(80, 0.1)), List.of(box(2, 0.7)));
    assertEquals((1 + 2 / 3.0) / 3, Detector.averagePrecision(found, truths, 0), 1e-12);
    assertEquals(0, Detector.averagePrecision(List.of(List.of(), List.of()), truths, 0));
    assertTrue(Double.isNaN(Detector.averagePrecision(found, truths, 1)));
    // An IoU of 1/3 is no hit.
    assertEquals(
        0, Detector.averagePrecision(List.of(List.of(box(5, 1))), List.of(List.of(box(0, 1))), 0));
  }

  @Test
  void anchorsAreTheMeansOfClusters() {
    Random random = new Random(3);
    List<double[]> sizes = new ArrayList<>();
    double[][] centres = {{12, 10}, {40, 20}, {20, 60}};
    for (int i = 0; i < 300; i++) {
      double[] c = centres[i % 3];
      sizes.add(new double[] {c[0] + random.nextInt(3) - 1, c[1] + random.nextInt(3) - 1});
    }
    float[][] anchors = Anchors.kMeans(sizes, 3, random);
    for (int n = 0; n < 3; n++) {
      assertEquals(centres[n][0], anchors[n][0], 0.5);
      assertEquals(centres[n][1], anchors[n][1], 0.5);
    }
  }

  /** An image of 200x100 that is black but for a red box. */
  private Dataset redBox() throws Exception {
    BufferedImage image = new BufferedImage(200, 100, BufferedImage.TYPE_INT_RGB);
    for (int y = 20; y < 60; y++) {
      for (int x = 40; x < 120; x++) {
        image.setRGB(x, y, 0xff0000);
      }
    }
    ImageIO.write(image, "png", folder.resolve("a.png").toFile());
    Files.writeString(folder.resolve("train.txt"), "a.png 40,20,120,60,0\n\n");
    return new Dataset(folder.resolve("train.txt"), 1, 64, 64);
  }

  /** The box around the red pixels of an image. */
  private static double[] red(BufferedImage image) {
    double[] around = {1e9, 1e9, -1, -1};
    for (int y = 0; y < image.getHeight(); y++) {
      for (int x = 0; x < image.getWidth(); x++) {
        int rgb = image.getRGB(x, y);
        if ((rgb >> 16 & 255) > (rgb & 255) + 60) {
          around[0] = Math.min(around[0], x);
          around[1] = Math.min(around[1], y);
          around[2] = Math.max(around[2], x + 1);
          around[3] = Math.max(around[3], y + 1);
        }
      }
    }
    return around;
  }

  @Test
  void letterboxed() throws Exception {
    Dataset.Picture picture = redBox().letterboxed(0);
    Box box = picture.boxes().getFirst();
    // Scale 0.32, 16 rows of grey above and below, whole pixels as keras-yolo3 has them.
    assertArrayEquals(
        new double[] {12, 22, 38, 35}, new double[] {box.x0(), box.y0(), box.x1(), box.y1()}, 0);
    assertArrayEquals(
        red(picture.image()), new double[] {box.x0(), box.y0(), box.x1(), box.y1()}, 1.5);
    assertEquals(0x808080, picture.image().getRGB(5, 5) & 0xffffff);
  }

  @Test
  void picturesOfADump() {
    Path dump = Path.of("data/dump");
    assertEquals("images/a.png", Dump.name(dump, Path.of("data/dump/images/a.png")));
    assertEquals("images/a.png", Dump.name(dump, Path.of("data/dump/../dump/images/a.png")));
    Path elsewhere = Path.of("data/images/a.png");
    assertEquals(elsewhere.toAbsolutePath().toString(), Dump.name(dump, elsewhere));
  }

  @Test
  void boxesMoveWithTheImage() throws Exception {
    Dataset data = redBox();
    Random random = new Random(7);
    int seen = 0;
    for (int i = 0; i < 100; i++) {
      Dataset.Picture picture = data.augmented(0, random);
      for (Box box : picture.boxes()) {
        seen++;
        assertArrayEquals(
            red(picture.image()), new double[] {box.x0(), box.y0(), box.x1(), box.y1()}, 2);
      }
    }
    assertTrue(seen > 90, "of 100: " + seen);
  }

  @Test
  void batchesHoldEveryImageOnceAndDependOnTheSeedAlone() throws Exception {
    Files.writeString(folder.resolve("train.txt"), "a.png 40,20,120,60,0\n".repeat(10));
    redBox();
    Files.writeString(folder.resolve("train.txt"), "a.png 40,20,120,60,0\n".repeat(10));
    Dataset data = new Dataset(folder.resolve("train.txt"), 1, 64, 64);
    List<int[]> batches = data.shuffledBatches(4, 5);
    assertEquals(List.of(4, 4, 2), batches.stream().map(b -> b.length).toList());
    assertArrayEquals(
        new int[] {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
        batches.stream().flatMapToInt(java.util.Arrays::stream).sorted().toArray());
    assertArrayEquals(batches.get(1), data.shuffledBatches(4, 5).get(1));
    try (Dataset.Batch batch = data.batch(batches.get(2), null)) {
      assertEquals(4L * 2 * 3 * 64 * 64, batch.images().byteSize());
      assertEquals(4L * 2 * 5, batch.boxes().byteSize());
      assertEquals(1, batch.boxesPerImage());
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "3:a.txt: line 1: the box '1,2,3,4' is not x_min,y_min,x_max,y_max,class",
        "3:classes.txt: no such file",
        "2:--input is 100x100, multiples of 32",
        "2:--scales is 4, 2 or 3",
        "2:give DATA, or --shapes"
      })
  void badInputIsOneSentence(String expected) throws Exception {
    Files.writeString(folder.resolve("classes.txt"), "one\n");
    Files.writeString(folder.resolve("train.txt"), "a.png 1,2,3,4\n");
    String words = expected.substring(2).replace("a.txt", "train.txt");
    String output = folder.resolve("out").toString();
    String[] arguments =
        words.contains("--input is")
            ? new String[] {folder.toString(), "--input", "100x100"}
            : words.contains("--scales")
                ? new String[] {folder.toString(), "--scales", "4"}
                : words.contains("DATA")
                    ? new String[] {"--output", output}
                    : words.contains("classes")
                        ? new String[] {folder.resolve("none").toString(), "--output", output}
                        : new String[] {folder.toString(), "--output", output};
    StringWriter errors = new StringWriter();
    CommandLine line = Train.commandLine().setErr(new PrintWriter(errors, true));
    assertEquals(Integer.parseInt(expected.substring(0, 1)), line.execute(arguments));
    assertTrue(errors.toString().contains(words), errors.toString());
  }
}
