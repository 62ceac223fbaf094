package io.github.yololoss.examples.djl;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.StringJoiner;

/**
 * A line of the log.
 *
 * @param number from 1 on
 * @param loss mean of the training batches, in the training's mode of the network; its parts alike
 * @param validationLoss mean of the validation images
 * @param ap average precision at IoU 0.5 of each class, NaN without truths
 * @param seconds training and validation
 */
record Epoch(
    int number,
    double learningRate,
    double loss,
    double xy,
    double wh,
    double confidence,
    double classes,
    double validationLoss,
    List<Double> ap,
    double seconds) {

  double meanAp() {
    return ap.stream().filter(v -> !v.isNaN()).mapToDouble(v -> v).average().orElse(0);
  }

  static String header(List<String> classNames) {
    StringJoiner joined = new StringJoiner(",");
    joined.add("epoch,learning_rate,loss,xy,wh,confidence,class,validation_loss");
    classNames.forEach(name -> joined.add("ap_" + name));
    return joined.add("mean_ap,seconds").toString();
  }

  String csv() {
    StringJoiner joined = new StringJoiner(",");
    joined.add(
        String.format(
            Locale.ROOT,
            "%d,%.6g,%.7g,%.7g,%.7g,%.7g,%.7g,%.7g",
            number,
            learningRate,
            loss,
            xy,
            wh,
            confidence,
            classes,
            validationLoss));
    ap.forEach(v -> joined.add(String.format(Locale.ROOT, "%.4f", v)));
    return joined.add(String.format(Locale.ROOT, "%.4f,%.1f", meanAp(), seconds)).toString();
  }

  static Epoch parse(String line) {
    String[] v = line.split(",");
    double[] n = Arrays.stream(v).mapToDouble(Double::parseDouble).toArray();
    return new Epoch(
        (int) n[0],
        n[1],
        n[2],
        n[3],
        n[4],
        n[5],
        n[6],
        n[7],
        Arrays.stream(n, 8, n.length - 2).boxed().toList(),
        n[n.length - 1]);
  }
}
