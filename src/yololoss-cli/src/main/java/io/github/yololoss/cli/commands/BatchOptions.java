package io.github.yololoss.cli.commands;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossDevice;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.cli.run.Batch;
import io.github.yololoss.cli.run.LossRunner;
import io.github.yololoss.cli.run.Request;
import java.nio.file.Path;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/**
 * The options of {@code loss}, {@code verify} and {@code report}: a folder of arrays, and how they
 * are computed. It holds what the user typed; {@link Batch} and {@link Request} are made of it.
 */
final class BatchOptions {
  @Spec(Spec.Target.MIXEE)
  private CommandSpec command;

  @Parameters(
      arity = "0..1",
      paramLabel = "DIR",
      description =
          "Folder with feats_<l>.npy (B,H,W,A*(5+C)) and y_true_<l>.npy (B,H,W,A,5+C) or boxes.npy"
              + " (B,T,5).")
  private Path folder;

  @Mixin private SpecOption spec;

  @Option(
      names = "--targets",
      paramLabel = "dense|boxes",
      description =
          "The truths to use: y_true_<l>.npy or boxes.npy; default: dense if y_true_0.npy exists.")
  private Batch.Form targets;

  @Option(
      names = "--device",
      paramLabel = "D",
      defaultValue = "auto",
      converter = Converters.OfDevice.class,
      description = "auto (default), cpu, cuda, cuda:N, or reference (double precision, slow).")
  private LossDevice device;

  @Option(
      names = "--layout",
      paramLabel = "nhwc|nchw",
      defaultValue = "nhwc",
      description =
          "Order of feats and gradient: (B,H,W,A*(5+C)) as in Keras (default), or (B,A*(5+C),H,W)"
              + " as in Darknet and PyTorch.")
  private FeatsLayout layout;

  @Option(
      names = "--normaliser",
      paramLabel = "N",
      defaultValue = "batch",
      converter = Converters.OfNormaliser.class,
      description =
          "What the loss is divided by: batch (default, as keras-yolo3), none, objects, or a"
              + " number.")
  private Normaliser normaliser;

  @Mixin private BadBoxesOption badBoxes;

  private double gradientScale;
  private int chunk; // 0: not given

  @Option(
      names = "--gradient-scale",
      paramLabel = "X",
      defaultValue = "1",
      description = "Factor of the gradient, such as a loss scale; default 1.")
  void setGradientScale(double value) {
    gradientScale = Options.finite(command, "--gradient-scale", value);
  }

  @Option(
      names = "--chunk",
      paramLabel = "N",
      description =
          "Images per call. The results have the same bits for any N. Default: as many as fit 64"
              + " MiB of dense truths.")
  void setChunk(int value) {
    chunk = Options.atLeast(command, "--chunk", 1, value);
  }

  /** Returns whether a folder or a spec was given. */
  boolean isGiven() {
    return folder != null || spec.isGiven();
  }

  /** Returns whether both were given. */
  boolean isComplete() {
    return folder != null && spec.isGiven();
  }

  /** Returns what to read, or refuses the command line if folder or spec is missing. */
  Batch.Source source() {
    if (!isComplete()) {
      throw new ParameterException(command.commandLine(), "give DIR and --spec FILE");
    }
    return source(folder, spec.file());
  }

  /** Returns what to read from another folder. */
  Batch.Source source(Path otherFolder, Path otherSpec) {
    return new Batch.Source(otherFolder, otherSpec, targets, layout, badBoxes.policy());
  }

  /** Returns how to compute: the loss alone, on a device that can be used. */
  Request request() {
    YoloLoss.checkDevice(device);
    return new Request(device, normaliser, gradientScale, chunk);
  }

  /** Returns what computes and reports its progress under the command's name. */
  LossRunner runner() {
    return new LossRunner(command.name(), command.commandLine().getErr());
  }
}
