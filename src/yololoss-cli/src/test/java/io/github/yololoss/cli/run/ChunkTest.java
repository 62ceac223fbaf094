package io.github.yololoss.cli.run;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.yololoss.Audit;
import io.github.yololoss.LossDevice;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.CommandTest;
import io.github.yololoss.cli.files.BatchFiles;
import io.github.yololoss.kit.Npy;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A batch that is computed chunk by chunk. */
class ChunkTest extends CommandTest {
  /** Chunks of any size give the bits of one call, gradient and all, for every normaliser. */
  @ParameterizedTest
  @ValueSource(strings = {"batch", "objects", "none", "7.5"})
  void chunks(String normaliser) throws Exception {
    Path dir = GOLDEN.resolve("e_empty_and_crowded");
    Path specFile = dir.resolve("expected.json");
    JsonNode[] results = new JsonNode[2];
    for (int chunk = 1; chunk <= 2; chunk++) {
      Path out = folder.resolve("gradient" + chunk);
      results[chunk - 1] =
          json(
              "loss",
              dir,
              "--spec",
              specFile,
              "--normaliser",
              normaliser,
              "--gradient",
              out,
              "--chunk",
              chunk,
              "--maps",
              out,
              "--json",
              "-");
    }
    assertEquals(results[0], results[1]);
    try (Stream<Path> files = Files.list(folder.resolve("gradient1"))) {
      for (Path file : files.toList()) {
        assertEquals(
            -1, Files.mismatch(file, folder.resolve("gradient2").resolve(file.getFileName())));
      }
    }
  }

  /** A bad row of a later chunk is named by its image in the batch. */
  @Test
  void aBadRowOfALaterChunk() throws Exception {
    try (Arena arena = Arena.ofConfined()) {
      Npy boxes = Npy.map(sample.resolve("boxes.npy"), arena);
      MemorySegment spoilt = arena.allocate(boxes.size() * 4, 4).copyFrom(boxes.floats(arena));
      long row = boxes.shape()[1] * 5; // the first of image 1
      spoilt.setAtIndex(JAVA_FLOAT, row + 4, 99);
      Npy.write(sample.resolve("boxes.npy"), spoilt, boxes.shape());
    }
    for (int chunk = 1; chunk <= 2; chunk++) {
      refused(
          3,
          "image 1, row 0",
          "loss",
          sample,
          "--spec",
          spec,
          "--targets",
          "boxes",
          "--chunk",
          chunk);
    }
  }

  /** An image whose boxes are fractions of the input is refused in whatever chunk it is. */
  @Test
  void fractionsInALaterChunk() throws Exception {
    try (Arena arena = Arena.ofConfined()) {
      Npy boxes = Npy.map(sample.resolve("boxes.npy"), arena);
      MemorySegment spoilt = arena.allocate(boxes.size() * 4, 4).copyFrom(boxes.floats(arena));
      for (long i = boxes.size() / 2; i < boxes.size(); i++) { // image 1
        float value = spoilt.getAtIndex(JAVA_FLOAT, i);
        spoilt.setAtIndex(JAVA_FLOAT, i, i % 5 == 4 ? value : value / 64);
      }
      Npy.write(sample.resolve("boxes.npy"), spoilt, boxes.shape());
    }
    for (int chunk = 1; chunk <= 2; chunk++) {
      for (String words : new String[] {"boxes.npy: ", "image 1", "in 0..1"}) {
        refused(3, words, "loss", sample, "--spec", spec, "--targets", "boxes", "--chunk", chunk);
      }
    }
    Object[] report = {
      "report", sample, "--spec", spec, "--targets", "boxes", "--output", folder.resolve("r.html")
    };
    refused(3, "boxes.npy: ", report);
    refused(3, "image 1", report);
  }

  /** An audit of more images than a chunk has is that of one call. */
  @Test
  void audits() {
    YoloSpec large = YoloSpec.yolov3(80, 416, 416);
    int batch = 3 * BatchFiles.chunkSize(large) - 1;
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = YoloLoss.builder(large).maxBatch(batch).device(LossDevice.CPU).open()) {
      MemorySegment rows = arena.allocate(JAVA_FLOAT, 5L * 2 * batch);
      for (int image = 0; image < batch; image++) {
        float size = 10 + 7 * image;
        float[] row = {5, 5, 5 + size, 5 + size, image % 9 == 0 ? 99 : image};
        MemorySegment.copy(row, 0, rows, JAVA_FLOAT, 40L * image, 5);
        MemorySegment.copy(row, 0, rows, JAVA_FLOAT, 40L * image + 20, image % 4 == 0 ? 5 : 0);
      }
      Targets<MemorySegment> boxes = new Targets.Boxes<>(rows, 2, Targets.BoxPolicy.SKIP);
      for (int most : new int[] {1000, 9, 0}) {
        Audit whole = loss.audit(batch, boxes, 0.3f, most);
        assertEquals(
            whole, Audits.of(large, boxes, batch, 0.3f, most, new PrintWriter(System.err)));
        long all = whole.counts().values().stream().mapToLong(Long::longValue).sum();
        assertEquals(Math.min(most, all), whole.findings().size());
        assertTrue(all > 9, "of several chunks: " + whole.counts());
      }
    }
  }
}
