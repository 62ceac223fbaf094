/**
 * The YOLOv3 training loss and its gradient, computed by a native library through {@code
 * java.lang.foreign}. Run with {@code --enable-native-access=io.github.yololoss} (on the class
 * path: {@code ALL-UNNAMED}).
 */
module io.github.yololoss {
  exports io.github.yololoss;

  requires jdk.jfr; // an event for each call, in recordings that ask for it

  // The command line's; not needed by the library.
  requires static info.picocli;
  requires static com.fasterxml.jackson.databind;
  requires static java.desktop;

  opens io.github.yololoss.cli to
      info.picocli;
}
