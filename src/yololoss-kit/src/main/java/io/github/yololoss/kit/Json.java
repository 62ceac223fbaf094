package io.github.yololoss.kit;

import com.fasterxml.jackson.core.JacksonException;
import com.fasterxml.jackson.core.JsonLocation;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Reads and writes files that hold one JSON object, with messages that name file and line. */
public final class Json {
  private static final ObjectMapper MAPPER = new ObjectMapper();

  private Json() {}

  /**
   * Reads a file that holds a JSON object.
   *
   * @param file in JSON
   * @return the object
   * @throws java.nio.file.NoSuchFileException if the file does not exist
   * @throws IOException with one sentence that names the file and the fault, if it holds something
   *     else
   */
  public static ObjectNode read(Path file) throws IOException {
    if (Files.isDirectory(file)) {
      throw new IOException(file + ": is a folder, a JSON file is expected");
    }
    return parse(Files.readAllBytes(file), file.toString());
  }

  /** Parses a JSON object. Messages begin with where it came from. */
  static ObjectNode parse(byte[] json, String where) throws IOException {
    try {
      JsonNode root = MAPPER.readTree(json);
      if (root instanceof ObjectNode object) {
        return object;
      }
      throw new IOException(where + ": a JSON object is expected");
    } catch (JacksonException e) {
      JsonLocation at = e.getLocation(); // null where a limit of the parser is exceeded
      String line = at == null ? "" : " (line " + at.getLineNr() + ")";
      throw new IOException(where + ": not JSON: " + e.getOriginalMessage() + line);
    }
  }

  /**
   * Writes JSON, indented, as UTF-8 that ends with a line break.
   *
   * @param file to write; an older file of this name is replaced
   * @param json its content
   * @throws IOException if the file cannot be written
   */
  public static void write(Path file, JsonNode json) throws IOException {
    Files.writeString(file, json.toPrettyString() + System.lineSeparator());
  }
}
