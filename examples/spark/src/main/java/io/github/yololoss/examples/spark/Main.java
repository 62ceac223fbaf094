package io.github.yololoss.examples.spark;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossRules;
import io.github.yololoss.LossSum;
import io.github.yololoss.Targets.BoxPolicy;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.examples.spark.LossJob.Outcome;
import io.github.yololoss.kit.Npy;
import io.github.yololoss.kit.SpecFile;
import java.io.File;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.CodeSource;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.sql.SparkSession;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;

/** The driver's command line. */
@Command(
    name = "spark",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Computes the YOLOv3 loss of a data set of shards over a cluster: the loss, a row for each"
            + " image and layer, the worst images, and what is wrong with labels.")
public final class Main implements Callable<Integer> {
  private static final String NATIVE_ACCESS = "--enable-native-access=ALL-UNNAMED";
  private static final String EXECUTOR_OPTIONS = "spark.executor.extraJavaOptions";

  @CommandLine.Spec private CommandLine.Model.CommandSpec command;

  @Parameters(
      arity = "1..*",
      paramLabel = "SHARDS",
      description =
          "Folders that are searched for shards: a folder with feats_<l>.npy and boxes.npy or"
              + " y_true_<l>.npy, a .npz of the same, or a .parquet with columns feats_<l> and"
              + " boxes. Executors must see them under the same name.")
  private List<String> roots;

  @Option(
      names = "--spec",
      required = true,
      paramLabel = "FILE",
      description = "JSON, as for yololoss loss.")
  private Path specFile;

  @Option(
      names = "--output",
      required = true,
      paramLabel = "DIR",
      description = "A new folder, which executors must see too.")
  private String output;

  @Option(
      names = "--master",
      paramLabel = "URL",
      description =
          "Of the cluster, where spark-submit does not say it: local-cluster[2,1,1024] has two"
              + " executors on this machine; default local[*], this JVM alone.")
  private String master;

  @Option(
      names = "--partitions",
      paramLabel = "N",
      description = "Tasks; default four for each core of the cluster, at most one a shard.")
  private Integer partitions;

  @Option(
      names = "--layout",
      paramLabel = "nhwc|nchw",
      defaultValue = "nhwc",
      description = "Of feats; default ${DEFAULT-VALUE}.")
  private FeatsLayout layout;

  @Option(
      names = "--bad-boxes",
      paramLabel = "error|skip|clamp",
      defaultValue = "error",
      description = "With error a shard that has one fails; default ${DEFAULT-VALUE}.")
  private BoxPolicy badBoxes;

  @Option(
      names = "--batch",
      paramLabel = "N",
      defaultValue = "16",
      description = "Images that are computed at once; default ${DEFAULT-VALUE}.")
  private int batch;

  @Option(
      names = "--worst",
      paramLabel = "N",
      defaultValue = "20",
      description = "The number of costliest images that are reported; default ${DEFAULT-VALUE}.")
  private int worst;

  @Option(
      names = "--findings",
      paramLabel = "N",
      defaultValue = "100",
      description =
          "How many findings of a shard's labels are listed; all are counted; default"
              + " ${DEFAULT-VALUE}.")
  private int findings;

  @Option(
      names = "--poor-iou",
      paramLabel = "X",
      defaultValue = "0.3",
      description = "Tell boxes whose best anchor fits worse; default ${DEFAULT-VALUE}.")
  private float poorIou;

  @Option(
      names = "--isa",
      paramLabel = "baseline|avx2|avx512",
      description =
          "The instruction set that all executors use: for the same bits where their processors"
              + " differ, the least of theirs.")
  private String isa;

  @Override
  public Integer call() throws IOException {
    check(batch >= 1, "--batch is " + batch + ", at least 1 is expected");
    check(findings >= 0, "--findings is " + findings + ", at least 0 is expected");
    check(worst >= 0, "--worst is " + worst + ", at least 0 is expected");
    check(poorIou >= 0 && poorIou <= 1, "--poor-iou is " + poorIou + ", 0..1 is expected");
    check(partitions == null || partitions >= 1, "--partitions: at least 1 is expected");
    PrintWriter out = command.commandLine().getOut();
    try {
      Settings settings =
          new Settings(plainSpec(specFile), layout, badBoxes, batch, poorIou, findings);
      try (SparkSession spark = session(new SparkConf(), master, isa)) {
        List<String> shards =
            LossJob.shards(roots, JavaSparkContext.fromSparkContext(spark.sparkContext()));
        if (shards.isEmpty()) {
          throw new IOException(
              String.join(", ", roots)
                  + ": no shard is there; folders with feats_0.npy, .npz or"
                  + " .parquet files are expected");
        }
        int most = 4 * spark.sparkContext().defaultParallelism();
        int tasks = partitions == null ? Math.min(shards.size(), most) : partitions;
        long start = System.nanoTime();
        Outcome outcome = LossJob.run(spark, settings, shards, tasks, worst, output);
        print(out, outcome, shards.size(), (System.nanoTime() - start) / 1e9);
        return outcome.failed().isEmpty() ? 0 : 3;
      }
    } catch (NoSuchFileException e) {
      command.commandLine().getErr().println("spark: " + e.getMessage() + ": no such file");
      return 3;
    } catch (IOException e) {
      command.commandLine().getErr().println("spark: " + e.getMessage());
      return 3;
    }
  }

  /** Reads a spec; rules of the loss are refused, because this job computes the plain loss. */
  static YoloSpec plainSpec(Path file) throws IOException {
    SpecFile read = SpecFile.read(file);
    if (!read.rules().equals(LossRules.DEFAULT)) {
      throw new IOException(
          file
              + ": has rules of the loss (weights, class_weights, label_smoothing, ignore_scope or"
              + " a list in ignore_thresh); this job computes the plain loss, remove them");
    }
    return read.spec();
  }

  private void check(boolean condition, String sentence) {
    if (!condition) {
      throw new ParameterException(command.commandLine(), sentence);
    }
  }

  /** A session whose executors may load the native library and have this job's jars. */
  static SparkSession session(SparkConf conf, String master, String isa) {
    if (master != null) {
      conf.setMaster(master);
    }
    conf.setIfMissing("spark.master", "local[*]");
    conf.setIfMissing("spark.app.name", "yololoss");
    conf.setIfMissing(
        "spark.locality.wait", "0s"); // results are small: any executor may write them
    String options = conf.get(EXECUTOR_OPTIONS, "");
    if (!options.contains("--enable-native-access")) {
      conf.set(EXECUTOR_OPTIONS, (options + " " + NATIVE_ACCESS).strip());
    }
    if (isa != null) {
      conf.setExecutorEnv("YOLOLOSS_ISA", isa);
    }
    String jars =
        Stream.of(Main.class, LossSum.class, Npy.class)
            .map(c -> c.getProtectionDomain().getCodeSource())
            .map(CodeSource::getLocation)
            .map(url -> new File(url.getPath()))
            .filter(File::isFile) // not the classes of a build
            .map(File::getPath)
            .collect(Collectors.joining(","));
    if (!jars.isEmpty()) {
      conf.setIfMissing("spark.jars", jars); // spark-submit has set its own
    }
    return SparkSession.builder().config(conf).getOrCreate();
  }

  private void print(PrintWriter out, Outcome outcome, int shards, double seconds) {
    out.print(outcome.sum());
    out.println(
        String.format(
            Locale.ROOT,
            "%d images in %d of %d shards, %.1f s",
            outcome.sum().images(),
            shards - outcome.failed().size(),
            shards,
            seconds));
    outcome.worst().stream()
        .limit(5)
        .forEach(
            i ->
                out.println(
                    String.format(
                        Locale.ROOT,
                        "worst: %.6g  image %d of %s %s",
                        i.loss(),
                        i.index(),
                        i.shard(),
                        i.image() == null ? "" : i.image())));
    outcome.counts().entrySet().stream()
        .filter(c -> c.getValue() > 0)
        .forEach(c -> out.println("labels: " + c.getValue() + "  " + c.getKey().text()));
    if (outcome.devices().size() > 1) {
      out.println(
          "executors differ ("
              + String.join(" | ", outcome.devices())
              + "); --isa with the least of theirs gives the same bits wherever a shard goes");
    }
    outcome.failed().forEach((shard, error) -> out.println("failed: " + shard + ": " + error));
    out.println(
        "wrote %1$s: rows, shards, worst, findings, loss.json; the worst images: yololoss report"
                .formatted(output)
            + " %1$s/report --spec %1$s/report/spec.json --layout %2$s%3$s --output worst.html"
                .formatted(
                    output,
                    layout.name().toLowerCase(Locale.ROOT),
                    badBoxes == BoxPolicy.ERROR
                        ? ""
                        : " --bad-boxes " + badBoxes.name().toLowerCase(Locale.ROOT)));
    out.flush();
  }

  public static void main(String[] arguments) {
    System.exit(
        new CommandLine(new Main()).setCaseInsensitiveEnumValuesAllowed(true).execute(arguments));
  }
}
