package io.github.yololoss.cli.report;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.StreamSupport;

/** Sentences about patterns in a report's numbers that are known. */
public final class Advice {
  private final JsonNode report;
  private final List<String> sentences = new ArrayList<>();

  private Advice(JsonNode report) {
    this.report = report;
  }

  /** What a report's tree shows, the most urgent first. */
  public static List<String> of(JsonNode report) {
    Advice advice = new Advice(report);
    advice.numbers();
    advice.labels();
    if (Double.isFinite(advice.value("/loss/total"))) {
      advice.parts();
      advice.layers();
      advice.images();
    }
    if (advice.sentences.isEmpty()) {
      advice.sentences.add("No known pattern stands out.");
    }
    return advice.sentences;
  }

  private double value(String pointer) {
    return report.at(pointer).asDouble();
  }

  private long count(String pointer) {
    return report.at(pointer).asLong();
  }

  private void say(String sentence, Object... values) {
    sentences.add(String.format(Locale.ROOT, sentence, values));
  }

  private static String percent(double share) {
    return Math.round(100 * share) + " %";
  }

  private void numbers() {
    if (count("/loss/non_finite") > 0) {
      say(
          "Values that are not finite: %d. The first is of cause %s, at image %d, layer %d, row %d,"
              + " column %d, anchor %d, channel %d. Mend that first.",
          count("/loss/non_finite"),
          report.at("/loss/offender/cause").asText(),
          count("/loss/offender/image"),
          count("/loss/offender/layer"),
          count("/loss/offender/row"),
          count("/loss/offender/column"),
          count("/loss/offender/anchor"),
          count("/loss/offender/channel"));
    }
  }

  private void labels() {
    if (count("/objects") == 0) {
      say(
          "No image has an object, so the loss is the confidence of background alone. If there"
              + " should be some, look at the labels and at the spec's input_shape.");
    }
    if (count("/audit/faults") > 0) {
      say("The truths have %d faults; they are listed under Labels.", count("/audit/faults"));
    }
    if (count("/loss/boxes/skipped") > 0) {
      say("Left out by --bad-boxes: %d boxes.", count("/loss/boxes/skipped"));
    }
    if (count("/loss/boxes/dropped") > 0) {
      say(
          "%d boxes have no truth, since no layer has the anchor that fits them best: compare"
              + " anchor_mask.",
          count("/loss/boxes/dropped"));
    }
    if (count("/loss/boxes/collided") > 0) {
      say(
          "%d boxes took the cell of another: of two that share cell and anchor, the later counts,"
              + " with the classes of both.",
          count("/loss/boxes/collided"));
    }
    double boxes = value("/audit/best_possible_iou/boxes");
    double poor = value("/audit/best_possible_iou/below_half");
    if (poor >= 0.2 * boxes && poor > 0) {
      say(
          "%s of the boxes have an IoU below 0.5 with their best anchor: the anchors do not fit"
              + " these boxes; compute them anew, in pixels of the input.",
          percent(poor / boxes));
    }
  }

  private void parts() {
    double background = value("/shares/confidence_background");
    double ofBackground = objectness("background");
    if (background >= 0.5) {
      String share = percent(background) + " of the loss is background confidence: ";
      if (ofBackground >= 0.3 && ofBackground <= 0.7) {
        say(
            "%s"
                + "its mean objectness is %.2f, so the network is untrained in this. It starts near"
                + " 0.69 for each background cell, and falls within the first hundreds of steps.",
            share, ofBackground);
      } else if (ofBackground < 0.3) {
        say(
            "%s"
                + "many cells, each of little loss (mean objectness %.3f). Normal early in"
                + " training; if it stays, look at the costliest cells: objects that are missing in"
                + " the labels stand out there.",
            share, ofBackground);
      } else {
        say(
            "%s"
                + "the network sees objects nearly everywhere (mean objectness %.2f). If it was"
                + " trained, compare layout and order of channels with what trained it.",
            share, ofBackground);
      }
    }
    if (value("/shares/confidence_object") >= 0.4) {
      say(
          "%s of the loss is the confidence of objects, whose mean objectness is %.2f: they are not"
              + " found. Normal early in training.",
          percent(value("/shares/confidence_object")), objectness("object"));
    }
    if (value("/shares/wh") >= 0.4) {
      say(
          "%s of the loss is the sizes (wh): compare order and unit of the anchors, width before"
              + " height and in pixels of the input, with what trained the network.",
          percent(value("/shares/wh")));
    }
    if (value("/shares/class") >= 0.4) {
      say(
          "%s of the loss is the class part. Normal early in training; if it stays, compare the"
              + " numbers of the classes.",
          percent(value("/shares/class")));
    }
    if (value("/shares/xy") >= 0.4) {
      say(
          "%s of the loss is the centres (xy). This part does not fall to 0: its target is a place"
              + " within a cell, and the cross-entropy of the best prediction is that place's"
              + " entropy.",
          percent(value("/shares/xy")));
    }
    if (value("/parts/xy") < 0) {
      say("The xy part is negative: centres lie outside their cells. Are H and W swapped?");
    }
    double ignored = value("/ignored_background") / value("/background");
    if (ignored >= 0.1) {
      say(
          "%s of the background cells are ignored, because they overlap a truth by ignore_thresh"
              + " or more.",
          percent(ignored));
    }
  }

  /** Mean over all layers. */
  private double objectness(String kind) {
    double sum = 0;
    double cells = 0;
    for (JsonNode layer : report.at("/loss/layers")) {
      JsonNode s = layer.get("statistics");
      sum += s.get("mean_objectness_" + kind).asDouble() * s.get(kind + "_count").asDouble();
      cells += s.get(kind + "_count").asDouble();
    }
    return cells == 0 ? 0 : sum / cells;
  }

  private void layers() {
    JsonNode layers = report.at("/loss/layers");
    for (int l = 0; count("/objects") > 0 && l < layers.size(); l++) {
      if (layers.get(l).get("object_count").asLong() == 0) {
        say("Layer %d has no object in these images: none of the boxes fits its anchors best.", l);
      }
    }
  }

  private void images() {
    double median = value("/image_loss/median");
    double largest = value("/image_loss/largest");
    if (median > 0 && largest >= 5 * median) {
      long many =
          StreamSupport.stream(report.at("/images").spliterator(), false)
              .filter(image -> image.get("loss").asDouble() >= 5 * median)
              .count();
      say(
          "The costliest image has %.1f times the loss of the median one (%d shown here have 5"
              + " times or more): look at its labels.",
          largest / median, many);
    }
  }
}
