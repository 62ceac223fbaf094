package io.github.yololoss;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Formats the loss for people. */
final class LossTable {
  private LossTable() {}

  /** Returns a table with a line for each layer, and one for the total. */
  static String of(List<LossResult.Parts> layers, double total) {
    StringBuilder text = new StringBuilder(String.format("%-7s", "layer"));
    for (String column : columns(LossResult.Parts.ZERO).keySet()) {
      text.append(String.format("%12s", column));
    }
    text.append(String.format("%12s%10s%10s%n", "sum", "objects", "ignored"));
    LossResult.Parts sum = LossResult.Parts.ZERO;
    for (int l = 0; l < layers.size(); l++) {
      line(text, Integer.toString(l), layers.get(l), layers.get(l).sum());
      sum = sum.plus(layers.get(l));
    }
    line(text, "total", sum, total);
    return text.toString();
  }

  /** Returns the columns of the table; parts of the same column are added. */
  private static Map<String, Double> columns(LossResult.Parts p) {
    Map<String, Double> columns = new LinkedHashMap<>();
    Part.ALL.forEach(part -> columns.merge(part.column(), part.of(p), Double::sum));
    return columns;
  }

  private static void line(StringBuilder text, String name, LossResult.Parts p, double sum) {
    text.append(String.format("%-7s", name));
    for (double value : columns(p).values()) {
      text.append(String.format(Locale.ROOT, "%12.6g", value));
    }
    text.append(String.format(Locale.ROOT, "%12.6g%10d%10d%n", sum, p.objects(), p.ignored()));
  }
}
