package io.github.yololoss.kit;

import io.github.yololoss.YoloSpec;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * A list of pictures and their boxes, as keras-yolo3 reads it: a line for each picture, {@code path
 * x_min,y_min,x_max,y_max,class ...}, whole pixels of the picture, separated by white space. Empty
 * lines are skipped; the text is UTF-8.
 *
 * {@snippet class="io.github.yololoss.kit.SnippetsTest" region="annotations"}
 *
 * @param file where the list was read from
 * @param entries its pictures, in the order of the file
 */
public record Annotations(Path file, List<Entry> entries) {
  /**
   * A line of the list.
   *
   * @param line its number, from 1
   * @param name of the picture, as it is written
   * @param boxes of the picture, in the order of the line
   */
  public record Entry(int line, String name, List<Box> boxes) {
    /** Copies the boxes. */
    public Entry {
      boxes = List.copyOf(boxes);
    }
  }

  /**
   * A true box in pixels of the picture. No value is checked: a training may skip or clamp boxes
   * that the loss refuses.
   *
   * @param xMin left
   * @param yMin top
   * @param xMax right
   * @param yMax bottom
   * @param classId 0..C-1
   */
  public record Box(int xMin, int yMin, int xMax, int yMax, int classId) {}

  /** Follows a long operation over a list. */
  @FunctionalInterface
  public interface Progress {
    /** Does nothing. */
    Progress NONE = (done, of) -> {};

    /**
     * Is called when a picture is done.
     *
     * @param done pictures that are done
     * @param of all pictures
     */
    void reached(int done, int of);
  }

  /** Copies the entries. */
  public Annotations {
    entries = List.copyOf(entries);
  }

  /**
   * Reads a list. No picture is opened.
   *
   * @param file the list
   * @return its entries, at least one
   * @throws java.nio.file.NoSuchFileException if the file does not exist
   * @throws IOException with one sentence that names file, line and fault
   */
  public static Annotations read(Path file) throws IOException {
    List<Entry> entries = new ArrayList<>();
    List<String> lines = lines(file);
    for (int i = 0; i < lines.size(); i++) {
      String line = lines.get(i).strip();
      if (!line.isEmpty()) {
        String[] words = line.split("\\s+");
        List<Box> boxes = new ArrayList<>();
        for (int t = 1; t < words.length; t++) {
          boxes.add(box(where(file, i + 1), words[t]));
        }
        entries.add(new Entry(i + 1, words[0], boxes));
      }
    }
    if (entries.isEmpty()) {
      throw new IOException(file + ": no image in it; a picture in each line is expected");
    }
    return new Annotations(file, entries);
  }

  private static List<String> lines(Path file) throws IOException {
    if (Files.isDirectory(file)) {
      throw new IOException(file + ": is a folder, a list of pictures is expected");
    }
    try {
      return Files.readAllLines(file);
    } catch (CharacterCodingException e) {
      throw new IOException(file + ": not UTF-8 text");
    }
  }

  private static String where(Path file, int line) {
    return file + ": line " + line + ": ";
  }

  private static Box box(String where, String word) throws IOException {
    String[] values = word.split(",", -1);
    if (values.length == 5) {
      try {
        return new Box(
            Integer.parseInt(values[0]),
            Integer.parseInt(values[1]),
            Integer.parseInt(values[2]),
            Integer.parseInt(values[3]),
            Integer.parseInt(values[4]));
      } catch (NumberFormatException e) {
        // reported below, like a wrong count
      }
    }
    throw new IOException(
        where + "the box '" + word + "' is not x_min,y_min,x_max,y_max,class in whole numbers");
  }

  /**
   * Returns the first words of a message about an entry: file and line.
   *
   * @param entry of this list
   * @return for example {@code "train.txt: line 7: "}
   */
  public String where(Entry entry) {
    return where(file, entry.line());
  }

  /**
   * Returns the picture of an entry, which need not exist. See {@link Pictures} for which files a
   * list may name.
   *
   * @param entry of this list
   * @param imagesRoot a folder that the pictures may lie in, too; null: only the list's folder
   * @return where the picture is
   * @throws IOException if it lies outside both folders
   */
  public Path picture(Entry entry, Path imagesRoot) throws IOException {
    return Pictures.resolve(file, where(entry), entry.name(), imagesRoot);
  }

  /**
   * Letterboxes the boxes of all pictures into a network's input, after reading the pictures' sizes
   * from their headers. All boxes are kept.
   *
   * @param spec of the network
   * @param imagesRoot a folder that the pictures may lie in, too; null: only the list's folder
   * @param progress is called after each picture
   * @return for each picture its boxes, each x_min, y_min, x_max, y_max in pixels of the input,
   *     class
   * @throws IOException with one sentence that names file, line and fault, if a picture cannot be
   *     read
   */
  public List<float[][]> letterboxed(YoloSpec spec, Path imagesRoot, Progress progress)
      throws IOException {
    List<float[][]> pictures = new ArrayList<>();
    for (Entry entry : entries) {
      Pictures.Size size = Pictures.size(where(entry), picture(entry, imagesRoot));
      Letterbox to = Letterbox.into(spec, size.width(), size.height());
      pictures.add(entry.boxes().stream().map(to::toInput).toArray(float[][]::new));
      progress.reached(pictures.size(), entries.size());
    }
    return pictures;
  }

  /**
   * Reads the pictures of a list whose lines name nothing else, or are annotations: the whole line
   * is the path if that is a file, otherwise its first word is.
   *
   * @param list the list
   * @param imagesRoot a folder that the pictures may lie in, too; null: only the list's folder
   * @return the pictures, in the order of the list; empty if all lines are
   * @throws IOException with one sentence that names file, line and fault, if a picture lies
   *     outside both folders
   */
  public static List<Path> pictures(Path list, Path imagesRoot) throws IOException {
    List<Path> pictures = new ArrayList<>();
    List<String> lines = lines(list);
    for (int i = 0; i < lines.size(); i++) {
      String line = lines.get(i).strip();
      if (!line.isEmpty()) {
        pictures.add(Pictures.ofLine(list, where(list, i + 1), line, imagesRoot));
      }
    }
    return pictures;
  }
}
