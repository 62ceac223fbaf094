package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import java.lang.foreign.MemorySegment;

/**
 * The first value of a batch that makes the loss or the gradient NaN or infinite. The order is:
 * image, layer, row, column, anchor, channel.
 *
 * @param cause what is wrong with the value
 * @param image image of the batch, from 0
 * @param layer layer of the network, from 0
 * @param row row of the grid, from 0
 * @param column column of the grid, from 0
 * @param anchor 0..A-1 of the layer
 * @param channel 0..4+C: tx, ty, tw, th, objectness, classes
 * @param value the logit, or for {@link Cause#TRUTH} the value of y_true
 * @param gradient for {@link Cause#OVERFLOW} the gradient of the channel, before it is rounded;
 *     else 0
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

  /** What is wrong with a value. */
  public enum Cause {
    /** A logit that is not finite. */
    FEATS(Abi.YL_CAUSE_FEATS),
    /** A truth that is not finite, or an object's width or height that is not above 0. */
    TRUTH(Abi.YL_CAUSE_TRUTH),
    /** A finite value whose loss, or whose gradient in its type, is not finite. */
    OVERFLOW(Abi.YL_CAUSE_OVERFLOW);

    /** The value of {@code YL_CAUSE_...}. */
    final int value;

    Cause(int value) {
      this.value = value;
    }

    static Cause of(int value) {
      for (Cause cause : values()) {
        if (cause.value == value) {
          return cause;
        }
      }
      throw new AssertionError("cause " + value); // the library is of this ABI version
    }
  }

  /** Reads a yl_offender; null if there is none. */
  static Offender read(MemorySegment struct) {
    int cause = Abi.Offender.getCause(struct);
    return cause == Abi.YL_CAUSE_NONE
        ? null
        : new Offender(
            Cause.of(cause),
            Abi.Offender.getImage(struct),
            Abi.Offender.getLayer(struct),
            Abi.Offender.getRow(struct),
            Abi.Offender.getColumn(struct),
            Abi.Offender.getAnchor(struct),
            Abi.Offender.getChannel(struct),
            Abi.Offender.getValue(struct),
            Abi.Offender.getGradient(struct));
  }

  /** {@return value, place and cause in one line} */
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
