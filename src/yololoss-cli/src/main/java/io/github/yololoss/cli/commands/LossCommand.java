package io.github.yololoss.cli.commands;

import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.Offender;
import io.github.yololoss.cli.files.BatchFiles;
import io.github.yololoss.cli.files.JsonFile;
import io.github.yololoss.cli.files.Progress;
import io.github.yololoss.cli.run.LossJson;
import io.github.yololoss.cli.run.LossRun;
import io.github.yololoss.kit.Npy;
import io.github.yololoss.kit.Statistic;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import java.util.stream.DoubleStream;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code yololoss loss}. */
@Command(
    name = "loss",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description = "Computes the loss of a folder of arrays, and its gradient if asked for.",
    footer = {
      "",
      "Example:",
      "  yololoss loss dump --spec yolov3.json --gradient out --json -",
      "",
      "From Keras: np.save('dump/feats_0.npy', outputs[0]) and so on; y_true_<l>.npy alike."
    })
public final class LossCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @Mixin private LossRun run;

  @Option(
      names = "--sample",
      description = "Instead of DIR and --spec: the sample that the program carries.")
  private boolean sample;

  @Option(
      names = "--gradient",
      paramLabel = "OUTDIR",
      description = "Write d total / d feats as OUTDIR/grad_<l>.npy.")
  private Path gradient;

  @Option(
      names = "--f32-gradient",
      description = "Write the gradient as float32 whatever feats are; default: as feats.")
  private boolean float32Gradients;

  @Option(
      names = "--accumulate",
      description = "Add the gradient to OUTDIR/grad_<l>.npy, which must be there.")
  private boolean accumulate;

  @Option(
      names = "--statistics",
      description =
          "Print for each layer mean IoU, shares of IoU > 0.5 and > 0.75, mean objectness of"
              + " objects and background, and the gradient's norm by part (0 without --gradient).")
  private boolean statistics;

  @Option(
      names = "--find-nan",
      paramLabel = "used|all",
      description =
          "Tell the first value that is not finite, or overflows: among those that count, or among"
              + " all of feats and y_true.")
  private FindNan findNan;

  enum FindNan {
    USED,
    ALL
  }

  @Option(
      names = "--maps",
      paramLabel = "OUTDIR",
      description =
          "Write ignore_mask_<l>.npy, best_iou_<l>.npy and cell_loss_<l>.npy (B,H,W,A), or"
              + " (B,A,H,W) for nchw.")
  private Path maps;

  @Option(
      names = "--json",
      paramLabel = "FILE|-",
      description = "Write the result as JSON; - for stdout, without the table.")
  private String json;

  @Option(
      names = "--print-loss",
      description =
          "Print what keras-yolo3's print_loss prints, a line for each layer: "
              + "loss so far, xy, wh, confidence, class, sum of the ignore mask.")
  private boolean printLoss;

  @Override
  public Integer call() throws IOException {
    if (sample
        ? run.folder != null || run.specFile != null
        : run.folder == null || run.specFile == null) {
      throw new ParameterException(
          command.commandLine(), "give DIR and --spec FILE, or --sample alone");
    }
    if (accumulate && gradient == null) {
      throw new ParameterException(command.commandLine(), "--accumulate needs --gradient OUTDIR");
    }
    run.gradient = gradient != null;
    run.accumulateOn = accumulate ? gradient : null;
    run.float32Gradients = float32Gradients;
    run.statistics = statistics;
    run.maps = maps != null;
    if (findNan != null) {
      run.search = findNan == FindNan.ALL ? LossOptions.Search.ALL : LossOptions.Search.USED;
    }
    if (!sample) {
      return compute();
    }
    Path folder = Files.createTempDirectory("yololoss-sample");
    try {
      SampleCommand.write(folder);
      run.folder = folder;
      run.specFile = folder.resolve("expected.json");
      return compute();
    } finally {
      SampleCommand.delete(folder);
    }
  }

  private int compute() throws IOException {
    CommandLine line = command.commandLine();
    try (Arena arena = Arena.ofConfined()) {
      run.compute(arena);
      if (gradient != null) {
        Files.createDirectories(gradient);
        try (Progress progress =
            new Progress(line.getErr(), "writing", "files", run.grads.length)) {
          for (int l = 0; l < run.grads.length; l++) {
            Npy.write(
                gradient.resolve("grad_" + l + ".npy"),
                run.gradientType,
                run.grads[l],
                BatchFiles.shape("grad", run.spec, run.layout, l, run.batch));
            progress.step(1);
          }
        }
      }
      if (maps != null) {
        writeMaps("ignore_mask", run.cellMaps.ignoreMask());
        writeMaps("best_iou", run.cellMaps.bestIou());
        writeMaps("cell_loss", run.cellMaps.cellLoss());
      }
      boolean jsonToStdout = "-".equals(json);
      if (json != null) {
        JsonFile.write(json, LossJson.of(run), line.getOut());
      }
      PrintWriter talk = jsonToStdout ? line.getErr() : line.getOut();
      if (printLoss) {
        printLoss(talk);
      }
      if (!jsonToStdout) {
        talk.print(run.result);
        printExtras(talk);
        talk.flush();
      }
      String device = run.deviceName + " (" + run.deviceWhy + ")";
      long bad = run.result.nonFinite();
      String warning = bad > 0 ? "; " + bad + " values are not finite" : "";
      if (run.result.foundInf() > 0) {
        warning += "; " + run.result.foundInf() + " elements of the gradient are not finite";
      }
      line.getErr().println("batch " + run.batch + ", " + device + warning);
      return 0;
    }
  }

  private void writeMaps(String name, MemorySegment[] layers) throws IOException {
    Files.createDirectories(maps);
    for (int l = 0; l < layers.length; l++) {
      Npy.write(
          maps.resolve(name + "_" + l + ".npy"),
          layers[l],
          BatchFiles.shape(name, run.spec, run.layout, l, run.batch));
    }
  }

  private void printExtras(PrintWriter out) {
    if (statistics) {
      List<Statistic> columns = Statistic.ALL.stream().filter(s -> s.heading() != null).toList();
      out.println(
          columns.stream().map(Statistic::heading).collect(Collectors.joining("", "layer  ", "")));
      for (int l = 0; l < run.result.layers(); l++) {
        out.print(String.format("%-7d", l));
        for (Statistic s : columns) {
          out.print(String.format(Locale.ROOT, s.format(), s.of(run.result.statistics(l))));
        }
        out.println();
      }
    }
    if (findNan != null) {
      Offender first = run.result.offender();
      out.println(first == null ? "every value that was looked at is finite" : first);
    }
  }

  /** The message of tf.Print in the reference: values as float32, each in brackets. */
  private void printLoss(PrintWriter out) {
    double total = 0;
    for (int l = 0; l < run.result.layers(); l++) {
      LossResult.Parts p = run.result.layer(l);
      total += p.sum();
      String values =
          DoubleStream.of(total, p.xy(), p.wh(), p.confidence(), p.classes())
              .mapToObj(value -> "[" + (float) value + "]")
              .collect(Collectors.joining());
      out.println("loss: " + values + "[" + run.ignoreMaskSum(l) + "]");
    }
  }
}
