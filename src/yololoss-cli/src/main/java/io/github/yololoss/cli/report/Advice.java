package io.github.yololoss.cli.report;

import io.github.yololoss.Offender;
import io.github.yololoss.Part;
import io.github.yololoss.Statistics;
import io.github.yololoss.Targets.BoxCounts;
import io.github.yololoss.cli.report.Report.LayerLoss;
import io.github.yololoss.cli.run.AuditJson.BestIou;
import io.github.yololoss.cli.run.Totals;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;
import java.util.function.ToLongFunction;

/** Writes sentences about known patterns in the numbers of a report. */
final class Advice {
  private final Report report;
  private final List<String> sentences = new ArrayList<>();

  private Advice(Report report) {
    this.report = report;
  }

  /** Returns the sentences, the most urgent first. */
  static List<String> of(Report report) {
    Advice advice = new Advice(report);
    advice.numbers();
    advice.labels();
    if (Double.isFinite(report.loss().total())) {
      advice.parts();
      advice.layers();
      advice.images();
    }
    if (advice.sentences.isEmpty()) {
      advice.sentences.add("No known pattern stands out.");
    }
    return advice.sentences;
  }

  private double share(Part part) {
    return report.shares().parts().get(part);
  }

  private void say(String sentence, Object... values) {
    sentences.add(String.format(Locale.ROOT, sentence, values));
  }

  private static String percent(double share) {
    return Math.round(100 * share) + " %";
  }

  private void numbers() {
    Totals totals = report.loss().run().totals();
    Offender first = totals.offender();
    if (totals.nonFinite() > 0 && first != null) {
      say(
          "Values that are not finite: %d. The first is of cause %s, at image %d, layer %d, row %d,"
              + " column %d, anchor %d, channel %d. Mend that first.",
          totals.nonFinite(),
          first.cause(),
          first.image(),
          first.layer(),
          first.row(),
          first.column(),
          first.anchor(),
          first.channel());
    }
  }

  private void labels() {
    if (report.parts().objects() == 0) {
      say(
          "No image has an object, so the loss is the confidence of background alone. If there"
              + " should be some, look at the labels and at the spec's input_shape.");
    }
    long faults = report.labels().audit().faults();
    if (faults > 0) {
      say("The truths have %d faults; they are listed under Labels.", faults);
    }
    BoxCounts boxes = report.loss().run().totals().boxes();
    if (boxes.skipped() > 0) {
      say("Left out by --bad-boxes: %d boxes.", boxes.skipped());
    }
    if (boxes.dropped() > 0) {
      say(
          "%d boxes have no truth, since no layer has the anchor that fits them best: compare"
              + " anchor_mask.",
          boxes.dropped());
    }
    if (boxes.collided() > 0) {
      say(
          "%d boxes took the cell of another: of two that share cell and anchor, the later counts,"
              + " with the classes of both.",
          boxes.collided());
    }
    BestIou best = report.labels().best();
    if (best != null && best.belowHalf() > 0 && best.belowHalf() >= 0.2 * best.boxes()) {
      say(
          "%s of the boxes have an IoU below 0.5 with their best anchor: the anchors do not fit"
              + " these boxes; compute them anew, in pixels of the input.",
          percent((double) best.belowHalf() / best.boxes()));
    }
  }

  private void parts() {
    double background = share(Part.CONFIDENCE_BACKGROUND);
    double ofBackground = mean(Statistics::meanObjectnessBackground, Statistics::background);
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
    if (share(Part.CONFIDENCE_OBJECT) >= 0.4) {
      say(
          "%s of the loss is the confidence of objects, whose mean objectness is %.2f: they are not"
              + " found. Normal early in training.",
          percent(share(Part.CONFIDENCE_OBJECT)),
          mean(Statistics::meanObjectnessObject, Statistics::objects));
    }
    if (share(Part.WH) >= 0.4) {
      say(
          "%s of the loss is the sizes (wh): compare order and unit of the anchors, width before"
              + " height and in pixels of the input, with what trained the network.",
          percent(share(Part.WH)));
    }
    if (share(Part.CLASS) >= 0.4) {
      say(
          "%s of the loss is the class part. Normal early in training; if it stays, compare the"
              + " numbers of the classes.",
          percent(share(Part.CLASS)));
    }
    if (share(Part.XY) >= 0.4) {
      say(
          "%s of the loss is the centres (xy). This part does not fall to 0: its target is a place"
              + " within a cell, and the cross-entropy of the best prediction is that place's"
              + " entropy.",
          percent(share(Part.XY)));
    }
    if (report.parts().xy() < 0) {
      say("The xy part is negative: centres lie outside their cells. Are H and W swapped?");
    }
    double ignored = (double) report.parts().ignoredBackground() / report.background();
    if (ignored >= 0.1) {
      say(
          "%s of the background cells are ignored, because they overlap a truth by ignore_thresh"
              + " or more.",
          percent(ignored));
    }
  }

  /** Returns the mean over all layers of what is a mean over some cells of each. */
  private double mean(ToDoubleFunction<Statistics> meanOf, ToLongFunction<Statistics> cellsOf) {
    double sum = 0;
    double cells = 0;
    for (LayerLoss layer : report.loss().layers()) {
      double count = cellsOf.applyAsLong(layer.statistics());
      sum += meanOf.applyAsDouble(layer.statistics()) * count;
      cells += count;
    }
    return cells == 0 ? 0 : sum / cells;
  }

  private void layers() {
    List<LayerLoss> layers = report.loss().layers();
    for (int l = 0; report.parts().objects() > 0 && l < layers.size(); l++) {
      if (layers.get(l).parts().objects() == 0) {
        say("Layer %d has no object in these images: none of the boxes fits its anchors best.", l);
      }
    }
  }

  private void images() {
    double median = report.imageLoss().median();
    double largest = report.imageLoss().largest();
    if (median > 0 && largest >= 5 * median) {
      say(
          "The costliest image has %.1f times the loss of the median one (%d shown here have 5"
              + " times or more): look at its labels.",
          largest / median,
          report.images().stream().filter(image -> image.loss() >= 5 * median).count());
    }
  }
}
