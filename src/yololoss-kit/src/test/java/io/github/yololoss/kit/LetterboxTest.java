package io.github.yololoss.kit;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.FeatsLayout;
import java.awt.Color;
import java.awt.Graphics2D;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** The letterbox against a Python program of its own, for all sizes; and what it draws. */
@Execution(ExecutionMode.SAME_THREAD)
class LetterboxTest {
  private static final Path PROGRAM = Path.of("src/yololoss-kit/src/test/resources/letterbox.py");
  private static final int MOST = 2000;

  private static String digest(int w, int h) throws GeneralSecurityException {
    MessageDigest sha = MessageDigest.getInstance("SHA-256");
    ByteBuffer row = ByteBuffer.allocate(8 * 4 * MOST).order(ByteOrder.LITTLE_ENDIAN);
    for (int iw = 1; iw <= MOST; iw++) {
      row.clear();
      for (int ih = 1; ih <= MOST; ih++) {
        Letterbox to = new Letterbox(iw, ih, w, h);
        row.putInt(to.width()).putInt(to.height()).putInt(to.dx()).putInt(to.dy());
        float[] box = to.toInput(new Annotations.Box(iw / 3, ih - 1, iw, ih, 0));
        for (int i = 0; i < 4; i++) {
          row.putInt((int) box[i]);
        }
      }
      sha.update(row.flip());
    }
    return HexFormat.of().formatHex(sha.digest());
  }

  @Test
  void allSizesAsPythonPlacesThem() throws Exception {
    int inputs = 0;
    for (String line : Files.readAllLines(PROGRAM.resolveSibling("letterbox.txt"))) {
      String[] words = line.split(" ");
      assertEquals(words[2], digest(Integer.parseInt(words[0]), Integer.parseInt(words[1])), line);
      inputs++;
    }
    assertEquals(3, inputs);
    System.out.println(
        "guarantee: the letterbox of keras-yolo3 for all pictures up to 2,000 x 2,000 in "
            + inputs
            + " inputs");
  }

  /** The committed digests are those of the program, where it can run. */
  @Test
  void theProgramStillSaysSo() throws Exception {
    Process python;
    try {
      python =
          new ProcessBuilder("python3", PROGRAM.toString(), "320", "256")
              .redirectErrorStream(true)
              .start();
    } catch (IOException e) {
      return; // python3 is not installed
    }
    String printed = new String(python.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, python.waitFor(), printed);
    String committed = Files.readString(PROGRAM.resolveSibling("letterbox.txt"));
    assertTrue(committed.contains("320 256 " + printed.strip()), printed);
  }

  @Test
  void thereAndBack() {
    Random random = new Random(1);
    for (int i = 0; i < 10_000; i++) {
      int w = 30 + random.nextInt(1500);
      int h = 30 + random.nextInt(1500);
      Letterbox letterbox = new Letterbox(w, h, 416, 320);
      Annotations.Box box = new Annotations.Box(w / 5, h / 4, w * 4 / 5, h, 3);
      float[] in = letterbox.toInput(box);
      Detections.Box back =
          letterbox.toPicture(new Detections.Box(in[0], in[1], in[2], in[3], 3, 0.5));
      double pixel = 1 / letterbox.scale() + 1e-9; // truncation takes less than one of the input
      assertEquals(box.xMin(), back.x0(), pixel);
      assertEquals(box.yMin(), back.y0(), pixel);
      assertEquals(box.xMax(), back.x1(), pixel);
      assertEquals(box.yMax(), back.y1(), pixel);
    }
    Letterbox flat = new Letterbox(2000, 1000, 400, 400);
    assertEquals( // in the upper border
        new Detections.Box(50, 0, 100, 0, 1, 0.5),
        flat.toPicture(new Detections.Box(10, 20, 20, 90, 1, 0.5)));
  }

  @Test
  void boxesOutsideThePictureAreTruncatedTowardsZero() {
    // int(-9 * 0.65 + 0) is -5, not -6; and nothing is clamped.
    assertArrayEquals(
        new float[] {-5, 46, 422, 364, 1},
        new Letterbox(640, 480, 416, 416).toInput(new Annotations.Box(-9, -9, 650, 480, 1)));
  }

  @Test
  void drawn() {
    BufferedImage photo = new BufferedImage(1000, 400, BufferedImage.TYPE_INT_ARGB);
    Graphics2D graphics = photo.createGraphics();
    graphics.setColor(Color.RED);
    graphics.fillRect(0, 0, 500, 400);
    graphics.setColor(Color.BLUE);
    graphics.fillRect(500, 0, 500, 400);
    graphics.dispose();
    Letterbox to = new Letterbox(1000, 400, 96, 64);
    BufferedImage input = to.draw(photo);
    assertEquals(96, input.getWidth());
    assertEquals(64, input.getHeight());
    int top = to.dy();
    int bottom = top + to.height();
    for (int y = 0; y < 64; y++) {
      boolean border = y < top || y >= bottom;
      assertEquals(border ? 0xff808080 : 0xffff0000, input.getRGB(10, y), "row " + y);
      assertEquals(border ? 0xff808080 : 0xff0000ff, input.getRGB(85, y), "row " + y);
    }
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment values = arena.allocate(12L * 64 * 96, 4);
      long pixel = 32 * 96 + 85;
      Letterbox.values(input, FeatsLayout.NHWC, values);
      assertEquals(0, values.getAtIndex(ValueLayout.JAVA_FLOAT, 3 * pixel));
      assertEquals(1, values.getAtIndex(ValueLayout.JAVA_FLOAT, 3 * pixel + 2));
      Letterbox.values(input, FeatsLayout.NCHW, values);
      assertEquals(0, values.getAtIndex(ValueLayout.JAVA_FLOAT, pixel));
      assertEquals(1, values.getAtIndex(ValueLayout.JAVA_FLOAT, 2 * 64 * 96 + pixel));
      assertEquals(128 / 255f, values.getAtIndex(ValueLayout.JAVA_FLOAT, 64 * 96));
    }
  }

  @Test
  void extremeSizes() {
    Letterbox line = new Letterbox(2000, 1, 416, 416);
    assertEquals(0, line.height());
    BufferedImage drawn = line.draw(new BufferedImage(2000, 1, BufferedImage.TYPE_INT_RGB));
    assertEquals(0xff808080, drawn.getRGB(200, 208)); // nothing of it can be shown
    assertThrows(IllegalArgumentException.class, () -> new Letterbox(0, 1, 416, 416));
    assertThrows(IllegalArgumentException.class, () -> new Letterbox(1, 1, 416, 0));
    String sentence =
        assertThrows(
                IllegalArgumentException.class,
                () -> line.draw(new BufferedImage(3, 4, BufferedImage.TYPE_INT_RGB)))
            .getMessage();
    assertEquals("the picture is 3x4, 2000x1 is expected", sentence);
  }
}
