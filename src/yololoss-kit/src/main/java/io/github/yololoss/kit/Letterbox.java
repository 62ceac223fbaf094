package io.github.yololoss.kit;

/**
 * How keras-yolo3 fits a picture into the network's input: one scale for both sides, the rest
 * divided between the borders in whole pixels (its {@code letterbox_image} and {@code
 * get_random_data} without augmentation).
 *
 * @param scale pixels of the input for each pixel of the picture
 * @param width of the scaled picture in pixels
 * @param height of the scaled picture in pixels
 * @param dx columns of the input left of the picture
 * @param dy rows of the input above the picture
 */
public record Letterbox(double scale, int width, int height, int dx, int dy) {
  /**
   * Fits a picture.
   *
   * @param width of the picture in pixels
   * @param height of the picture in pixels
   * @param inputWidth of the network's input
   * @param inputHeight of the network's input
   * @return how it is scaled and placed
   */
  public static Letterbox of(int width, int height, int inputWidth, int inputHeight) {
    double scale = Math.min((double) inputWidth / width, (double) inputHeight / height);
    int scaledWidth = (int) (width * scale);
    int scaledHeight = (int) (height * scale);
    return new Letterbox(
        scale,
        scaledWidth,
        scaledHeight,
        Math.floorDiv(inputWidth - scaledWidth, 2),
        Math.floorDiv(inputHeight - scaledHeight, 2));
  }

  /**
   * Places a box; coordinates are cut to whole pixels.
   *
   * @param box x_min, y_min, x_max, y_max in pixels of the picture, class
   * @return the same in pixels of the input
   */
  public float[] box(int[] box) {
    return new float[] {
      (int) (box[0] * scale + dx),
      (int) (box[1] * scale + dy),
      (int) (box[2] * scale + dx),
      (int) (box[3] * scale + dy),
      box[4]
    };
  }
}
