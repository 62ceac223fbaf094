package io.github.yololoss.examples.spark;

import static java.nio.file.StandardCopyOption.REPLACE_EXISTING;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.LossSum;
import io.github.yololoss.Targets;
import io.github.yololoss.Targets.BoxPolicy;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.examples.spark.LossJob.Outcome;
import io.github.yololoss.examples.spark.ShardResult.ImageLoss;
import io.github.yololoss.kit.Npy;
import io.github.yololoss.kit.SpecFile;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.scheduler.SparkListener;
import org.apache.spark.scheduler.SparkListenerExecutorRemoved;
import org.apache.spark.scheduler.SparkListenerTaskEnd;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;

/** A cluster of two executor JVMs on this machine. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class LossJobTest {
  private static final int SHARDS = 12;
  private static final int WORST = 7;

  private Path folder;
  private final Set<String> executors = ConcurrentHashMap.newKeySet(); // that ended a task
  private final AtomicInteger removed = new AtomicInteger(); // executors
  private final AtomicInteger lost = new AtomicInteger(); // tasks that did not succeed
  private SparkSession spark;
  private DataSet data;
  private Settings settings;
  private List<List<Parts>> rows; // of each image, by this JVM alone
  private Outcome undisturbed;
  private List<Row> undisturbedRows;

  @BeforeAll
  void start(@TempDir Path temporary) throws IOException {
    folder = temporary;
    String target = System.getProperty("target");
    Path bccd = Path.of("../../../shared/bccd"); // beside the clone
    data = Files.isDirectory(bccd) ? DataSet.annotated(bccd) : DataSet.drawn(60);
    Files.writeString(Path.of(target, "home", "RELEASE"), ""); // a local cluster looks for it
    SparkConf conf =
        new SparkConf()
            .set("spark.ui.enabled", "false")
            .set("spark.sql.shuffle.partitions", "2")
            .set(
                "spark.jars",
                "%1$s/spark.jar,%1$s/lib/yololoss-0.1.0.jar,%1$s/lib/yololoss-kit-0.1.0.jar"
                    .formatted(target))
            .set("spark.executor.extraClassPath", target + "/test-classes")
            .set(
                "spark.executor.extraJavaOptions", // both executors unpack the library at once
                "--illegal-native-access=deny -XX:TieredStopAtLevel=1 -Dyololoss.cache="
                    + folder.resolve("cache"))
            .set("spark.plugins", StopOnce.class.getName())
            .set(StopOnce.FOLDER, folder.toString());
    spark = Main.session(conf, "local-cluster[2,1,1024]", null);
    spark.sparkContext().setLogLevel("ERROR");
    spark
        .sparkContext()
        .addSparkListener(
            new SparkListener() {
              @Override
              public void onTaskEnd(SparkListenerTaskEnd end) {
                executors.add(end.taskInfo().executorId());
                if (!end.taskInfo().successful()) {
                  lost.incrementAndGet();
                }
              }

              @Override
              public void onExecutorRemoved(SparkListenerExecutorRemoved event) {
                removed.incrementAndGet();
              }
            });
    settings = new Settings(data.spec, FeatsLayout.NHWC, BoxPolicy.ERROR, 8, 0.3f, 100);
    data.write(folder.resolve("shards"), SHARDS, spark);
    rows = data.rows();
    undisturbed = run("shards", SHARDS, "undisturbed");
    undisturbedRows = table("undisturbed", "rows");
  }

  @AfterAll
  void stop() throws IOException {
    spark.close();
  }

  private Outcome run(String shards, int partitions, String output) throws IOException {
    List<String> found =
        LossJob.shards(
            List.of(folder.resolve(shards).toString()),
            JavaSparkContext.fromSparkContext(spark.sparkContext()));
    return LossJob.run(
        spark, settings, found, partitions, WORST, folder.resolve(output).toString());
  }

  private List<Row> table(String output, String table) {
    return spark
        .read()
        .parquet(folder.resolve(output).resolve(table).toString())
        .sort("shard", "index", table.equals("rows") ? "layer" : "index")
        .collectAsList();
  }

  @Test
  void theClusterGivesTheBitsOfOneJvm() {
    LossSum alone = DataSet.sum(rows);
    assertEquals(alone.total(), undisturbed.sum().total());
    assertEquals(alone.images(), undisturbed.sum().images());
    for (int l = 0; l < 3; l++) {
      assertEquals(alone.layer(l), undisturbed.sum().layer(l));
    }
    assertEquals(Map.of(), undisturbed.failed());
    assertEquals(3 * rows.size(), undisturbedRows.size());
    for (int i = 0; i < rows.size(); i++) { // in the order of shards and images
      for (int l = 0; l < 3; l++) {
        Row row = undisturbedRows.get(3 * i + l);
        Parts p = rows.get(i).get(l);
        assertEquals(data.images.get(i).name(), row.getString(2));
        assertEquals(
            List.of(p.xy(), p.wh(), p.confidenceObject(), p.confidenceBackground(), p.classes()),
            IntStream.range(4, 9).mapToObj(row::getDouble).toList());
        assertEquals(p.objects(), row.getLong(9));
      }
    }
    assertEquals(2, executors.stream().filter(id -> !id.equals("driver")).count());
  }

  @Test
  void anyNumberOfPartitionsGivesTheSameBits() throws IOException {
    for (int partitions : new int[] {1, 2, 4}) {
      Outcome outcome = run("shards", partitions, "partitions" + partitions);
      assertSameAsUndisturbed(outcome, "partitions" + partitions);
    }
    System.out.println(
        "guarantee: 1, 2, 4 and "
            + SHARDS
            + " partitions over two executors, the same bits ("
            + data.images.size()
            + " images)");
  }

  private void assertSameAsUndisturbed(Outcome outcome, String output) {
    assertEquals(undisturbed, outcome); // sums, worst images and counts, to the last bit
    assertEquals(undisturbedRows, table(output, "rows"));
    assertEquals(table("undisturbed", "findings"), table(output, "findings"));
    assertEquals(table("undisturbed", "worst"), table(output, "worst"));
  }

  @Test
  void anExecutorThatIsKilledInMidJobChangesNothing() throws Exception {
    int removedBefore = removed.get();
    int lostBefore = lost.get();
    Files.writeString(folder.resolve("armed"), "");
    Path victim = folder.resolve("victim");
    Thread killer =
        Thread.ofVirtual()
            .start(
                () -> {
                  try {
                    while (!Files.exists(victim)) {
                      Thread.sleep(10);
                    }
                    long pid = Long.parseLong(Files.readString(victim));
                    assertTrue(ProcessHandle.of(pid).orElseThrow().destroyForcibly());
                  } catch (IOException | InterruptedException e) {
                    throw new IllegalStateException(e);
                  }
                });
    Outcome outcome = run("shards", SHARDS, "killed");
    killer.join();
    assertTrue(Files.exists(victim), "an executor was in the middle of the job");
    assertFalse(
        ProcessHandle.of(Long.parseLong(Files.readString(victim))).isPresent(), "it was killed");
    for (int tenths = 0; tenths < 100 && removed.get() == removedBefore; tenths++) {
      Thread.sleep(100); // events come later
    }
    assertTrue(removed.get() > removedBefore, "the driver has lost an executor");
    assertTrue(lost.get() > lostBefore, "and a task");
    assertSameAsUndisturbed(outcome, "killed");
    System.out.println("guarantee: an executor killed in mid-job, the same bits");
  }

  @Test
  void badShardsAreNamedAndTheOthersAreKept() throws IOException {
    Path root = folder.resolve("with-bad");
    data.folder(root.resolve("a-good"), 0, 5, false);
    data.npz(root.resolve("b-good.npz"), 5, 3);
    data.folder(root.resolve("c-short"), 0, 5, false);
    try (FileChannel file =
        FileChannel.open(root.resolve("c-short/feats_1.npy"), StandardOpenOption.WRITE)) {
      file.truncate(file.size() - 4);
    }
    data.npz(root.resolve("d-cut.npz"), 0, 5);
    try (FileChannel file = FileChannel.open(root.resolve("d-cut.npz"), StandardOpenOption.WRITE)) {
      file.truncate(file.size() / 2);
    }
    Files.write(root.resolve("e-noise.parquet"), new byte[5000]);
    data.folder(root.resolve("f-label"), 0, 5, false);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment boxes = data.boxes(arena, 0, 5);
      boxes.setAtIndex(java.lang.foreign.ValueLayout.JAVA_FLOAT, 4, 99);
      boxes.setAtIndex(java.lang.foreign.ValueLayout.JAVA_FLOAT, 0, 1);
      boxes.setAtIndex(java.lang.foreign.ValueLayout.JAVA_FLOAT, 2, 50);
      boxes.setAtIndex(java.lang.foreign.ValueLayout.JAVA_FLOAT, 1, 1);
      boxes.setAtIndex(java.lang.foreign.ValueLayout.JAVA_FLOAT, 3, 50);
      Npy.write(root.resolve("f-label/boxes.npy"), boxes, 5, data.mostBoxes(), 5);
    }
    data.folder(root.resolve("g-missing"), 0, 5, false);
    Files.delete(root.resolve("g-missing/feats_2.npy"));
    data.parquet(root.resolve("h-damaged.parquet"), 0, 5, spark);
    Path part;
    try (var parts = Files.list(root.resolve("h-damaged.parquet"))) {
      part = parts.filter(p -> p.toString().endsWith(".parquet")).findFirst().orElseThrow();
    }
    try (FileChannel file = FileChannel.open(part, StandardOpenOption.WRITE)) {
      for (long at = 100; at < file.size() / 2; at += 1000) { // within its pages
        file.write(java.nio.ByteBuffer.wrap(new byte[500]), at);
      }
    }
    Files.delete(part.resolveSibling("." + part.getFileName() + ".crc")); // Hadoop's own check
    Path shape = folder.resolve("shape"); // unpacks, and then does not fit
    data.folder(shape, 0, 5, false);
    Files.copy(shape.resolve("feats_0.npy"), shape.resolve("feats_2.npy"), REPLACE_EXISTING);
    DataSet.zip(shape, root.resolve("i-shape.npz"));
    Outcome outcome = run("with-bad", 3, "bad");
    outcome.failed().forEach((shard, error) -> System.out.println(shard + ": " + error));
    List<String> failed =
        outcome.failed().keySet().stream()
            .map(f -> f.replaceFirst(".*/with-bad/", "").replaceFirst("[./].*", ""))
            .toList();
    assertEquals(
        List.of("c-short", "d-cut", "e-noise", "f-label", "g-missing", "h-damaged", "i-shape"),
        failed);
    String misfit = outcome.failed().get("file:" + root.resolve("i-shape.npz"));
    assertTrue(misfit.contains("feats_2.npy: FLOAT32 of shape"), misfit);
    outcome.failed().values().forEach(sentence -> assertFalse(sentence.isBlank()));
    String label = outcome.failed().get("file:" + root.resolve("f-label"));
    assertTrue(label.contains("class"), label);
    assertEquals(1, outcome.counts().get(io.github.yololoss.Audit.Reason.CLASS));
    assertEquals(8, outcome.sum().images());
    assertEquals(DataSet.sum(rows.subList(0, 8)).total(), outcome.sum().total());
    List<Row> shards =
        spark.read().parquet(folder.resolve("bad/shards").toString()).collectAsList();
    assertEquals(7, shards.stream().filter(row -> row.getString(1) != null).count());
    assertTrue(Files.readString(folder.resolve("bad/loss.json")).contains("c-short"));
  }

  @Test
  void theWorstImagesAreTheReportsInput() throws IOException {
    List<Integer> expected = new ArrayList<>(IntStream.range(0, rows.size()).boxed().toList());
    expected.sort(java.util.Comparator.comparingDouble(i -> -LossSum.of(rows.get(i)).total()));
    List<ImageLoss> worst = undisturbed.worst();
    assertEquals(
        expected.subList(0, WORST).stream().map(i -> data.images.get(i).name()).toList(),
        worst.stream().map(ImageLoss::image).toList());
    Path report = folder.resolve("undisturbed/report");
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = YoloLoss.open(SpecFile.read(report.resolve("spec.json")).spec(), WORST)) {
      MemorySegment[] feats = new MemorySegment[3];
      MemorySegment[] yTrue = new MemorySegment[3];
      for (int l = 0; l < 3; l++) {
        feats[l] = Npy.map(report.resolve("feats_" + l + ".npy"), arena).floats(arena);
      }
      Targets<MemorySegment> truths;
      if (worst.stream().anyMatch(ImageLoss::dense)) {
        for (int l = 0; l < 3; l++) {
          yTrue[l] = Npy.map(report.resolve("y_true_" + l + ".npy"), arena).floats(arena);
        }
        truths = Targets.dense(yTrue);
      } else {
        Npy boxes = Npy.map(report.resolve("boxes.npy"), arena);
        truths = Targets.boxes(boxes.floats(arena), (int) boxes.shape()[1]);
      }
      LossSum sum = LossSum.of(loss.compute(WORST, feats, truths, null));
      assertEquals(
          DataSet.sum(worst.stream().map(ImageLoss::layers).toList()).total(), sum.total());
    }
  }
}
