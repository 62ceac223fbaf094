package io.github.yololoss;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Calls in a recording of Java Flight Recorder. */
class LossEventTest {
  private static final String EVENT = "io.github.yololoss.Loss";

  @TempDir Path folder;

  private final YoloSpec spec = YoloSpec.tinyYolov3(3, 64, 96);

  /** The events of a recording while something runs. */
  private List<RecordedEvent> recorded(boolean enabled, Runnable calls) throws IOException {
    Path file = folder.resolve("calls.jfr");
    try (Recording recording = new Recording()) {
      if (enabled) {
        recording.enable(EVENT);
      }
      recording.start();
      calls.run();
      recording.stop();
      recording.dump(file);
    }
    return RecordingFile.readAllEvents(file).stream()
        .filter(event -> event.getEventType().getName().equals(EVENT))
        .toList();
  }

  private static void assertTells(LossResult result, RecordedEvent event) {
    LossResult.Parts parts = result.layer(0).plus(result.layer(1));
    assertEquals(result.total(), event.getDouble("total"));
    assertEquals(result.normaliser(), event.getDouble("normaliser"));
    assertEquals(parts.xy(), event.getDouble("xy"));
    assertEquals(parts.wh(), event.getDouble("wh"));
    assertEquals(parts.confidenceObject(), event.getDouble("confidenceObject"));
    assertEquals(parts.confidenceBackground(), event.getDouble("confidenceBackground"));
    assertEquals(parts.classes(), event.getDouble("classes"));
    assertEquals(result.objects(), event.getLong("objects"));
    assertEquals(result.ignoredBackground(), event.getLong("ignoredBackground"));
    assertEquals(result.nonFinite(), event.getLong("nonFinite"));
    assertTrue(event.getDuration().toNanos() > 0);
  }

  @Test
  void aCallIsAnEventWhereARecordingAsksForIt() throws IOException {
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = YoloLoss.builder(spec).maxBatch(2).device(LossDevice.CPU).open()) {
      MemorySegment[] feats = spec.allocate(arena, 2);
      feats[0].setAtIndex(JAVA_FLOAT, 4, Float.NaN);
      MemorySegment[] grads = spec.allocate(arena, 2);
      MemorySegment boxes = arena.allocateFrom(JAVA_FLOAT, 8, 10, 60, 50, 2, 5, 5, 20, 30, 0);
      LossResult result = loss.newResult();
      Runnable calls =
          () -> {
            loss.compute(
                2, feats, Targets.boxes(boxes, 1), grads, LossOptions.DEFAULT, loss.newResult());
            assertThrows(
                IllegalArgumentException.class,
                () -> loss.compute(3, feats, Targets.boxes(boxes, 1), null));
            feats[0].setAtIndex(JAVA_FLOAT, 4, 1);
            loss.compute(1, feats, Targets.boxes(boxes, 1), null, LossOptions.DEFAULT, result);
          };
      assertEquals(List.of(), recorded(false, calls), "off by default");
      feats[0].setAtIndex(JAVA_FLOAT, 4, Float.NaN);
      List<RecordedEvent> events = recorded(true, calls);
      assertEquals(2, events.size(), "what is refused is no event");
      assertEquals("cpu", events.getFirst().getString("device"));
      assertEquals(2, events.getFirst().getInt("batch"));
      assertTrue(events.getFirst().getBoolean("gradient"));
      assertEquals(1, events.getFirst().getLong("nonFinite"));
      assertEquals(1, events.getLast().getInt("batch"));
      assertTells(result, events.getLast());
    }
  }

  /** The event of an enqueued call is there when its result was read, or overwritten. */
  @Test
  @Tag("cuda")
  void anEnqueuedCall() throws IOException {
    CudaTest.requireCuda();
    LossDevice gpu = LossDevice.cuda(0);
    try (Arena arena = Arena.ofConfined();
        CudaYoloLoss loss = YoloLoss.builder(spec).maxBatch(1).openCuda(0);
        CudaStream stream = CudaStream.open(gpu)) {
      DeviceBuffer[] feats = spec.allocate(gpu, 1);
      DeviceBuffer boxes = DeviceBuffer.allocate(gpu, 20);
      for (int l = 0; l < feats.length; l++) {
        feats[l].copyFrom(arena.allocate(feats[l].byteSize()));
      }
      LossResult result = loss.newResult();
      List<RecordedEvent> events =
          recorded(
              true,
              () -> {
                for (float right : new float[] {60, 50, -1}) { // the last is not a valid object
                  boxes.copyFrom(arena.allocateFrom(JAVA_FLOAT, 8, 10, right, 50, 2));
                  loss.computeAsync(1, feats, Targets.boxes(boxes, 1), null, stream, result);
                  stream.synchronize();
                }
                assertThrows(YoloLossException.class, result::total);
              });
      assertEquals(2, events.size());
      assertTrue(events.getFirst().getBoolean("enqueued"));
      assertTrue(events.getFirst().getDouble("total") != events.getLast().getDouble("total"));
      for (DeviceBuffer buffer : feats) {
        buffer.close();
      }
      boxes.close();
    }
  }
}
