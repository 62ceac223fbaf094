package io.github.yololoss.examples.djl;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.kit.Annotations;
import io.github.yololoss.kit.Detections.Box;
import io.github.yololoss.kit.Letterbox;
import io.github.yololoss.kit.Pictures;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.geom.AffineTransform;
import java.awt.image.BufferedImage;
import java.awt.image.DataBufferInt;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.ref.SoftReference;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;

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

  private record Sample(Path path, List<Annotations.Box> boxes) {}

  /**
   * A photograph as the loader keeps it.
   *
   * @param reduced to what the input can show of it, for augmentation
   * @param scale by how much it was reduced
   * @param input letterboxed
   */
  private record Photograph(
      BufferedImage reduced, double scale, Letterbox letterbox, BufferedImage input) {}

  private final int width;
  private final int height;
  private final List<Sample> samples = new ArrayList<>();
  private final List<SoftReference<Photograph>> photographs = new ArrayList<>();
  private int boxesPerImage = 1;

  /**
   * Reads a list whose pictures are in its folder or below.
   *
   * @param annotations the list
   * @param numClasses C
   * @param width of the network's input in pixels
   * @param height of the network's input in pixels
   * @throws IOException as the other constructor
   */
  public Dataset(Path annotations, int numClasses, int width, int height) throws IOException {
    this(annotations, null, numClasses, width, height);
  }

  /**
   * Reads a list.
   *
   * @param annotations the list
   * @param imagesRoot a folder that the pictures may lie in, too; null: only the list's folder
   * @param numClasses C
   * @param width of the network's input in pixels
   * @param height of the network's input in pixels
   * @throws IOException for a line that is not an annotation, or names a picture outside both
   *     folders
   * @throws IllegalArgumentException for a class that classes.txt does not name
   */
  public Dataset(Path annotations, Path imagesRoot, int numClasses, int width, int height)
      throws IOException {
    this.width = width;
    this.height = height;
    Annotations list = Annotations.read(annotations);
    for (Annotations.Entry entry : list.entries()) {
      for (Annotations.Box box : entry.boxes()) {
        if (box.classId() < 0 || box.classId() >= numClasses) {
          throw new IllegalArgumentException(
              list.where(entry)
                  + "class "
                  + box.classId()
                  + ", 0.."
                  + (numClasses - 1)
                  + " is expected: classes.txt has "
                  + numClasses
                  + " names");
        }
      }
      samples.add(new Sample(list.picture(entry, imagesRoot), entry.boxes()));
      photographs.add(new SoftReference<>(null));
      boxesPerImage = Math.max(boxesPerImage, entry.boxes().size());
    }
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

  /** As keras-yolo3's loader without augmentation. */
  Picture letterboxed(int i) throws IOException {
    Photograph photo = photograph(i);
    List<Box> boxes = new ArrayList<>();
    for (Annotations.Box box : samples.get(i).boxes) {
      float[] row = photo.letterbox.toInput(box);
      addVisible(boxes, row[0], row[1], row[2], row[3], box.classId());
    }
    return new Picture(photo.input, boxes);
  }

  /** Scaled by 0.75 to 1.25, stretched by up to 15%, moved, flipped, and its colours changed. */
  Picture augmented(int i, Random random) throws IOException {
    Photograph photo = photograph(i);
    double w = photo.reduced.getWidth();
    double h = photo.reduced.getHeight();
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
    graphics.drawImage(photo.reduced, to, null);
    graphics.dispose();

    to.scale(photo.scale, photo.scale); // boxes are in pixels of the photograph as it is on disk
    List<Box> boxes = new ArrayList<>();
    for (Annotations.Box box : samples.get(i).boxes) {
      double[] c = {box.xMin(), box.yMin(), box.xMax(), box.yMax()};
      to.transform(c, 0, c, 0, 2);
      addVisible(
          boxes,
          Math.min(c[0], c[2]),
          Math.min(c[1], c[3]),
          Math.max(c[0], c[2]),
          Math.max(c[1], c[3]),
          box.classId());
    }
    return new Picture(image, boxes);
  }

  /** Adds a box, cut at the input's borders, if 2 pixels and 30 % of it can be seen. */
  private void addVisible(
      List<Box> boxes, double x0, double y0, double x1, double y1, int classId) {
    Box seen =
        new Box(
            Math.clamp(x0, 0, width),
            Math.clamp(y0, 0, height),
            Math.clamp(x1, 0, width),
            Math.clamp(y1, 0, height),
            classId,
            1);
    if (seen.x1() - seen.x0() > 2
        && seen.y1() - seen.y0() > 2
        && seen.area() > 0.3 * (x1 - x0) * (y1 - y0)) {
      boxes.add(seen);
    }
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
    BufferedImage read = Pictures.read(samples.get(i).path);
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
    Letterbox letterbox = new Letterbox(read.getWidth(), read.getHeight(), width, height);
    Photograph photo =
        new Photograph(
            image, (double) image.getWidth() / read.getWidth(), letterbox, letterbox.draw(read));
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
        long bytes = 12L * height * width;
        Letterbox.values(picture.image, FeatsLayout.NCHW, pixels.asSlice(b * bytes, bytes));
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
