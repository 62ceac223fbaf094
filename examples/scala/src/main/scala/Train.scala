import io.github.yololoss.{LossOptions, Targets, YoloLoss, YoloSpec}
import java.lang.foreign.Arena
import java.lang.foreign.ValueLayout.JAVA_FLOAT
import scala.util.Using

/** Gradient descent on the logits themselves, until two boxes are "predicted". */
@main def train(): Unit =
  val spec = YoloSpec.tinyYolov3(3, 128, 128) // 3 classes; anchors and masks of tiny YOLOv3
  Using.resources(Arena.ofShared(), YoloLoss.open(spec, 1)): (arena, loss) =>
    val feats = spec.allocate(arena, 1) // (B, H, W, A*(5+C)) of each layer: your network's outputs
    val grads = spec.allocate(arena, 1) // d loss / d feats
    val boxes = arena.allocateFrom(JAVA_FLOAT, 8, 10, 90, 100, 0, 70, 70, 95, 100, 2)
    val result = loss.newResult()
    var first = 0.0
    for step <- 0 to 200 do
      loss.compute(1, feats, Targets.boxes(boxes, 2), grads, LossOptions.DEFAULT, result)
      if step == 0 then first = result.total()
      for l <- feats.indices; i <- 0L until feats(l).byteSize / 4 do
        val moved = feats(l).getAtIndex(JAVA_FLOAT, i) - grads(l).getAtIndex(JAVA_FLOAT, i)
        feats(l).setAtIndex(JAVA_FLOAT, i, moved)
    println(f"scala: loss $first%.3f -> ${result.total()}%.3f on ${loss.deviceName()}")
    assert(result.total() < first / 10, "the loss did not fall")
