package io.github.yololoss.cli.commands;

import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;

/** Checks of option values, which refuse the command line with exit code 2. */
final class Options {
  private Options() {}

  /** Returns a number in 0..1. */
  static <N extends Number> N fraction(CommandSpec command, String option, N value) {
    double number = value.doubleValue();
    require(command, number >= 0 && number <= 1, option, value, "a number in 0..1"); // not NaN
    return value;
  }

  /** Returns a whole number that is at least some other. */
  static int atLeast(CommandSpec command, String option, int least, int value) {
    require(command, value >= least, option, value, "at least " + least);
    return value;
  }

  /** Returns a finite number that is at least 0. */
  static double tolerance(CommandSpec command, String option, double value) {
    boolean holds = value >= 0 && Double.isFinite(value);
    require(command, holds, option, value, "a finite number, at least 0,");
    return value;
  }

  /** Returns a finite number. */
  static double finite(CommandSpec command, String option, double value) {
    require(command, Double.isFinite(value), option, value, "a finite number");
    return value;
  }

  private static void require(
      CommandSpec command, boolean holds, String option, Number value, String expected) {
    if (!holds) {
      throw new ParameterException(
          command.commandLine(), option + " is " + value + ", " + expected + " is expected");
    }
  }
}
