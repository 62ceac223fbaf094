package io.github.yololoss.bench;

import io.github.yololoss.LossDevice;
import io.github.yololoss.cli.run.BenchProblem;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import jdk.jfr.Recording;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/**
 * Time and allocation of a call through the public API, boxes, one thread, and of none: what JMH
 * itself allocates and what its clock takes. {@code bench/latency} runs it.
 */
@Fork(jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@State(Scope.Benchmark)
public class LossLatency {
  @Param({"32", "416"})
  public int input;

  @Param({"false", "true"})
  public boolean gradient;

  /** Java Flight Recorder: no recording, one without the event of a call, one with it. */
  @Param({"none"})
  public String recording;

  private final Arena arena = Arena.ofShared();
  private Recording recorder;
  private BenchProblem.Run run;

  @Setup
  public void open() throws IOException {
    Path folder = Path.of(System.getenv("INPUTS"), "input" + input);
    run =
        new BenchProblem.Run(
            BenchProblem.read(folder, arena), "boxes", gradient, LossDevice.CPU, 1);
    if (!recording.equals("none")) {
      recorder = new Recording();
      recorder.setMaxSize(64 << 20);
      recorder.setToDisk(true);
      if (recording.equals("calls")) {
        recorder.enable("io.github.yololoss.Loss");
      }
      recorder.start();
    }
  }

  @TearDown
  public void close() {
    if (recorder != null) {
      recorder.close();
    }
    run.close();
    arena.close();
  }

  @Benchmark
  public double compute() {
    return run.call();
  }

  @Benchmark
  public double nothing() {
    return 0;
  }
}
