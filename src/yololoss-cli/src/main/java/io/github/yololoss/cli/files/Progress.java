package io.github.yololoss.cli.files;

import java.io.PrintWriter;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.ValueLayout;
import java.util.Locale;
import java.util.function.LongSupplier;

/**
 * One line on a terminal that says how far something is, its rate and the time left, for what takes
 * longer than two seconds. It is gone when that is done.
 */
public final class Progress implements AutoCloseable {
  private static final double SHOWN_FROM = 2; // seconds, as far as can be foreseen
  private static final double BETWEEN = 0.1;
  private static final int BAR = 20;

  private final PrintWriter out; // null: no terminal
  private final String what;
  private final String unit;
  private long all;
  private final LongSupplier clock; // nanoseconds
  private final long start;
  private long done;
  private double nextAt = 0.3; // before, a rate says little
  private boolean shown;

  /**
   * @param err where the line goes, if that is a terminal
   * @param what is done, in a word
   * @param unit of what is counted, plural
   * @param all how many there are
   */
  public Progress(PrintWriter err, String what, String unit, long all) {
    this(onTerminal() ? err : null, what, unit, all, System::nanoTime);
  }

  /** Makes a line whose total is set by {@link #reached}. */
  public Progress(PrintWriter err, String what, String unit) {
    this(err, what, unit, 0);
  }

  public Progress(PrintWriter out, String what, String unit, long all, LongSupplier clock) {
    this.out = out;
    this.what = what;
    this.unit = unit;
    this.all = all;
    this.clock = clock;
    start = clock.getAsLong();
  }

  /** Returns whether stderr is a terminal that can overwrite a line. */
  private static boolean onTerminal() {
    if ("dumb".equals(System.getenv("TERM"))) {
      return false;
    }
    Linker linker = Linker.nativeLinker();
    try {
      return (int)
              linker
                  .downcallHandle(
                      linker.defaultLookup().findOrThrow("isatty"),
                      FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.JAVA_INT))
                  .invokeExact(2)
          == 1;
    } catch (Throwable t) {
      throw new AssertionError(t); // isatty throws nothing
    }
  }

  /** Reports that the first of them are done, and how many there are. */
  public void reached(int first, int total) {
    all = total;
    step(first - done);
  }

  /** Reports that more are done. */
  public void step(long count) {
    done += count;
    if (out == null) {
      return;
    }
    double seconds = (clock.getAsLong() - start) / 1e9;
    double expected = done == 0 ? Double.POSITIVE_INFINITY : seconds * all / done;
    if (seconds < nextAt || !shown && expected < SHOWN_FROM) {
      return;
    }
    nextAt = seconds + BETWEEN;
    shown = true;
    int filled = (int) (BAR * done / all);
    out.printf(
        Locale.ROOT,
        "\r%s [%s%s] %d of %d %s, %s/s, %s left\033[K",
        what,
        "#".repeat(filled),
        " ".repeat(BAR - filled),
        done,
        all,
        unit,
        rate(done / seconds),
        time(expected - seconds));
    out.flush();
  }

  private static String rate(double rate) {
    return String.format(Locale.ROOT, rate < 10 ? "%.2g" : "%.0f", rate);
  }

  private static String time(double seconds) {
    long whole = Math.round(seconds);
    return whole < 60
        ? whole + " s"
        : whole < 3600
            ? String.format("%d:%02d min", whole / 60, whole % 60)
            : String.format("%d:%02d h", whole / 3600, whole / 60 % 60);
  }

  /** Removes the line; another step may show it again. */
  @Override
  public void close() {
    if (shown) {
      out.print("\r\033[K");
      out.flush();
      shown = false;
    }
  }
}
