import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import javax.imageio.IIOImage;
import javax.imageio.ImageIO;
import javax.imageio.ImageWriteParam;
import javax.imageio.ImageWriter;
import javax.imageio.stream.ImageOutputStream;

/**
 * Cuts the left upper part out of a picture, scales it to a width, and writes it as a JPEG of the
 * best quality that stays below 60,000 bytes. Run by {@code docs/pictures/make}:
 *
 * <pre>java Shrink.java IN OUT CUT_WIDTH CUT_HEIGHT WIDTH</pre>
 */
final class Shrink {
  private static final int LARGEST = 60_000;

  private Shrink() {}

  public static void main(String[] arguments) throws IOException {
    BufferedImage whole = ImageIO.read(new File(arguments[0]));
    int cutWidth = Math.min(whole.getWidth(), Integer.parseInt(arguments[2]));
    int cutHeight = Math.min(whole.getHeight(), Integer.parseInt(arguments[3]));
    int width = Integer.parseInt(arguments[4]);
    int height = Math.round((float) cutHeight * width / cutWidth);
    BufferedImage small = new BufferedImage(width, height, BufferedImage.TYPE_INT_RGB);
    Graphics2D graphics = small.createGraphics();
    graphics.setRenderingHint(
        RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_BICUBIC);
    graphics.drawImage(whole.getSubimage(0, 0, cutWidth, cutHeight), 0, 0, width, height, null);
    graphics.dispose();
    byte[] file = null;
    for (int quality = 95; file == null || file.length >= LARGEST; quality -= 5) {
      if (quality < 30) {
        throw new IOException(
            arguments[1] + ": larger than " + LARGEST + " bytes, take a smaller width");
      }
      file = jpeg(small, quality / 100f);
    }
    Files.write(Path.of(arguments[1]), file);
  }

  private static byte[] jpeg(BufferedImage image, float quality) throws IOException {
    ImageWriter writer = ImageIO.getImageWritersByFormatName("jpeg").next();
    ImageWriteParam parameters = writer.getDefaultWriteParam();
    parameters.setCompressionMode(ImageWriteParam.MODE_EXPLICIT);
    parameters.setCompressionQuality(quality);
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ImageOutputStream out = ImageIO.createImageOutputStream(bytes)) {
      writer.setOutput(out);
      writer.write(null, new IIOImage(image, null, null), parameters);
    } finally {
      writer.dispose();
    }
    return bytes.toByteArray();
  }
}
