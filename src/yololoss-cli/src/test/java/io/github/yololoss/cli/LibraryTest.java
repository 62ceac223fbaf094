package io.github.yololoss.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.yololoss.YoloLoss;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;

/** How the native library is found: each case in a JVM of its own, since a JVM loads it once. */
class LibraryTest {
  private static final Path CLASSES = Path.of("target/yololoss/classes").toAbsolutePath();

  @TempDir Path folder;

  private record Ended(int code, String text) {}

  private Process start(Path classes, Map<String, String> environment, String... options)
      throws IOException {
    return start(List.of("info"), classes, environment, options);
  }

  private Process start(
      List<String> arguments, Path classes, Map<String, String> environment, String... options)
      throws IOException {
    return start(command(arguments, classes, options), environment);
  }

  private static List<String> command(List<String> arguments, Path classes, String... options) {
    List<String> command =
        new ArrayList<>(
            List.of(
                Path.of(System.getProperty("java.home"), "bin/java").toString(),
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "--enable-native-access=ALL-UNNAMED"));
    command.addAll(List.of(options));
    command.addAll(
        List.of(
            "-cp",
            classes
                + ":target/yololoss-kit/classes:target/yololoss-cli/classes:"
                + Stream.of(
                        CommandLine.class,
                        ObjectMapper.class,
                        com.fasterxml.jackson.core.JsonFactory.class,
                        com.fasterxml.jackson.annotation.JsonProperty.class)
                    .map(c -> c.getProtectionDomain().getCodeSource().getLocation().getPath())
                    .collect(java.util.stream.Collectors.joining(":")),
            "io.github.yololoss.cli.Main"));
    command.addAll(arguments);
    return command;
  }

  private static Process start(List<String> command, Map<String, String> environment)
      throws IOException {
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    builder.environment().remove("YOLOLOSS_LIBRARY");
    builder.environment().putAll(environment);
    return builder.start();
  }

  private static Ended end(Process process) throws Exception {
    String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    return new Ended(process.waitFor(), text);
  }

  private void refused(String words, Map<String, String> environment, String... options)
      throws Exception {
    Ended ended = end(start(CLASSES, environment, options));
    assertEquals(4, ended.code, ended.text);
    List<String> faults = ended.text.lines().filter(line -> line.startsWith("fault")).toList();
    assertEquals(1, faults.size(), ended.text);
    assertTrue(
        faults.getFirst().contains(" no native library: ") && faults.getFirst().contains(words),
        ended.text);
    assertTrue(!ended.text.contains("\tat "), ended.text);
  }

  @Test
  void aNamedLibraryIsTakenOrRefused() throws Exception {
    Path built = Path.of("target/native/libyololoss.so").toAbsolutePath();
    Ended ended = end(start(CLASSES, Map.of(), "-Dyololoss.library=" + built));
    assertTrue(
        ended.code == 0 && ended.text.contains(built + " (named by -Dyololoss.library)"),
        ended.text);
    ended = end(start(CLASSES, Map.of("YOLOLOSS_LIBRARY", built.toString())));
    assertTrue(
        ended.code == 0 && ended.text.contains(built + " (named by YOLOLOSS_LIBRARY)"), ended.text);

    Path none = folder.resolve("none.so");
    refused(
        none
            + " (named by -Dyololoss.library) could not be loaded: no such file; set"
            + " -Dyololoss.library or YOLOLOSS_LIBRARY",
        Map.of("YOLOLOSS_LIBRARY", built.toString()),
        "-Dyololoss.library=" + none);
    Path text = Files.writeString(folder.resolve("text.so"), "not a library");
    refused("file too short", Map.of("YOLOLOSS_LIBRARY", text.toString()));
    Path other = Path.of(System.getProperty("java.home"), "lib/libzip.so");
    refused("is not yololoss: it has no yl_abi_version", Map.of(), "-Dyololoss.library=" + other);
    Path abi = Path.of("target/native/native/test/libother_abi.so").toAbsolutePath();
    refused("has ABI version 999, this jar needs 4", Map.of(), "-Dyololoss.library=" + abi);
  }

  @Test
  void withoutALibraryTheSearchIsTold() throws Exception {
    Path bare = folder.resolve("classes");
    TestFiles.copy(CLASSES, bare, path -> !path.toString().endsWith(".so"));
    Ended ended = end(start(bare, Map.of("LD_LIBRARY_PATH", "")));
    assertEquals(4, ended.code, ended.text);
    assertTrue(
        ended.text.contains(
            "tried -Dyololoss.library (not set), YOLOLOSS_LIBRARY (not set),"
                + " /META-INF/native/linux-x86_64/libyololoss.so in the jar (not there),"
                + " libyololoss.so.0 on the system path"),
        ended.text);
    Path system = Files.createDirectories(folder.resolve("lib"));
    Files.copy(
        Path.of("target/native/libyololoss.so.0").toRealPath(), system.resolve("libyololoss.so.0"));
    ended = end(start(bare, Map.of("LD_LIBRARY_PATH", system.toString())));
    assertTrue(
        ended.code == 0 && ended.text.contains("libyololoss.so.0 of the system"), ended.text);
  }

  @Test
  void theCacheIsPrivateCheckedAndRepaired() throws Exception {
    Path cache = folder.resolve("cache");
    String option = "-Dyololoss.cache=" + cache;
    assertEquals(0, end(start(CLASSES, Map.of(), option)).code);
    Path file;
    try (Stream<Path> files = Files.walk(cache)) {
      List<Path> all = files.filter(Files::isRegularFile).toList();
      assertEquals(1, all.size(), all.toString());
      file = all.getFirst();
    }
    assertEquals(
        "rwx------",
        PosixFilePermissions.toString(Files.getPosixFilePermissions(file.getParent())));
    Object first = Files.getLastModifiedTime(file);
    assertEquals(0, end(start(CLASSES, Map.of(), option)).code);
    assertEquals(first, Files.getLastModifiedTime(file), "used again");
    byte[] whole = Files.readAllBytes(file);
    Files.delete(file);
    Files.writeString(file, "damaged");
    assertEquals(0, end(start(CLASSES, Map.of(), option)).code);
    assertTrue(java.util.Arrays.equals(whole, Files.readAllBytes(file)), "repaired");
    assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(file)));
    Path elsewhere = Files.write(folder.resolve("elsewhere.so"), whole);
    Files.delete(file);
    Files.createSymbolicLink(file, elsewhere);
    assertEquals(0, end(start(CLASSES, Map.of(), option)).code);
    assertTrue(Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS), "no link is followed");
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rw-rw-rw-"));
    assertEquals(0, end(start(CLASSES, Map.of(), option)).code);
    assertEquals(
        "rw-------",
        PosixFilePermissions.toString(Files.getPosixFilePermissions(file)),
        "what others could have written is written anew");
    System.out.println(
        "guarantee: a library that is damaged, a link, or writable by others is replaced: 3 ways");
  }

  /** Nothing is loaded from where another user could have put it. */
  @Test
  void aCacheThatOthersCanWrite() throws Exception {
    Path open = Files.createDirectories(folder.resolve("open/cache"));
    Set<PosixFilePermission> all = PosixFilePermissions.fromString("rwxrwxrwx");
    Files.setPosixFilePermissions(open.getParent(), all);
    String words = "another user than";
    refused(words, Map.of(), "-Dyololoss.cache=" + open);
    refused(open.getParent() + " belongs to user", Map.of(), "-Dyololoss.cache=" + open);
    Ended ended = end(start(CLASSES, Map.of("XDG_CACHE_HOME", open.toString())));
    assertTrue(ended.code == 0 && ended.text.contains("for this process only"), ended.text);
    Files.setPosixFilePermissions(open.getParent(), PosixFilePermissions.fromString("rwxr-xr-x"));
    assertEquals(0, end(start(CLASSES, Map.of(), "-Dyololoss.cache=" + open)).code);
    Path leaf = files(open).getFirst().getParent(); // the only file: XDG_CACHE_HOME left a folder
    Files.setPosixFilePermissions(leaf, all);
    refused(leaf + " belongs to user", Map.of(), "-Dyololoss.cache=" + open);
    Files.setPosixFilePermissions(leaf, PosixFilePermissions.fromString("rwx------"));
    boolean root = System.getProperty("user.name").equals("root"); // who can give files away
    if (root) {
      Files.setAttribute(leaf, "unix:uid", 12345);
      refused(leaf + " belongs to user 12345", Map.of(), "-Dyololoss.cache=" + open);
    }
    System.out.printf(
        "guarantee: %d caches that another user could have written: none was loaded from%n",
        root ? 5 : 4);
  }

  /** A limit on the size of files stands for a disk that is full. */
  @Test
  void aFullDisk() throws Exception {
    Path cache = folder.resolve("full");
    List<String> java = command(List.of("info"), CLASSES, "-Dyololoss.cache=" + cache);
    List<String> limited =
        new ArrayList<>(List.of("bash", "-c", "ulimit -f 1000; exec \"$@\"", "bash"));
    limited.addAll(java);
    Ended ended = end(start(limited, Map.of()));
    assertEquals(4, ended.code, ended.text);
    assertTrue(
        ended.text.contains("could not be unpacked: java.io.IOException: File too large")
            && ended.text.contains("set -Dyololoss.cache to a folder"),
        ended.text);
    assertEquals(List.of(), files(cache), "nothing is left behind");
    System.out.println("guarantee: a full disk: refused, says what to set, leaves nothing behind");
    assertEquals(0, end(start(CLASSES, Map.of(), "-Dyololoss.cache=" + cache)).code);
  }

  /** The first use, on a thread that is interrupted. */
  static final class Interrupted {
    public static void main(String[] arguments) {
      Thread.currentThread().interrupt();
      System.out.println(YoloLoss.libraryInfo() + ", interrupted: " + Thread.interrupted());
    }
  }

  @Test
  void loadedByAnInterruptedThread() throws Exception {
    Path cache = folder.resolve("interrupted");
    List<String> command =
        List.of(
            Path.of(System.getProperty("java.home"), "bin/java").toString(),
            "--enable-native-access=ALL-UNNAMED",
            "-Dyololoss.cache=" + cache,
            "-cp",
            CLASSES + ":target/yololoss-cli/test-classes",
            Interrupted.class.getName());
    for (int i = 0; i < 2; i++) { // unpacked, and used again
      Ended ended = end(start(command, Map.of()));
      assertTrue(ended.text.contains(cache.toString()), ended.text);
      assertTrue(ended.text.contains("from the jar), interrupted: true"), ended.text);
    }
  }

  /** Lists the files of a folder, again if another process deletes one meanwhile. */
  private static List<Path> files(Path folder) throws IOException {
    while (true) {
      try (Stream<Path> files = Files.walk(folder)) {
        return files.filter(Files::isRegularFile).toList();
      } catch (UncheckedIOException e) {
        if (!(e.getCause() instanceof NoSuchFileException)) {
          throw e;
        }
      }
    }
  }

  /** JVMs that are killed while they unpack leave a cache that works, and in time no remains. */
  @Test
  void killedWhileUnpacking() throws Exception {
    Path cache = folder.resolve("killed");
    String option = "-Dyololoss.cache=" + cache;
    Files.createDirectories(
        cache, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
    int hit = 0;
    for (int round = 0; round < 40 && hit < 3; round++) {
      Process process = start(CLASSES, Map.of(), option);
      while (process.isAlive() && files(cache).size() == hit) {
        Thread.onSpinWait();
      }
      process.destroyForcibly().waitFor();
      for (Path file : files(cache)) {
        if (file.toString().endsWith(".so")) { // it was too late
          Files.delete(file);
        }
      }
      hit = files(cache).size();
    }
    assertEquals(3, hit, "killed with a part of a library");
    for (Path part : files(cache)) {
      Files.setLastModifiedTime(part, FileTime.fromMillis(0));
    }
    Ended ended = end(start(CLASSES, Map.of(), option));
    assertEquals(0, ended.code, ended.text);
    assertEquals(1, files(cache).size(), files(cache).toString());
    System.out.printf(
        "guarantee: %d JVMs killed while they unpacked: the next one loads a whole library%n", hit);
  }

  @Test
  void aCacheThatCannotBeWritten() throws Exception {
    Path file = Files.writeString(folder.resolve("file"), "in the way");
    refused(
        "set -Dyololoss.cache to a folder that can be written and executed from",
        Map.of(),
        "-Dyololoss.cache=" + file);
    Path temporary = Files.createDirectories(folder.resolve("tmp"));
    Ended ended =
        end(
            start(
                CLASSES,
                Map.of("XDG_CACHE_HOME", file.toString()),
                "-Djava.io.tmpdir=" + temporary));
    assertTrue(ended.code == 0 && ended.text.contains("for this process only"), ended.text);
    ended = end(start(CLASSES, Map.of("XDG_CACHE_HOME", ""), "-Duser.home=?"));
    assertTrue(ended.code == 0 && ended.text.contains("no home folder"), ended.text);
    try (Stream<Path> left = Files.list(temporary)) {
      assertEquals(List.of(), left.filter(p -> !p.toString().contains("hsperfdata")).toList());
    }
    System.out.println(
        "guarantee: a cache that cannot be written: another folder, for this process alone");
  }

  @Test
  void eightAtOnce() throws Exception {
    Path cache = folder.resolve("cache");
    List<Process> started = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      started.add(start(CLASSES, Map.of(), "-Dyololoss.cache=" + cache));
    }
    for (Process process : started) {
      Ended ended = end(process);
      assertEquals(0, ended.code, ended.text);
    }
    try (Stream<Path> files = Files.walk(cache)) {
      assertEquals(1, files.filter(Files::isRegularFile).count());
    }
    System.out.println("guarantee: 8 JVMs that start at once share one library");
  }

  /** A small runtime image: calls are no events, and nothing else is missing. */
  @Test
  void withoutTheFlightRecorder() throws Exception {
    String modules = "--limit-modules=java.base,java.desktop";
    Ended ended = end(start(List.of("loss", "--sample"), CLASSES, Map.of(), modules));
    assertEquals(0, ended.code, ended.text);
    assertTrue(ended.text.contains(" 99.9065 "), ended.text);
    ended = end(start(CLASSES, Map.of(), modules));
    assertTrue(ended.text.contains("note  flight recorder this Java has no module jdk.jfr"));
  }
}
