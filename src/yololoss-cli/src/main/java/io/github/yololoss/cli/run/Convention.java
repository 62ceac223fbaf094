package io.github.yololoss.cli.run;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossRules.IgnoreScope;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;

/**
 * The choices in which programs with the same loss differ.
 *
 * @param layout of feats and gradient
 * @param normaliser that the loss is divided by
 * @param scope of the truths that a prediction is compared with for the ignore mask
 */
public record Convention(FeatsLayout layout, Normaliser normaliser, IgnoreScope scope) {

  /** Returns this convention with another layout. */
  public Convention with(FeatsLayout other) {
    return new Convention(other, normaliser, scope);
  }

  /** Counts how many of the three choices differ. */
  private int departures(Convention other) {
    return (layout == other.layout ? 0 : 1)
        + (normaliser.equals(other.normaliser) ? 0 : 1)
        + (scope == other.scope ? 0 : 1);
  }

  /** Returns the switches that lead from another convention to this one. */
  public String switches(Convention from) {
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
      parts.add("\"ignore_scope\": \"" + scope.name().toLowerCase(Locale.ROOT) + "\" in the spec");
    }
    return String.join(", ", parts);
  }

  /**
   * Searches for the convention under which all values agree, with the fewest departures from this
   * one.
   *
   * @param verification what the runs are compared with
   * @param batch in the layout that the search keeps
   * @param request how to compute, whatever its normaliser
   * @param lossRtol how far from a whole number the divisor may be that the totals suggest
   * @param runner that computes
   */
  public Optional<Convention> agreeing(
      Verification verification, Batch batch, Request request, double lossRtol, LossRunner runner)
      throws IOException {
    List<Convention> candidates = new ArrayList<>();
    for (IgnoreScope other : IgnoreScope.values()) {
      Set<Normaliser> normalisers =
          new LinkedHashSet<>(
              List.of(normaliser, Normaliser.BATCH, Normaliser.NONE, Normaliser.OBJECTS));
      double divisor = divisor(verification, batch.withIgnoreScope(other), request, runner);
      boolean whole = Math.abs(divisor - Math.rint(divisor)) <= lossRtol * divisor;
      boolean usable = divisor > 0 && Double.isFinite(divisor);
      if (usable && (whole || verification.count() > 1)) { // one number alone fits any divisor
        normalisers.add(Normaliser.value(whole ? Math.rint(divisor) : divisor));
      }
      normalisers.forEach(n -> candidates.add(new Convention(batch.layout(), n, other)));
    }
    candidates.sort(Comparator.comparingInt(c -> c.departures(this)));
    for (Convention candidate : candidates) {
      try (Arena arena = Arena.ofConfined()) {
        Batch under = batch.withIgnoreScope(candidate.scope);
        Request with = request.withNormaliser(candidate.normaliser);
        if (verification.agrees(runner.run(under, with, arena))) {
          return Optional.of(candidate);
        }
      }
    }
    return Optional.empty();
  }

  /** Returns the divisor that leads from the raw total to the other's; NaN if that has no total. */
  private static double divisor(
      Verification verification, Batch batch, Request request, LossRunner runner)
      throws IOException {
    Request raw = request.withNormaliser(Normaliser.NONE).withGradient(false, false, null);
    try (Arena arena = Arena.ofConfined()) {
      return runner.run(batch, raw, arena).totals().total() / verification.total();
    }
  }
}
