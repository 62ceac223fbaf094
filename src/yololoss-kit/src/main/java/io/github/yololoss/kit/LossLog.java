package io.github.yololoss.kit;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.Count;
import io.github.yololoss.LossResult;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;

/**
 * Writes the curve of a training: a file of JSON lines, one for each result, that {@code yololoss
 * compare} draws and {@link LossCurve} reads. Names and meaning are those of {@link LossJson}.
 *
 * {@snippet class="io.github.yololoss.kit.SnippetsTest" region="log"}
 *
 * <p>Each line is in the file when its method returns, so a curve can be drawn while the training
 * runs. Any thread may write.
 */
public final class LossLog implements AutoCloseable {
  private static final List<Count> COUNTS =
      List.of(Count.OBJECTS, Count.IGNORED_BACKGROUND, Count.NON_FINITE);

  private static final ObjectMapper MAPPER = new ObjectMapper();

  private final Writer out;
  private final long start = System.nanoTime();

  private LossLog(Writer out) {
    this.out = out;
  }

  /**
   * Opens a new log; a file of this name is overwritten.
   *
   * @param file to write
   * @return the log, to be closed
   * @throws IOException if it cannot be written
   */
  public static LossLog create(Path file) throws IOException {
    return open(file, StandardOpenOption.TRUNCATE_EXISTING);
  }

  /**
   * Opens a log to continue it, for a training that is resumed. If a step appears twice, the later
   * line counts.
   *
   * @param file to write
   * @return the log, to be closed
   * @throws IOException if it cannot be written
   */
  public static LossLog append(Path file) throws IOException {
    LossLog log = open(file, StandardOpenOption.APPEND);
    if (Files.size(file) > 0) {
      log.out.write('\n'); // ends a line that was cut off; readers skip an empty one
    }
    return log;
  }

  private static LossLog open(Path file, OpenOption what) throws IOException {
    return new LossLog(
        Files.newBufferedWriter(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE, what));
  }

  /**
   * Writes a line: step, seconds since the log was opened, batch, normaliser, total, the parts and
   * counts of each layer. Waits for the result of an enqueued call.
   *
   * @param step number of the step, or of the epoch
   * @param result of a call
   * @throws IOException if it cannot be written
   */
  public synchronized void write(long step, LossResult result) throws IOException {
    ObjectNode line =
        MAPPER
            .createObjectNode()
            .put("step", step)
            .put("seconds", (System.nanoTime() - start) / 1e9)
            .put("batch", result.batch())
            .put("normaliser", result.normaliser())
            .put("total", result.total());
    ArrayNode layers = line.putArray("layers");
    for (int l = 0; l < result.layers(); l++) {
      LossResult.Parts parts = result.layer(l);
      ObjectNode layer = layers.addObject().put("layer", l);
      LossJson.putParts(layer, parts);
      COUNTS.forEach(count -> layer.put(count.jsonName(), count.of(parts)));
    }
    out.append(line.toString()).append('\n');
    out.flush();
  }

  /**
   * Closes the file.
   *
   * @throws IOException if it cannot be written
   */
  @Override
  public void close() throws IOException {
    out.close();
  }
}
