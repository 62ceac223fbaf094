package io.github.yololoss.cli;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * A Markdown file of the repository: its fenced blocks, headings and links. Tests compile and run
 * the blocks, as the reader would, from the repository's root.
 */
record Markdown(Path file, String text) {
  private static final Pattern BLOCK =
      Pattern.compile("^```(\\w*)\n(.*?)^```$", Pattern.MULTILINE | Pattern.DOTALL);

  /** A fenced block. Its language is empty if the fence names none. */
  record Block(String language, String text) {}

  static Markdown read(String file) throws IOException {
    return new Markdown(Path.of(file), Files.readString(Path.of(file)));
  }

  /** Returns every Markdown file that is part of the project, in the order of their names. */
  static List<Markdown> all() throws IOException {
    List<Markdown> files = new ArrayList<>();
    for (String top : List.of(".", "docs", "examples", "native", "bench", "src")) {
      try (Stream<Path> paths = Files.walk(Path.of(top), top.equals(".") ? 1 : 8)) {
        for (Path path : paths.filter(p -> p.toString().endsWith(".md")).sorted().toList()) {
          files.add(read(path.normalize().toString()));
        }
      }
    }
    return files;
  }

  List<Block> blocks() {
    return BLOCK.matcher(text).results().map(m -> new Block(m.group(1), m.group(2))).toList();
  }

  List<String> blocks(String language) {
    return blocks().stream().filter(b -> b.language().equals(language)).map(Block::text).toList();
  }

  /** Returns the text outside fenced blocks. */
  String prose() {
    return BLOCK.matcher(text).replaceAll("");
  }

  /** Returns the anchors that GitHub makes of the headings. */
  List<String> anchors() {
    return Pattern.compile("^#+ (.*)$", Pattern.MULTILINE)
        .matcher(prose())
        .results()
        .map(m -> m.group(1).toLowerCase().replaceAll("[^\\w\\- ]", "").replace(' ', '-'))
        .toList();
  }

  /** Returns the targets of relative links. */
  List<String> links() {
    return Pattern.compile("\\]\\(([^)\\s]+)\\)|<img[^>]* src=\"([^\"]+)\"")
        .matcher(prose())
        .results()
        .map(m -> m.group(1) != null ? m.group(1) : m.group(2))
        .filter(link -> !link.matches("[a-z]+:.*"))
        .toList();
  }

  /** Runs a program and returns its exit code and everything that it printed. */
  static Map.Entry<Integer, String> run(List<String> command) throws Exception {
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    return Map.entry(process.waitFor(), text);
  }

  /** Returns the class path of the three modules with their dependencies, for a JVM of its own. */
  static String classPath() {
    return System.getProperty("jdk.module.path", "") + ":" + System.getProperty("java.class.path");
  }

  /** Returns the words of the options, such as {@code --spec}, in a command. */
  static List<String> options(String command) {
    Matcher options = Pattern.compile("(?<=[\\s\\[(|])--[a-z][a-z0-9-]*").matcher(command);
    return options.results().map(m -> m.group()).toList();
  }
}
