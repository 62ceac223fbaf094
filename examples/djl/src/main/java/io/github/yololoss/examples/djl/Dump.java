package io.github.yololoss.examples.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import io.github.yololoss.Npy;
import io.github.yololoss.YoloSpec;
import java.io.IOException;
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
    List<List<Float>> anchors =
        spec.anchors().stream().map(a -> List.of(a.width(), a.height())).toList();
    Files.writeString(
        folder.resolve("spec.json"),
        "{\"anchors\": %s, \"anchor_mask\": %s, \"num_classes\": %d, \"ignore_thresh\": %s,"
                .formatted(
                    anchors,
                    spec.layers().stream().map(YoloSpec.Layer::anchorMask).toList(),
                    spec.numClasses(),
                    spec.ignoreThresh())
            + " \"input_shape\": [%d, %d]}%n".formatted(spec.inputHeight(), spec.inputWidth()));
    Files.writeString(theirs.resolve("expected.json"), "{\"total\": " + gradients.value() + "}\n");
  }

  private static void save(Path file, NDArray array) throws IOException {
    Npy.write(file, NativeLoss.segment(array), array.getShape().getShape());
  }
}
