/** The command line of yololoss. */
module io.github.yololoss.cli {
  requires info.picocli;
  requires io.github.yololoss.kit;
  requires java.desktop;

  opens io.github.yololoss.cli to
      info.picocli;
}
