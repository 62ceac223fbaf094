package io.github.yololoss.cli;

import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.Main.InputException;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import javax.imageio.ImageIO;
import javax.imageio.ImageReader;
import javax.imageio.stream.ImageInputStream;

/**
 * An annotation file of keras-yolo3: a line for each image, {@code path
 * x_min,y_min,x_max,y_max,class ...}, whole pixels of the original image, paths relative to the
 * file and within its folder. Boxes are letterboxed into the input as its get_random_data does
 * without augmentation, but all are kept, in file order.
 */
final class Annotations {
  private Annotations() {}

  /**
   * For each image its boxes, each x_min, y_min, x_max, y_max, class in input pixels.
   *
   * @param err for progress
   */
  static List<float[][]> read(Path file, YoloSpec spec, PrintWriter err) throws IOException {
    List<String> lines;
    try {
      lines = Files.readAllLines(file);
    } catch (CharacterCodingException e) {
      throw new InputException(file + ": not UTF-8 text");
    }
    List<float[][]> images = new ArrayList<>();
    try (Progress progress = new Progress(err, "annotations", "pictures", lines.size())) {
      for (int i = 0; i < lines.size(); i++) {
        if (!lines.get(i).isBlank()) {
          images.add(image(file, i + 1, lines.get(i).strip().split("\\s+"), spec));
        }
        progress.step(1);
      }
    }
    if (images.isEmpty()) {
      throw new InputException(file + ": no image in it");
    }
    return images;
  }

  private static float[][] image(Path file, int lineNumber, String[] words, YoloSpec spec) {
    String where = file + ": line " + lineNumber + ": ";
    int[] size = imageSize(where, picture(file, where, words[0]));
    float[][] boxes = new float[words.length - 1][];
    for (int t = 0; t < boxes.length; t++) {
      boxes[t] =
          letterbox(
              box(where, words[t + 1]), size[0], size[1], spec.inputWidth(), spec.inputHeight());
    }
    return boxes;
  }

  /**
   * The picture that a line of a list names: within the list's folder, for a list that came from
   * elsewhere must not choose which of this user's files are read. (What that folder holds, links
   * too, is the user's choice.)
   *
   * @param where of the line, for the refusal
   */
  static Path picture(Path list, String where, String name) {
    Path folder = list.toAbsolutePath().normalize().getParent();
    try {
      if (!folder.resolve(name).normalize().startsWith(folder)) {
        throw new InputException(
            where
                + name
                + " lies outside the folder of the list; put the list into a folder above its"
                + " pictures");
      }
      return list.resolveSibling(name);
    } catch (InvalidPathException e) {
      throw new InputException(where + "not a path: " + e.getReason());
    }
  }

  private static int[] box(String where, String word) {
    String[] values = word.split(",", -1);
    int[] box = new int[5];
    try {
      if (values.length == 5) {
        for (int i = 0; i < 5; i++) {
          box[i] = Integer.parseInt(values[i]);
        }
        return box;
      }
    } catch (NumberFormatException e) {
      // as a wrong count
    }
    throw new InputException(
        where + "the box '" + word + "' is not x_min,y_min,x_max,y_max,class in whole numbers");
  }

  /** How keras-yolo3 fits a picture into the input: one scale, offsets in whole pixels. */
  record Letterbox(double scale, int dx, int dy) {
    static Letterbox of(int width, int height, int inputWidth, int inputHeight) {
      double scale = Math.min((double) inputWidth / width, (double) inputHeight / height);
      int dx = Math.floorDiv(inputWidth - (int) (width * scale), 2);
      int dy = Math.floorDiv(inputHeight - (int) (height * scale), 2);
      return new Letterbox(scale, dx, dy);
    }
  }

  /** A box in the letterboxed picture, coordinates cut to whole pixels. */
  static float[] letterbox(int[] box, int width, int height, int inputWidth, int inputHeight) {
    Letterbox to = Letterbox.of(width, height, inputWidth, inputHeight);
    return new float[] {
      (int) (box[0] * to.scale + to.dx),
      (int) (box[1] * to.scale + to.dy),
      (int) (box[2] * to.scale + to.dx),
      (int) (box[3] * to.scale + to.dy),
      box[4]
    };
  }

  /** Width and height from the header of a picture. */
  private static int[] imageSize(String where, Path picture) {
    if (!Files.isRegularFile(picture)) {
      throw new InputException(where + picture + ": no such file");
    }
    try (ImageInputStream in = ImageIO.createImageInputStream(picture.toFile())) {
      Iterator<ImageReader> readers = ImageIO.getImageReaders(in);
      if (!readers.hasNext()) {
        throw new InputException(where + picture + ": not a picture (JPEG, PNG, GIF, BMP or TIFF)");
      }
      ImageReader reader = readers.next();
      try {
        reader.setInput(in, true, true);
        return new int[] {reader.getWidth(0), reader.getHeight(0)};
      } finally {
        reader.dispose();
      }
    } catch (IOException | IllegalArgumentException | IndexOutOfBoundsException e) { // damaged
      throw new InputException(where + picture + ": its size cannot be read: " + e.getMessage());
    }
  }
}
