package io.github.yololoss.cli.report;

import io.github.yololoss.Part;
import java.util.ArrayList;
import java.util.List;

/** Names the curves of a training that {@code compare} draws. */
public final class Curves {
  /** The total and each part, by their fields in a log. */
  public static final List<String> NAMES = names();

  private Curves() {}

  private static List<String> names() {
    List<String> names = new ArrayList<>(List.of("total"));
    Part.ALL.forEach(part -> names.add(part.jsonName()));
    return List.copyOf(names);
  }
}
