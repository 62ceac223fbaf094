package io.github.yololoss;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/** A golden case, read from the test resources into memory of an arena. */
final class Golden {
  static final Path ROOT = Path.of("src/test/resources/golden");
  static final List<String> NAMES =
      List.of(
          "a_small_3scale",
          "b_one_class_416",
          "c_tiny_2scale",
          "d_nonsquare",
          "e_empty_and_crowded",
          "e2_all_empty",
          "f_soft_targets",
          "g_extreme_logits",
          "h_builder_edges");

  final JsonNode expected;
  final YoloSpec spec;
  final int batch;
  final MemorySegment[] feats;
  final MemorySegment[] yTrue;
  final MemorySegment[] wantedGrads;
  final Targets.Boxes<MemorySegment> boxes; // null if the truths were not made from boxes

  Golden(String name, Arena arena) {
    Path folder = ROOT.resolve(name);
    try {
      expected = new ObjectMapper().readTree(Files.readAllBytes(folder.resolve("expected.json")));
      batch = expected.get("batch").intValue();
      spec =
          YoloSpec.of(
              expected.get("num_classes").intValue(),
              expected.get("input_shape").get(0).intValue(),
              expected.get("input_shape").get(1).intValue(),
              floats(expected.get("anchors")),
              ints(expected.get("anchor_mask")),
              expected.get("ignore_thresh").floatValue());
      feats = layers(folder, "feats", arena);
      yTrue = layers(folder, "y_true", arena);
      wantedGrads = layers(folder, "grad", arena);
      Path file = folder.resolve("boxes.npy");
      boxes = Files.exists(file) ? boxes(values(file, arena)) : null;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private Targets.Boxes<MemorySegment> boxes(MemorySegment rows) {
    return Targets.boxes(rows, (int) (rows.byteSize() / (5 * Float.BYTES) / batch));
  }

  /** The values of a .npy file: those of the golden cases are all float32 in C order. */
  private static MemorySegment values(Path file, Arena arena) {
    try {
      ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
      int start = 10 + bytes.getShort(8); // behind magic, version and header
      MemorySegment data = MemorySegment.ofBuffer(bytes).asSlice(start);
      return arena.allocate(data.byteSize(), Float.BYTES).copyFrom(data).asReadOnly();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private MemorySegment[] layers(Path folder, String name, Arena arena) {
    return IntStream.range(0, spec.layers().size())
        .mapToObj(l -> values(folder.resolve(name + "_" + l + ".npy"), arena))
        .toArray(MemorySegment[]::new);
  }

  private static float[][] floats(JsonNode list) {
    float[][] rows = new float[list.size()][];
    for (int i = 0; i < rows.length; i++) {
      rows[i] = new float[] {list.get(i).get(0).floatValue(), list.get(i).get(1).floatValue()};
    }
    return rows;
  }

  private static int[][] ints(JsonNode list) {
    int[][] rows = new int[list.size()][];
    for (int i = 0; i < rows.length; i++) {
      JsonNode row = list.get(i);
      rows[i] = IntStream.range(0, row.size()).map(j -> row.get(j).intValue()).toArray();
    }
    return rows;
  }

  YoloLoss open(LossDevice device, int threads) {
    return YoloLoss.builder(spec).maxBatch(batch).device(device).threads(threads).open();
  }

  /** Memory that is not zero, so that what a call leaves unwritten shows. */
  MemorySegment[] garbage(Arena arena) {
    MemorySegment[] segments = spec.allocate(arena, batch);
    Arrays.stream(segments).forEach(s -> s.fill((byte) 0xFF));
    return segments;
  }

  static float[] values(MemorySegment segment) {
    return segment.toArray(ValueLayout.JAVA_FLOAT);
  }
}
