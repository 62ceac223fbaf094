package io.github.yololoss.cli.commands;

import io.github.yololoss.Targets.BoxPolicy;
import picocli.CommandLine.Option;

/** The option {@code --bad-boxes}. */
final class BadBoxesOption {
  @Option(
      names = "--bad-boxes",
      paramLabel = "error|skip|clamp",
      defaultValue = "error",
      description =
          "What happens to boxes without area, with a class outside 0..C-1 or with a centre outside"
              + " the input. error (default) refuses them, skip leaves them out and counts them,"
              + " clamp cuts those that reach out of the input and leaves out the rest.")
  private BoxPolicy policy;

  /** Returns the policy. */
  BoxPolicy policy() {
    return policy;
  }
}
