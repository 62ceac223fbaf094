package io.github.yololoss.cli.files;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class ProgressTest {
  private final StringWriter terminal = new StringWriter();
  private final AtomicLong now = new AtomicLong(77);

  private Progress progress(long all) {
    return new Progress(new PrintWriter(terminal), "report", "images", all, now::get);
  }

  private String step(Progress progress, long count, double seconds) {
    terminal.getBuffer().setLength(0);
    now.addAndGet((long) (1e9 * seconds));
    progress.step(count);
    return terminal.toString();
  }

  @Test
  void rateAndTimeLeft() {
    Progress progress = progress(400);
    assertEquals("", step(progress, 10, 0.2), "too early to say");
    assertEquals(
        "\rreport [####                ] 80 of 400 images, 100/s, 3 s left\033[K",
        step(progress, 70, 0.6));
    assertEquals("", step(progress, 1, 0.05), "too soon after the last");
    assertEquals(
        "\rreport [##########          ] 200 of 400 images, 2.0/s, 1:40 min left\033[K",
        step(progress, 119, 99.15));
    terminal.getBuffer().setLength(0);
    progress.close();
    assertEquals("\r\033[K", terminal.toString());
  }

  @Test
  void nothingForWhatIsQuick() {
    Progress progress = progress(400);
    assertEquals("", step(progress, 100, 0.4), "1.6 s in all");
    assertEquals("", step(progress, 300, 1.2));
    progress.close();
    assertEquals("", terminal.toString());
  }

  @Test
  void hours() {
    Progress progress = progress(10_000);
    assertTrue(step(progress, 1, 1).endsWith("1.0/s, 2:46 h left\033[K"), terminal.toString());
  }
}
