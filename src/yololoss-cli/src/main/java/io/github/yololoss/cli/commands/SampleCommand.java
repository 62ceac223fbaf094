package io.github.yololoss.cli.commands;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code yololoss sample}. */
@Command(
    name = "sample",
    mixinStandardHelpOptions = true,
    description =
        "Writes a small batch with its expected loss and gradient, to try the other commands on.",
    footer = {
      "",
      "Then:",
      "  yololoss loss DIR --spec DIR/expected.json",
      "  yololoss verify DIR --spec DIR/expected.json --against DIR"
    })
public final class SampleCommand implements Callable<Integer> {
  private static final List<String> FILES =
      List.of(
          "expected.json",
          "boxes.npy",
          "feats_0.npy",
          "feats_1.npy",
          "feats_2.npy",
          "y_true_0.npy",
          "y_true_1.npy",
          "y_true_2.npy",
          "grad_0.npy",
          "grad_1.npy",
          "grad_2.npy");

  @Spec private CommandSpec command;

  @Option(
      names = "--output",
      required = true,
      paramLabel = "DIR",
      description = "Folder for the sample; created if it does not exist.")
  private Path output;

  @Override
  public Integer call() throws IOException {
    write(output);
    command.commandLine().getOut().println(output);
    command
        .commandLine()
        .getErr()
        .println(
            "two images of 64x64, three layers, three classes: feats, y_true, boxes, "
                + "expected gradient, and expected.json, which is the spec too");
    return 0;
  }

  public static void write(Path folder) throws IOException {
    Files.createDirectories(folder);
    for (String name : FILES) {
      try (InputStream in = SampleCommand.class.getResourceAsStream("/META-INF/sample/" + name)) {
        Files.copy(in, folder.resolve(name), StandardCopyOption.REPLACE_EXISTING);
      }
    }
  }

  /** Deletes the files that {@link #write} wrote. */
  public static void delete(Path folder) throws IOException {
    for (String name : FILES) {
      Files.deleteIfExists(folder.resolve(name));
    }
    Files.deleteIfExists(folder);
  }
}
