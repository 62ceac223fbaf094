package io.github.yololoss.cli.commands;

import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** The option {@code --poor-iou}. */
final class PoorIouOption {
  @Spec(Spec.Target.MIXEE)
  private CommandSpec command;

  private float value;

  @Option(
      names = "--poor-iou",
      paramLabel = "X",
      defaultValue = "0.3",
      description =
          "Report boxes whose best possible IoU with an anchor is below X; 0 reports none; default"
              + " ${DEFAULT-VALUE}.")
  void set(float given) {
    value = Options.fraction(command, "--poor-iou", given);
  }

  /** Returns the limit, in 0..1. */
  float value() {
    return value;
  }
}
