package io.github.yololoss.examples.spark;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.LossResult;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.LossSum;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.kit.Annotations;
import io.github.yololoss.kit.Npy;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.types.StructType;

/** Images with boxes, real or drawn by chance, and feats drawn by chance; and shards of them. */
final class DataSet {
  /** An image: pixels of the input, class. */
  record Image(String name, List<float[]> boxes) {}

  final YoloSpec spec;
  final List<Image> images;

  /** Real ones, of annotation files. */
  static DataSet annotated(Path folder) throws IOException {
    YoloSpec spec = YoloSpec.yolov3(3, 416, 416);
    List<Image> images = new ArrayList<>();
    for (String list : List.of("train.txt", "val.txt", "test.txt")) {
      Annotations read = Annotations.read(folder.resolve(list));
      List<float[][]> boxes = read.letterboxed(spec, null, Annotations.Progress.NONE);
      for (int i = 0; i < boxes.size(); i++) {
        images.add(new Image(read.entries().get(i).name(), List.of(boxes.get(i))));
      }
    }
    return new DataSet(spec, images);
  }

  static DataSet drawn(int count) {
    Random random = new Random(3);
    List<Image> images = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      List<float[]> boxes = new ArrayList<>();
      for (int n = random.nextInt(6); n > 0; n--) {
        int x = random.nextInt(100);
        int y = random.nextInt(100);
        boxes.add(
            new float[] {
              x, y, x + 10 + random.nextInt(60), y + 10 + random.nextInt(60), random.nextInt(3)
            });
      }
      images.add(new Image("drawn/" + i + ".png", boxes));
    }
    return new DataSet(YoloSpec.yolov3(3, 192, 160), images);
  }

  private DataSet(YoloSpec spec, List<Image> images) {
    this.spec = spec;
    this.images = images;
  }

  int mostBoxes() {
    return images.stream().mapToInt(i -> i.boxes().size()).max().orElse(0);
  }

  /** Feats of some images, the same wherever they are written to. */
  MemorySegment[] feats(Arena arena, int first, int count) {
    MemorySegment[] feats = spec.allocate(arena, count);
    for (int i = 0; i < count; i++) {
      Random random = new Random(first + i);
      for (int l = 0; l < feats.length; l++) {
        long values = spec.bytes(l, 1) / Float.BYTES;
        for (long n = 0; n < values; n++) {
          feats[l].setAtIndex(JAVA_FLOAT, i * values + n, 4 * random.nextFloat() - 2.5f);
        }
      }
    }
    return feats;
  }

  MemorySegment boxes(Arena arena, int first, int count) {
    MemorySegment all = arena.allocate(JAVA_FLOAT, (long) count * mostBoxes() * 5);
    for (int i = 0; i < count; i++) {
      int row = i * mostBoxes();
      for (float[] box : images.get(first + i).boxes()) {
        MemorySegment.copy(box, 0, all, JAVA_FLOAT, 20L * row++, 5);
      }
    }
    return all;
  }

  /** By one JVM alone, image by image: raw rows. */
  List<List<Parts>> rows() {
    List<List<Parts>> rows = new ArrayList<>();
    try (YoloLoss loss = YoloLoss.open(spec, 1)) {
      for (int i = 0; i < images.size(); i++) {
        try (Arena arena = Arena.ofConfined()) {
          Targets<MemorySegment> boxes = Targets.boxes(boxes(arena, i, 1), mostBoxes());
          LossResult result = loss.compute(1, feats(arena, i, 1), boxes, null);
          List<Parts> row = new ArrayList<>();
          for (int l = 0; l < result.layers(); l++) {
            row.add(result.row(0, l));
          }
          rows.add(row);
        }
      }
    }
    return rows;
  }

  static LossSum sum(List<List<Parts>> rows) {
    return rows.stream().map(LossSum::of).reduce(LossSum.zero(3), LossSum::merge);
  }

  /** Shards of every form: folders with boxes, with y_true, .npz, Parquet; in order of images. */
  void write(Path root, int shards, SparkSession spark) throws IOException {
    for (int s = 0; s < shards; s++) {
      int first = (int) ((long) s * images.size() / shards);
      int count = (int) ((s + 1L) * images.size() / shards) - first;
      String name = "%02d".formatted(s);
      switch (s % 4) {
        case 0 -> folder(root.resolve(name), first, count, false);
        case 1 -> folder(root.resolve(name), first, count, true);
        case 2 -> npz(root.resolve(name + ".npz"), first, count);
        default -> parquet(root.resolve(name + ".parquet"), first, count, spark);
      }
    }
  }

  void folder(Path folder, int first, int count, boolean dense) throws IOException {
    Files.createDirectories(folder);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment[] feats = feats(arena, first, count);
      MemorySegment boxes = boxes(arena, first, count);
      MemorySegment[] yTrue = spec.allocate(arena, count);
      try (YoloLoss loss = YoloLoss.open(spec, count)) {
        loss.buildYTrue(
            count, new Targets.Boxes<>(boxes, mostBoxes(), Targets.BoxPolicy.SKIP), yTrue);
      }
      for (int l = 0; l < feats.length; l++) {
        YoloSpec.Layer grid = spec.layers().get(l);
        long height = grid.gridHeight();
        long width = grid.gridWidth();
        Npy.write(folder.resolve("feats_" + l + ".npy"), feats[l], count, height, width, 24);
        if (dense) {
          Npy.write(folder.resolve("y_true_" + l + ".npy"), yTrue[l], count, height, width, 3, 8);
        }
      }
      if (!dense) {
        Npy.write(folder.resolve("boxes.npy"), boxes, count, mostBoxes(), 5);
      }
      Files.write(
          folder.resolve("images.txt"),
          images.subList(first, first + count).stream().map(Image::name).toList());
    }
  }

  void npz(Path file, int first, int count) throws IOException {
    Path folder = Files.createTempDirectory("npz");
    folder(folder, first, count, false);
    zip(folder, file);
  }

  /** A folder of arrays as a .npz; the folder is removed. */
  static void zip(Path folder, Path file) throws IOException {
    try (OutputStream out = Files.newOutputStream(file);
        ZipOutputStream zip = new ZipOutputStream(out);
        var files = Files.list(folder)) {
      for (Path array : files.sorted().toList()) {
        zip.putNextEntry(new ZipEntry(array.getFileName().toString()));
        Files.copy(array, zip);
      }
    }
    NpyShard.delete(folder);
  }

  void parquet(Path file, int first, int count, SparkSession spark) throws IOException {
    List<Row> rows = new ArrayList<>();
    try (Arena arena = Arena.ofConfined()) {
      for (int i = first; i < first + count; i++) {
        List<Object> row = new ArrayList<>();
        row.add(images.get(i).name());
        MemorySegment boxes = boxes(arena, i, 1);
        row.add(boxes.asSlice(0, 20L * images.get(i).boxes().size()).toArray(JAVA_BYTE));
        for (MemorySegment feats : feats(arena, i, 1)) {
          row.add(feats.toArray(JAVA_BYTE));
        }
        rows.add(RowFactory.create(row.toArray()));
      }
    }
    StructType schema =
        StructType.fromDDL(
            "image string, boxes binary, feats_0 binary, feats_1 binary, feats_2 binary");
    spark.createDataFrame(rows, schema).coalesce(1).write().parquet(file.toString());
  }
}
