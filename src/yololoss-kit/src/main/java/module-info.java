/**
 * What a trainer needs around the loss: spec files, {@code .npy} arrays, annotation lists, the
 * letterbox of keras-yolo3, detections, and the log of a training.
 */
module io.github.yololoss.kit {
  exports io.github.yololoss.kit;

  requires transitive com.fasterxml.jackson.databind;
  requires transitive io.github.yololoss;
  requires java.desktop; // sizes of pictures
}
