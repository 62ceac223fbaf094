package io.github.yololoss.kit;

import com.fasterxml.jackson.core.JacksonException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.yololoss.Part;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * The steps of a training, read from the file that {@link LossLog} wrote.
 *
 * <p>Malformed lines, such as the truncated last line of a killed run, are skipped; their numbers
 * are kept for a warning. If a step appears twice, the later line wins.
 *
 * @param steps in the order of their numbers, each number once
 * @param malformedLines numbers of the lines that were skipped, from 1
 */
public record LossCurve(List<Step> steps, List<Integer> malformedLines) {
  private static final ObjectMapper MAPPER = new ObjectMapper();

  /**
   * A step.
   *
   * @param number of the step
   * @param total the loss; NaN if it was
   * @param parts the sum of each part over the layers
   */
  public record Step(long number, double total, Map<Part, Double> parts) {
    /** Copies the parts. */
    public Step {
      parts = Map.copyOf(parts);
    }
  }

  /** Copies the lists. */
  public LossCurve {
    steps = List.copyOf(steps);
    malformedLines = List.copyOf(malformedLines);
  }

  /**
   * Reads a log.
   *
   * @param file as {@link LossLog} writes it: a JSON object in each line
   * @return its steps, at least one
   * @throws java.nio.file.NoSuchFileException if the file does not exist
   * @throws IOException with one sentence that names the file, if no line of it is one of a log
   */
  public static LossCurve read(Path file) throws IOException {
    List<String> lines;
    try {
      lines = Files.readAllLines(file);
    } catch (CharacterCodingException e) {
      throw new IOException(file + ": not UTF-8 text");
    }
    TreeMap<Long, Step> steps = new TreeMap<>();
    List<Integer> malformed = new ArrayList<>();
    for (int i = 0; i < lines.size(); i++) {
      if (!lines.get(i).isBlank()) {
        Step step = step(lines.get(i));
        if (step != null) {
          steps.put(step.number(), step);
        } else {
          malformed.add(i + 1);
        }
      }
    }
    if (steps.isEmpty()) {
      throw new IOException(
          file + ": no line is a JSON object with step, total and layers, as LossLog writes them");
    }
    return new LossCurve(List.copyOf(steps.values()), malformed);
  }

  /** Reads a line, or returns null if it is malformed. */
  private static Step step(String line) {
    JsonNode node;
    try {
      node = MAPPER.readTree(line);
    } catch (JacksonException e) {
      return null;
    }
    if (node == null
        || !node.path("step").canConvertToLong()
        || !node.path("step").canConvertToExactIntegral()
        || !node.path("layers").isArray()) {
      return null;
    }
    Map<Part, Double> parts = new EnumMap<>(Part.class);
    Part.ALL.forEach(part -> parts.put(part, 0.0));
    for (JsonNode layer : node.get("layers")) {
      Part.ALL.forEach(part -> parts.merge(part, number(layer.path(part.jsonName())), Double::sum));
    }
    return new Step(node.get("step").asLong(), number(node.path("total")), parts);
  }

  /** Reads a number; NaN and infinities are strings, and what is missing is NaN. */
  private static double number(JsonNode node) {
    try {
      return node.isNumber() ? node.asDouble() : Double.parseDouble(node.asText("NaN"));
    } catch (NumberFormatException e) {
      return Double.NaN;
    }
  }
}
