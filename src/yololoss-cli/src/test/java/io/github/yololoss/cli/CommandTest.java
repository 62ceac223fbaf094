package io.github.yololoss.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.yololoss.cli.files.ExitCode;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.io.TempDir;

/** A copy of the sample to spoil, and how to run a command and see it refused. */
public abstract class CommandTest {
  protected static final Path GOLDEN = Path.of("src/test/resources/golden");

  @TempDir protected Path folder;

  protected Path sample; // a copy of the sample, to spoil
  protected Path spec;

  @BeforeEach
  void writeSample() {
    sample = folder.resolve("sample");
    spec = sample.resolve("expected.json");
    Ended ended = run("sample", "--output", sample);
    assertEquals(0, ended.code(), ended.err());
  }

  /** What a command left. */
  protected record Ended(int code, String out, String err) {}

  protected static Ended run(Object... arguments) {
    StringWriter out = new StringWriter();
    StringWriter err = new StringWriter();
    int code =
        Main.run(
            new PrintWriter(out),
            new PrintWriter(err),
            Arrays.stream(arguments).map(Object::toString).toArray(String[]::new));
    return new Ended(code, out.toString(), err.toString());
  }

  protected static void refused(int code, String words, Object... arguments) {
    Ended ended = run(arguments);
    assertEquals(code, ended.code(), ended.err());
    assertTrue(ended.err().startsWith("yololoss: ") && ended.err().contains(words), ended.err());
    assertEquals(
        code == ExitCode.USAGE.code() ? 2 : 1,
        ended.err().lines().count(),
        "one sentence: " + ended.err());
    assertFalse(ended.err().contains("Exception"), ended.err());
    assertEquals("", ended.out());
  }

  /** What a command that succeeds writes to stdout. */
  protected static JsonNode json(Object... arguments) throws IOException {
    Ended ended = run(arguments);
    assertEquals(0, ended.code(), ended.err());
    return new ObjectMapper().readTree(ended.out());
  }
}
