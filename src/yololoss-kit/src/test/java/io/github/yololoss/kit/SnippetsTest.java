package io.github.yololoss.kit;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.LossRules;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import javax.imageio.ImageIO;
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
  void anArchive() throws IOException {
    Path file = Path.of("src/yololoss-kit/src/test/resources/numpy-compressed.npz");
    // @start region="npz"
    try (Npz npz = Npz.open(file);
        Arena arena = Arena.ofConfined()) {
      for (String name : npz.names()) {
        MemorySegment values = npz.load(name, arena).floats(arena);
        // @end
        assertTrue(values.byteSize() > 0);
      }
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
  void aLetterbox(@TempDir Path folder) throws IOException {
    Path photo = folder.resolve("photo.png");
    ImageIO.write(new BufferedImage(40, 30, BufferedImage.TYPE_INT_RGB), "png", photo.toFile());
    YoloSpec spec = YoloSpec.tinyYolov3(3, 64, 96);
    try (Arena arena = Arena.ofConfined()) {
      // @start region="letterbox"
      BufferedImage picture = Pictures.read(photo);
      Letterbox to = Letterbox.into(spec, picture.getWidth(), picture.getHeight());
      float[] row = to.toInput(new Annotations.Box(4, 3, 20, 30, 2)); // a row of boxes
      MemorySegment input = arena.allocate(12L * spec.inputHeight() * spec.inputWidth(), 64);
      Letterbox.values(to.draw(picture), FeatsLayout.NHWC, input); // 0..1, the network's input
      // @end
      assertArrayEquals(new float[] {13, 6, 47, 64, 2}, row);
      assertEquals(128 / 255f, input.getAtIndex(ValueLayout.JAVA_FLOAT, 0)); // the border
      assertEquals(0, input.getAtIndex(ValueLayout.JAVA_FLOAT, 3 * (32 * 96 + 48)));
    }
  }

  @Test
  void aList(@TempDir Path folder) throws IOException {
    ImageIO.write(
        new BufferedImage(40, 30, BufferedImage.TYPE_INT_RGB),
        "png",
        folder.resolve("a.png").toFile());
    Path list = Files.writeString(folder.resolve("train.txt"), "a.png 4,3,20,30,2 0,0,9,9,0\n");
    YoloSpec spec = YoloSpec.tinyYolov3(3, 64, 96);
    // @start region="annotations"
    Annotations train = Annotations.read(list);
    for (Annotations.Entry entry : train.entries()) {
      Path picture = train.picture(entry, null); // in the list's folder or below, or refused
      assertTrue(Files.exists(picture));
    }
    List<float[][]> boxes = train.letterboxed(spec, null, Annotations.Progress.NONE);
    // @end
    assertArrayEquals(new float[] {13, 6, 47, 64, 2}, boxes.getFirst()[0]);
  }

  @Test
  void detections() throws IOException {
    YoloSpec spec = YoloSpec.tinyYolov3(3, 64, 96);
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = YoloLoss.open(spec, 1)) {
      MemorySegment[] feats = spec.allocate(arena, 1);
      Letterbox letterbox = Letterbox.into(spec, 40, 30);
      // @start region="detections"
      Detections detections = new Detections(spec, 1, arena); // memory, for many calls
      detections.decode(loss, 1, feats);
      for (Detections.Box box : detections.of(0, Detections.Limits.DEFAULT.withLeastScore(0.25))) {
        Detections.Box inPicture = letterbox.toPicture(box);
        assertEquals(0.25, inPicture.score()); // sigmoid(0) * sigmoid(0)
      }
      // @end
    }
  }

  @Test
  void json() throws IOException {
    YoloSpec spec = YoloSpec.tinyYolov3(3, 64, 96);
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = YoloLoss.open(spec, 1)) {
      MemorySegment boxes = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 8, 10, 60, 50, 2);
      // @start region="json"
      LossResult result = loss.compute(1, spec.allocate(arena, 1), Targets.boxes(boxes, 1), null);
      ObjectNode json = LossJson.of(spec, result);
      json.put("name", "my batch"); // a field more
      // @end
      assertEquals(result.total(), json.get("total").asDouble());
      assertEquals(1, json.at("/boxes/used").asInt());
    }
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
