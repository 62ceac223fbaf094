package io.github.yololoss.kit;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Iterator;
import javax.imageio.ImageIO;
import javax.imageio.ImageReader;
import javax.imageio.stream.ImageInputStream;

/**
 * The pictures that a list names: which files it may name, their sizes and their pixels.
 *
 * <p>A list that came from elsewhere must not choose which of this user's files are read. So a
 * picture lies in the list's folder or below, or in a folder that the user names: the images root.
 * A relative name is searched in the list's folder, then in the root; an absolute one has to lie in
 * one of them. {@code ..} is resolved in the text of the path, before the file system follows any
 * link, and a link must not lead out of both folders.
 */
public final class Pictures {
  private Pictures() {}

  /**
   * A picture's size in pixels.
   *
   * @param width at least 1
   * @param height at least 1
   */
  public record Size(int width, int height) {}

  /** Returns where a picture is, or refuses it with a message that begins with where. */
  static Path resolve(Path list, String where, String name, Path imagesRoot) throws IOException {
    Path folder = folder(list);
    Path root = imagesRoot == null ? folder : imagesRoot.toAbsolutePath().normalize();
    if (!Files.isDirectory(root)) {
      throw new IOException(root + ": no such folder; the images root has to be one");
    }
    Path picture;
    try {
      picture = folder.resolve(name).normalize();
      if (!Files.exists(picture) && Files.exists(root.resolve(name).normalize())) {
        picture = root.resolve(name).normalize();
      }
    } catch (InvalidPathException e) {
      throw new IOException(where + "not a path: " + e.getReason());
    }
    if (!Files.exists(picture)) { // whoever opens it reports so
      if (!picture.startsWith(folder) && !picture.startsWith(root)) {
        throw outside(where + name, folder, root);
      }
      return picture;
    }
    Path real = picture.toRealPath();
    if (!real.startsWith(folder.toRealPath()) && !real.startsWith(root.toRealPath())) {
      boolean linked = picture.startsWith(folder) || picture.startsWith(root);
      throw outside(
          where + name + (linked ? " is a link to " + real + ", which" : ""), folder, root);
    }
    return picture;
  }

  private static Path folder(Path list) {
    return list.toAbsolutePath().normalize().getParent();
  }

  private static IOException outside(String what, Path folder, Path root) {
    return new IOException(
        what
            + " is outside the folder of the list, "
            + folder
            + (root.equals(folder) ? "" : ", and outside the images root, " + root)
            + "; move the list to a folder that contains the pictures, or name that folder as the"
            + " images root (--images-root)");
  }

  /** Returns the picture of a line: the whole line if it names a file, otherwise its first word. */
  static Path ofLine(Path list, String where, String line, Path imagesRoot) throws IOException {
    String first = line.split("\\s+")[0];
    if (first.length() < line.length() && line.indexOf('\0') < 0) {
      Path inRoot = (imagesRoot == null ? folder(list) : imagesRoot).resolve(line);
      if (Files.isRegularFile(folder(list).resolve(line)) || Files.isRegularFile(inRoot)) {
        return resolve(list, where, line, imagesRoot);
      }
    }
    return resolve(list, where, first, imagesRoot);
  }

  /**
   * Reads a picture's size from its header; the pixels are not decoded.
   *
   * @param picture a JPEG, PNG, GIF, BMP or TIFF file
   * @return its size
   * @throws IOException with one sentence that names the file and the fault
   */
  public static Size size(Path picture) throws IOException {
    return size("", picture);
  }

  /** Reads a picture's size; messages begin with where. */
  static Size size(String where, Path picture) throws IOException {
    requireFile(where, picture);
    try (ImageInputStream in = ImageIO.createImageInputStream(picture.toFile())) {
      Iterator<ImageReader> readers = ImageIO.getImageReaders(in);
      if (!readers.hasNext()) {
        throw noPicture(where, picture);
      }
      ImageReader reader = readers.next();
      try {
        reader.setInput(in, true, true);
        int width = reader.getWidth(0);
        int height = reader.getHeight(0);
        if (width < 1 || height < 1) {
          throw new IOException("the header says " + width + "x" + height);
        }
        return new Size(width, height);
      } finally {
        reader.dispose();
      }
    } catch (IOException | RuntimeException e) { // damaged; ImageIO throws both
      throw e instanceof NoPicture none
          ? none
          : new IOException(where + picture + ": its size cannot be read: " + e.getMessage());
    }
  }

  /**
   * Reads a picture.
   *
   * @param picture a JPEG, PNG, GIF, BMP or TIFF file
   * @return its pixels
   * @throws IOException with one sentence that names the file and the fault
   */
  public static BufferedImage read(Path picture) throws IOException {
    requireFile("", picture);
    BufferedImage read;
    try {
      read = ImageIO.read(picture.toFile());
    } catch (IOException | RuntimeException e) { // damaged; ImageIO throws both
      throw new IOException(picture + ": cannot be read as a picture: " + e.getMessage(), e);
    }
    if (read == null) {
      throw noPicture("", picture);
    }
    return read;
  }

  /** Refuses what is not a regular file: reading a pipe would wait forever. */
  private static void requireFile(String where, Path picture) throws IOException {
    if (!Files.isRegularFile(picture)) {
      throw new IOException(where + picture + ": no such file");
    }
  }

  private static NoPicture noPicture(String where, Path picture) {
    return new NoPicture(where + picture + ": not a picture (JPEG, PNG, GIF, BMP or TIFF)");
  }

  /** Reports a file in no known format, as opposed to a damaged one. */
  private static final class NoPicture extends IOException {
    private static final long serialVersionUID = 1;

    NoPicture(String message) {
      super(message);
    }
  }
}
