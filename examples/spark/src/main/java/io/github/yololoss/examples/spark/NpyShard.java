package io.github.yololoss.examples.spark;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.FeatsType;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.kit.Npy;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;

/** A folder of arrays, mapped; images.txt may name the images. */
final class NpyShard implements Shard {
  private final Settings settings;
  private final Path temporary; // deleted when this is closed; null: the folder is the user's
  private final Arena arena = Arena.ofConfined();
  private final MemorySegment[] feats;
  private final FeatsType dataType;
  private final MemorySegment[] truths; // y_true, or boxes alone
  private final int boxesPerImage; // -1: y_true
  private final List<String> names;
  private final int images;
  private int done;

  NpyShard(Path folder, Settings settings, Path temporary) throws IOException {
    this.settings = settings;
    this.temporary = temporary;
    try {
      YoloSpec spec = settings.spec();
      int layers = spec.layers().size();
      feats = new MemorySegment[layers];
      Npy first = Npy.map(folder.resolve("feats_0.npy"), arena);
      images = first.shape().length == 0 ? 0 : Math.toIntExact(first.shape()[0]);
      dataType = first.valueType();
      for (int l = 0; l < layers; l++) {
        feats[l] = array(folder, "feats_" + l, shape(l, false), dataType).aligned(arena);
      }
      boolean dense = !Files.exists(folder.resolve("boxes.npy"));
      truths = new MemorySegment[dense ? layers : 1];
      for (int l = 0; l < layers && dense; l++) {
        truths[l] = array(folder, "y_true_" + l, shape(l, true), null).floats(arena);
      }
      if (dense) {
        boxesPerImage = -1;
      } else {
        long[] shape = Npy.map(folder.resolve("boxes.npy"), arena).shape();
        boxesPerImage = shape.length == 3 ? Math.toIntExact(shape[1]) : 0;
        long[] expected = {images, boxesPerImage, 5};
        truths[0] = array(folder, "boxes", expected, null).floats(arena);
      }
      Path list = folder.resolve("images.txt");
      names = Files.exists(list) ? Files.readAllLines(list) : List.of();
      if (!names.isEmpty() && names.size() != images) {
        throw new IOException(
            list + ": " + names.size() + " names, " + images + " images are in feats_0.npy");
      }
    } catch (IOException | RuntimeException e) {
      arena.close(); // the folder is still the caller's
      throw e;
    }
  }

  private long[] shape(int l, boolean dense) {
    YoloSpec.Layer layer = settings.spec().layers().get(l);
    long height = layer.gridHeight();
    long width = layer.gridWidth();
    long anchors = layer.anchorMask().size();
    long channels = 5 + settings.spec().numClasses();
    if (dense) {
      return new long[] {images, height, width, anchors, channels};
    }
    return settings.layout() == FeatsLayout.NHWC
        ? new long[] {images, height, width, anchors * channels}
        : new long[] {images, anchors * channels, height, width};
  }

  private Npy array(Path folder, String name, long[] expected, FeatsType type) throws IOException {
    Path file = folder.resolve(name + ".npy");
    Npy array = Npy.map(file, arena);
    if (!Arrays.equals(array.shape(), expected) || type != null && array.valueType() != type) {
      throw new IOException(
          "%s: %s of shape %s, expected %s of shape %s"
              .formatted(
                  file,
                  array.valueType(),
                  Arrays.toString(array.shape()),
                  type == null ? "numbers" : type,
                  Arrays.toString(expected)));
    }
    return array;
  }

  @Override
  public FeatsType dataType() {
    return dataType;
  }

  @Override
  public Batch next() {
    int count = Math.min(settings.batch(), images - done);
    if (count == 0) {
      return null;
    }
    MemorySegment[] some = slice(truths, count);
    Targets<MemorySegment> targets =
        boxesPerImage < 0
            ? Targets.dense(some)
            : new Targets.Boxes<>(some[0], boxesPerImage, settings.badBoxes());
    Batch batch =
        new Batch(
            count,
            slice(feats, count),
            targets,
            names.isEmpty() ? names : names.subList(done, done + count));
    done += count;
    return batch;
  }

  private MemorySegment[] slice(MemorySegment[] layers, int count) {
    return Arrays.stream(layers)
        .map(s -> s.asSlice(s.byteSize() / images * done, s.byteSize() / images * count))
        .toArray(MemorySegment[]::new);
  }

  @Override
  public void close() throws IOException {
    arena.close();
    if (temporary != null) {
      delete(temporary);
    }
  }

  /** The arrays and names of an .npz; whatever else is in it is left there. */
  static void unpack(InputStream npz, String name, Path folder) throws IOException {
    int found = 0;
    try (ZipInputStream zip = new ZipInputStream(npz)) {
      for (ZipEntry entry; (entry = zip.getNextEntry()) != null; ) {
        if (entry.getName().matches("(feats|y_true)_\\d+\\.npy|boxes\\.npy|images\\.txt")) {
          Files.copy(zip, folder.resolve(entry.getName()));
          found++;
        }
      }
    } catch (IOException e) {
      throw new IOException(name + ": a damaged .npz: " + e.getMessage(), e);
    }
    if (found == 0) {
      throw new IOException(name + ": not an .npz that holds feats_0.npy");
    }
  }

  static void delete(Path folder) throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }
}
