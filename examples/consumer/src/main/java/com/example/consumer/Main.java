package com.example.consumer;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Gradient descent on the logits themselves, until two boxes are "predicted". */
public final class Main {
  private Main() {}

  public static void main(String[] arguments) {
    YoloSpec spec = YoloSpec.tinyYolov3(3, 128, 128);
    try (Arena arena = Arena.ofShared();
        YoloLoss loss = YoloLoss.open(spec, 1)) {
      MemorySegment[] feats = spec.allocate(arena, 1);
      MemorySegment[] grads = spec.allocate(arena, 1);
      MemorySegment boxes =
          arena.allocateFrom(JAVA_FLOAT, 8, 10, 90, 100, 0, /* and */ 70, 70, 95, 100, 2);
      LossResult result = loss.newResult();
      double first = 0;
      for (int step = 0; step <= 200; step++) {
        loss.compute(1, feats, Targets.boxes(boxes, 2), grads, LossOptions.DEFAULT, result);
        first = step == 0 ? result.total() : first;
        for (int l = 0; l < feats.length; l++) {
          for (long i = 0; i < feats[l].byteSize() / 4; i++) {
            float moved = feats[l].getAtIndex(JAVA_FLOAT, i) - grads[l].getAtIndex(JAVA_FLOAT, i);
            feats[l].setAtIndex(JAVA_FLOAT, i, moved);
          }
        }
      }
      String how = Main.class.getModule().isNamed() ? "module path" : "class path";
      System.out.printf(
          "%s: loss %.3f -> %.3f on %s%n", how, first, result.total(), loss.deviceName());
      if (!(result.total() < first / 10)) {
        throw new IllegalStateException("the loss did not fall");
      }
    }
  }
}
