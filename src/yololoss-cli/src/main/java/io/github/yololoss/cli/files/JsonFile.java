package io.github.yololoss.cli.files;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;

/** Writes JSON where the option {@code --json} says. */
public final class JsonFile {
  /** The target that means standard output. */
  public static final String STDOUT = "-";

  private JsonFile() {}

  /**
   * Writes a tree, indented.
   *
   * @param target a file, or {@link #STDOUT}
   * @param tree to write
   * @param out standard output
   */
  public static void write(String target, JsonNode tree, PrintWriter out) throws IOException {
    String text = new ObjectMapper().writerWithDefaultPrettyPrinter().writeValueAsString(tree);
    if (STDOUT.equals(target)) {
      out.println(text);
    } else {
      Files.writeString(Path.of(target), text + System.lineSeparator());
    }
  }
}
