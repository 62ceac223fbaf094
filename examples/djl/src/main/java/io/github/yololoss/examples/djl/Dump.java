package io.github.yololoss.examples.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.examples.djl.Dataset.Batch;
import io.github.yololoss.kit.Npy;
import io.github.yololoss.kit.SpecFile;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** A batch on disk, as {@code yololoss verify} reads it. */
final class Dump {
  private Dump() {}

  /**
   * Writes feats_l.npy, boxes.npy and spec.json, and beside them in theirs expected.json and
   * grad_l.npy.
   */
  static void write(Path folder, YoloSpec spec, NDList outputs, NDArray boxes, Gradients gradients)
      throws IOException {
    Path theirs = Files.createDirectories(folder.resolve("theirs"));
    for (int l = 0; l < outputs.size(); l++) {
      save(folder.resolve("feats_" + l + ".npy"), outputs.get(l));
      save(theirs.resolve("grad_" + l + ".npy"), gradients.arrays().get(l));
    }
    save(folder.resolve("boxes.npy"), boxes);
    new SpecFile(spec).write(folder.resolve("spec.json"));
    Files.writeString(theirs.resolve("expected.json"), "{\"total\": " + gradients.value() + "}\n");
  }

  /** Writes feats_l.npy, boxes.npy, spec.json, and images.txt with the photographs' paths. */
  static void validation(
      Path folder, YoloSpec spec, MemorySegment[] feats, List<Batch> batches, List<Path> images)
      throws IOException {
    Files.createDirectories(folder);
    for (int l = 0; l < feats.length; l++) {
      YoloSpec.Layer layer = spec.layers().get(l);
      Npy.write(
          folder.resolve("feats_" + l + ".npy"),
          feats[l],
          images.size(),
          (long) layer.anchorMask().size() * (5 + spec.numClasses()),
          layer.gridHeight(),
          layer.gridWidth());
    }
    int perImage = batches.getFirst().boxesPerImage();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment boxes = arena.allocate(20L * images.size() * perImage, 4);
      long at = 0;
      for (Batch batch : batches) {
        boxes.asSlice(at).copyFrom(batch.boxes());
        at += batch.boxes().byteSize();
      }
      Npy.write(folder.resolve("boxes.npy"), boxes, images.size(), perImage, 5);
    }
    new SpecFile(spec).write(folder.resolve("spec.json"));
    Files.write(
        folder.resolve("images.txt"), images.stream().map(image -> name(folder, image)).toList());
  }

  /**
   * Returns how the list names a picture: relative where it is below the list's folder, so that the
   * folder can be moved; otherwise absolute, which {@code yololoss report} accepts below its {@code
   * --images-root}.
   */
  static String name(Path folder, Path image) {
    Path from = folder.toAbsolutePath().normalize();
    Path whole = image.toAbsolutePath().normalize();
    return (whole.startsWith(from) ? from.relativize(whole) : whole).toString();
  }

  private static void save(Path file, NDArray array) throws IOException {
    Npy.write(file, NativeLoss.segment(array), array.getShape().getShape());
  }
}
