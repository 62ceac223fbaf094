package io.github.yololoss.cli.files;

import io.github.yololoss.YoloSpec;
import io.github.yololoss.kit.Annotations;
import io.github.yololoss.kit.Letterbox;
import java.awt.Color;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;
import javax.imageio.IIOImage;
import javax.imageio.ImageIO;
import javax.imageio.ImageWriteParam;
import javax.imageio.ImageWriter;
import javax.imageio.stream.ImageOutputStream;

/** The photographs of a batch, in its order. */
public final class Photos {
  private static final int LONGEST_SIDE = 480; // as shown
  private static final float QUALITY = 0.7f;

  private final List<Path> files;

  /**
   * @param from a folder, whose pictures are taken in the order of their names, or a file with a
   *     path in each line, relative to it; what follows the path, as in an annotation file, is
   *     passed over
   * @param batch how many there must be
   */
  public Photos(Path from, int batch) throws IOException {
    files = Files.isDirectory(from) ? inFolder(from) : inList(from);
    if (files.size() != batch) {
      throw new InputException(
          from + ": " + files.size() + " pictures, the batch has " + batch + " images");
    }
  }

  private static List<Path> inFolder(Path folder) throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.filter(
              file ->
                  file.getFileName()
                      .toString()
                      .toLowerCase(Locale.ROOT)
                      .matches(".*\\.(jpe?g|png|gif|bmp|tiff?)"))
          .sorted()
          .toList();
    }
  }

  private static List<Path> inList(Path list) throws IOException {
    List<Path> files = new ArrayList<>();
    List<String> lines;
    try {
      lines = Files.readAllLines(list);
    } catch (CharacterCodingException e) {
      throw new InputException(list + ": not a list of paths in UTF-8");
    }
    for (int i = 0; i < lines.size(); i++) {
      String line = lines.get(i).strip();
      if (!line.isEmpty()) {
        String where = list + ": line " + (i + 1) + ": ";
        Path whole = list.resolveSibling(line.replace('\0', ' '));
        String name = Files.exists(whole) ? line : line.split("\\s+")[0];
        files.add(Annotations.picture(list, where, name));
      }
    }
    return files;
  }

  /** Name of a file, for people. */
  public String name(int image) {
    return files.get(image).getFileName().toString();
  }

  /** A photograph in the input as keras-yolo3's loader puts it there, as a JPEG in a data URI. */
  public String dataUri(int image, YoloSpec spec) throws IOException {
    Path file = files.get(image);
    if (!Files.isRegularFile(file)) { // a pipe would be waited for
      throw new InputException(file + ": no such file");
    }
    BufferedImage photo;
    try {
      photo = ImageIO.read(file.toFile());
    } catch (IOException | RuntimeException e) { // damaged; ImageIO throws both
      throw new InputException(file + ": cannot be read as a picture: " + e.getMessage());
    }
    if (photo == null) {
      throw new InputException(file + ": not a picture (JPEG, PNG, GIF, BMP or TIFF)");
    }
    double zoom =
        Math.min(1, (double) LONGEST_SIDE / Math.max(spec.inputWidth(), spec.inputHeight()));
    BufferedImage shown =
        new BufferedImage(
            (int) Math.max(1, Math.round(zoom * spec.inputWidth())),
            (int) Math.max(1, Math.round(zoom * spec.inputHeight())),
            BufferedImage.TYPE_INT_RGB);
    Letterbox to =
        Letterbox.of(photo.getWidth(), photo.getHeight(), spec.inputWidth(), spec.inputHeight());
    Graphics2D graphics = shown.createGraphics();
    graphics.setRenderingHint(
        RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_BILINEAR);
    graphics.setColor(new Color(128, 128, 128));
    graphics.fillRect(0, 0, shown.getWidth(), shown.getHeight());
    graphics.scale(zoom, zoom);
    graphics.drawImage(
        photo,
        to.dx(),
        to.dy(),
        (int) (photo.getWidth() * to.scale()),
        (int) (photo.getHeight() * to.scale()),
        null);
    graphics.dispose();
    return "data:image/jpeg;base64," + Base64.getEncoder().encodeToString(jpeg(shown));
  }

  private static byte[] jpeg(BufferedImage image) throws IOException {
    ImageWriter writer = ImageIO.getImageWritersByFormatName("jpeg").next();
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ImageOutputStream out = ImageIO.createImageOutputStream(bytes)) {
      ImageWriteParam settings = writer.getDefaultWriteParam();
      settings.setCompressionMode(ImageWriteParam.MODE_EXPLICIT);
      settings.setCompressionQuality(QUALITY);
      writer.setOutput(out);
      writer.write(null, new IIOImage(image, null, null), settings);
    } finally {
      writer.dispose();
    }
    return bytes.toByteArray();
  }
}
