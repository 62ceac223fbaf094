package io.github.yololoss.cli.commands;

import io.github.yololoss.cli.files.ExitCode;
import io.github.yololoss.cli.files.InputException;
import io.github.yololoss.cli.files.Photos;
import io.github.yololoss.cli.report.Html;
import io.github.yololoss.cli.report.Report;
import io.github.yololoss.cli.report.ReportBuilder;
import io.github.yololoss.cli.report.ReportJson;
import io.github.yololoss.cli.report.ReportPage;
import io.github.yololoss.cli.run.Batch;
import io.github.yololoss.cli.run.Request;
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

  @Mixin private BatchOptions options;

  @Option(
      names = "--output",
      required = true,
      paramLabel = "FILE",
      description = "HTML file to write.")
  private Path output;

  @Option(
      names = "--images",
      paramLabel = "FOLDER|LIST",
      description =
          "The photographs of the batch, in its order: a folder, whose pictures are taken by name,"
              + " or a list with a path in each line, relative to the list; an annotation file is"
              + " such a list. They are letterboxed as keras-yolo3's loader does.")
  private Path images;

  @Mixin private ImagesRootOption imagesRoot;

  @Option(
      names = "--classes",
      paramLabel = "FILE",
      description = "A class name in each line, in the order of the numbers.")
  private Path classes;

  @Mixin private PoorIouOption poorIou;

  @Mixin private JsonOption json;

  private int worst;
  private double score;

  @Option(
      names = "--worst",
      paramLabel = "N",
      defaultValue = "20",
      description = "The number of costliest images that are shown; default ${DEFAULT-VALUE}.")
  void setWorst(int value) {
    worst = Options.atLeast(command, "--worst", 0, value);
  }

  @Option(
      names = "--score",
      paramLabel = "X",
      defaultValue = "0.3",
      description =
          "Minimum objectness times class probability of a predicted box that is drawn; default"
              + " ${DEFAULT-VALUE}. Of boxes of a class with an IoU above 0.45 only the best is"
              + " drawn.")
  void setScore(double value) {
    score = Options.fraction(command, "--score", value);
  }

  @Override
  public Integer call() throws IOException {
    Batch.Source source = options.source();
    if (imagesRoot.folder() != null && images == null) {
      throw new ParameterException(command.commandLine(), "--images-root needs --images LIST");
    }
    Request request = options.request();
    List<String> names = classes == null ? List.of() : readLines(classes);
    try (Arena arena = Arena.ofConfined()) {
      Batch batch = Batch.read(source, arena);
      ReportBuilder builder = new ReportBuilder(batch, request, options.runner(), arena);
      Photos photos =
          images == null ? null : new Photos(images, imagesRoot.folder(), batch.images());
      Report report = builder.build(photos, worst, score, poorIou.value());
      json.write(() -> ReportJson.of(report));
      Files.writeString(output, ReportPage.of(report, names));
      command
          .commandLine()
          .getErr()
          .println(
              String.format(
                  Locale.ROOT,
                  "%s: %.1f MB; loss %s of %d images",
                  output,
                  Files.size(output) / 1e6,
                  Html.rounded(report.loss().total()),
                  batch.images()));
      return ExitCode.OK.code();
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
}
