package io.github.yololoss.kit;

import io.github.yololoss.Count;
import io.github.yololoss.LossResult;
import io.github.yololoss.Part;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;

/**
 * The curve of a training: a file of JSON lines, one for each result that is written, that {@code
 * yololoss compare} draws. Names and meaning are those of {@code yololoss loss --json}.
 *
 * {@snippet class="io.github.yololoss.kit.SnippetsTest" region="log"}
 *
 * <p>Each line is in the file when its method returns, so that a curve can be looked at while the
 * training runs. Any thread may write.
 */
public final class LossLog implements AutoCloseable {
  private static final List<Count> COUNTS =
      List.of(Count.OBJECTS, Count.IGNORED_BACKGROUND, Count.NON_FINITE);

  private final Writer out;
  private final long start = System.nanoTime();
  private final StringBuilder line = new StringBuilder();

  private LossLog(Writer out) {
    this.out = out;
  }

  /**
   * A new log; a file of this name is overwritten.
   *
   * @param file where to
   * @return the log, to be closed
   * @throws IOException if it cannot be written
   */
  public static LossLog create(Path file) throws IOException {
    return open(file, StandardOpenOption.TRUNCATE_EXISTING);
  }

  /**
   * Goes on with a log, of a training that was resumed. Where it has a step already, the later line
   * counts.
   *
   * @param file where to
   * @return the log, to be closed
   * @throws IOException if it cannot be written
   */
  public static LossLog append(Path file) throws IOException {
    LossLog log = open(file, StandardOpenOption.APPEND);
    if (Files.size(file) > 0) {
      log.out.write('\n'); // a line that was cut off stays alone; readers pass over an empty one
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
    line.setLength(0);
    line.append("{\"step\":").append(step);
    number("seconds", (System.nanoTime() - start) / 1e9);
    line.append(",\"batch\":").append(result.batch());
    number("normaliser", result.normaliser());
    number("total", result.total());
    line.append(",\"layers\":[");
    for (int l = 0; l < result.layers(); l++) {
      LossResult.Parts p = result.layer(l);
      line.append(l == 0 ? "{\"layer\":" : ",{\"layer\":").append(l);
      for (Part part : Part.ALL) {
        number(part.jsonName(), part.of(p));
      }
      for (Count count : COUNTS) {
        line.append(",\"").append(count.jsonName()).append("\":").append(count.of(p));
      }
      line.append('}');
    }
    out.append(line.append("]}\n"));
    out.flush();
  }

  /** JSON has no NaN and no infinity: they are strings, as Jackson writes them. */
  private void number(String name, double value) {
    String quote = Double.isFinite(value) ? "" : "\"";
    line.append(",\"").append(name).append("\":").append(quote).append(value).append(quote);
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
