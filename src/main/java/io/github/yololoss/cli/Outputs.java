package io.github.yololoss.cli;

import io.github.yololoss.cli.Main.InputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Output files; one that cannot be written is a sentence that names it. */
final class Outputs {
  private Outputs() {}

  static void folder(Path folder) {
    try {
      Files.createDirectories(folder);
    } catch (IOException e) {
      throw new InputException(folder + ": the folder cannot be made: " + e);
    }
  }

  static void text(Path file, String text) {
    try {
      Files.writeString(file, text);
    } catch (IOException e) {
      throw new InputException(file + ": cannot be written: " + e);
    }
  }
}
