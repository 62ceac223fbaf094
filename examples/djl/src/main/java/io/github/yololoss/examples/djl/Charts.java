package io.github.yololoss.examples.djl;

import io.github.yololoss.kit.Detections.Box;
import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Graphics2D;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;
import javax.imageio.ImageIO;
import org.knowm.xchart.BitmapEncoder;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.style.markers.SeriesMarkers;

/** What a run leaves behind to look at. */
final class Charts {
  private static final int COLUMNS = 3;
  private static final int ZOOM = 2;

  private Charts() {}

  /** Images with their truths (thin, white) and detections (coloured, with class and score). */
  static void detections(
      Path file, List<Dataset.Picture> pictures, List<List<Box>> detections, List<String> classes)
      throws IOException {
    int w = pictures.getFirst().image().getWidth() * ZOOM;
    int h = pictures.getFirst().image().getHeight() * ZOOM;
    int rows = (pictures.size() + COLUMNS - 1) / COLUMNS;
    BufferedImage sheet = new BufferedImage(COLUMNS * w, rows * h, BufferedImage.TYPE_INT_RGB);
    for (int i = 0; i < pictures.size(); i++) {
      Graphics2D g =
          (Graphics2D) sheet.getGraphics().create(i % COLUMNS * w, i / COLUMNS * h, w, h);
      g.drawImage(pictures.get(i).image(), 0, 0, w, h, null);
      g.setColor(Color.WHITE);
      g.setStroke(new BasicStroke(1));
      pictures.get(i).boxes().forEach(box -> draw(g, box));
      g.setStroke(new BasicStroke(2.5f));
      for (Box box : detections.get(i)) {
        g.setColor(Color.getHSBColor((float) box.classId() / classes.size(), 1, 0.85f));
        draw(g, box);
        String text =
            String.format(Locale.ROOT, "%s %.2f", classes.get(box.classId()), box.score());
        g.drawString(text, (int) (box.x0() * ZOOM) + 3, (int) (box.y0() * ZOOM) + 13);
      }
      g.dispose();
    }
    ImageIO.write(sheet, "png", file.toFile());
  }

  private static void draw(Graphics2D g, Box box) {
    g.drawRect(
        (int) (box.x0() * ZOOM),
        (int) (box.y0() * ZOOM),
        (int) ((box.x1() - box.x0()) * ZOOM),
        (int) ((box.y1() - box.y0()) * ZOOM));
  }

  /** Loss and its parts over the epochs. */
  static void lossChart(Path file, List<Epoch> history) throws IOException {
    XYChart chart = chart("loss and its parts", "loss (logarithmic)");
    chart.getStyler().setYAxisLogarithmic(true);
    add(chart, "training", history, Epoch::loss);
    add(chart, "validation", history, Epoch::validationLoss);
    add(chart, "xy", history, Epoch::xy);
    add(chart, "wh", history, Epoch::wh);
    add(chart, "confidence", history, Epoch::confidence);
    add(chart, "class", history, Epoch::classes);
    BitmapEncoder.saveBitmap(chart, file.toString(), BitmapEncoder.BitmapFormat.PNG);
  }

  /** Average precision of each class over the epochs. */
  static void apChart(Path file, List<Epoch> history, List<String> classes) throws IOException {
    XYChart chart = chart("validation", "average precision at IoU 0.5");
    for (int c = 0; c < classes.size(); c++) {
      int classId = c;
      add(chart, classes.get(c), history, epoch -> epoch.ap().get(classId));
    }
    add(chart, "mean", history, Epoch::meanAp);
    BitmapEncoder.saveBitmap(chart, file.toString(), BitmapEncoder.BitmapFormat.PNG);
  }

  private static XYChart chart(String title, String yAxis) {
    return new XYChartBuilder()
        .width(1000)
        .height(600)
        .title(title)
        .xAxisTitle("epoch")
        .yAxisTitle(yAxis)
        .build();
  }

  private static void add(
      XYChart chart, String name, List<Epoch> history, ToDoubleFunction<Epoch> value) {
    double[] x = history.stream().mapToDouble(Epoch::number).toArray();
    double[] y =
        history.stream()
            .mapToDouble(value)
            .map(v -> chart.getStyler().isYAxisLogarithmic() ? Math.max(v, 1e-3) : v)
            .toArray();
    chart.addSeries(name, x, y).setMarker(SeriesMarkers.NONE);
  }
}
