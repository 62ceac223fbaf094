package io.github.yololoss.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/**
 * docs/answers.md is true: each of its sh blocks runs, in order, and the output contains every line
 * of the text block that follows, in its order; other lines, for which the page may write three
 * dots, can lie between them. Numbers may differ by 1e-4 of their value, since instruction sets
 * round differently.
 */
class AnswersTest {
  private static final Path MADE = Path.of("target/answers");

  /** Makes {@code bin/yololoss} start the classes under test instead of the jar. */
  private static final String YOLOLOSS =
      """
      bin/yololoss() {
        "$JAVA" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 --enable-native-access=ALL-UNNAMED \\
          -cp "$CLASSES" io.github.yololoss.cli.Main "$@"
        code=$?
        [ $code -le 3 ] || echo "bin/yololoss $* ended with $code"
        return $code
      }
      """;

  @BeforeAll
  @AfterAll
  static void nothingIsLeftFromARunBefore() throws Exception {
    if (Files.exists(MADE)) {
      Markdown.run(List.of("rm", "-r", MADE.toString()));
    }
    assertFalse(Files.exists(MADE));
  }

  @TestFactory
  List<DynamicTest> everyCommandPrintsWhatThePageQuotes() throws Exception {
    List<Markdown.Block> blocks = Markdown.read("docs/answers.md").blocks();
    List<DynamicTest> tests = new ArrayList<>();
    for (int b = 0; b < blocks.size(); b++) {
      if (blocks.get(b).language().equals("sh")) {
        String commands = blocks.get(b).text();
        boolean quoted = b + 1 < blocks.size() && blocks.get(b + 1).language().equals("text");
        String quote = quoted ? blocks.get(b + 1).text() : "";
        tests.add(DynamicTest.dynamicTest(commands, () -> check(commands, quote)));
      }
    }
    assertTrue(tests.size() > 10, "blocks of docs/answers.md: " + tests.size());
    return tests;
  }

  private static void check(String commands, String quote) throws Exception {
    String prelude =
        "JAVA='%s' CLASSES='%s'\n%s"
            .formatted(
                Path.of(System.getProperty("java.home"), "bin/java"),
                Markdown.classPath(),
                YOLOLOSS);
    String printed = Markdown.run(List.of("bash", "-c", prelude + commands)).getValue();
    assertFalse(printed.contains(" ended with "), printed);
    assertFalse(printed.isBlank(), "nothing was printed");
    List<String> lines = printed.lines().toList();
    int at = 0;
    for (String want : quote.lines().filter(line -> !line.equals("...")).toList()) {
      int found = at;
      while (found < lines.size() && !same(want, lines.get(found))) {
        found++;
      }
      assertTrue(found < lines.size(), "missing: " + want + "\nprinted:\n" + printed);
      at = found + 1;
    }
  }

  /** Compares word by word; numbers within 1e-4 of their value. */
  private static boolean same(String want, String got) {
    String[] wanted = want.strip().split("\\s+");
    String[] printed = got.strip().split("\\s+");
    if (wanted.length != printed.length) {
      return false;
    }
    for (int w = 0; w < wanted.length; w++) {
      if (!wanted[w].equals(printed[w])) {
        try {
          double number = Double.parseDouble(wanted[w].replaceAll("[,;]$", ""));
          double other = Double.parseDouble(printed[w].replaceAll("[,;]$", ""));
          if (!(Math.abs(number - other) <= 1e-4 * Math.abs(number))) {
            return false;
          }
        } catch (NumberFormatException e) {
          return false;
        }
      }
    }
    return true;
  }

  /** The comparison itself can fail. */
  @TestFactory
  List<DynamicTest> linesAreCompared() {
    return List.of(
        DynamicTest.dynamicTest(
            "numbers", () -> assertTrue(same("total 1.00000", "total  1.00001"))),
        DynamicTest.dynamicTest("other", () -> assertFalse(same("total 1.00000", "total 1.001"))),
        DynamicTest.dynamicTest("words", () -> assertEquals(false, same("a b", "a c"))));
  }
}
