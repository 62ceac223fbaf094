package io.github.yololoss.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.spi.ToolProvider;
import org.junit.jupiter.api.Test;

/**
 * The packages of the command line use each other in one direction only. The graph is read from the
 * class files by jdeps; this test prints it, and docs/architecture.md quotes what it prints.
 */
class PackagesTest {
  private static final String ROOT = "io.github.yololoss.cli";
  private static final Path CLASSES = Path.of("target/yololoss-cli/classes/io");

  /** What each package may use, the highest first. A package may use only those below it. */
  private static final Map<String, Set<String>> ALLOWED =
      Map.of(
          "Main", Set.of("commands", "files"),
          "commands", Set.of("report", "run", "files"),
          "report", Set.of("run", "files"),
          "run", Set.of("files"),
          "files", Set.of());

  @Test
  void thePackagesHaveTheAllowedGraph() {
    Map<String, Set<String>> graph = graph();
    System.out.println("Packages of the command line (package -> packages that it uses):");
    for (String name : order(graph)) {
      System.out.printf("  %-9s -> %s%n", name, String.join(", ", graph.get(name)));
    }
    assertEquals(ALLOWED, graph);
  }

  @Test
  void aCycleIsReported() {
    AssertionError e =
        assertThrows(
            AssertionError.class,
            () -> order(Map.of("a", Set.of("b"), "b", Set.of("c"), "c", Set.of("b"))));
    assertEquals("cycle among [b, c]", e.getMessage());
  }

  /** Reads which package uses which, without edges of a package to itself. */
  private static Map<String, Set<String>> graph() {
    StringWriter out = new StringWriter();
    StringWriter err = new StringWriter();
    int code =
        ToolProvider.findFirst("jdeps")
            .orElseThrow()
            .run(
                new PrintWriter(out),
                new PrintWriter(err),
                "-verbose:package",
                "-filter:none",
                "--ignore-missing-deps",
                CLASSES.toString());
    assertEquals(0, code, out + "" + err);
    Map<String, Set<String>> graph = new TreeMap<>();
    Matcher lines =
        Pattern.compile("^ +(" + ROOT + "[\\w.]*) +-> ([\\w.]+) ", Pattern.MULTILINE)
            .matcher(out.toString());
    while (lines.find()) {
      String using = shortName(lines.group(1));
      Set<String> used = graph.computeIfAbsent(using, name -> new TreeSet<>());
      if (lines.group(2).startsWith(ROOT) && !shortName(lines.group(2)).equals(using)) {
        used.add(shortName(lines.group(2)));
      }
    }
    return graph;
  }

  private static String shortName(String packageName) {
    return packageName.equals(ROOT) ? "Main" : packageName.substring(ROOT.length() + 1);
  }

  /** Returns the packages so that each stands above all that it uses; fails on a cycle. */
  private static List<String> order(Map<String, Set<String>> graph) {
    Map<String, Set<String>> left = new TreeMap<>(graph);
    List<String> order = new ArrayList<>();
    while (!left.isEmpty()) {
      List<String> lowest =
          left.keySet().stream()
              .filter(name -> left.get(name).stream().noneMatch(left::containsKey))
              .toList();
      if (lowest.isEmpty()) {
        // What remains holds a cycle; what only leads into it is no part of it.
        Set<String> used = new TreeSet<>();
        left.values().forEach(used::addAll);
        used.retainAll(left.keySet());
        throw new AssertionError("cycle among " + used);
      }
      lowest.forEach(
          name -> {
            left.remove(name);
            order.addFirst(name);
          });
    }
    return order;
  }
}
