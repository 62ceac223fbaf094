package io.github.yololoss.cli.commands;

import io.github.yololoss.FeatsType;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.Offender;
import io.github.yololoss.cli.files.BatchFiles;
import io.github.yololoss.cli.files.ExitCode;
import io.github.yololoss.cli.files.Progress;
import io.github.yololoss.cli.run.Batch;
import io.github.yololoss.cli.run.Request;
import io.github.yololoss.cli.run.RunResult;
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
    description = "Computes the loss of a folder of arrays, and its gradient with --gradient.",
    footer = {
      "",
      "Example:",
      "  yololoss loss dump --spec yolov3.json --gradient out --json -",
      "",
      "From Keras: np.save('dump/feats_0.npy', outputs[0]) and so on; likewise y_true_<l>.npy."
    })
public final class LossCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @Mixin private BatchOptions options;

  @Option(names = "--sample", description = "Use the bundled sample instead of DIR and --spec.")
  private boolean sample;

  @Option(
      names = "--gradient",
      paramLabel = "OUTDIR",
      description = "Write d total / d feats as OUTDIR/grad_<l>.npy.")
  private Path gradient;

  @Option(
      names = "--f32-gradient",
      description = "Write the gradient as float32 even if feats are float16, bfloat16 or float64.")
  private boolean float32Gradients;

  @Option(
      names = "--accumulate",
      description = "Add the gradient to the files OUTDIR/grad_<l>.npy, which must exist.")
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
          "Print the first value that is not finite, or overflows: used searches the values that"
              + " count, all searches all of feats and y_true.")
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

  @Mixin private JsonOption json;

  @Option(
      names = "--print-loss",
      description =
          "Print a line for each layer as keras-yolo3's print_loss does: loss so far, xy, wh,"
              + " confidence, class, sum of the ignore mask.")
  private boolean printLoss;

  @Override
  public Integer call() throws IOException {
    if (sample ? options.isGiven() : !options.isComplete()) {
      throw new ParameterException(
          command.commandLine(), "give DIR and --spec FILE, or --sample alone");
    }
    if (accumulate && gradient == null) {
      throw new ParameterException(command.commandLine(), "--accumulate needs --gradient OUTDIR");
    }
    if (!sample) {
      return compute(options.source());
    }
    Path folder = Files.createTempDirectory("yololoss-sample");
    try {
      SampleCommand.write(folder);
      return compute(options.source(folder, folder.resolve("expected.json")));
    } finally {
      SampleCommand.delete(folder);
    }
  }

  private Request request() {
    LossOptions.Search search =
        findNan == null
            ? LossOptions.Search.NONE
            : findNan == FindNan.ALL ? LossOptions.Search.ALL : LossOptions.Search.USED;
    return options
        .request()
        .withGradient(gradient != null, float32Gradients, accumulate ? gradient : null)
        .withExtras(statistics, search, maps != null);
  }

  private int compute(Batch.Source source) throws IOException {
    Request request = request();
    try (Arena arena = Arena.ofConfined()) {
      RunResult run = options.runner().run(Batch.read(source, arena), request, arena);
      if (gradient != null) {
        writeGradient(run);
      }
      if (maps != null) {
        Files.createDirectories(maps);
        write(run, maps, "ignore_mask", FeatsType.FLOAT32, run.maps().ignoreMask());
        write(run, maps, "best_iou", FeatsType.FLOAT32, run.maps().bestIou());
        write(run, maps, "cell_loss", FeatsType.FLOAT32, run.maps().cellLoss());
      }
      json.write(run::toJson);
      print(run);
      return ExitCode.OK.code();
    }
  }

  private void print(RunResult run) {
    CommandLine line = command.commandLine();
    PrintWriter talk = json.isStdout() ? line.getErr() : line.getOut();
    if (printLoss) {
      printLoss(run, talk);
    }
    if (!json.isStdout()) {
      talk.print(run.totals());
      printExtras(run, talk);
      talk.flush();
    }
    long bad = run.totals().nonFinite();
    String warning = bad > 0 ? "; " + bad + " values are not finite" : "";
    if (run.totals().foundInf() > 0) {
      warning += "; " + run.totals().foundInf() + " elements of the gradient are not finite";
    }
    line.getErr()
        .printf(
            Locale.ROOT,
            "batch %d, %s (%s)%s%n",
            run.batch().images(),
            run.deviceName(),
            run.deviceWhy(),
            warning);
  }

  private void writeGradient(RunResult run) throws IOException {
    Files.createDirectories(gradient);
    write(run, gradient, "grad", run.gradientType(), run.grads());
  }

  private void write(
      RunResult run, Path folder, String name, FeatsType type, MemorySegment[] layers)
      throws IOException {
    Batch batch = run.batch();
    try (Progress progress =
        new Progress(command.commandLine().getErr(), "writing", "files", layers.length)) {
      for (int l = 0; l < layers.length; l++) {
        Npy.write(
            folder.resolve(name + "_" + l + ".npy"),
            type,
            layers[l],
            BatchFiles.shape(name, batch.spec(), batch.layout(), l, batch.images()));
        progress.step(1);
      }
    }
  }

  private void printExtras(RunResult run, PrintWriter out) {
    if (statistics) {
      List<Statistic> columns = Statistic.ALL.stream().filter(s -> s.heading() != null).toList();
      out.println(
          columns.stream().map(Statistic::heading).collect(Collectors.joining("", "layer  ", "")));
      for (int l = 0; l < run.totals().layers(); l++) {
        out.print(String.format("%-7d", l));
        for (Statistic s : columns) {
          out.print(String.format(Locale.ROOT, s.format(), s.of(run.totals().statistics(l))));
        }
        out.println();
      }
    }
    if (findNan != null) {
      Offender first = run.totals().offender();
      out.println(first == null ? "every value that was searched is finite" : first);
    }
  }

  /** Prints the message of tf.Print in the reference: values as float32, each in brackets. */
  private void printLoss(RunResult run, PrintWriter out) {
    double total = 0;
    for (int l = 0; l < run.totals().layers(); l++) {
      LossResult.Parts p = run.totals().layer(l);
      total += p.sum();
      String values =
          DoubleStream.of(total, p.xy(), p.wh(), p.confidence(), p.classes())
              .mapToObj(value -> "[" + (float) value + "]")
              .collect(Collectors.joining());
      out.println("loss: " + values + "[" + run.ignoreMaskSum(l) + "]");
    }
  }
}
