package io.github.yololoss.cli.commands;

import io.github.yololoss.cli.files.InputException;
import io.github.yololoss.cli.files.JsonFile;
import io.github.yololoss.cli.report.Html;
import io.github.yololoss.cli.report.ReportData;
import io.github.yololoss.cli.report.ReportPage;
import io.github.yololoss.cli.run.LossRun;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code yololoss report}. */
@Command(
    name = "report",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Shows where the loss comes from, as one HTML file: parts and layers, the costliest images"
            + " and cells, histograms, labels and anchors.",
    footer = {
      "",
      "Example:",
      "  yololoss report dump --spec yolov3.json --images val.txt --output report.html"
    })
public final class ReportCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @Mixin private LossRun run;

  @Option(names = "--output", required = true, paramLabel = "FILE", description = "The page.")
  private Path output;

  @Option(
      names = "--images",
      paramLabel = "FOLDER|LIST",
      description =
          "The photographs of the batch, in its order: a folder, by names, or a file with a path in"
              + " each line (in its own folder or below), as an annotation file. They are"
              + " letterboxed as keras-yolo3's loader does.")
  private Path images;

  @Option(
      names = "--images-root",
      paramLabel = "DIR",
      description =
          "A folder that the photographs of a LIST may lie in, too. Without it a list can name only"
              + " those in its own folder or below.")
  private Path imagesRoot;

  @Option(
      names = "--classes",
      paramLabel = "FILE",
      description = "A class name in each line, in the order of the numbers.")
  private Path classes;

  @Option(
      names = "--worst",
      paramLabel = "N",
      defaultValue = "20",
      description = "How many of the costliest images are shown; default ${DEFAULT-VALUE}.")
  private int worst;

  @Option(
      names = "--score",
      paramLabel = "X",
      defaultValue = "0.3",
      description =
          "Least objectness times class probability of a predicted box that is drawn, after"
              + " suppression in each class of those with an IoU above 0.45; default"
              + " ${DEFAULT-VALUE}.")
  private double score;

  @Option(
      names = "--poor-iou",
      paramLabel = "X",
      defaultValue = "0.3",
      description =
          "Tell boxes whose best possible IoU with an anchor is below; 0: none; default"
              + " ${DEFAULT-VALUE}.")
  private float poorIou;

  @Option(
      names = "--json",
      paramLabel = "FILE|-",
      description = "Write every number of the page as JSON; - for stdout.")
  private String json;

  @Override
  public Integer call() throws IOException {
    if (run.folder == null || run.specFile == null) {
      throw new ParameterException(command.commandLine(), "give DIR and --spec FILE");
    }
    if (worst < 0) {
      throw new ParameterException(
          command.commandLine(), "--worst is " + worst + ", at least 0 is expected");
    }
    checkFraction("--score", score);
    checkFraction("--poor-iou", poorIou);
    List<String> names = classes == null ? List.of() : readLines(classes);
    try (Arena arena = Arena.ofConfined()) {
      ReportData data = new ReportData(run, arena);
      data.compute(images, imagesRoot, worst, score, poorIou);
      if (json != null) {
        JsonFile.write(json, data.json(), command.commandLine().getOut());
      }
      Files.writeString(output, ReportPage.of(data.json(), data.pictures(), names));
      command
          .commandLine()
          .getErr()
          .println(
              String.format(
                  Locale.ROOT,
                  "%s: %.1f MB; loss %s of %d images",
                  output,
                  Files.size(output) / 1e6,
                  Html.rounded(data.json().at("/loss/total")),
                  run.batch));
      return 0;
    }
  }

  private static List<String> readLines(Path file) throws IOException {
    try {
      return Files.readAllLines(file).stream()
          .map(String::strip)
          .filter(s -> !s.isEmpty())
          .toList();
    } catch (CharacterCodingException e) {
      throw new InputException(file + ": not UTF-8 text");
    }
  }

  private void checkFraction(String option, Number value) {
    if (!(value.doubleValue() >= 0 && value.doubleValue() <= 1)) { // NaN too
      throw new ParameterException(
          command.commandLine(), option + " is " + value + ", a number in 0..1 is expected");
    }
  }
}
