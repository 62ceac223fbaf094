package io.github.yololoss.examples.djl;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.examples.djl.Boxes.Box;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.geom.AffineTransform;
import java.awt.image.BufferedImage;
import java.awt.image.DataBufferInt;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.ref.SoftReference;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import javax.imageio.ImageIO;

/**
 * Photographs and their boxes, from an annotation file of keras-yolo3: a line for each image,
 * {@code path x_min,y_min,x_max,y_max,class ...}, paths relative to the file.
 */
public final class Dataset {
  /**
   * A batch off the heap, to be closed.
   *
   * @param size B
   * @param images (B, 3, H, W), 0..1
   * @param boxes (B, T, 5): x_min, y_min, x_max, y_max in input pixels, class; unused rows are zero
   * @param boxesPerImage T
   */
  public record Batch(
      int size, Arena arena, MemorySegment images, MemorySegment boxes, int boxesPerImage)
      implements AutoCloseable {
    @Override
    public void close() {
      arena.close();
    }
  }

  /** An image in the input, and its boxes there. */
  record Picture(BufferedImage image, List<Box> boxes) {}

  private record Sample(Path path, List<Box> boxes) {}

  /** A photograph that was reduced to what the input can show of it, and by how much. */
  private record Photograph(BufferedImage image, double scale) {}

  private final int width;
  private final int height;
  private final List<Sample> samples = new ArrayList<>();
  private final List<SoftReference<Photograph>> photographs = new ArrayList<>();
  private int boxesPerImage = 1;

  /**
   * @param width of the network's input in pixels, height alike
   * @throws IllegalArgumentException for a line that is not an annotation
   */
  public Dataset(Path annotations, int numClasses, int width, int height) throws IOException {
    this.width = width;
    this.height = height;
    int number = 0;
    for (String line : Files.readAllLines(annotations)) {
      number++;
      if (line.isBlank()) {
        continue;
      }
      String[] words = line.strip().split("\\s+");
      List<Box> boxes = new ArrayList<>();
      for (String word : Arrays.asList(words).subList(1, words.length)) {
        boxes.add(box(annotations + ": line " + number, word, numClasses));
      }
      samples.add(new Sample(annotations.resolveSibling(words[0]), boxes));
      photographs.add(new SoftReference<>(null));
      boxesPerImage = Math.max(boxesPerImage, boxes.size());
    }
    if (samples.isEmpty()) {
      throw new IllegalArgumentException(annotations + ": no image in it");
    }
  }

  private static Box box(String where, String word, int numClasses) {
    String[] v = word.split(",", -1);
    try {
      int[] n = Arrays.stream(v).mapToInt(Integer::parseInt).toArray();
      if (n.length == 5 && n[4] >= 0 && n[4] < numClasses) {
        return new Box(n[0], n[1], n[2], n[3], n[4], 1);
      }
    } catch (NumberFormatException e) {
      // as a wrong count
    }
    throw new IllegalArgumentException(
        where + ": '" + word + "' is not x_min,y_min,x_max,y_max,class with class < " + numClasses);
  }

  /** {@return images} */
  public int size() {
    return samples.size();
  }

  List<Path> paths() {
    return samples.stream().map(Sample::path).toList();
  }

  /** Width and height of each box when its image is letterboxed, for the anchors. */
  public List<double[]> boxSizes() throws IOException {
    List<double[]> sizes = new ArrayList<>();
    for (int i = 0; i < samples.size(); i++) {
      for (Box box : letterboxed(i).boxes()) {
        sizes.add(new double[] {box.x1() - box.x0(), box.y1() - box.y0()});
      }
    }
    return sizes;
  }

  /** As keras-yolo3's loader without augmentation: one scale, centred on grey. */
  Picture letterboxed(int i) throws IOException {
    Photograph photo = photograph(i);
    double w = photo.image.getWidth();
    double h = photo.image.getHeight();
    double scale = Math.min(width / w, height / h);
    return draw(
        i,
        scale,
        scale,
        (int) (width - w * scale) / 2,
        (int) (height - h * scale) / 2,
        false,
        false);
  }

  /** Scaled by 0.75 to 1.25, stretched by up to 15%, moved, flipped, and its colours changed. */
  Picture augmented(int i, Random random) throws IOException {
    Photograph photo = photograph(i);
    double w = photo.image.getWidth();
    double h = photo.image.getHeight();
    double scale = Math.min(width / w, height / h) * (0.75 + 0.5 * random.nextDouble());
    double stretch = Math.exp(0.15 * (2 * random.nextDouble() - 1));
    double sx = scale * Math.sqrt(stretch);
    double sy = scale / Math.sqrt(stretch);
    double dx = (width - w * sx) * random.nextDouble(); // cuts off where the image is larger
    double dy = (height - h * sy) * random.nextDouble();
    Picture picture = draw(i, sx, sy, dx, dy, random.nextBoolean(), random.nextBoolean());
    changeColours(picture.image, random);
    return picture;
  }

  private Picture draw(
      int i, double sx, double sy, double dx, double dy, boolean mirror, boolean turn)
      throws IOException {
    AffineTransform to = new AffineTransform();
    if (mirror) {
      to.translate(width, 0);
      to.scale(-1, 1);
    }
    if (turn) {
      to.translate(0, height);
      to.scale(1, -1);
    }
    to.translate(dx, dy);
    to.scale(sx, sy);
    BufferedImage image = new BufferedImage(width, height, BufferedImage.TYPE_INT_RGB);
    Arrays.fill(pixels(image), 0x808080);
    Graphics2D graphics = image.createGraphics();
    graphics.setRenderingHint(
        RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_BILINEAR);
    Photograph photo = photograph(i);
    graphics.drawImage(photo.image, to, null);
    graphics.dispose();

    to.scale(photo.scale, photo.scale); // boxes are in pixels of the photograph as it is on disk
    List<Box> boxes = new ArrayList<>();
    for (Box box : samples.get(i).boxes) {
      double[] c = {box.x0(), box.y0(), box.x1(), box.y1()};
      to.transform(c, 0, c, 0, 2);
      double x0 = Math.clamp(Math.min(c[0], c[2]), 0, width);
      double y0 = Math.clamp(Math.min(c[1], c[3]), 0, height);
      double x1 = Math.clamp(Math.max(c[0], c[2]), 0, width);
      double y1 = Math.clamp(Math.max(c[1], c[3]), 0, height);
      double whole = Math.abs((c[2] - c[0]) * (c[3] - c[1]));
      if (x1 - x0 > 2 && y1 - y0 > 2 && (x1 - x0) * (y1 - y0) > 0.3 * whole) {
        boxes.add(new Box(x0, y0, x1, y1, box.classId(), 1));
      }
    }
    return new Picture(image, boxes);
  }

  private static int[] pixels(BufferedImage image) {
    return ((DataBufferInt) image.getRaster().getDataBuffer()).getData();
  }

  /** Brightness, contrast, saturation, and the balance of the three colours. */
  private static void changeColours(BufferedImage image, Random random) {
    double contrast = 0.8 + 0.4 * random.nextDouble();
    double brightness = 40 * (random.nextDouble() - 0.5);
    double saturation = 0.6 + 0.8 * random.nextDouble();
    double[] gain = new double[3];
    for (int c = 0; c < 3; c++) {
      gain[c] = contrast * (0.95 + 0.1 * random.nextDouble());
    }
    int[] pixels = pixels(image);
    for (int p = 0; p < pixels.length; p++) {
      int rgb = pixels[p];
      double[] v = {rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255};
      double grey = (v[0] + v[1] + v[2]) / 3;
      int changed = 0;
      for (int c = 0; c < 3; c++) {
        double value = grey + saturation * (v[c] - grey);
        value = 128 + gain[c] * (value - 128) + brightness;
        changed = changed << 8 | (int) Math.clamp(value, 0, 255);
      }
      pixels[p] = changed;
    }
  }

  private Photograph photograph(int i) throws IOException {
    Photograph held = photographs.get(i).get();
    if (held != null) {
      return held;
    }
    Path path = samples.get(i).path;
    BufferedImage read = ImageIO.read(path.toFile());
    if (read == null) {
      throw new IOException(path + ": not a picture");
    }
    double scale =
        Math.min(1, Math.min((double) width / read.getWidth(), (double) height / read.getHeight()));
    BufferedImage image =
        new BufferedImage(
            (int) Math.ceil(read.getWidth() * scale),
            (int) Math.ceil(read.getHeight() * scale),
            BufferedImage.TYPE_INT_RGB);
    Graphics2D graphics = image.createGraphics();
    graphics.setRenderingHint(
        RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_BILINEAR);
    graphics.drawImage(read, 0, 0, image.getWidth(), image.getHeight(), null);
    graphics.dispose();
    Photograph photo = new Photograph(image, (double) image.getWidth() / read.getWidth());
    photographs.set(i, new SoftReference<>(photo));
    return photo;
  }

  /** The images of an epoch in an order that only its seed decides; the last batch may be small. */
  public List<int[]> shuffledBatches(int batchSize, long seed) {
    List<Integer> order = new ArrayList<>();
    for (int i = 0; i < size(); i++) {
      order.add(i);
    }
    Collections.shuffle(order, new Random(seed));
    List<int[]> batches = new ArrayList<>();
    for (int first = 0; first < size(); first += batchSize) {
      batches.add(
          order.subList(first, Math.min(size(), first + batchSize)).stream()
              .mapToInt(Integer::intValue)
              .toArray());
    }
    return batches;
  }

  /**
   * @param random for augmentation; null: none
   */
  public Batch batch(int[] images, Random random) throws IOException {
    Arena arena = Arena.ofShared();
    try {
      MemorySegment pixels = arena.allocate(4L * images.length * 3 * height * width, 64);
      MemorySegment rows = arena.allocate(4L * images.length * boxesPerImage * 5, 64);
      for (int b = 0; b < images.length; b++) {
        Picture picture = random == null ? letterboxed(images[b]) : augmented(images[b], random);
        int[] rgb = pixels(picture.image);
        for (int c = 0; c < 3; c++) {
          long plane = (b * 3L + c) * rgb.length;
          for (int p = 0; p < rgb.length; p++) {
            pixels.setAtIndex(JAVA_FLOAT, plane + p, (rgb[p] >> 16 - 8 * c & 255) / 255f);
          }
        }
        long at = (long) b * boxesPerImage * 5;
        for (Box box : picture.boxes) {
          float[] row = {
            (float) box.x0(), (float) box.y0(), (float) box.x1(), (float) box.y1(), box.classId()
          };
          MemorySegment.copy(row, 0, rows, JAVA_FLOAT, 4 * at, 5);
          at += 5;
        }
      }
      return new Batch(images.length, arena, pixels, rows, boxesPerImage);
    } catch (Throwable t) {
      arena.close();
      throw t;
    }
  }
}
