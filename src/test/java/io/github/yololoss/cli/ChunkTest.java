package io.github.yololoss.cli;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.yololoss.Npy;
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
}
