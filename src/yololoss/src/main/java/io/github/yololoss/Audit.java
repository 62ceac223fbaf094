package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * The result of {@link YoloLoss#audit}: what is wrong with truths, and how boxes fit the anchors.
 *
 * @param findings the first findings, in the order of images and rows or cells
 * @param counts the number of findings of each reason, those without room in the list included
 * @param anchorUse for each layer and each anchor of the spec, the number of boxes or objects that
 *     use it
 * @param bestIou for each image and row of boxes the IoU with its best anchor at a common centre,
 *     the largest that a prediction of an anchor's size can reach; 0 for rows that are not used.
 *     Empty for dense truths
 */
public record Audit(
    List<Finding> findings,
    Map<Reason, Long> counts,
    List<List<Long>> anchorUse,
    List<List<Float>> bestIou) {

  /**
   * The reason of a finding. {@code yololoss.h} says at {@code YL_REASON_...} what {@link
   * Finding#value} is for each.
   */
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
    /** The row takes the cell of an earlier row, which {@link Finding#other} names. */
    COLLISION(Abi.YL_REASON_COLLISION, "takes the cell of an earlier row"),
    /** The best anchor is in no layer: the row has no truth. */
    NO_LAYER(Abi.YL_REASON_NO_LAYER, "best anchor in no layer"),
    /** The best anchor is in several layers: the row has a truth in each. */
    TWO_LAYERS(Abi.YL_REASON_TWO_LAYERS, "best anchor in several layers"),
    /** The IoU with the best anchor is below the limit of the audit. */
    POOR_ANCHOR(Abi.YL_REASON_POOR_ANCHOR, "poor best anchor"),
    /** Dense truths: the centre is not in the object's cell. */
    CENTRE(Abi.YL_REASON_CENTRE, "centre not in its cell"),
    /** Dense truths: width or height is not above 0, or not finite. */
    SIZE(Abi.YL_REASON_SIZE, "width or height not above 0"),
    /** Dense truths: the mask is not in 0..1. */
    MASK(Abi.YL_REASON_MASK, "mask not in 0..1"),
    /** Dense truths: a class target is not finite. */
    TARGET(Abi.YL_REASON_TARGET, "class target not finite"),
    /**
     * All coordinates of all rows are in 0..1 and not all are whole numbers: the boxes are
     * fractions of the input, not pixels. Found once, for the first row that is not zero.
     */
    NORMALISED(Abi.YL_REASON_NORMALISED, "coordinates in 0..1, not in pixels");

    /** The value of {@code YL_REASON_...}. */
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

    /** {@return the reason in words} */
    public String text() {
      return text;
    }

    /** {@return whether it is a fault; if not, it is a fact about rows and anchors} */
    public boolean isFault() {
      return switch (this) {
        case NO_LAYER, TWO_LAYERS, POOR_ANCHOR, COLLISION -> false;
        default -> true;
      };
    }
  }

  /** What a call does with a row or object. */
  public enum Action {
    /** Uses it as it is. */
    KEPT(Abi.YL_ACTION_KEPT),
    /** Fails. */
    REFUSED(Abi.YL_ACTION_REFUSED),
    /** Leaves it out. */
    SKIPPED(Abi.YL_ACTION_SKIPPED),
    /** Cuts it to the input, and uses it. */
    CLAMPED(Abi.YL_ACTION_CLAMPED),
    /** Counts it as used, but it has no truth. */
    DROPPED(Abi.YL_ACTION_DROPPED);

    /** The value of {@code YL_ACTION_...}. */
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
   * @param reason what was found
   * @param action what a call does with the row or object
   * @param image image of the batch, from 0
   * @param row row of the image's boxes, from 0; -1 for dense truths
   * @param other for {@link Reason#COLLISION} the earlier row
   * @param layer layer of the cell that the finding is about
   * @param gridRow row of that cell
   * @param gridColumn column of that cell
   * @param anchor boxes: index into the spec's anchors; dense truths: anchor of the layer, 0..A-1
   * @param value the offending value
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
     * {@return the same finding with another number of its image, as within a larger batch}
     *
     * @param newImage the number
     */
    public Finding withImage(int newImage) {
      return new Finding(
          reason, action, newImage, row, other, layer, gridRow, gridColumn, anchor, value);
    }

    /** {@return place, reason and action in one line} */
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

  /** Copies the lists. */
  public Audit {
    findings = List.copyOf(findings);
    counts = Map.copyOf(counts);
    anchorUse = List.copyOf(anchorUse);
    bestIou = List.copyOf(bestIou);
  }

  /**
   * {@return the number of findings of a reason}
   *
   * @param reason the reason
   */
  public long count(Reason reason) {
    return counts.getOrDefault(reason, 0L);
  }

  /**
   * {@return the number of faults: rows or cells that a call refuses, skips or cuts, or whose
   * values spoil it}
   */
  public long faults() {
    return counts.entrySet().stream()
        .filter(entry -> entry.getKey().isFault())
        .mapToLong(Map.Entry::getValue)
        .sum();
  }

  /** {@return the counts of the findings in one line} */
  @Override
  public String toString() {
    List<String> found = new ArrayList<>();
    for (Reason reason : Reason.values()) {
      if (count(reason) > 0) {
        found.add(count(reason) + " " + reason.text());
      }
    }
    return found.isEmpty()
        ? "no findings"
        : String.join(", ", found) + "; " + faults() + " are faults";
  }
}
