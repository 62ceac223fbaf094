/**
 * The YOLOv3 training loss and its gradient, computed by a native library through {@code
 * java.lang.foreign}. Run with {@code --enable-native-access=io.github.yololoss} (on the class
 * path: {@code ALL-UNNAMED}).
 */
module io.github.yololoss {
  exports io.github.yololoss;

  requires jdk.jfr; // an event for each call, in recordings that enable it
}
