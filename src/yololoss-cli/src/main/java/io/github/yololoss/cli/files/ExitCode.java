package io.github.yololoss.cli.files;

import java.util.LinkedHashMap;
import java.util.Map;

/** The exit codes of all commands: the one list, from which the help is generated too. */
public enum ExitCode {
  /** The command did what it was asked to do. */
  OK(0, "success"),
  /** The command ran, and what it compared or checked is not as it should be. */
  DIFFERENT(1, "verify found a difference, or audit found faults"),
  /** The command line itself is wrong. */
  USAGE(2, "wrong usage: an unknown option or a bad value of one"),
  /** A file is wrong. */
  BAD_INPUT(3, "bad input, or output that cannot be written"),
  /** This machine lacks something. */
  UNAVAILABLE(4, "the device or the native library is unavailable"),
  /** This program is wrong. */
  INTERNAL(70, "internal fault, please report it");

  private final int code;
  private final String meaning;

  ExitCode(int code, String meaning) {
    this.code = code;
    this.meaning = meaning;
  }

  /** Returns the number that the process exits with. */
  public int code() {
    return code;
  }

  /** Returns the list as picocli's help takes it: number to meaning. */
  public static Map<String, String> help() {
    Map<String, String> lines = new LinkedHashMap<>();
    for (ExitCode exit : values()) {
      lines.put(String.valueOf(exit.code), exit.meaning);
    }
    return lines;
  }
}
