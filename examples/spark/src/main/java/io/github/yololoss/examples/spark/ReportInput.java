package io.github.yololoss.examples.spark;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossDevice;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.examples.spark.Shard.Batch;
import io.github.yololoss.examples.spark.ShardResult.ImageLoss;
import io.github.yololoss.kit.Npy;
import io.github.yololoss.kit.SpecFile;
import java.io.IOException;
import java.io.Serializable;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.spark.api.java.JavaSparkContext;

/**
 * The arrays of the worst images, gathered from their shards, as {@code yololoss report} reads
 * them: image n of the report is that of rank n. Feats are written as float32, which changes the
 * loss of float64 feats only.
 */
final class ReportInput {
  private ReportInput() {}

  /** Images of a shard, their ranks by their places in it. */
  private record Wanted(String shard, HashMap<Integer, Integer> ranks) implements Serializable {}

  /** What an executor reads of an image: feats of each layer; boxes alone, or y_true of each. */
  private record Image(int rank, float[][] feats, float[][] truths) implements Serializable {}

  static void write(JavaSparkContext context, Settings settings, List<ImageLoss> worst, Path folder)
      throws IOException {
    boolean dense = worst.stream().anyMatch(ImageLoss::dense); // then boxes become y_true
    Map<String, Wanted> wanted = new HashMap<>();
    for (int rank = 0; rank < worst.size(); rank++) {
      ImageLoss image = worst.get(rank);
      wanted
          .computeIfAbsent(image.shard(), shard -> new Wanted(shard, new HashMap<>()))
          .ranks()
          .put(image.index(), rank);
    }
    List<Image> images =
        new ArrayList<>(
            context
                .parallelize(List.copyOf(wanted.values()), wanted.size())
                .flatMap(some -> read(some, settings, dense).iterator())
                .collect());
    images.sort(Comparator.comparingInt(Image::rank));

    FileSystem files = folder.getFileSystem(context.hadoopConfiguration());
    if (files.getScheme().equals("file")) {
      write(settings, images, dense, java.nio.file.Path.of(folder.toUri().getPath()));
    } else {
      java.nio.file.Path here = Files.createTempDirectory("report");
      write(settings, images, dense, here);
      files.copyFromLocalFile(true, new Path(here.toUri()), folder);
    }
  }

  private static List<Image> read(Wanted wanted, Settings settings, boolean dense)
      throws IOException {
    List<Image> images = new ArrayList<>();
    try (Shard shard = Shard.open(wanted.shard(), settings);
        YoloLoss loss =
            YoloLoss.builder(settings.spec())
                .maxBatch(settings.batch())
                .device(LossDevice.CPU)
                .threads(1)
                .open()) {
      int done = 0;
      for (Batch batch; (batch = shard.next()) != null; done += batch.images()) {
        for (int i = 0; i < batch.images(); i++) {
          Integer rank = wanted.ranks().get(done + i);
          if (rank != null) {
            float[][] feats = new float[batch.feats().length][];
            for (int l = 0; l < feats.length; l++) {
              MemorySegment ofImage = image(batch.feats()[l], batch, i);
              int bytes = shard.dataType().bytes();
              feats[l] = new float[Math.toIntExact(ofImage.byteSize() / bytes)];
              for (int n = 0; n < feats[l].length; n++) {
                feats[l][n] = (float) shard.dataType().get(ofImage, n);
              }
            }
            images.add(new Image(rank, feats, truths(batch, i, loss, dense)));
          }
        }
      }
    }
    return images;
  }

  private static MemorySegment image(MemorySegment all, Batch batch, int i) {
    long bytes = all.byteSize() / batch.images();
    return all.asSlice(i * bytes, bytes);
  }

  private static float[][] truths(Batch batch, int i, YoloLoss loss, boolean dense) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment[] found;
      if (batch.truths() instanceof Targets.Boxes<MemorySegment> boxes) {
        MemorySegment some = image(boxes.boxes(), batch, i);
        if (!dense) {
          return new float[][] {some.toArray(JAVA_FLOAT)};
        }
        found = loss.spec().allocate(arena, 1);
        loss.buildYTrue(1, new Targets.Boxes<>(some, boxes.perImage(), boxes.policy()), found);
      } else {
        found =
            Arrays.stream(((Targets.Dense<MemorySegment>) batch.truths()).yTrue())
                .map(layer -> image(layer, batch, i))
                .toArray(MemorySegment[]::new);
      }
      return Arrays.stream(found).map(s -> s.toArray(JAVA_FLOAT)).toArray(float[][]::new);
    }
  }

  private static void write(
      Settings settings, List<Image> images, boolean dense, java.nio.file.Path folder)
      throws IOException {
    Files.createDirectories(folder);
    new SpecFile(settings.spec()).write(folder.resolve("spec.json"));
    YoloSpec spec = settings.spec();
    int count = images.size();
    for (int l = 0; l < spec.layers().size(); l++) {
      int layer = l;
      YoloSpec.Layer grid = spec.layers().get(l);
      long height = grid.gridHeight();
      long width = grid.gridWidth();
      long anchors = grid.anchorMask().size();
      long channels = 5 + spec.numClasses();
      long[] shape =
          settings.layout() == FeatsLayout.NHWC
              ? new long[] {count, height, width, anchors * channels}
              : new long[] {count, anchors * channels, height, width};
      save(
          folder.resolve("feats_" + l + ".npy"),
          images.stream().map(i -> i.feats()[layer]).toList(),
          shape);
      if (dense) {
        save(
            folder.resolve("y_true_" + l + ".npy"),
            images.stream().map(i -> i.truths()[layer]).toList(),
            count,
            height,
            width,
            anchors,
            channels);
      }
    }
    if (!dense) {
      int most = images.stream().mapToInt(i -> i.truths()[0].length).max().orElse(0);
      save(
          folder.resolve("boxes.npy"),
          images.stream().map(i -> Arrays.copyOf(i.truths()[0], most)).toList(),
          count,
          most / 5,
          5);
    }
  }

  private static void save(java.nio.file.Path file, List<float[]> images, long... shape)
      throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      long values = Arrays.stream(shape).reduce(1, (a, b) -> a * b);
      MemorySegment all = arena.allocate(JAVA_FLOAT, values);
      long at = 0;
      for (float[] image : images) {
        MemorySegment.copy(image, 0, all, JAVA_FLOAT, at, image.length);
        at += (long) Float.BYTES * image.length;
      }
      Npy.write(file, all, shape);
    }
  }
}
