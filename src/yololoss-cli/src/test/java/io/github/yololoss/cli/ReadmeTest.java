package io.github.yololoss.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Compiles and runs the programs that README.md, docs/using.md and docs/seeing.md print. {@link
 * AnswersTest} runs commands, {@link DocumentsTest} checks all pages.
 */
class ReadmeTest {
  @TempDir Path folder;

  private static String block(String document, String language) throws Exception {
    Matcher block =
        Pattern.compile("```" + language + "\n(.*?)```", Pattern.DOTALL)
            .matcher(Files.readString(Path.of(document)));
    assertTrue(block.find(), "a block of " + language);
    return block.group(1);
  }

  private static String run(List<String> command) throws Exception {
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), text);
    return text;
  }

  @Test
  void theJavaExampleRuns() throws Exception {
    Path source = Files.writeString(folder.resolve("Example.java"), block("README.md", "java"));
    String java = Path.of(System.getProperty("java.home"), "bin/java").toString();
    String text =
        run(
            List.of(
                java,
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                "target/yololoss/classes",
                source.toString()));
    assertTrue(text.lines().findFirst().orElse("").startsWith("layer "), text);
    assertTrue(text.contains("total "), text);
  }

  /** Runs the programs of docs/seeing.md: a log, and events that the program reads itself. */
  @Test
  void theExamplesOfSeeingRun() throws Exception {
    Matcher examples =
        Pattern.compile("```java\n(.*?)```", Pattern.DOTALL)
            .matcher(Files.readString(Path.of("docs/seeing.md")));
    List<String> texts = new ArrayList<>();
    Path log = folder.resolve("run.jsonl");
    while (examples.find()) {
      Path source = Files.writeString(folder.resolve("Seeing.java"), examples.group(1));
      texts.add(
          run(
              List.of(
                  Path.of(System.getProperty("java.home"), "bin/java").toString(),
                  "--enable-native-access=ALL-UNNAMED",
                  "-cp",
                  Markdown.classPath(),
                  source.toString(),
                  log.toString())));
    }
    assertEquals(2, texts.size());
    assertEquals(10, Files.readAllLines(log).size());
    assertTrue(texts.getLast().matches("loss \\d+\\.\\d+ in PT0\\.\\d+S\n"), texts.getLast());
  }

  /** Runs a program with the library whose kernels run on the host. */
  private static String runOnTheHost(Path source, String... arguments) throws Exception {
    List<String> command =
        new ArrayList<>(
            List.of(
                Path.of(System.getProperty("java.home"), "bin/java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-Dyololoss.library=target/native/native/test/libyololoss_simt.so",
                "-cp",
                "target/yololoss/classes",
                source.toString()));
    command.addAll(List.of(arguments));
    return run(command);
  }

  @Test
  void theGpuExampleRuns() throws Exception {
    Path source = Files.writeString(folder.resolve("Gpu.java"), block("docs/using.md", "java"));
    String text = runOnTheHost(source);
    assertTrue(text.matches("loss \\S+\n"), text);
  }

  @Test
  void theLatencyProgramOfGpuCheckRuns() throws Exception {
    String text = runOnTheHost(Path.of("bench/CudaLatency.java"), "0.001");
    assertEquals(6, text.lines().filter(line -> line.startsWith("{\"program\"")).count(), text);
  }

  @Test
  void theCExampleRuns() throws Exception {
    Path source = Files.writeString(folder.resolve("example.c"), block("docs/using.md", "c"));
    String program = folder.resolve("example").toString();
    String library = Path.of("target/native").toAbsolutePath().toString();
    run(
        List.of(
            "cc",
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-pedantic",
            "-Werror",
            "-Inative/include",
            source.toString(),
            "-o",
            program,
            "-L" + library,
            "-lyololoss",
            "-Wl,-rpath," + library));
    assertTrue(run(List.of(program)).matches("loss \\d+\\.\\d+ on cpu\n"));
  }

  @Test
  void theFirstBlockHoldsTheTwoCommands() throws Exception {
    List<String> commands =
        block("README.md", "sh").lines().map(line -> line.replaceAll(" *#.*", "")).toList();
    assertEquals(List.of("bin/yololoss loss --sample", "mvn verify"), commands);
  }
}
