package io.github.yololoss.cli.commands;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.Targets;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.files.BatchFiles;
import io.github.yololoss.cli.files.Progress;
import io.github.yololoss.kit.Annotations;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import picocli.CommandLine.Option;

/** The options for a source of boxes: an annotation file or an array. */
class TruthSource {
  @Option(
      names = "--annotations",
      paramLabel = "FILE",
      description = "keras-yolo3 annotation file; boxes are letterboxed into the input.")
  Path annotations;

  @Option(
      names = "--boxes",
      paramLabel = "FILE",
      description = "boxes.npy (B,T,5) in input pixels.")
  Path boxes;

  /**
   * Reads the boxes.
   *
   * @param imagesRoot another folder that an annotation file may lead to, or null
   * @param err where the progress line goes
   */
  BatchFiles.Boxes read(
      YoloSpec spec, Targets.BoxPolicy policy, Path imagesRoot, Arena arena, PrintWriter err)
      throws IOException {
    return boxes != null
        ? BatchFiles.boxes(boxes, 0, policy, arena)
        : annotated(annotations, spec, policy, imagesRoot, arena, err);
  }

  /** Reads the boxes of an annotation file. */
  private static BatchFiles.Boxes annotated(
      Path file,
      YoloSpec spec,
      Targets.BoxPolicy policy,
      Path imagesRoot,
      Arena arena,
      PrintWriter err)
      throws IOException {
    List<float[][]> images;
    try (Progress progress = new Progress(err, "annotations", "pictures")) {
      images = Annotations.read(file).letterboxed(spec, imagesRoot, progress::reached);
    }
    int rows = images.stream().mapToInt(boxes -> boxes.length).max().orElse(0);
    MemorySegment packed = arena.allocate(JAVA_FLOAT, 5L * rows * images.size());
    for (int i = 0; i < images.size(); i++) {
      float[][] boxes = images.get(i);
      for (int t = 0; t < boxes.length; t++) {
        MemorySegment.copy(boxes[t], 0, packed, JAVA_FLOAT, 20L * ((long) i * rows + t), 5);
      }
    }
    return new BatchFiles.Boxes(images.size(), new Targets.Boxes<>(packed, rows, policy));
  }
}
