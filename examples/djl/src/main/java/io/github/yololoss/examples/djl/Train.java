package io.github.yololoss.examples.djl;

import ai.djl.Device;
import ai.djl.engine.Engine;
import io.github.yololoss.YoloLossException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;

/** The command line of the example. */
@Command(
    name = "djl",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Trains a small YOLOv3 detector with DJL; the loss and its gradient are yololoss's.")
final class Train implements Callable<Integer> {
  /** Where the loss is computed. */
  enum LossKind {
    YOLOLOSS,
    OPERATIONS
  }

  @CommandLine.Spec CommandLine.Model.CommandSpec command;

  @Parameters(
      arity = "0..1",
      paramLabel = "DATA",
      description =
          "A folder with train.txt and val.txt in the annotation format of keras-yolo3, and"
              + " classes.txt with a name in each line.")
  Path data;

  @Option(
      names = "--images-root",
      paramLabel = "DIR",
      description = "A folder that the pictures of the lists may lie in, outside DATA.")
  Path imagesRoot;

  @Option(
      names = "--shapes",
      description = "Instead of DATA: draw a small data set and train on it.")
  boolean shapes;

  @Option(
      names = "--output",
      paramLabel = "DIR",
      defaultValue = "target/run",
      description = "For log, checkpoint, chart and detections; default ${DEFAULT-VALUE}.")
  Path output;

  @Option(
      names = "--input",
      paramLabel = "WxH",
      description = "Of the network, multiples of 32; default 320x256, 128x128 for shapes.")
  String input;

  @Option(
      names = "--scales",
      defaultValue = "2",
      description = "2 (strides 32, 16; default) or 3 (8 too).")
  int scales;

  @Option(names = "--epochs", description = "Default 100, 30 for shapes.")
  Integer epochs;

  @Option(names = "--batch", defaultValue = "8", description = "Default ${DEFAULT-VALUE}.")
  int batch;

  @Option(
      names = "--learning-rate",
      defaultValue = "0.002",
      description =
          "Its highest value: reached after a warm-up of one epoch, then lowered along a cosine;"
              + " default ${DEFAULT-VALUE}.")
  float learningRate;

  @Option(names = "--seed", defaultValue = "1", description = "Default ${DEFAULT-VALUE}.")
  int seed;

  @Option(
      names = "--loss",
      defaultValue = "yololoss",
      description =
          "yololoss (default), or operations: the same loss in DJL's own operations, to compare.")
  LossKind loss;

  @Option(
      names = "--device",
      defaultValue = "cpu",
      description = "cpu (default), gpu or gpu:N: the CUDA device that trains.")
  String device;

  @Option(
      names = "--dump",
      paramLabel = "DIR",
      description =
          "Write the first batch's outputs and boxes, and what DJL's operations make of them, for"
              + " yololoss verify DIR --spec DIR/spec.json --against DIR/theirs --layout nchw.")
  Path dump;

  @Option(
      names = "--dump-validation",
      paramLabel = "DIR",
      description =
          "When the training is done, write the outputs for the validation images, for yololoss"
              + " report DIR --spec DIR/spec.json --layout nchw --images DIR/images.txt"
              + " --images-root DATA --output F.")
  Path dumpValidation;

  @Option(names = "--resume", description = "Go on from the checkpoint in the output folder.")
  boolean resume;

  @Option(
      names = "--stop-after",
      paramLabel = "N",
      description = "Stop when N epochs are done, as if interrupted; --resume goes on.")
  Integer stopAfter;

  int width;
  int height;

  @Override
  public Integer call() throws Exception {
    check(shapes != (data != null), "give DATA, or --shapes");
    check(scales == 2 || scales == 3, "--scales is " + scales + ", 2 or 3 is expected");
    check(batch >= 1, "--batch is " + batch + ", at least 1 is expected");
    check(learningRate > 0, "--learning-rate is " + learningRate + ", a number > 0 is expected");
    String size = input != null ? input : shapes ? "128x128" : "320x256";
    check(
        size.matches("[1-9]\\d{0,4}x[1-9]\\d{0,4}"),
        "--input is " + size + ", WxH is expected, as 320x256");
    width = Integer.parseInt(size.split("x")[0]);
    height = Integer.parseInt(size.split("x")[1]);
    check(
        width % 32 == 0 && height % 32 == 0,
        "--input is " + size + ", multiples of 32 are expected");
    check(
        device.matches("cpu|gpu(:\\d{1,2})?"),
        "--device is " + device + ", cpu, gpu or gpu:N is expected");
    epochs = epochs != null ? epochs : shapes ? 30 : 100;
    check(epochs >= 1, "--epochs is " + epochs + ", at least 1 is expected");
    try {
      Files.createDirectories(output);
      if (shapes) {
        data = output.resolve("shapes");
        Shapes.write(data, 192, 48, seed);
      }
      try (Training training = new Training(this)) {
        training.run();
      }
      return 0;
    } catch (NoSuchFileException e) {
      command.commandLine().getErr().println("djl: " + e.getFile() + ": no such file");
      return 3;
    } catch (IOException
        | IllegalArgumentException
        | UnsupportedOperationException
        | YoloLossException e) {
      command.commandLine().getErr().println("djl: " + e.getMessage());
      return 3;
    }
  }

  private void check(boolean condition, String sentence) {
    if (!condition) {
      throw new ParameterException(command.commandLine(), sentence);
    }
  }

  /** Returns DJL's device of {@code --device}, or refuses one that PyTorch does not have. */
  Device djlDevice() {
    if (device.equals("cpu")) {
      return Device.cpu();
    }
    int index = device.equals("gpu") ? 0 : Integer.parseInt(device.substring(4)); // after gpu:
    int count = Engine.getInstance().getGpuCount();
    if (index >= count) {
      throw new IllegalArgumentException(
          "--device is "
              + device
              + ", but DJL's PyTorch has "
              + count
              + " CUDA devices; install a PyTorch for CUDA as examples/djl/README.md says, or train"
              + " on the CPU");
    }
    return Device.gpu(index);
  }

  /** What a checkpoint was made with; another cannot go on from it. */
  String settings() {
    return "input %dx%d, scales %d, epochs %d, batch %d, learning rate %s, seed %d"
        .formatted(width, height, scales, epochs, batch, learningRate, seed);
  }

  static CommandLine commandLine() {
    return new CommandLine(new Train()).setCaseInsensitiveEnumValuesAllowed(true);
  }

  public static void main(String[] arguments) {
    System.exit(commandLine().execute(arguments));
  }
}
