package io.github.yololoss.examples.spark;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.FeatsType;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.kit.Npy;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;

/** Arrays of a folder, mapped, or of a .npz, read; images.txt may name the images. */
final class NpyShard implements Shard {
  private final Settings settings;
  private final String name;
  private final Path temporary; // deleted when this is closed; null: nothing was copied
  private final Arena arena = Arena.ofConfined();
  private final MemorySegment[] feats;
  private final FeatsType dataType;
  private final MemorySegment[] truths; // y_true, or boxes alone
  private final int boxesPerImage; // -1: y_true
  private final List<String> names;
  private final int images;
  private int done;

  /**
   * Reads the arrays, whose files it closes.
   *
   * @param name of the shard, for messages
   * @param temporary a folder that is deleted when this is closed; null: none
   */
  NpyShard(String name, ShardFiles arrays, Settings settings, Path temporary) throws IOException {
    this.name = name;
    this.settings = settings;
    this.temporary = temporary;
    try (ShardFiles files = arrays) {
      YoloSpec spec = settings.spec();
      int layers = spec.layers().size();
      feats = new MemorySegment[layers];
      Npy first = files.load("feats_0", arena);
      images = first.shape().length == 0 ? 0 : Math.toIntExact(first.shape()[0]);
      dataType = first.valueType();
      for (int l = 0; l < layers; l++) {
        feats[l] = array(files, "feats_" + l, shape(l, false), dataType).aligned(arena);
      }
      boolean dense = !files.has("boxes");
      truths = new MemorySegment[dense ? layers : 1];
      for (int l = 0; l < layers && dense; l++) {
        truths[l] = array(files, "y_true_" + l, shape(l, true), null).floats(arena);
      }
      if (dense) {
        boxesPerImage = -1;
      } else {
        long[] shape = files.load("boxes", arena).shape();
        boxesPerImage = shape.length == 3 ? Math.toIntExact(shape[1]) : 0;
        long[] expected = {images, boxesPerImage, 5};
        truths[0] = array(files, "boxes", expected, null).floats(arena);
      }
      names = files.lines("images.txt");
      if (!names.isEmpty() && names.size() != images) {
        throw new IOException(
            name
                + ": images.txt: "
                + names.size()
                + " names, "
                + images
                + " images are in feats_0.npy");
      }
    } catch (IOException | RuntimeException e) {
      arena.close(); // the temporary folder is still the caller's
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

  private Npy array(ShardFiles files, String array, long[] expected, FeatsType type)
      throws IOException {
    Npy read = files.load(array, arena);
    if (!Arrays.equals(read.shape(), expected) || type != null && read.valueType() != type) {
      throw new IOException(
          "%s: %s.npy: %s of shape %s, expected %s of shape %s"
              .formatted(
                  name,
                  array,
                  read.valueType(),
                  Arrays.toString(read.shape()),
                  type == null ? "numbers" : type,
                  Arrays.toString(expected)));
    }
    return read;
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

  static void delete(Path folder) throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }
}
