package io.github.yololoss.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import picocli.CommandLine;

/**
 * All Markdown files together: links lead somewhere, options exist, coordinates have this version.
 * What single pages show is run by {@link ReadmeTest} and {@link AnswersTest}.
 */
class DocumentsTest {
  private static final Set<String> LANGUAGES =
      Set.of(
          "", "sh", "text", "java", "c", "cpp", "python", "xml", "kotlin", "scala", "groovy",
          "json");

  private final List<String> faults = new ArrayList<>();

  private void noFaults() {
    assertEquals("", String.join("\n", faults));
  }

  @Test
  void theReadmeIsShort() throws Exception {
    long lines = Markdown.read("README.md").text().lines().count();
    assertTrue(lines <= 120, "README.md has " + lines + " lines, at most 120 are wanted");
  }

  /** A page of more than two screens has headings, and each page says first what it is for. */
  @Test
  void longPagesHaveHeadings() throws Exception {
    for (Markdown page : Markdown.all()) {
      long headings = page.anchors().size();
      if (!page.text().startsWith("# ")) {
        faults.add(page.file() + ": the first line is not a title");
      }
      if (page.text().lines().count() > 80 && headings < 3) {
        faults.add(page.file() + ": " + headings + " headings");
      }
    }
    noFaults();
  }

  @Test
  void linksLeadSomewhere() throws Exception {
    for (Markdown page : Markdown.all()) {
      for (String link : page.links()) {
        String[] parts = link.split("#", 2);
        Path file =
            parts[0].isEmpty()
                ? page.file()
                : Path.of("").resolve(page.file()).resolveSibling(parts[0]).normalize();
        if (!Files.exists(file)) {
          faults.add(page.file() + ": " + link + " does not exist");
        } else if (parts.length == 2
            && !Markdown.read(file.toString()).anchors().contains(parts[1])) {
          faults.add(page.file() + ": " + link + ": there is no such heading");
        }
      }
    }
    noFaults();
  }

  /** Each source file that these pages name exists somewhere in the tree. */
  @Test
  void filesThatAreNamedExist() throws Exception {
    Set<String> names = new java.util.HashSet<>(Set.of("abi.h", "Abi.java")); // made by the build
    for (String top : List.of("native", "src", "bench", "examples", "docs", "bin")) {
      try (Stream<Path> paths = Files.walk(Path.of(top))) {
        paths.map(path -> path.getFileName().toString()).forEach(names::add);
      }
    }
    Pattern file =
        Pattern.compile(
            "(?<![\\w*<>/.-])(?:[\\w.-]+/)*([\\w-]+\\.(?:java|cpp|cu|cuh|h|cmake|css))(?![\\w(])");
    int found = 0;
    for (String page :
        List.of("docs/architecture.md", "CONTRIBUTING.md", "native/test/README.md", "README.md")) {
      for (Matcher match = file.matcher(Markdown.read(page).text()); match.find(); found++) {
        if (!names.contains(match.group(1))) {
          faults.add(page + ": " + match.group() + " does not exist");
        }
      }
    }
    noFaults();
    assertTrue(found > 150, found + " names");
  }

  @Test
  void fencesNameALanguage() throws Exception {
    for (Markdown page : Markdown.all()) {
      for (Markdown.Block block : page.blocks()) {
        if (!LANGUAGES.contains(block.language())) {
          faults.add(page.file() + ": a block of " + block.language());
        }
      }
      if (page.text().lines().filter(line -> line.startsWith("```")).count()
          != 2L * page.blocks().size()) {
        faults.add(page.file() + ": a fence is not closed");
      }
      if (page.text().lines().anyMatch(line -> line.matches("(<{7}|={7}|>{7})( .*)?"))) {
        faults.add(page.file() + ": a conflict of a merge is left");
      }
    }
    noFaults();
  }

  /** Each option of a command that a page shows, in a block or in a line of code, exists. */
  @Test
  void optionsExist() throws Exception {
    CommandLine line = new CommandLine(Main.class);
    Pattern command =
        Pattern.compile("(?<![\\w/.-])(?:bin/)?yololoss (\\w+)((?:\\\\\n|[^`\n]|\n {12,})*)");
    int found = 0;
    for (Markdown page : Markdown.all()) {
      for (Matcher call = command.matcher(page.text()); call.find(); ) {
        CommandLine sub = line.getSubcommands().get(call.group(1));
        for (String option : Markdown.options(sub == null ? "" : call.group(2))) {
          found++;
          if (sub.getCommandSpec().findOption(option) == null) {
            faults.add(page.file() + ": yololoss " + call.group(1) + " has no " + option);
          }
        }
      }
    }
    noFaults();
    assertTrue(found > 40, found + " options");
  }

  /** The synopsis of docs/command-line.md names every command and every option. */
  @Test
  void theSynopsisIsComplete() throws Exception {
    String page = Markdown.read("docs/command-line.md").text();
    new CommandLine(Main.class)
        .getSubcommands()
        .forEach(
            (name, sub) -> {
              if (!name.equals("help") && !page.contains("yololoss " + name)) {
                faults.add("yololoss " + name);
              }
              sub.getCommandSpec().options().stream()
                  .filter(option -> !option.hidden())
                  .map(CommandLine.Model.OptionSpec::longestName)
                  .filter(o -> !Set.of("--help", "--version").contains(o) && !name.equals("help"))
                  .filter(option -> !Markdown.options(page.replace('`', ' ')).contains(option))
                  .forEach(option -> faults.add("yololoss " + name + " " + option));
            });
    noFaults();
  }

  /** Coordinates of Maven, Gradle and sbt name this version, and artifacts that exist. */
  @Test
  void coordinatesAreOfThisVersion() throws Exception {
    Matcher version =
        Pattern.compile("<version>([^<]+)</version>").matcher(Files.readString(Path.of("pom.xml")));
    assertTrue(version.find());
    Pattern coordinates =
        Pattern.compile(
            "io\\.github\\.yololoss(?::|\" % \"|</groupId>\\s*<artifactId>)(yololoss[a-z-]*)"
                + "(?::|\" % \"|</artifactId>\\s*<version>)([^\"<`'\\s]+)");
    int found = 0;
    for (Markdown page : Markdown.all()) {
      for (Matcher match = coordinates.matcher(page.text()); match.find(); found++) {
        if (!match.group(2).equals(version.group(1))
            || !Files.exists(Path.of("src", match.group(1), "pom.xml"))) {
          faults.add(page.file() + ": " + match.group());
        }
      }
    }
    noFaults();
    assertTrue(found >= 3, found + " coordinates");
  }

  /** Commands of native/test/README.md that start the test program, where it is built. */
  @Test
  void theNativeTestProgramTakesWhatItsPageShows() throws Exception {
    Path program = Path.of("target/native/native/test/test_yololoss");
    assumeTrue(Files.isExecutable(program), "the native tests are not built");
    List<String> commands =
        Markdown.read("native/test/README.md")
            .blocks("sh")
            .getFirst()
            .lines()
            .filter(line -> line.startsWith(program.toString()))
            .map(line -> line.replaceAll(" *#.*", ""))
            .toList();
    assertEquals(3, commands.size());
    for (String command : commands) {
      var ended = Markdown.run(List.of("bash", "-c", command));
      assertEquals(0, ended.getKey(), command + "\n" + ended.getValue());
    }
  }

  /** The lines about NCCL in examples/mpi/README.md compile against this header. */
  @Test
  void theLinesOfNcclCompile() throws Exception {
    String lines = Markdown.read("examples/mpi/README.md").blocks("c").getFirst();
    Matcher fields = Pattern.compile("call\\.\\w+ = \\w+").matcher(lines);
    StringBuilder assignments = new StringBuilder();
    while (fields.find()) {
      assignments.append("  ").append(fields.group()).append(";\n");
    }
    String program =
        """
        #include <yololoss.h>
        enum { ncclFloat, ncclSum };
        int ncclAllReduce(const void *, void *, int, int, int, void *, void *);
        void step(yl_plan *plan, yl_call call, yl_result result, float *objects, void *comm, void *stream) {
        """
            + assignments
            + lines
            + "}\n";
    var ended =
        Markdown.run(
            List.of(
                "bash",
                "-c",
                "cc -std=c99 -Wall -Werror -fsyntax-only -Inative/include -xc - <<'END'\n"
                    + program
                    + "END\n"));
    assertEquals(0, ended.getKey(), ended.getValue());
    assertEquals(2, assignments.toString().lines().count(), "fields that the comment names");
  }

  /** The programs of these pages are those that examples/run compiles and runs. */
  @Test
  void theProgramsOfKotlinAndScalaAreTheExamples() throws Exception {
    assertTrue(
        Markdown.read("docs/kotlin.md")
            .blocks("kotlin")
            .contains(Files.readString(Path.of("examples/kotlin/src/main/kotlin/Train.kt"))));
    assertTrue(
        Markdown.read("docs/scala.md")
            .blocks("scala")
            .contains(Files.readString(Path.of("examples/scala/src/main/scala/Train.scala"))));
  }

  /** Options of examples/run occur as strings in the source of that example. */
  @Test
  void optionsOfExamplesExist() throws Exception {
    Pattern command = Pattern.compile("examples/run ([a-z]+)((?:\\\\\n|[^`\n])*)");
    int found = 0;
    for (Markdown page : Markdown.all()) {
      for (Matcher call = command.matcher(page.text()); call.find(); ) {
        String source = sourceOf(call.group(1));
        for (String option : Markdown.options(call.group(2))) {
          found++;
          if (!option.equals("--help") && !source.contains('"' + option + '"')) {
            faults.add(page.file() + ": examples/run " + call.group(1) + " has no " + option);
          }
        }
      }
    }
    noFaults();
    assertTrue(found > 10, found + " options");
  }

  private static String sourceOf(String example) throws Exception {
    StringBuilder text = new StringBuilder();
    Path folder = Path.of("examples", example, "src/main");
    try (Stream<Path> files = Files.exists(folder) ? Files.walk(folder) : Stream.empty()) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        text.append(Files.readString(file));
      }
    }
    return text.toString();
  }

  /** Every example of the page is one of examples/run, and CI runs it. */
  @Test
  void everyExampleIsRunByCi() throws Exception {
    String run = Files.readString(Path.of("examples/run"));
    String ci = Files.readString(Path.of(".ci/run"));
    Set<String> names = new java.util.TreeSet<>();
    for (Markdown page : Markdown.all()) {
      Pattern.compile("examples/run ([a-z]+)")
          .matcher(page.text())
          .results()
          .forEach(m -> names.add(m.group(1)));
    }
    for (String name : names) {
      if (!run.contains("\n" + name + ")")) {
        faults.add("examples/run " + name + " does not exist");
      }
      if (!Pattern.compile("(for example in|examples/run)[^;\n]*\\b" + name + "\\b")
          .matcher(ci)
          .find()) {
        faults.add(".ci/run does not run examples/run " + name);
      }
    }
    noFaults();
    assertTrue(names.size() >= 8, names.toString());
  }
}
