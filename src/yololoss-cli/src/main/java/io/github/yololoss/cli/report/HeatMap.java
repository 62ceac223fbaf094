package io.github.yololoss.cli.report;

import java.awt.image.BufferedImage;
import java.awt.image.IndexColorModel;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Base64;
import javax.imageio.ImageIO;

/** Draws the values of the places of a grid as a picture, with a pixel for each. */
public final class HeatMap {
  /**
   * The colour map cividis, at equal distances: its lightness rises evenly, and it looks the same
   * to people with and without colour vision deficiency. Nunez, Anderton and Renslow 2018
   * (doi:10.1371/journal.pone.0199239); values as in matplotlib 3.11.
   */
  private static final int[] CIVIDIS = {
    0x00224e, 0x003170, 0x2a3f6d, 0x434e6c, 0x575d6d, 0x6a6c71, 0x7d7c78, 0x918b78, 0xa59c74,
    0xbcae6c, 0xd2c060, 0xe9d34e, 0xfee838
  };

  private static final IndexColorModel COLOURS = colours();

  private HeatMap() {}

  private static IndexColorModel colours() {
    byte[][] channels = new byte[3][256];
    for (int i = 0; i < 256; i++) {
      double at = i / 255.0 * (CIVIDIS.length - 1);
      int low = Math.min((int) at, CIVIDIS.length - 2);
      for (int c = 0; c < 3; c++) {
        int shift = 16 - 8 * c;
        int from = CIVIDIS[low] >> shift & 255;
        int to = CIVIDIS[low + 1] >> shift & 255;
        channels[c][i] = (byte) Math.round(from + (at - low) * (to - from));
      }
    }
    return new IndexColorModel(8, 256, channels[0], channels[1], channels[2]);
  }

  /** Returns the colours from the least to the largest value, for style sheets. */
  public static String gradient() {
    StringBuilder css = new StringBuilder("linear-gradient(to right");
    for (int colour : CIVIDIS) {
      css.append(String.format(", #%06x", colour));
    }
    return css.append(")").toString();
  }

  /**
   * Returns a PNG as a data URI.
   *
   * @param values row by row; what is not finite is shown as the largest
   * @param largest the value of the lightest colour; 0 is the darkest
   */
  public static String dataUri(double[][] values, double largest) {
    int height = values.length;
    int width = values[0].length;
    BufferedImage image =
        new BufferedImage(width, height, BufferedImage.TYPE_BYTE_INDEXED, COLOURS);
    for (int y = 0; y < height; y++) {
      for (int x = 0; x < width; x++) {
        double share = largest > 0 ? values[y][x] / largest : 0;
        int level = Double.isFinite(share) ? (int) Math.round(255 * Math.clamp(share, 0, 1)) : 255;
        image.getRaster().setSample(x, y, 0, level);
      }
    }
    ByteArrayOutputStream png = new ByteArrayOutputStream();
    try {
      ImageIO.write(image, "png", png);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return "data:image/png;base64," + Base64.getEncoder().encodeToString(png.toByteArray());
  }
}
