import io.github.yololoss.LossOptions
import io.github.yololoss.Targets
import io.github.yololoss.YoloLoss
import io.github.yololoss.YoloSpec
import java.lang.foreign.Arena
import java.lang.foreign.ValueLayout.JAVA_FLOAT

/** Gradient descent on the logits themselves, until two boxes are "predicted". */
fun main() {
  val spec = YoloSpec.tinyYolov3(3, 128, 128) // 3 classes; anchors and masks of tiny YOLOv3
  Arena.ofShared().use { arena ->
    YoloLoss.open(spec, 1).use { loss ->
      val feats = spec.allocate(arena, 1) // (B, H, W, A*(5+C)) of each layer: your network's outputs
      val grads = spec.allocate(arena, 1) // d loss / d feats
      val boxes = arena.allocateFrom(JAVA_FLOAT, 8f, 10f, 90f, 100f, 0f, 70f, 70f, 95f, 100f, 2f)
      val result = loss.newResult()
      var first = 0.0
      for (step in 0..200) {
        loss.compute(1, feats, Targets.boxes(boxes, 2), grads, LossOptions.DEFAULT, result)
        if (step == 0) first = result.total()
        for (l in feats.indices) {
          for (i in 0 until feats[l].byteSize() / 4) {
            val moved = feats[l].getAtIndex(JAVA_FLOAT, i) - grads[l].getAtIndex(JAVA_FLOAT, i)
            feats[l].setAtIndex(JAVA_FLOAT, i, moved)
          }
        }
      }
      println("kotlin: loss %.3f -> %.3f on %s".format(first, result.total(), loss.deviceName()))
      check(result.total() < first / 10) { "the loss did not fall" }
    }
  }
}
