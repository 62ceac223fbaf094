package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import java.io.Serializable;
import java.util.List;
import java.util.Map;

/**
 * What is wrong with truths, and how boxes fit the anchors.
 *
 * @param findings the first ones, in the order of images and rows or cells
 * @param counts how many there are for each reason, also of those that found no room in the list
 * @param anchorUse for each layer and each anchor of the spec, how many boxes or objects use it
 * @param bestIou for each image and row of boxes the best possible IoU, that with its best anchor
 *     at a common centre; 0 for rows that are not used. Empty for dense truths
 */
public record Audit(
    List<Finding> findings,
    Map<Reason, Long> counts,
    List<List<Long>> anchorUse,
    List<List<Float>> bestIou) {

  /** The native header's {@code YL_REASON_...}, which says what value is. */
  public enum Reason {
    /** A coordinate, class or weight that is NaN or infinite, or a negative weight. */
    NOT_FINITE(Abi.YL_REASON_NOT_FINITE, "not finite"),
    /** x_max at most x_min, or y_max at most y_min. */
    NO_AREA(Abi.YL_REASON_NO_AREA, "no area"),
    /** A class that is not a whole number in 0..C-1. */
    CLASS(Abi.YL_REASON_CLASS, "class out of range"),
    /** A size too large for float32. */
    TOO_LARGE(Abi.YL_REASON_TOO_LARGE, "too large"),
    /** A centre outside the input. */
    OUTSIDE(Abi.YL_REASON_OUTSIDE, "centre outside the input"),
    /** The cell of an earlier row, which is named by other. */
    COLLISION(Abi.YL_REASON_COLLISION, "takes the cell of an earlier row"),
    /** The best anchor is in no layer. */
    NO_LAYER(Abi.YL_REASON_NO_LAYER, "best anchor in no layer"),
    /** The best anchor is in several layers. */
    TWO_LAYERS(Abi.YL_REASON_TWO_LAYERS, "best anchor in several layers"),
    /** The IoU with the best anchor is below the limit. */
    POOR_ANCHOR(Abi.YL_REASON_POOR_ANCHOR, "poor best anchor"),
    /** Dense: the centre is not in the object's cell. */
    CENTRE(Abi.YL_REASON_CENTRE, "centre not in its cell"),
    /** Dense: width or height not above 0, or not finite. */
    SIZE(Abi.YL_REASON_SIZE, "width or height not above 0"),
    /** Dense: a mask that is not in 0..1. */
    MASK(Abi.YL_REASON_MASK, "mask not in 0..1"),
    /** Dense: a class target that is not finite. */
    TARGET(Abi.YL_REASON_TARGET, "class target not finite");

    /** On the native boundary. */
    final int value;

    private final String text;

    Reason(int value, String text) {
      this.value = value;
      this.text = text;
    }

    static Reason of(int value) {
      for (Reason reason : values()) {
        if (reason.value == value) {
          return reason;
        }
      }
      throw new AssertionError("reason " + value); // the library is of this ABI version
    }

    /** {@return in words} */
    public String text() {
      return text;
    }

    /** {@return whether it is a fault; else a fact about the anchors} */
    public boolean isFault() {
      return switch (this) {
        case NO_LAYER, TWO_LAYERS, POOR_ANCHOR, COLLISION -> false;
        default -> true;
      };
    }
  }

  /** What a call does with it. */
  public enum Action {
    /** Used as it is. */
    KEPT(Abi.YL_ACTION_KEPT),
    /** The call fails. */
    REFUSED(Abi.YL_ACTION_REFUSED),
    /** Left out. */
    SKIPPED(Abi.YL_ACTION_SKIPPED),
    /** Cut to the input, and used. */
    CLAMPED(Abi.YL_ACTION_CLAMPED),
    /** Used, but it has no truth. */
    DROPPED(Abi.YL_ACTION_DROPPED);

    /** On the native boundary. */
    final int value;

    Action(int value) {
      this.value = value;
    }

    static Action of(int value) {
      for (Action action : values()) {
        if (action.value == value) {
          return action;
        }
      }
      throw new AssertionError("action " + value); // the library is of this ABI version
    }
  }

  /**
   * A finding. Numbers that do not apply are -1.
   *
   * @param reason what it is
   * @param action what a call does with it
   * @param image of the batch
   * @param row of the image's boxes; -1 for dense truths
   * @param other for {@link Reason#COLLISION} the earlier row
   * @param layer of the cell that it is about, as the next three
   * @param gridRow of the grid
   * @param gridColumn of the grid
   * @param anchor boxes: index into the spec's anchors; dense: 0..A-1 of the layer
   * @param value the offending one
   */
  public record Finding(
      Reason reason,
      Action action,
      int image,
      int row,
      int other,
      int layer,
      int gridRow,
      int gridColumn,
      int anchor,
      float value)
      implements Serializable {

    /**
     * {@return the same, of an image that is numbered otherwise, as within a larger batch}
     *
     * @param newImage its number
     */
    public Finding withImage(int newImage) {
      return new Finding(
          reason, action, newImage, row, other, layer, gridRow, gridColumn, anchor, value);
    }

    /** One line. */
    @Override
    public String toString() {
      StringBuilder text = new StringBuilder("image ").append(image);
      if (row >= 0) {
        text.append(", row ").append(row);
      }
      if (layer >= 0) {
        text.append(", layer ").append(layer).append(" row ").append(gridRow);
        text.append(" column ").append(gridColumn);
      }
      if (anchor >= 0) {
        text.append(" anchor ").append(anchor);
      }
      text.append(": ").append(reason.text());
      text.append(other >= 0 ? " " + other : " (" + value + ")");
      return text.append(", ").append(action.name().toLowerCase(java.util.Locale.ROOT)).toString();
    }
  }

  /** The lists are copied. */
  public Audit {
    findings = List.copyOf(findings);
    counts = Map.copyOf(counts);
    anchorUse = List.copyOf(anchorUse);
    bestIou = List.copyOf(bestIou);
  }

  /**
   * {@return how many findings there are for a reason}
   *
   * @param reason which
   */
  public long count(Reason reason) {
    return counts.getOrDefault(reason, 0L);
  }

  /**
   * {@return how many faults there are: rows or cells that a call refuses, leaves out, cuts or
   * suffers}
   */
  public long faults() {
    return counts.entrySet().stream()
        .filter(entry -> entry.getKey().isFault())
        .mapToLong(Map.Entry::getValue)
        .sum();
  }
}
