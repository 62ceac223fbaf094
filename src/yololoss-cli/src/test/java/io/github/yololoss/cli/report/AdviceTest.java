package io.github.yololoss.cli.report;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossDevice;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.Part;
import io.github.yololoss.Statistics;
import io.github.yololoss.Targets;
import io.github.yololoss.cli.CommandTest;
import io.github.yololoss.cli.report.Report.ImageLoss;
import io.github.yololoss.cli.report.Report.LayerLoss;
import io.github.yololoss.cli.report.Report.Loss;
import io.github.yololoss.cli.report.Report.Shares;
import io.github.yololoss.cli.run.Batch;
import io.github.yololoss.cli.run.LossRunner;
import io.github.yololoss.cli.run.Request;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.lang.foreign.Arena;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Checks the sentences of a report: the sample's, and those of the sample with other numbers. */
class AdviceTest extends CommandTest {
  private static final String BACKGROUND = "91 % of the loss is background confidence";

  @Test
  void theSampleHasNoPatternOfAnUntrainedNetwork() throws Exception {
    assertEquals(List.of(), said(sampleReport(), BACKGROUND, "untrained", "ignored", "not finite"));
  }

  @Test
  void anUntrainedNetwork() throws Exception {
    Report report = withShares(sampleReport(), Map.of(Part.CONFIDENCE_BACKGROUND, 0.91));
    assertEquals(
        List.of(BACKGROUND, "untrained"),
        said(withBackgroundObjectness(report, 0.5), BACKGROUND, "untrained"));
    assertEquals(
        List.of(BACKGROUND, "many cells, each of little loss (mean objectness 0.100)"),
        said(
            withBackgroundObjectness(report, 0.1),
            BACKGROUND,
            "untrained",
            "many cells, each of little loss (mean objectness 0.100)"));
    assertEquals(
        List.of(BACKGROUND, "sees objects nearly everywhere (mean objectness 0.90)"),
        said(
            withBackgroundObjectness(report, 0.9),
            BACKGROUND,
            "untrained",
            "sees objects nearly everywhere (mean objectness 0.90)"));
  }

  @Test
  void partsThatStandOut() throws Exception {
    Report report =
        withShares(
            sampleReport(),
            Map.of(Part.XY, 0.5, Part.WH, 0.4, Part.CLASS, 0.4, Part.CONFIDENCE_OBJECT, 0.41));
    String[] words = {
      "does not fall to 0",
      "order and unit of the anchors",
      "40 % of the loss is the class part",
      "41 % of the loss is the confidence of objects"
    };
    assertEquals(List.of(words), said(report, words));
  }

  @Test
  void countsAndImagesThatStandOut() throws Exception {
    Report report = sampleReport();
    Parts parts = report.parts();
    Parts changed =
        new Parts(
            -1,
            parts.wh(),
            parts.confidenceObject(),
            parts.confidenceBackground(),
            parts.classes(),
            0,
            parts.ignored(),
            report.background() / 4,
            parts.nonFinite(),
            parts.foundInf());
    ImageLoss spread = report.imageLoss();
    ImageLoss far = new ImageLoss(spread.least(), spread.median(), spread.mean(), 1e9);
    String[] words = {
      "No image has an object",
      "Are H and W swapped?",
      "25 % of the background",
      "times the loss of the median one (0 shown here"
    };
    assertEquals(
        List.of(words), said(with(report, report.loss(), changed, report.shares(), far), words));
  }

  private Report sampleReport() throws Exception {
    try (Arena arena = Arena.ofConfined()) {
      Batch batch =
          Batch.read(
              new Batch.Source(sample, spec, null, FeatsLayout.NHWC, Targets.BoxPolicy.ERROR),
              arena);
      Request request = new Request(LossDevice.CPU, Normaliser.BATCH, 1, 0);
      LossRunner runner = new LossRunner("report", new PrintWriter(new StringWriter()));
      return new ReportBuilder(batch, request, runner, arena).build(null, 20, 0.3, 0.5f);
    }
  }

  /** Returns a report with other shares of some parts. */
  private static Report withShares(Report report, Map<Part, Double> others) {
    Map<Part, Double> parts = new EnumMap<>(report.shares().parts());
    parts.putAll(others);
    Shares shares = new Shares(report.shares().layers(), parts);
    return with(report, report.loss(), report.parts(), shares, report.imageLoss());
  }

  /** Returns a report with another mean objectness of the background of each layer. */
  private static Report withBackgroundObjectness(Report report, double mean) {
    List<LayerLoss> layers =
        report.loss().layers().stream()
            .map(layer -> new LayerLoss(layer.parts(), objectness(layer.statistics(), mean)))
            .toList();
    Loss loss = new Loss(report.loss().run(), layers);
    return with(report, loss, report.parts(), report.shares(), report.imageLoss());
  }

  private static Statistics objectness(Statistics s, double mean) {
    return new Statistics(
        s.objects(),
        s.background(),
        s.iou(),
        s.iou50(),
        s.iou75(),
        s.objectnessObject(),
        mean * s.background(),
        s.gradXy(),
        s.gradWh(),
        s.gradObject(),
        s.gradBackground(),
        s.gradClass());
  }

  private static Report with(
      Report report, Loss loss, Parts parts, Shares shares, ImageLoss imageLoss) {
    return new Report(
        report.folder(),
        report.spec(),
        report.grids(),
        loss,
        parts,
        shares,
        report.background(),
        imageLoss,
        report.histograms(),
        report.images(),
        report.cells(),
        report.labels());
  }

  /** Returns those of the words that are in the advice for a report. */
  private static List<String> said(Report report, String... words) {
    String advice = String.join("\n", report.advice());
    return Stream.of(words).filter(advice::contains).toList();
  }
}
