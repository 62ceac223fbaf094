package io.github.yololoss;

import java.util.List;
import java.util.Locale;

/** The loss as people read it. */
final class LossTable {
  private LossTable() {}

  /** A line for each layer, and one for all. */
  static String of(List<LossResult.Parts> layers, double total) {
    StringBuilder text =
        new StringBuilder(
            String.format(
                Locale.ROOT,
                "%-7s%12s%12s%12s%12s%12s%10s%10s%n",
                "layer",
                "xy",
                "wh",
                "confidence",
                "class",
                "sum",
                "objects",
                "ignored"));
    LossResult.Parts sum = LossResult.Parts.ZERO;
    for (int l = 0; l < layers.size(); l++) {
      line(text, Integer.toString(l), layers.get(l), layers.get(l).sum());
      sum = sum.plus(layers.get(l));
    }
    line(text, "total", sum, total);
    return text.toString();
  }

  private static void line(StringBuilder text, String name, LossResult.Parts p, double sum) {
    text.append(
        String.format(
            Locale.ROOT,
            "%-7s%12.6g%12.6g%12.6g%12.6g%12.6g%10d%10d%n",
            name,
            p.xy(),
            p.wh(),
            p.confidence(),
            p.classes(),
            sum,
            p.objects(),
            p.ignored()));
  }
}
