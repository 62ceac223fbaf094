package io.github.yololoss.cli.commands;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.cli.files.BatchFiles;
import io.github.yololoss.cli.files.ExitCode;
import io.github.yololoss.cli.run.Batch;
import io.github.yololoss.cli.run.Convention;
import io.github.yololoss.cli.run.Request;
import io.github.yololoss.cli.run.Verification;
import io.github.yololoss.cli.run.Verification.Check;
import io.github.yololoss.cli.run.Verification.Tolerances;
import io.github.yololoss.kit.SpecFile;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code yololoss verify}. */
@Command(
    name = "verify",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Computes loss and gradient and compares them with those of another program; prints the"
            + " largest differences and where they are. If they differ, names the layout,"
            + " normaliser and ignore scope under which they would match.",
    footer = {
      "",
      "Exit code 0 if all agree with the given options, 1 if not.",
      "",
      "Example:",
      "  yololoss verify dump --spec yolov3.json --against theirs"
    })
public final class VerifyCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @Mixin private BatchOptions options;

  @Option(
      names = "--against",
      required = true,
      paramLabel = "FILE|DIR",
      description =
          "JSON as written by loss --json, or a folder with expected.json and/or grad_<l>.npy.")
  private Path against;

  private double lossRtol;
  private double lossAtol;
  private double gradRtol;
  private double gradAtol;

  @Option(
      names = "--loss-rtol",
      paramLabel = "X",
      defaultValue = "1e-5",
      description = "Relative tolerance of total and parts; default ${DEFAULT-VALUE}.")
  void setLossRtol(double value) {
    lossRtol = Options.tolerance(command, "--loss-rtol", value);
  }

  @Option(
      names = "--loss-atol",
      paramLabel = "X",
      defaultValue = "1e-6",
      description = "Absolute tolerance of total and parts; default ${DEFAULT-VALUE}.")
  void setLossAtol(double value) {
    lossAtol = Options.tolerance(command, "--loss-atol", value);
  }

  @Option(
      names = "--grad-rtol",
      paramLabel = "X",
      defaultValue = "1e-5",
      description =
          "Tolerance of the gradient relative to the layer's largest element; default"
              + " ${DEFAULT-VALUE}.")
  void setGradRtol(double value) {
    gradRtol = Options.tolerance(command, "--grad-rtol", value);
  }

  @Option(
      names = "--grad-atol",
      paramLabel = "X",
      defaultValue = "1e-6",
      description = "Absolute tolerance of the gradient; default ${DEFAULT-VALUE}.")
  void setGradAtol(double value) {
    gradAtol = Options.tolerance(command, "--grad-atol", value);
  }

  @Override
  public Integer call() throws IOException {
    PrintWriter out = command.commandLine().getOut();
    Batch.Source asked = options.source();
    Request request = options.request();
    FeatsLayout layout =
        BatchFiles.layoutOf(asked.folder(), SpecFile.read(asked.specFile()).spec(), asked.layout());
    if (layout != asked.layout()) {
      out.printf(
          "feats are %s by their shape, --layout is %s; compared as %1$s%n",
          layout, asked.layout());
    }
    try (Arena arena = Arena.ofConfined()) {
      Batch batch = Batch.read(asked.withLayout(layout), arena);
      Verification verification =
          new Verification(
              against,
              batch,
              new Tolerances(lossRtol, lossAtol, gradRtol, gradAtol),
              arena,
              command.commandLine().getErr());
      // What is compared is not rounded to 16 bits.
      Request wanted = request.withGradient(verification.needsGradients(), true, null);
      List<Check> checks = verification.check(options.runner().run(batch, wanted, arena));
      checks.forEach(check -> print(out, check));
      long failed = checks.stream().filter(check -> !check.agrees()).count();
      if (failed == 0 && layout == asked.layout()) {
        out.println("all " + checks.size() + " agree");
        return ExitCode.OK.code();
      }
      Convention convention =
          new Convention(asked.layout(), request.normaliser(), batch.rules().ignoreScope());
      if (failed == 0) {
        out.println(
            "no value differs, but the layout does: feats are "
                + layout
                + ", not "
                + asked.layout());
        out.println(
            "all " + checks.size() + " agree with " + convention.with(layout).switches(convention));
        return ExitCode.DIFFERENT.code();
      }
      out.println(failed + " of " + checks.size() + " differ");
      out.println(
          convention
              .agreeing(verification, batch, wanted, lossRtol, options.runner())
              .map(other -> "all " + checks.size() + " agree with " + other.switches(convention))
              .orElse("no other layout, normaliser or ignore scope makes them agree"));
      return ExitCode.DIFFERENT.code();
    }
  }

  private static void print(PrintWriter out, Check check) {
    out.println(
        String.format(
            Locale.ROOT,
            "%-5s%-32s%16.9g%16.9g  difference %.3g, tolerance %.3g%s",
            check.agrees() ? "ok" : "FAIL",
            check.what(),
            check.got(),
            check.want(),
            check.difference(),
            check.tolerance(),
            check.where()));
  }
}
