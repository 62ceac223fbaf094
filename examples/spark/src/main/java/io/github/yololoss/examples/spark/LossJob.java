package io.github.yololoss.examples.spark;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.Audit;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossSum;
import io.github.yololoss.examples.spark.ShardResult.ImageLoss;
import io.github.yololoss.kit.LossJson;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.spark.TaskContext;
import org.apache.spark.api.java.JavaRDD;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.storage.StorageLevel;

/**
 * The loss of a data set. Each shard is computed by one task; what comes back to the driver is a
 * sum that merges exactly, so the result has the same bits for any number of partitions and
 * executors, and after any retry.
 */
final class LossJob {
  private LossJob() {}

  /**
   * What the driver keeps.
   *
   * @param sum of all shards that have no error
   * @param failed the sentence of each that has one
   * @param worst the costliest images, the costliest first
   * @param counts of the audit
   * @param devices of the executors: where there are several, the bits depend on who did what
   */
  record Outcome(
      LossSum sum,
      Map<String, String> failed,
      List<ImageLoss> worst,
      Map<Audit.Reason, Long> counts,
      Set<String> devices) {}

  /**
   * Runs it and writes {@code rows}, {@code shards}, {@code worst}, {@code findings} (Parquet; see
   * {@link Tables}), {@code loss.json}, and {@code report}, the input of {@code yololoss report}
   * for the worst images.
   *
   * @param shards their names
   * @param partitions tasks that they are divided among
   * @param worst the number of costliest images that are reported
   * @param output a folder that is not there yet
   */
  static Outcome run(
      SparkSession spark,
      Settings settings,
      List<String> shards,
      int partitions,
      int worst,
      String output)
      throws IOException {
    JavaSparkContext context = JavaSparkContext.fromSparkContext(spark.sparkContext());
    Path folder = new Path(output);
    if (folder.getFileSystem(context.hadoopConfiguration()).exists(folder)) {
      throw new IOException(output + ": is there already, a new folder is expected");
    }
    JavaRDD<ShardResult> results =
        context
            .parallelize(shards, partitions)
            .map(shard -> ShardResult.of(shard, settings, TaskContext.get().cpus()))
            .persist(StorageLevel.MEMORY_AND_DISK()); // read by each table; recomputed where lost
    try {
      LossSum none = LossSum.zero(settings.spec().layers().size());
      LossSum sum = results.map(ShardResult::sum).fold(none, LossSum::merge);
      List<ImageLoss> costliest =
          results.flatMap(r -> r.images().iterator()).takeOrdered(worst, new WorstFirst());
      Map<String, String> failed =
          new TreeMap<>(
              results
                  .filter(r -> r.error() != null)
                  .mapToPair(r -> new scala.Tuple2<>(r.shard(), r.error()))
                  .collectAsMap());
      Set<String> devices =
          new TreeSet<>(
              results.map(ShardResult::device).filter(Objects::nonNull).distinct().collect());
      Map<Audit.Reason, Long> counts = new EnumMap<>(Audit.Reason.class);
      results
          .map(ShardResult::counts)
          .collect()
          .forEach(some -> some.forEach((reason, n) -> counts.merge(reason, n, Long::sum)));
      write(
          spark,
          results.flatMap(
              r -> r.images().stream().flatMap(i -> Tables.rows(i).stream()).iterator()),
          Tables.ROWS,
          output + "/rows");
      write(
          spark,
          results.flatMap(r -> Tables.shard(r).iterator()),
          Tables.SHARDS,
          output + "/shards");
      write(
          spark,
          results.flatMap(r -> r.findings().stream().map(Tables::finding).iterator()),
          Tables.FINDINGS,
          output + "/findings");
      List<Row> ranked = new ArrayList<>();
      for (ImageLoss image : costliest) {
        ranked.add(Tables.worst(ranked.size(), image));
      }
      write(spark, context.parallelize(ranked, 1), Tables.WORST, output + "/worst");
      Outcome outcome = new Outcome(sum, failed, costliest, counts, devices);
      Path json = new Path(output, "loss.json");
      try (OutputStream out = json.getFileSystem(context.hadoopConfiguration()).create(json)) {
        out.write(json(outcome, settings, shards.size()).getBytes(StandardCharsets.UTF_8));
      }
      if (!costliest.isEmpty()) {
        ReportInput.write(context, settings, costliest, new Path(output, "report"));
      }
      return outcome;
    } finally {
      results.unpersist();
    }
  }

  /** Writes the loss divided by the images, with the fields of {@code yololoss loss --json}. */
  private static String json(Outcome outcome, Settings settings, int shards) {
    ObjectNode root = LossJson.of(settings.spec(), outcome.sum(), Normaliser.BATCH);
    root.put("shards", shards);
    ObjectNode failed = root.putObject("failed");
    outcome.failed().forEach(failed::put);
    ObjectNode counts = root.putObject("audit");
    outcome.counts().forEach((r, n) -> counts.put(r.name().toLowerCase(Locale.ROOT), n));
    return root.toPrettyString();
  }

  private static void write(SparkSession spark, JavaRDD<Row> rows, StructType schema, String path) {
    spark.createDataFrame(rows, schema).write().parquet(path);
  }

  /** A comparator that tasks can be sent. */
  private static final class WorstFirst
      implements java.util.Comparator<ImageLoss>, java.io.Serializable {
    private static final long serialVersionUID = 1;

    @Override
    public int compare(ImageLoss a, ImageLoss b) {
      return ImageLoss.WORST_FIRST.compare(a, b);
    }
  }

  /**
   * The shards of a data set: a folder of arrays, a .npz or a Parquet file each, in the order of
   * their names. A folder that holds none of these arrays is searched for shards.
   */
  static List<String> shards(List<String> roots, JavaSparkContext context) throws IOException {
    List<String> shards = new ArrayList<>();
    for (String root : roots) {
      Path path = new Path(root);
      FileSystem files = path.getFileSystem(context.hadoopConfiguration());
      collect(files, files.getFileStatus(path), shards);
    }
    return shards.stream().distinct().sorted().toList(); // a root may lie in another
  }

  private static void collect(FileSystem files, FileStatus file, List<String> shards)
      throws IOException {
    String name = file.getPath().getName();
    if (name.startsWith("_") || name.startsWith(".")) {
      return; // of Spark and of file systems
    }
    if (file.isFile()) {
      if (name.endsWith(".npz") || name.endsWith(".parquet")) {
        shards.add(file.getPath().toString());
      }
      return;
    }
    List<FileStatus> inside = List.of(files.listStatus(file.getPath()));
    if (inside.stream().anyMatch(f -> f.getPath().getName().endsWith(".npy"))) {
      shards.add(file.getPath().toString());
      return;
    }
    for (FileStatus f : inside) {
      collect(files, f, shards);
    }
  }
}
