package io.github.yololoss;

/**
 * The first value of a batch, in the order of image, layer, row, column, anchor, channel, that
 * poisons or would poison the loss.
 *
 * @param cause what is wrong with it
 * @param image of the batch
 * @param layer of the network
 * @param row of the grid
 * @param column of the grid
 * @param anchor 0..A-1 of the layer
 * @param channel 0..4+C: tx, ty, tw, th, objectness, classes
 * @param value the logit, or for {@link Cause#TRUTH} the value of y_true
 * @param gradient for {@link Cause#OVERFLOW} that of the channel, before it is rounded; else 0
 */
public record Offender(
    Cause cause,
    int image,
    int layer,
    int row,
    int column,
    int anchor,
    int channel,
    double value,
    double gradient) {

  /** In the order of the native header's {@code YL_CAUSE_...}, from 1 on. */
  public enum Cause {
    /** A logit that is not finite. */
    FEATS,
    /** A truth that is not finite, or an object's width or height that is not above 0. */
    TRUTH,
    /** Finite input whose loss, or whose gradient in its type, is not finite. */
    OVERFLOW
  }

  /** One sentence. */
  @Override
  public String toString() {
    String channelName =
        channel > 4 ? "class " + (channel - 5) : CHANNELS[channel] + " (channel " + channel + ")";
    String place =
        " at image "
            + image
            + ", layer "
            + layer
            + ", row "
            + row
            + ", column "
            + column
            + ", anchor "
            + anchor
            + ", "
            + channelName;
    return switch (cause) {
      case FEATS -> "feats hold " + value + place;
      case TRUTH -> "y_true holds " + value + place;
      case OVERFLOW -> "overflow" + place + ": logit " + value + ", gradient " + gradient;
    };
  }

  private static final String[] CHANNELS = {"tx", "ty", "tw", "th", "objectness"};
}
