package io.github.yololoss.cli;

import io.github.yololoss.YoloLossException;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;
import picocli.CommandLine;
import picocli.CommandLine.Command;

/**
 * The command line. Results go to stdout, everything else to stderr. Exit codes: 0 ok, 1 comparison
 * failed or faults found, 2 usage, 3 bad input or output that cannot be written, 4 device or
 * library unavailable, 70 internal.
 */
@Command(
    name = "yololoss",
    mixinStandardHelpOptions = true,
    versionProvider = InfoCommand.Version.class,
    description = "The YOLOv3 training loss and its gradient.",
    exitCodeListHeading = "%nExit codes:%n",
    exitCodeList = {
      "0:ok",
      "1:a comparison failed, or an audit found faults",
      "2:usage",
      "3:bad input, or output that cannot be written",
      "4:device or native library unavailable",
      "70:internal fault"
    },
    subcommands = {
      LossCommand.class,
      TargetsCommand.class,
      AuditCommand.class,
      VerifyCommand.class,
      ReportCommand.class,
      CompareCommand.class,
      BenchCommand.class,
      InfoCommand.class,
      SampleCommand.class,
      CommandLine.HelpCommand.class
    })
public final class Main {
  static final int COMPARISON_FAILED = 1;
  static final int USAGE = 2;
  static final int BAD_INPUT = 3;
  static final int UNAVAILABLE = 4;
  static final int INTERNAL = 70;

  /** Bad input: one sentence that names file and fault. */
  static final class InputException extends RuntimeException {
    private static final long serialVersionUID = 1;

    InputException(String sentence) {
      super(sentence);
    }
  }

  private Main() {}

  /** Runs a command and exits with its code. */
  public static void main(String[] args) {
    System.setProperty("java.awt.headless", "true");
    System.exit(run(new PrintWriter(System.out, true), new PrintWriter(System.err, true), args));
  }

  /** Runs a command; for tests too. */
  static int run(PrintWriter out, PrintWriter err, String... args) {
    CommandLine line = new CommandLine(new Main());
    line.setOut(out).setErr(err).setCaseInsensitiveEnumValuesAllowed(true);
    line.setParameterExceptionHandler(
        (e, ignored) -> {
          err.println("yololoss: " + e.getMessage().lines().findFirst().orElse("usage"));
          err.println("Try: " + e.getCommandLine().getCommandSpec().qualifiedName() + " --help");
          return USAGE;
        });
    line.setExecutionExceptionHandler((e, command, parsed) -> failed(e, err));
    if (args.length == 0) {
      line.usage(err);
      return USAGE;
    }
    try {
      int code = line.execute(args);
      out.flush();
      return out.checkError() ? BAD_INPUT : code;
    } catch (OutOfMemoryError e) {
      err.println(
          "yololoss: not enough memory: " + e.getMessage() + "; use fewer images at a time");
      return BAD_INPUT;
    }
  }

  private static int failed(Exception e, PrintWriter err) {
    int code =
        switch (e) {
          case InputException input -> BAD_INPUT;
          case IOException io -> BAD_INPUT;
          case ArithmeticException tooLarge -> BAD_INPUT; // multiplyExact of sizes
          case YoloLossException refused ->
              switch (refused.status()) {
                case INVALID_ARGUMENT, INVALID_BOXES, OUT_OF_MEMORY -> BAD_INPUT;
                case NO_DEVICE, NO_LIBRARY, UNSUPPORTED -> UNAVAILABLE;
                default -> INTERNAL;
              };
          default -> INTERNAL;
        };
    err.println(
        "yololoss: "
            + switch (e) {
              case FileSystemException file -> describe(file);
              case InputException sentence -> sentence.getMessage();
              case IOException sentence -> sentence.getMessage();
              case YoloLossException sentence -> sentence.getMessage();
              case ArithmeticException tooLarge -> "the arrays would be too large to address";
              default -> "internal fault, please report it: " + e;
            });
    if (System.getProperty("yololoss.debug") != null) {
      e.printStackTrace(err);
    }
    return code;
  }

  /** The JDK's file exceptions name the file and, by their class or reason, the fault. */
  private static String describe(FileSystemException e) {
    return e.getFile()
        + ": "
        + switch (e) {
          case NoSuchFileException missing -> "no such file or folder";
          case AccessDeniedException denied -> "permission denied";
          case FileAlreadyExistsException taken -> "a file is in the way";
          default -> e.getReason() != null ? e.getReason() : e.toString();
        };
  }
}
