package io.github.yololoss.cli.commands;

import io.github.yololoss.kit.SpecFile;
import java.io.IOException;
import java.nio.file.Path;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** The option {@code --spec}. */
final class SpecOption {
  @Spec(Spec.Target.MIXEE)
  private CommandSpec command;

  @Option(
      names = "--spec",
      paramLabel = "FILE",
      description =
          "The network's output as JSON: anchors, anchor_mask, num_classes, ignore_thresh,"
              + " input_shape [height, width]; rules of the loss if it has any.")
  private Path file;

  /** Returns whether the option was given. */
  boolean isGiven() {
    return file != null;
  }

  /** Returns the file, or refuses the command line if the option is missing. */
  Path file() {
    if (file == null) {
      throw new ParameterException(command.commandLine(), "the option --spec FILE is missing");
    }
    return file;
  }

  /** Reads the file. */
  SpecFile read() throws IOException {
    return SpecFile.read(file());
  }
}
