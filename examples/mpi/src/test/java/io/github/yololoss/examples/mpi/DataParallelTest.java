package io.github.yololoss.examples.mpi;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.kit.Npy;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;

/** Trainings by 1, 2 and 4 ranks, JVMs of their own, of 6 steps with batches of 8. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class DataParallelTest {
  private static final int STEPS = 6;

  private Path folder;

  @BeforeAll
  void runs(@TempDir Path temporary) throws Exception {
    folder = temporary;
    for (int ranks : new int[] {1, 2, 4}) {
      succeed(ranks, "micro" + ranks, "--micro-batch", "2");
    }
  }

  private record Run(int exit, String output) {}

  private Run run(int ranks, String name, String... more) throws Exception {
    String target = System.getProperty("target");
    List<String> command = new ArrayList<>();
    command.add("mpirun");
    command.addAll(List.of("-np", "" + ranks, "--oversubscribe", "--bind-to", "none"));
    // Recursive doubling adds along the same tree as one rank does.
    command.addAll(List.of("--mca", "coll_tuned_use_dynamic_rules", "1"));
    command.addAll(List.of("--mca", "coll_tuned_allreduce_algorithm", "3"));
    command.add(Path.of(System.getProperty("java.home"), "bin/java").toString());
    command.addAll(
        List.of(
            "--enable-native-access=ALL-UNNAMED",
            "-Djava.awt.headless=true",
            "-Dai.djl.offline=true",
            "-Dai.djl.pytorch.num_threads=1",
            "-Dai.djl.pytorch.num_interop_threads=1",
            "-cp",
            target + "/mpi.jar:" + target + "/lib/*",
            "io.github.yololoss.examples.mpi.Train",
            "--shapes",
            "--steps",
            "" + STEPS,
            "--output",
            folder.resolve(name).toString()));
    command.addAll(Arrays.asList(more));
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    builder.environment().put("OMPI_ALLOW_RUN_AS_ROOT", "1"); // in a container
    builder.environment().put("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    Path log = folder.resolve(name + ".log");
    Process process = builder.redirectOutput(log.toFile()).start();
    if (!process.waitFor(300, TimeUnit.SECONDS)) {
      process.destroyForcibly();
    }
    return new Run(process.waitFor(), Files.readString(log));
  }

  private void succeed(int ranks, String name, String... more) throws Exception {
    Run run = run(ranks, name, more);
    assertEquals(0, run.exit, run.output);
    System.out.println(name + ": " + run.output.strip().replaceFirst("(?s).*\n", ""));
  }

  private Path file(String run, String name) {
    return folder.resolve(run).resolve(name + ".npy");
  }

  private void assertSameBits(String one, String other) throws IOException {
    for (String name : List.of("parameters", "rows")) {
      assertEquals(-1, Files.mismatch(file(one, name), file(other, name)), name + " of " + other);
    }
  }

  private static List<String> losses(Path log) throws IOException {
    return Files.readAllLines(log).stream().filter(line -> line.startsWith("step ")).toList();
  }

  @Test
  void theSameMicroBatchesGiveTheSameBitsForAnyNumberOfRanks() throws IOException {
    assertSameBits("micro1", "micro2");
    assertSameBits("micro1", "micro4");
    List<String> losses = losses(folder.resolve("micro1.log"));
    assertEquals(STEPS, losses.size());
    assertEquals(losses, losses(folder.resolve("micro4.log")));
    assertTrue(loss(losses.getLast()) < 0.7 * loss(losses.getFirst()), "it learns: " + losses);
    System.out.println(
        "guarantee: trained by 1, 2 and 4 ranks, the same bits of parameters and of "
            + 2 * 8 * STEPS
            + " rows");
  }

  private static double loss(String line) {
    return Double.parseDouble(line.replaceFirst(".* ", ""));
  }

  @Test
  void wholeSharesGiveTheSameParametersUpToRounding() throws Exception {
    for (int ranks : new int[] {1, 2, 4}) {
      // In float64: at the kink of an activation, and at the threshold of the ignore mask, the last
      // bit decides, which in float32 now and then moves a parameter by 1e-5.
      succeed(ranks, "whole" + ranks, "--float64");
    }
    for (String other : List.of("whole2", "whole4")) {
      double difference = difference(values("whole1", "parameters"), values(other, "parameters"));
      System.out.printf("%s and 1 rank x 8: parameters differ by %.1e%n", other, difference);
      assertTrue(difference < 1e-6, other + " differs by " + difference);
      assertTrue(
          Arrays.equals(firstRows("whole1"), firstRows(other)), "rows of the first step, all bits");
    }
  }

  /** Of the largest parameter. */
  private static double difference(double[] a, double[] b) {
    double largest = 0;
    double worst = 0;
    for (int i = 0; i < a.length; i++) {
      largest = Math.max(largest, Math.abs(a[i]));
      worst = Math.max(worst, Math.abs(a[i] - b[i]));
    }
    return worst / largest;
  }

  private double[] values(String run, String name) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      Npy array = Npy.map(file(run, name), arena);
      MemorySegment data = array.data();
      double[] values = new double[Math.toIntExact(array.size())];
      Arrays.setAll(values, i -> array.valueType().get(data, i));
      return values;
    }
  }

  private double[] firstRows(String run) throws IOException {
    return Arrays.copyOf(values(run, "rows"), 8 * 2 * 10);
  }

  @Test
  void theObjectsOfAllRanksAreTheNormaliser() throws Exception {
    succeed(1, "objects1", "--micro-batch", "4", "--normaliser", "objects");
    succeed(2, "objects2", "--micro-batch", "4", "--normaliser", "objects");
    assertSameBits("objects1", "objects2");
    double[] rows = firstRows("objects2");
    double sum = 0;
    double objects = 0;
    for (int row = 0; row < 16; row++) {
      objects += rows[10 * row + 5];
      for (int part = 0; part < 5; part++) {
        sum += rows[10 * row + part];
      }
    }
    assertTrue(objects > 8, "more than images");
    String first = losses(folder.resolve("objects2.log")).getFirst();
    assertEquals(sum / objects, loss(first), 1e-6 * sum);
  }

  @Test
  void aRankThatCannotGoOnEndsAllWithASentence() throws Exception {
    Path file = folder.resolve("one/shapes1"); // where the second rank wants a folder
    Files.createDirectories(file.getParent());
    Files.writeString(file, "");
    Run one = run(2, "one");
    assertNotEquals(0, one.exit);
    assertTrue(one.output.contains("mpi: rank 1 of 2: "), one.output);
    assertTrue(one.output.contains("shapes1"), one.output);
    Run run = run(2, "odd", "--batch", "9");
    assertNotEquals(0, run.exit);
    assertTrue(
        run.output.contains("--batch is 9, a multiple of the 2 ranks is expected"), run.output);
  }
}
