package io.github.yololoss.cli;

import io.github.yololoss.YoloLossException;
import io.github.yololoss.cli.commands.AuditCommand;
import io.github.yololoss.cli.commands.BenchCommand;
import io.github.yololoss.cli.commands.CompareCommand;
import io.github.yololoss.cli.commands.InfoCommand;
import io.github.yololoss.cli.commands.LossCommand;
import io.github.yololoss.cli.commands.ReportCommand;
import io.github.yololoss.cli.commands.SampleCommand;
import io.github.yololoss.cli.commands.TargetsCommand;
import io.github.yololoss.cli.commands.VerifyCommand;
import io.github.yololoss.cli.files.ExitCode;
import io.github.yololoss.cli.files.InputException;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;
import picocli.CommandLine;
import picocli.CommandLine.Command;

/**
 * The command line. Results go to stdout, everything else to stderr. The exit codes are those of
 * {@link ExitCode}.
 */
@Command(
    name = "yololoss",
    mixinStandardHelpOptions = true,
    versionProvider = InfoCommand.Version.class,
    description = "The YOLOv3 training loss and its gradient.",
    exitCodeListHeading = "%nExit codes:%n",
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
  private Main() {}

  /** Runs a command and exits with its code. */
  public static void main(String[] args) {
    System.setProperty("java.awt.headless", "true");
    System.exit(run(new PrintWriter(System.out, true), new PrintWriter(System.err, true), args));
  }

  /** Runs a command; for tests too. */
  public static int run(PrintWriter out, PrintWriter err, String... args) {
    CommandLine line = new CommandLine(new Main());
    line.getCommandSpec().usageMessage().exitCodeList(ExitCode.help());
    line.setOut(out).setErr(err).setCaseInsensitiveEnumValuesAllowed(true);
    line.setParameterExceptionHandler(
        (e, ignored) -> {
          err.println("yololoss: " + sentence(e));
          err.println("Try: " + e.getCommandLine().getCommandSpec().qualifiedName() + " --help");
          return ExitCode.USAGE.code();
        });
    line.setExecutionExceptionHandler((e, command, parsed) -> failed(e, err));
    if (args.length == 0) {
      line.usage(err);
      return ExitCode.USAGE.code();
    }
    try {
      int code = line.execute(args);
      out.flush();
      return out.checkError() ? ExitCode.BAD_INPUT.code() : code;
    } catch (OutOfMemoryError e) {
      err.println(
          "yololoss: not enough memory: " + e.getMessage() + "; use fewer images at a time");
      return ExitCode.BAD_INPUT.code();
    }
  }

  /** Returns picocli's sentence, and for a misspelt word the closest one that exists. */
  private static String sentence(CommandLine.ParameterException e) {
    String said = e.getMessage().lines().findFirst().orElse("usage").replaceFirst("^Error: ", "");
    return e instanceof CommandLine.UnmatchedArgumentException unmatched
            && !unmatched.getSuggestions().isEmpty()
        ? said + "; did you mean " + unmatched.getSuggestions().getFirst() + "?"
        : said;
  }

  private static int failed(Exception e, PrintWriter err) {
    ExitCode code =
        switch (e) {
          case InputException input -> ExitCode.BAD_INPUT;
          case IOException io -> ExitCode.BAD_INPUT;
          case ArithmeticException tooLarge -> ExitCode.BAD_INPUT; // multiplyExact of sizes
          case YoloLossException refused ->
              switch (refused.status()) {
                case INVALID_ARGUMENT, INVALID_BOXES, OUT_OF_MEMORY -> ExitCode.BAD_INPUT;
                case NO_DEVICE, NO_LIBRARY, UNSUPPORTED -> ExitCode.UNAVAILABLE;
                default -> ExitCode.INTERNAL;
              };
          default -> ExitCode.INTERNAL;
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
    return code.code();
  }

  /** Describes a file exception of the JDK, whose class or reason is the fault. */
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
