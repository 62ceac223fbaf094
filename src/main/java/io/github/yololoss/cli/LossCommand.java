package io.github.yololoss.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.yololoss.LossResult;
import io.github.yololoss.Npy;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
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
final class LossCommand implements Callable<Integer> {
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
      run.compute(gradient != null, arena);
      if (gradient != null) {
        Files.createDirectories(gradient);
        for (int l = 0; l < run.grads.length; l++) {
          Npy.write(
              gradient.resolve("grad_" + l + ".npy"),
              run.grads[l],
              BatchFiles.shape("grad", run.spec, l, run.batch));
        }
      }
      boolean jsonToStdout = "-".equals(json);
      if (json != null) {
        String text =
            new ObjectMapper().writerWithDefaultPrettyPrinter().writeValueAsString(run.json());
        if (jsonToStdout) {
          line.getOut().println(text);
        } else {
          Files.writeString(Path.of(json), text + System.lineSeparator());
        }
      }
      PrintWriter talk = jsonToStdout ? line.getErr() : line.getOut();
      if (printLoss) {
        printLoss(talk);
      }
      if (!jsonToStdout) {
        talk.print(run.result);
        talk.flush();
      }
      String device = run.deviceName + " (" + run.deviceWhy + ")";
      long bad = run.result.nonFinite();
      String warning = bad > 0 ? "; " + bad + " values are not finite" : "";
      line.getErr().println("batch " + run.batch + ", " + device + warning);
      return 0;
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
