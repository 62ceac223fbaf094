package io.github.yololoss.cli.commands;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.yololoss.cli.files.JsonFile;
import java.io.IOException;
import java.util.function.Supplier;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** The option {@code --json}. */
final class JsonOption {
  @Spec(Spec.Target.MIXEE)
  private CommandSpec command;

  @Option(
      names = "--json",
      paramLabel = "FILE|-",
      description = "Write all numbers as JSON; - writes to stdout, without other text.")
  private String target;

  /** Returns whether stdout belongs to the JSON, so that other text must not go there. */
  boolean isStdout() {
    return "-".equals(target);
  }

  /** Writes the tree if the option was given. */
  void write(Supplier<JsonNode> tree) throws IOException {
    if (target != null) {
      JsonFile.write(target, tree.get(), command.commandLine().getOut());
    }
  }
}
