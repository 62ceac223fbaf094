/** The command line of yololoss. */
module io.github.yololoss.cli {
  requires info.picocli;
  requires io.github.yololoss.kit;
  requires java.desktop;

  // picocli sets the fields of the commands and calls their constructors.
  opens io.github.yololoss.cli to
      info.picocli;
  opens io.github.yololoss.cli.commands to
      info.picocli;
  opens io.github.yololoss.cli.run to
      info.picocli;
}
