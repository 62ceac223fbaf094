package io.github.yololoss.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.imageio.ImageIO;
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

  private static List<String> javaBlocks(String document) throws Exception {
    return Pattern.compile("```java\n(.*?)```", Pattern.DOTALL)
        .matcher(Files.readString(Path.of(document)))
        .results()
        .map(found -> found.group(1))
        .toList();
  }

  private String runWithTheKit(String program, Object... arguments) throws Exception {
    List<String> command =
        new ArrayList<>(
            List.of(
                Path.of(System.getProperty("java.home"), "bin/java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-Djava.awt.headless=true",
                "-cp",
                Markdown.classPath(),
                Files.writeString(folder.resolve("Example.java"), program).toString()));
    Stream.of(arguments).map(Object::toString).forEach(command::add);
    return run(command);
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
    List<String> texts = new ArrayList<>();
    Path log = folder.resolve("run.jsonl");
    for (String example : javaBlocks("docs/seeing.md")) {
      texts.add(runWithTheKit(example, log));
    }
    assertEquals(2, texts.size());
    assertEquals(10, Files.readAllLines(log).size());
    assertTrue(texts.getLast().matches("loss \\d+\\.\\d+ in PT0\\.\\d+S\n"), texts.getLast());
  }

  /** Runs the kit's program, and the command that it names on what it wrote. */
  @Test
  void theKitExampleRuns() throws Exception {
    for (String name : List.of("a.png", "b.png")) {
      BufferedImage photo = new BufferedImage(60, 40, BufferedImage.TYPE_INT_RGB);
      ImageIO.write(photo, "png", folder.resolve(name).toFile());
    }
    Path list = folder.resolve("train.txt");
    Files.writeString(list, "a.png 5,5,50,30,1 0,0,20,20,0\nb.png 10,10,30,30,2\n");
    Path out = folder.resolve("out");
    String text = runWithTheKit(javaBlocks("docs/using.md").getFirst(), list, out);
    assertTrue(text.matches("(?s)(.*\n)?loss \\d+\\.\\d+\n"), text);
    CommandTest.Ended verified =
        CommandTest.run("verify", out, "--spec", out.resolve("spec.json"), "--against", out);
    assertEquals(0, verified.code(), verified.out() + verified.err());
    assertTrue(verified.out().endsWith(" agree\n"), verified.out());
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
    Path source = Files.writeString(folder.resolve("Gpu.java"), javaBlocks("docs/using.md").get(1));
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
