package io.github.yololoss.kit;

import io.github.yololoss.YoloSpec;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.function.BiConsumer;
import javax.imageio.ImageIO;
import javax.imageio.ImageReader;
import javax.imageio.stream.ImageInputStream;

/**
 * An annotation file of keras-yolo3: a line for each image, {@code path
 * x_min,y_min,x_max,y_max,class ...}, whole pixels of the original image, paths relative to the
 * file and within its folder. Boxes are letterboxed into the input as its get_random_data does
 * without augmentation, but all are kept, in file order.
 */
public final class Annotations {
  private Annotations() {}

  /**
   * Reads a list.
   *
   * @param file the list
   * @param spec whose input the boxes are letterboxed into
   * @param read is called after each line with the number of lines read and of all lines
   * @return for each image its boxes, each x_min, y_min, x_max, y_max, class in input pixels
   * @throws IOException with one sentence that names file, line and fault
   */
  public static List<float[][]> read(
      Path file, YoloSpec spec, BiConsumer<Integer, Integer> read) throws IOException {
    List<String> lines;
    try {
      lines = Files.readAllLines(file);
    } catch (CharacterCodingException e) {
      throw new IOException(file + ": not UTF-8 text");
    }
    List<float[][]> images = new ArrayList<>();
    for (int i = 0; i < lines.size(); i++) {
      if (!lines.get(i).isBlank()) {
        images.add(image(file, i + 1, lines.get(i).strip().split("\\s+"), spec));
      }
      read.accept(i + 1, lines.size());
    }
    if (images.isEmpty()) {
      throw new IOException(file + ": no image in it");
    }
    return images;
  }

  private static float[][] image(Path file, int lineNumber, String[] words, YoloSpec spec)
      throws IOException {
    String where = file + ": line " + lineNumber + ": ";
    int[] size = imageSize(where, picture(file, where, words[0]));
    Letterbox to = Letterbox.of(size[0], size[1], spec.inputWidth(), spec.inputHeight());
    float[][] boxes = new float[words.length - 1][];
    for (int t = 0; t < boxes.length; t++) {
      boxes[t] = to.box(box(where, words[t + 1]));
    }
    return boxes;
  }

  /**
   * Returns the picture that a line of a list names: within the list's folder, because a list that
   * came from elsewhere must not choose which of this user's files are read. (What that folder
   * holds, links too, is the user's choice.)
   *
   * @param list the list
   * @param where of the line, for the refusal
   * @param name in the line
   * @return the picture
   * @throws IOException if it is outside the folder
   */
  public static Path picture(Path list, String where, String name) throws IOException {
    Path folder = list.toAbsolutePath().normalize().getParent();
    try {
      if (!folder.resolve(name).normalize().startsWith(folder)) {
        throw new IOException(
            where
                + name
                + " is outside the folder of the list; move the list to a folder that contains"
                + " the pictures");
      }
      return list.resolveSibling(name);
    } catch (InvalidPathException e) {
      throw new IOException(where + "not a path: " + e.getReason());
    }
  }

  private static int[] box(String where, String word) throws IOException {
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
    throw new IOException(
        where + "the box '" + word + "' is not x_min,y_min,x_max,y_max,class in whole numbers");
  }

  /** Width and height from the header of a picture. */
  private static int[] imageSize(String where, Path picture) throws IOException {
    if (!Files.isRegularFile(picture)) {
      throw new IOException(where + picture + ": no such file");
    }
    try (ImageInputStream in = ImageIO.createImageInputStream(picture.toFile())) {
      Iterator<ImageReader> readers = ImageIO.getImageReaders(in);
      if (!readers.hasNext()) {
        throw new IOException(where + picture + ": not a picture (JPEG, PNG, GIF, BMP or TIFF)");
      }
      ImageReader reader = readers.next();
      try {
        reader.setInput(in, true, true);
        return new int[] {reader.getWidth(0), reader.getHeight(0)};
      } finally {
        reader.dispose();
      }
    } catch (IOException | IllegalArgumentException | IndexOutOfBoundsException e) { // damaged
      throw new IOException(where + picture + ": its size cannot be read: " + e.getMessage());
    }
  }
}
