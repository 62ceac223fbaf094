package io.github.yololoss.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The scripts of the first minute, in a copy of bin/ with a PATH on which tools are missing: each
 * is named with the commands that install it, before anything is built.
 */
class ToolsTest {
  private static final List<String> SYSTEMS =
      List.of("Debian, Ubuntu ", "Fedora ", "macOS ", "Windows ");

  @TempDir Path folder;
  private Path path; // the only folder on PATH

  private record Result(int status, String text) {}

  @BeforeEach
  void copyScripts() throws Exception {
    path = Files.createDirectory(folder.resolve("path"));
    Path bin = Files.createDirectory(folder.resolve("bin"));
    for (String script : List.of("yololoss", "check-tools", "find-java")) {
      Files.copy(Path.of("bin", script), bin.resolve(script));
      bin.resolve(script).toFile().setExecutable(true);
    }
    for (String tool :
        List.of("sh", "bash", "env", "sed", "readlink", "dirname", "mkdir", "cat", "find")) {
      program(path.resolve(tool), "exec " + find(tool) + " \"$@\"");
    }
    for (String tool : List.of("c++", "make")) {
      program(path.resolve(tool), "exit 1");
    }
    program(path.resolve("cmake"), "echo cmake version 3.25.1");
  }

  private static Path find(String tool) {
    return Stream.of("/bin", "/usr/bin", "/usr/local/bin")
        .map(folder -> Path.of(folder, tool))
        .filter(Files::isExecutable)
        .findFirst()
        .orElseThrow();
  }

  private static void program(Path file, String commands) throws Exception {
    Files.deleteIfExists(file);
    Files.writeString(file, "#!/bin/sh\n" + commands + "\n");
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
  }

  private Result run(String script, String... arguments) throws Exception {
    ProcessBuilder builder =
        new ProcessBuilder(
            Stream.concat(
                    Stream.of(
                        find("bash").toString(), folder.resolve("bin").resolve(script).toString()),
                    Stream.of(arguments))
                .toList());
    builder.environment().keySet().removeAll(List.of("CXX", "CMAKE_GENERATOR"));
    builder.environment().put("PATH", path.toString());
    builder.environment().put("JAVA_HOME", System.getProperty("java.home"));
    Process process = builder.redirectErrorStream(true).start();
    String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    return new Result(process.waitFor(), text);
  }

  private void assertMissing(String sentence) throws Exception {
    Result result = run("check-tools");
    assertEquals(4, result.status, result.text);
    assertTrue(result.text.startsWith("yololoss: " + sentence), result.text);
    assertEquals(
        SYSTEMS.size() + 2, result.text.lines().count(), result.text); // nothing else is missing
    for (String system : SYSTEMS) {
      assertTrue(result.text.lines().anyMatch(line -> line.startsWith("  " + system)), result.text);
    }
    assertTrue(result.text.lines().toList().getLast().contains("nothing was built"), result.text);
  }

  @Test
  void nothingIsReportedWhereEveryToolIs() throws Exception {
    assertEquals(new Result(0, ""), run("check-tools", "--maven", "3.8.7"));
  }

  @Test
  void eachMissingToolIsNamed() throws Exception {
    Files.delete(path.resolve("c++"));
    assertMissing("a C++17 compiler is missing");
    program(path.resolve("clang++"), "exit 1");
    Files.delete(path.resolve("make"));
    assertMissing("make is missing");
    program(path.resolve("make"), "exit 1");
    Files.delete(path.resolve("cmake"));
    assertMissing("CMake is missing; install 3.25 or later");
    program(path.resolve("cmake"), "echo cmake version 3.22.1");
    assertMissing("CMake is 3.22.1, 3.25 or later is needed");
    program(path.resolve("cmake"), "echo cmake version 4.0.2");
    assertEquals(new Result(0, ""), run("check-tools"));
    program(folder.resolve("bin/find-java"), "exit 4");
    assertMissing("a JDK 25 or later is missing");
  }

  @Test
  void anOldMavenIsNamed() throws Exception {
    Result result = run("check-tools", "--maven", "3.6.3");
    assertEquals(4, result.status, result.text);
    assertTrue(
        result.text.startsWith("yololoss: Maven is 3.6.3, 3.8 or later is needed"), result.text);
  }

  /** The first command reports what is missing and does not begin to build. */
  @Test
  void theFirstCommandBuildsNothingWithoutItsTools() throws Exception {
    Files.delete(path.resolve("cmake"));
    Files.delete(path.resolve("make"));
    Result result = run("yololoss", "loss", "--sample");
    assertEquals(4, result.status, result.text);
    assertTrue(result.text.contains("yololoss: CMake is missing"), result.text);
    assertTrue(result.text.contains("yololoss: make is missing"), result.text);
    assertFalse(result.text.contains("compiling"), result.text);
    assertFalse(Files.exists(folder.resolve("target")));
  }

  /** With all tools it begins, and shows a build that fails whole. */
  @Test
  void theFirstCommandShowsABuildThatFails() throws Exception {
    program(
        path.resolve("cmake"),
        "[ \"$1\" = --version ] && echo cmake version 3.25.1 || { echo no such preset; exit 1; }");
    Result result = run("yololoss", "loss", "--sample");
    assertEquals(4, result.status, result.text);
    assertTrue(
        result.text.contains(
            "yololoss: compiling the native library (1 of 2)...\nno such preset\n"),
        result.text);
    assertTrue(
        result.text.contains("yololoss: compiling the native library failed after"), result.text);
  }
}
