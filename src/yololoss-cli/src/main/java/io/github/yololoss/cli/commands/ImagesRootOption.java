package io.github.yololoss.cli.commands;

import java.nio.file.Path;
import picocli.CommandLine.Option;

/** The option {@code --images-root}. */
final class ImagesRootOption {
  @Option(
      names = "--images-root",
      paramLabel = "DIR",
      description =
          "Folder of the photographs, for a list whose paths are absolute or lead out of the list's"
              + " own folder. Only photographs in the list's folder or in DIR are read.")
  private Path folder;

  /** Returns the folder, or null. */
  Path folder() {
    return folder;
  }
}
