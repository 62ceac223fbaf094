package io.github.yololoss.kit;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.YoloSpec;
import java.awt.Color;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.image.BufferedImage;
import java.lang.foreign.MemorySegment;

/**
 * How a picture is fitted into the network's input: one scale for both sides, centred in whole
 * pixels on grey.
 *
 * {@snippet class="io.github.yololoss.kit.SnippetsTest" region="letterbox"}
 *
 * <p>The formulas are those of keras-yolo3 (github.com/qqwweee/keras-yolo3, {@code yolo3/utils.py}:
 * {@code letterbox_image}, and {@code get_random_data} with {@code random=False}), in double
 * arithmetic as Python computes them. For a picture of iw x ih in an input of w x h:
 *
 * <pre>
 * scale = min(w / iw, h / ih)
 * nw, nh = int(iw * scale), int(ih * scale)
 * dx, dy = (w - nw) // 2, (h - nh) // 2
 * box    = int(x * scale + dx), int(y * scale + dy)
 * </pre>
 *
 * <p>A test compares all sizes up to 2,000 x 2,000 with a Python program. The pixels are resampled
 * by {@link #draw}, which is not the bicubic filter of Pillow that keras-yolo3 calls.
 *
 * @param pictureWidth iw in pixels
 * @param pictureHeight ih in pixels
 * @param inputWidth w in pixels
 * @param inputHeight h in pixels
 */
public record Letterbox(int pictureWidth, int pictureHeight, int inputWidth, int inputHeight) {
  /** Of the borders. */
  private static final Color GREY = new Color(128, 128, 128);

  /**
   * Checks that all sizes are at least 1.
   *
   * @throws IllegalArgumentException if one is not
   */
  public Letterbox {
    if (pictureWidth < 1 || pictureHeight < 1) {
      throw new IllegalArgumentException(
          "the picture is " + pictureWidth + "x" + pictureHeight + ", at least 1x1 is expected");
    }
    if (inputWidth < 1 || inputHeight < 1) {
      throw new IllegalArgumentException(
          "the input is " + inputWidth + "x" + inputHeight + ", at least 1x1 is expected");
    }
  }

  /**
   * Fits a picture into the input of a network.
   *
   * @param spec of the network
   * @param pictureWidth in pixels
   * @param pictureHeight in pixels
   * @return how the picture is scaled and placed
   */
  public static Letterbox into(YoloSpec spec, int pictureWidth, int pictureHeight) {
    return new Letterbox(pictureWidth, pictureHeight, spec.inputWidth(), spec.inputHeight());
  }

  /** {@return pixels of the input for each pixel of the picture} */
  public double scale() {
    return Math.min((double) inputWidth / pictureWidth, (double) inputHeight / pictureHeight);
  }

  /** {@return width of the scaled picture in pixels; 0 if the picture is very narrow} */
  public int width() {
    return (int) (pictureWidth * scale());
  }

  /** {@return height of the scaled picture in pixels; 0 if the picture is very flat} */
  public int height() {
    return (int) (pictureHeight * scale());
  }

  /** {@return columns of the input to the left of the picture} */
  public int dx() {
    return Math.floorDiv(inputWidth - width(), 2);
  }

  /** {@return rows of the input above the picture} */
  public int dy() {
    return Math.floorDiv(inputHeight - height(), 2);
  }

  /**
   * Places a box of the picture in the input. Coordinates are truncated to whole pixels, because
   * keras-yolo3 stores them into an array of integers.
   *
   * @param box in pixels of the picture
   * @return x_min, y_min, x_max, y_max in pixels of the input, class: a row of {@code boxes}
   */
  public float[] toInput(Annotations.Box box) {
    double scale = scale();
    int dx = dx();
    int dy = dy();
    return new float[] {
      (int) (box.xMin() * scale + dx),
      (int) (box.yMin() * scale + dy),
      (int) (box.xMax() * scale + dx),
      (int) (box.yMax() * scale + dy),
      box.classId()
    };
  }

  /**
   * Returns where in the picture a detection lies: the inverse of the placement, without rounding,
   * cut at the picture's borders. The {@code yolo_correct_boxes} of keras-yolo3 places the same box
   * up to one pixel of the input away, because it rounds the size of the scaled picture and does
   * not round the borders.
   *
   * @param box in pixels of the input
   * @return the box in pixels of the picture; it has no area if it lies within a border
   */
  public Detections.Box toPicture(Detections.Box box) {
    double scale = scale();
    return new Detections.Box(
        Math.clamp((box.x0() - dx()) / scale, 0, pictureWidth),
        Math.clamp((box.y0() - dy()) / scale, 0, pictureHeight),
        Math.clamp((box.x1() - dx()) / scale, 0, pictureWidth),
        Math.clamp((box.y1() - dy()) / scale, 0, pictureHeight),
        box.classId(),
        box.score());
  }

  /**
   * Draws a picture into the input: halved while it is more than twice as large as it should be,
   * then resampled bilinearly, on grey (128, 128, 128).
   *
   * @param picture of the size that this letterbox is for; other colour models are converted, what
   *     is transparent becomes grey
   * @return an image of the input's size, of {@link BufferedImage#TYPE_INT_RGB}
   * @throws IllegalArgumentException if the picture has another size
   */
  public BufferedImage draw(BufferedImage picture) {
    if (picture.getWidth() != pictureWidth || picture.getHeight() != pictureHeight) {
      throw new IllegalArgumentException(
          "the picture is "
              + picture.getWidth()
              + "x"
              + picture.getHeight()
              + ", "
              + pictureWidth
              + "x"
              + pictureHeight
              + " is expected");
    }
    BufferedImage from = picture;
    while (from.getWidth() > 2 * Math.max(1, width())
        && from.getHeight() > 2 * Math.max(1, height())) {
      int halfWidth = (from.getWidth() + 1) / 2;
      int halfHeight = (from.getHeight() + 1) / 2;
      from = draw(from, halfWidth, halfHeight, 0, 0, halfWidth, halfHeight);
    }
    return draw(from, inputWidth, inputHeight, dx(), dy(), width(), height());
  }

  private static BufferedImage draw(
      BufferedImage picture, int width, int height, int x, int y, int drawnWidth, int drawnHeight) {
    BufferedImage to = new BufferedImage(width, height, BufferedImage.TYPE_INT_RGB);
    Graphics2D graphics = to.createGraphics();
    graphics.setRenderingHint(
        RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_BILINEAR);
    graphics.setColor(GREY);
    graphics.fillRect(0, 0, width, height);
    graphics.drawImage(picture, x, y, drawnWidth, drawnHeight, null);
    graphics.dispose();
    return to;
  }

  /**
   * Writes the colours of an image as a network reads them: red, green, blue as float32 in 0..1.
   *
   * @param image in the input, as {@link #draw} makes it; H x W pixels
   * @param layout {@link FeatsLayout#NHWC} for (H, W, 3), {@link FeatsLayout#NCHW} for (3, H, W)
   * @param to 12*H*W bytes
   * @throws IndexOutOfBoundsException if there is less memory
   */
  public static void values(BufferedImage image, FeatsLayout layout, MemorySegment to) {
    int width = image.getWidth();
    int height = image.getHeight();
    int[] pixels = image.getRGB(0, 0, width, height, null, 0, width);
    boolean planes = layout == FeatsLayout.NCHW;
    long pixelStride = planes ? 1 : 3;
    long colourStride = planes ? pixels.length : 1;
    for (int p = 0; p < pixels.length; p++) {
      for (int c = 0; c < 3; c++) {
        int value = pixels[p] >> 16 - 8 * c & 255;
        to.setAtIndex(JAVA_FLOAT, p * pixelStride + c * colourStride, value / 255f);
      }
    }
  }
}
