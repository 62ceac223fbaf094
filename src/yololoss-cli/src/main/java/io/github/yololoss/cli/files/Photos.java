package io.github.yololoss.cli.files;

import io.github.yololoss.YoloSpec;
import io.github.yololoss.kit.Annotations;
import io.github.yololoss.kit.Letterbox;
import io.github.yololoss.kit.Pictures;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
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
   *     ignored
   * @param root another folder that the list may lead to, or null
   * @param batch the number of images that is expected
   */
  public Photos(Path from, Path root, int batch) throws IOException {
    files = Files.isDirectory(from) ? inFolder(from) : Annotations.pictures(from, root);
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

  /** Returns the name of a file, without its folder. */
  public String name(int image) {
    return files.get(image).getFileName().toString();
  }

  /** Returns a photograph, letterboxed as keras-yolo3's loader does, as a JPEG in a data URI. */
  public String dataUri(int image, YoloSpec spec) throws IOException {
    BufferedImage photo = Pictures.read(files.get(image));
    BufferedImage input = Letterbox.into(spec, photo.getWidth(), photo.getHeight()).draw(photo);
    double zoom =
        Math.min(1, (double) LONGEST_SIDE / Math.max(input.getWidth(), input.getHeight()));
    BufferedImage shown =
        new BufferedImage(
            (int) Math.max(1, Math.round(zoom * input.getWidth())),
            (int) Math.max(1, Math.round(zoom * input.getHeight())),
            BufferedImage.TYPE_INT_RGB);
    Graphics2D graphics = shown.createGraphics();
    graphics.setRenderingHint(
        RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_BILINEAR);
    graphics.drawImage(input, 0, 0, shown.getWidth(), shown.getHeight(), null);
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
