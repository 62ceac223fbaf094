package io.github.yololoss.cli.commands;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.LossDevice;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.cli.files.InputException;
import io.github.yololoss.cli.files.Progress;
import io.github.yololoss.cli.run.BenchProblem;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code yololoss bench}. */
@Command(
    name = "bench",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Times the loss on this machine, through Java: 416x416, three scales, random logits, eight"
            + " boxes per image.",
    footer = {
      "",
      "Figures are medians of consecutive calls on the same memory.",
      "bench/side-by-side times other programs in the same run."
    })
public final class BenchCommand implements Callable<Integer> {
  private static final List<String> VARIANTS = List.of("dense", "boxes", "boxes-refresh");

  @Spec private CommandSpec command;

  @Option(
      names = "--classes",
      split = ",",
      paramLabel = "C",
      defaultValue = "80",
      description = "Numbers of classes; default: ${DEFAULT-VALUE}.")
  private List<Integer> classes;

  @Option(
      names = "--batch",
      split = ",",
      paramLabel = "B",
      defaultValue = "1,8",
      description = "Images per call; default: ${DEFAULT-VALUE}.")
  private List<Integer> batches;

  @Option(
      names = "--device",
      paramLabel = "DEVICE",
      defaultValue = "auto",
      converter = Converters.OfDevice.class,
      description = "auto (default), cpu, cuda, cuda:N, or reference (double precision, slow).")
  private LossDevice device;

  @Option(
      names = "--threads",
      paramLabel = "N",
      defaultValue = "0",
      description =
          "Threads of the cpu device; default: YOLOLOSS_THREADS, or one for each processor.")
  private int threads;

  @Option(
      names = "--seconds",
      paramLabel = "S",
      defaultValue = "0.5",
      description = "Time for each figure; default: ${DEFAULT-VALUE}.")
  private double seconds;

  @Mixin private JsonOption json;

  @Option(
      names = "--serve",
      description =
          "Answer each line DIR MODE VARIANT SECONDS of stdin with a line of JSON, for"
              + " bench/side-by-side.")
  private boolean serve;

  private final ObjectMapper mapper = new ObjectMapper();

  @Override
  public Integer call() throws IOException {
    if (!(seconds > 0 && seconds <= 3600)) {
      throw new ParameterException(
          command.commandLine(), "--seconds is " + seconds + ", more than 0 is expected");
    }
    if (classes.stream().anyMatch(c -> c < 1) || batches.stream().anyMatch(b -> b < 1)) {
      throw new ParameterException(
          command.commandLine(), "--classes and --batch take whole numbers from 1 on");
    }
    return serve ? serve(device) : table(device);
  }

  private int table(LossDevice device) throws IOException {
    PrintWriter out = command.commandLine().getOut();
    boolean quiet = json.isStdout();
    ObjectNode all = mapper.createObjectNode();
    all.put("date", Instant.now().toString())
        .put("machine", machine())
        .put("java", Runtime.version().toString())
        .put("library", YoloLoss.libraryInfo());
    boolean first = true;
    int figuresInAll = 2 * VARIANTS.size() * classes.size() * batches.size();
    Progress progress =
        new Progress(command.commandLine().getErr(), "bench", "figures", figuresInAll);
    for (int c : classes) {
      for (int b : batches) {
        try (Arena arena = Arena.ofShared()) {
          BenchProblem problem = BenchProblem.random(c, b, arena);
          for (String variant : VARIANTS) {
            ObjectNode[] figures = new ObjectNode[2];
            for (int gradient = 0; gradient < 2; gradient++) {
              try (BenchProblem.Run run =
                  new BenchProblem.Run(problem, variant, gradient == 1, device, threads)) {
                if (first && !quiet) {
                  out.println(run.device());
                  out.println("milliseconds a call: median (90 % within)");
                  out.printf(
                      "%4s %4s  %-14s %22s %22s%n", "C", "B", "truths", "loss", "with gradient");
                }
                all.put("device", run.device());
                first = false;
                figures[gradient] = measured(run, problem, variant, gradient == 1, seconds);
                all.withArray("figures").add(figures[gradient]);
                progress.step(1);
              }
            }
            progress.close(); // its line, until the next step
            if (!quiet) {
              out.printf(
                  Locale.ROOT,
                  "%4d %4d  %-14s %22s %22s%n",
                  c,
                  b,
                  variant,
                  show(figures[0]),
                  show(figures[1]));
              out.flush();
            }
          }
        }
      }
    }
    json.write(() -> all);
    return 0;
  }

  private static String show(ObjectNode figure) {
    return String.format(
        Locale.ROOT,
        "%.4f (%.4f)",
        figure.get("median_ms").asDouble(),
        figure.get("p90_ms").asDouble());
  }

  public static String machine() {
    String model = System.getProperty("os.arch");
    try {
      for (String line : Files.readAllLines(Path.of("/proc/cpuinfo"), StandardCharsets.UTF_8)) {
        if (line.startsWith("model name")) {
          model = line.substring(line.indexOf(':') + 1).strip();
          break;
        }
      }
    } catch (IOException e) {
      // The architecture alone.
    }
    return model + ", " + Runtime.getRuntime().availableProcessors() + " processors";
  }

  private ObjectNode measured(
      BenchProblem.Run run, BenchProblem problem, String variant, boolean gradient, double time) {
    long warm = System.nanoTime() + (long) (1e9 * Math.min(1, 5 * time)); // the JIT's
    for (int i = 0; i < 3 || (i < 30000 && System.nanoTime() < warm); i++) {
      run.call();
    }
    return timed(run, problem, variant, gradient, time);
  }

  private ObjectNode timed(
      BenchProblem.Run run, BenchProblem problem, String variant, boolean gradient, double time) {
    long[] times = new long[1 << 20];
    int count = 0;
    double loss = 0;
    for (long end = System.nanoTime() + (long) (1e9 * time);
        count < 3 || (count < times.length && System.nanoTime() < end);
        count++) {
      long start = System.nanoTime();
      loss = run.call();
      times[count] = System.nanoTime() - start;
    }
    Arrays.sort(times, 0, count);
    ObjectNode figure = mapper.createObjectNode();
    figure
        .put("peer", "yololoss-java")
        .put("variant", variant)
        .put("mode", gradient ? "grad" : "fwd")
        .put("classes", problem.spec().numClasses())
        .put("batch", problem.batch())
        .put("threads", threads)
        .put("median_ms", times[count / 2] / 1e6)
        .put("min_ms", times[0] / 1e6)
        .put("p90_ms", times[(int) (count * 0.9)] / 1e6)
        .put("calls", count)
        .put("loss", loss);
    if (!Double.isNaN(problem.expectedLoss())) {
      figure.put("rel_err", Math.abs(loss / problem.expectedLoss() - 1));
    }
    return figure;
  }

  /** The problem and plans of the folder that the last request named. */
  private static final class Opened implements AutoCloseable {
    final String folder;
    final Arena arena = Arena.ofShared();
    final BenchProblem problem;
    final Map<String, BenchProblem.Run> runs = new HashMap<>();

    Opened(String folder) throws IOException {
      this.folder = folder;
      problem = BenchProblem.read(Path.of(folder), arena);
    }

    @Override
    public void close() {
      runs.values().forEach(BenchProblem.Run::close);
      arena.close();
    }
  }

  private int serve(LossDevice device) throws IOException {
    PrintWriter out = command.commandLine().getOut();
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    out.println("ready");
    out.flush();
    Opened opened = null;
    for (String line; (line = in.readLine()) != null; out.flush()) {
      String[] words = line.strip().split("\\s+");
      try {
        if (words.length != 4 || !(words[1].equals("fwd") || words[1].equals("grad"))) {
          throw new InputException("\"" + line + "\" is not DIR fwd|grad VARIANT SECONDS");
        }
        if (opened == null || !opened.folder.equals(words[0])) {
          if (opened != null) {
            opened.close();
          }
          opened = null;
          opened = new Opened(words[0]);
        }
        out.println(mapper.writeValueAsString(answer(opened, device, words)));
      } catch (InputException | IOException | YoloLossException | IllegalArgumentException e) {
        out.println(mapper.createObjectNode().put("error", String.valueOf(e.getMessage())));
      }
    }
    if (opened != null) {
      opened.close();
    }
    return 0;
  }

  private ObjectNode answer(Opened opened, LossDevice device, String[] words) {
    boolean gradient = words[1].equals("grad");
    String variant = words[2];
    double time = Double.parseDouble(words[3]);
    String key = variant + " " + gradient;
    BenchProblem.Run run = opened.runs.get(key);
    long start = System.nanoTime();
    boolean isNew = run == null;
    if (isNew) {
      run = new BenchProblem.Run(opened.problem, variant, gradient, device, threads);
      opened.runs.put(key, run);
    }
    double firstSeconds = (System.nanoTime() - start) / 1e9;
    double[] digest = run.digest();
    ObjectNode figure =
        isNew
            ? measured(run, opened.problem, variant, gradient, time)
            : timed(run, opened.problem, variant, gradient, time);
    figure.put("first_s", firstSeconds);
    if (digest == null) {
      figure.putNull("grad");
    } else {
      figure.putArray("grad").add(digest[0]).add(digest[1]);
    }
    return figure;
  }
}
