package io.github.yololoss.cli; // of BenchProblem

import io.github.yololoss.Device;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/**
 * Time and allocation of a call through the public API, boxes, one thread, and of none: what JMH itself
 * allocates and what its clock takes. {@code bench/latency} runs it.
 */
@Fork(jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@State(Scope.Benchmark)
public class LossLatency {
  @Param({"32", "416"})
  public int input;

  @Param({"false", "true"})
  public boolean gradient;

  private final Arena arena = Arena.ofShared();
  private BenchProblem.Run run;

  @Setup
  public void open() throws IOException {
    Path folder = Path.of(System.getenv("INPUTS"), "input" + input);
    run =
        new BenchProblem.Run(
            BenchProblem.read(folder, arena), "boxes", gradient, Device.CPU, 1);
  }

  @TearDown
  public void close() {
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
