package io.github.yololoss.examples.djl;

import java.awt.Color;
import java.awt.Graphics2D;
import java.awt.Polygon;
import java.awt.RenderingHints;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import javax.imageio.ImageIO;

/** A small data set that is drawn: discs, squares and triangles on a noisy ground. */
public final class Shapes {
  private static final int SIZE = 128;

  private Shapes() {}

  /** Writes images, {@code train.txt}, {@code val.txt} and {@code classes.txt}. */
  public static void write(Path folder, int training, int validation, long seed)
      throws IOException {
    Files.createDirectories(folder.resolve("images"));
    Files.write(folder.resolve("classes.txt"), List.of("disc", "square", "triangle"));
    Random random = new Random(seed);
    Files.write(folder.resolve("train.txt"), draw(folder, "train", training, random));
    Files.write(folder.resolve("val.txt"), draw(folder, "val", validation, random));
  }

  private static List<String> draw(Path folder, String name, int count, Random random)
      throws IOException {
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      BufferedImage image = new BufferedImage(SIZE, SIZE, BufferedImage.TYPE_INT_RGB);
      for (int p = 0; p < SIZE * SIZE; p++) {
        int grey = 90 + random.nextInt(50);
        image.setRGB(p % SIZE, p / SIZE, grey << 16 | grey << 8 | grey);
      }
      Graphics2D g = image.createGraphics();
      g.setRenderingHint(RenderingHints.KEY_ANTIALIASING, RenderingHints.VALUE_ANTIALIAS_ON);
      StringBuilder line = new StringBuilder("images/" + name + i + ".png");
      for (int quadrant = 0; quadrant < 4; quadrant++) { // apart from each other
        if (random.nextInt(4) == 0) {
          continue;
        }
        int size = 20 + random.nextInt(32);
        int x = quadrant % 2 * SIZE / 2 + random.nextInt(SIZE / 2 - size);
        int y = quadrant / 2 * SIZE / 2 + random.nextInt(SIZE / 2 - size);
        int shape = random.nextInt(3);
        g.setColor(Color.getHSBColor(random.nextFloat(), 0.8f, random.nextBoolean() ? 1 : 0.4f));
        switch (shape) {
          case 0 -> g.fillOval(x, y, size, size);
          case 1 -> g.fillRect(x, y, size, size);
          default ->
              g.fillPolygon(
                  new Polygon(
                      new int[] {x, x + size, x + size / 2}, new int[] {y + size, y + size, y}, 3));
        }
        line.append(" %d,%d,%d,%d,%d".formatted(x, y, x + size, y + size, shape));
      }
      g.dispose();
      ImageIO.write(image, "png", folder.resolve("images/" + name + i + ".png").toFile());
      lines.add(line.toString());
    }
    return lines;
  }
}
