package io.github.yololoss.kit;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.LossRules;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The snippets of the Javadoc, compiled and run. */
class SnippetsTest {
  @Test
  void aFile() throws IOException {
    Path folder = Path.of("src/test/resources/golden/a_small_3scale");
    // @start region="npy"
    try (Arena arena = Arena.ofConfined()) {
      Npy feats = Npy.map(folder.resolve("feats_0.npy"), arena); // nothing is read yet
      MemorySegment values = feats.floats(arena); // the file's own pages
      // @end
      assertEquals(4 * feats.size(), values.byteSize());
    }
  }

  @Test
  void aSpec(@TempDir Path folder) throws IOException {
    // @start region="spec"
    LossRules rules = LossRules.DEFAULT.withLabelSmoothing(0.1f);
    new SpecFile(YoloSpec.yolov3(80, 416, 416), rules).write(folder.resolve("spec.json"));
    SpecFile read = SpecFile.read(folder.resolve("spec.json"));
    try (YoloLoss loss = YoloLoss.builder(read.spec()).rules(read.rules()).maxBatch(8).open()) {
      // @end
      assertEquals(read.spec(), loss.spec());
    }
    assertEquals(rules, read.rules());
  }

  @Test
  void aLog(@TempDir Path folder) throws IOException {
    YoloSpec spec = YoloSpec.tinyYolov3(3, 128, 128);
    try (Arena arena = Arena.ofShared();
        YoloLoss loss = YoloLoss.open(spec, 1)) {
      MemorySegment[] feats = spec.allocate(arena, 1);
      MemorySegment boxes = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 8, 10, 90, 100, 2);
      LossResult result = loss.newResult();
      // @start region="log"
      try (LossLog log = LossLog.create(folder.resolve("run.jsonl"))) {
        for (int step = 0; step < 3; step++) {
          loss.compute(1, feats, Targets.boxes(boxes, 1), null, LossOptions.DEFAULT, result);
          log.write(step, result); // then: yololoss compare run.jsonl --output curves.html
        }
      }
      // @end
    }
    assertEquals(3, Files.readAllLines(folder.resolve("run.jsonl")).size());
  }
}
