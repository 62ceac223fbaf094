package io.github.yololoss.cli.commands;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossRules.IgnoreScope;
import io.github.yololoss.cli.files.ExitCode;
import io.github.yololoss.cli.run.Comparison;
import io.github.yololoss.cli.run.Comparison.Tolerances;
import io.github.yololoss.cli.run.LossRun;
import io.github.yololoss.kit.SpecFile;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code yololoss verify}. */
@Command(
    name = "verify",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Computes the loss and gradient and compares them with others: largest differences and"
            + " where they are. If they do not agree, the layout, normaliser and ignore scope are"
            + " named with which they would.",
    footer = {
      "",
      "Exit code 0 if all agree, 1 if not.",
      "",
      "Example:",
      "  yololoss verify dump --spec yolov3.json --against theirs"
    })
public final class VerifyCommand implements Callable<Integer> {
  @Spec private CommandSpec command;

  @Mixin private LossRun run;

  @Option(
      names = "--against",
      required = true,
      paramLabel = "FILE|DIR",
      description =
          "JSON as written by loss --json, or a folder with expected.json and/or grad_<l>.npy.")
  private Path against;

  @Option(
      names = "--loss-rtol",
      defaultValue = "1e-5",
      description = "Relative tolerance of total and parts; default ${DEFAULT-VALUE}.")
  private double lossRtol;

  @Option(
      names = "--loss-atol",
      defaultValue = "1e-6",
      description = "Absolute tolerance of total and parts; default ${DEFAULT-VALUE}.")
  private double lossAtol;

  @Option(
      names = "--grad-rtol",
      defaultValue = "1e-5",
      description =
          "Tolerance of the gradient relative to the layer's largest element; default"
              + " ${DEFAULT-VALUE}.")
  private double gradRtol;

  @Option(
      names = "--grad-atol",
      defaultValue = "1e-6",
      description = "Absolute tolerance of the gradient; default ${DEFAULT-VALUE}.")
  private double gradAtol;

  /** What programs do differently with the same loss. */
  private record Convention(FeatsLayout layout, Normaliser normaliser, IgnoreScope scope) {
    /** How many of the three differ. */
    int departures(Convention other) {
      return (layout == other.layout ? 0 : 1)
          + (normaliser.equals(other.normaliser) ? 0 : 1)
          + (scope == other.scope ? 0 : 1);
    }

    /** The switches that lead from another convention to this one. */
    String switches(Convention from) {
      List<String> parts = new ArrayList<>();
      if (layout != from.layout) {
        parts.add("--layout " + layout.name().toLowerCase(Locale.ROOT));
      }
      if (!normaliser.equals(from.normaliser)) {
        parts.add(
            "--normaliser "
                + (normaliser.kind() == Normaliser.Kind.VALUE
                    ? String.valueOf(normaliser.value()).replaceFirst("\\.0$", "")
                    : normaliser.kind().name().toLowerCase(Locale.ROOT)));
      }
      if (scope != from.scope) {
        parts.add(
            "\"ignore_scope\": \"" + scope.name().toLowerCase(Locale.ROOT) + "\" in the spec");
      }
      return String.join(", ", parts);
    }
  }

  @Override
  public Integer call() throws IOException {
    if (run.folder == null || run.specFile == null) {
      throw new ParameterException(command.commandLine(), "give DIR and --spec FILE");
    }
    PrintWriter out = command.commandLine().getOut();
    run.float32Gradients = true; // what is compared is not rounded to 16 bits
    Convention asked =
        new Convention(
            run.layout, run.normaliser, SpecFile.read(run.specFile).rules().ignoreScope());
    FeatsLayout ofFiles = run.layoutOfFiles();
    if (ofFiles != asked.layout) {
      out.println("feats are " + ofFiles + " by their shape, and compared so");
    }
    Comparison comparison = compare(asked, ofFiles, out);
    if (comparison.failed() == 0 && ofFiles == asked.layout) {
      out.println("all " + comparison.compared() + " agree");
      return 0;
    }
    out.println(comparison.failed() + " of " + comparison.compared() + " differ");
    Convention match = agreeing(asked, ofFiles);
    out.println(
        match == null
            ? "no other layout, normaliser or ignore scope makes them agree"
            : "all " + comparison.compared() + " agree with " + match.switches(asked));
    return ExitCode.DIFFERENT.code();
  }

  /** Computes by a convention, but reads the files in the order that their shapes show. */
  private Comparison compare(Convention convention, FeatsLayout layout, PrintWriter out)
      throws IOException {
    run.layout = layout;
    run.normaliser = convention.normaliser;
    run.scope = convention.scope;
    Comparison comparison =
        new Comparison(run, against, new Tolerances(lossRtol, lossAtol, gradRtol, gradAtol), out);
    run.gradient = comparison.needsGradients();
    try (Arena arena = Arena.ofConfined()) {
      run.compute(arena);
      comparison.compare(arena);
    }
    return comparison;
  }

  /** The convention with the fewest departures by which everything agrees, or null. */
  private Convention agreeing(Convention asked, FeatsLayout ofFiles) throws IOException {
    List<Convention> candidates = new ArrayList<>();
    for (IgnoreScope scope : IgnoreScope.values()) {
      Set<Normaliser> normalisers =
          new LinkedHashSet<>(
              List.of(asked.normaliser, Normaliser.BATCH, Normaliser.NONE, Normaliser.OBJECTS));
      Comparison raw = compare(new Convention(ofFiles, Normaliser.NONE, scope), ofFiles, null);
      double divisor = run.result.total() / raw.total(); // NaN where they have no total
      boolean whole = Math.abs(divisor - Math.rint(divisor)) <= lossRtol * divisor;
      boolean usable = divisor > 0 && Double.isFinite(divisor);
      if (usable && (whole || raw.compared() > 1)) { // one number alone fits any divisor
        normalisers.add(Normaliser.value(whole ? Math.rint(divisor) : divisor));
      }
      normalisers.forEach(n -> candidates.add(new Convention(ofFiles, n, scope)));
    }
    candidates.sort(Comparator.comparingInt(c -> c.departures(asked)));
    for (Convention candidate : candidates) {
      if (compare(candidate, ofFiles, null).failed() == 0) {
        return candidate;
      }
    }
    return null;
  }
}
