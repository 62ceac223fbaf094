package io.github.yololoss.cli.files;

import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.FeatsType;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.kit.Annotations;
import io.github.yololoss.kit.Npy;
import io.github.yololoss.kit.SpecFile;
import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Files of any content: each is read, or refused by one sentence that names it. They are good files
 * in which bytes, words and lines were changed at random. {@code -Dyololoss.files} and {@code
 * -Dyololoss.seed} choose others.
 */
class BadFilesTest {
  private static final int FILES = Integer.getInteger("yololoss.files", 40_000);
  private static final long SEED = Long.getLong("yololoss.seed", 20261126);
  private static final String[] WORDS = {
    "0",
    "-1",
    "1",
    "2147483648",
    "-9223372036854775809",
    "99999999999999999999",
    "1e400",
    "-1e-400",
    "1e999999999",
    "NaN",
    "null",
    "true",
    "\"\"",
    "\"x\"",
    "[]",
    "{}",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "(",
    ")",
    "'",
    "<f4",
    "<f2",
    "|V2",
    ">f4",
    "|O",
    "True",
    "False",
    "\n",
    "\0",
    "\u00e9",
    "\uD800",
    "../../etc/passwd",
    "/dev/zero",
    "picture.png",
    "1,2,3,4,0",
    "1,2,3,4",
    ",,,,",
    "\t",
    " ",
    "'shape': (2147483647, 2147483647, 2147483647)",
    "(1, 0, 3)",
    "(,)",
    "strides",
    "[32, 0]"
  };

  @TempDir Path folder;
  private final Random random = new Random(SEED);
  private int read;
  private int refused;

  /** What is done with a file. */
  private interface Reader {
    void read(Path file) throws IOException;
  }

  private byte[] spoilt(byte[] good) {
    byte[] bytes = good.clone();
    for (int n = random.nextInt(4); n >= 0; n--) {
      int at = bytes.length == 0 ? 0 : random.nextInt(bytes.length);
      int end = Math.min(bytes.length, at + random.nextInt(12));
      String word = WORDS[random.nextInt(WORDS.length)];
      byte[] put =
          switch (random.nextInt(7)) {
            case 0 -> new byte[0]; // a piece is left out
            case 1 -> {
              end = bytes.length; // cut off
              yield new byte[0];
            }
            case 2 -> new byte[] {(byte) random.nextInt()};
            case 3 -> Arrays.copyOfRange(bytes, at, end + (end - at));
            case 4 ->
                word.repeat(1 + random.nextInt(random.nextInt(50) == 0 ? 3000 : 2))
                    .getBytes(StandardCharsets.UTF_8);
            default -> word.getBytes(StandardCharsets.UTF_8);
          };
      if (random.nextBoolean() && put.length == 1) {
        end = Math.min(at + 1, bytes.length);
      }
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      out.write(bytes, 0, at);
      out.writeBytes(put);
      out.write(bytes, end, bytes.length - end);
      bytes = out.toByteArray();
    }
    return bytes;
  }

  private void each(String name, byte[] good, int count, Reader reader) throws IOException {
    Path file = folder.resolve(name);
    Files.write(file, good);
    reader.read(file); // as it stands it is read
    for (int i = 0; i < count; i++) {
      byte[] bytes = spoilt(good);
      Files.write(file, bytes);
      try {
        reader.read(file);
        read++;
      } catch (IOException | InputException e) {
        refused++;
        String sentence = e.getMessage();
        assertTrue(sentence != null && sentence.contains(name), "seed " + SEED + ": " + e);
      } catch (RuntimeException | Error e) {
        Path kept = Files.write(Path.of("target", "bad-" + name), bytes);
        throw new AssertionError("seed " + SEED + ", file " + i + " kept as " + kept + ": " + e, e);
      }
    }
  }

  @Test
  void everyFileIsReadOrRefused() throws IOException {
    arrays();
    specs();
    annotations();
    System.out.printf(
        "guarantee: %d files of any content: %d read, %d refused by a sentence that names them%n",
        read + refused, read, refused);
    assertTrue(read > FILES / 100 && refused > FILES / 4, read + " read");
  }

  private void arrays() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      for (FeatsType type : FeatsType.values()) {
        Path file = folder.resolve("good.npy");
        Npy.write(file, type, arena.allocate(2L * 3 * type.bytes()), 2, 3);
        Reader reader =
            path -> {
              try (Arena mapped = Arena.ofConfined()) {
                Npy array = Npy.map(path, mapped);
                for (long i = 0; i < array.size(); i++) {
                  array.get(i);
                }
                array.floats(mapped);
                array.aligned(mapped);
              }
            };
        each("array.npy", Files.readAllBytes(file), FILES / 8, reader);
      }
    }
  }

  private void specs() throws IOException {
    String spec =
        """
        {"anchors": [[10, 13], [16.5, 30], [33, 23]], "anchor_mask": [[1, 2], [0, 1]],
         "num_classes": 3, "ignore_thresh": [0.5, 0.6], "input_shape": [96, 64],
         "strides": [32, 16], "weights": {"xy": 1, "class": 0.5}, "class_weights": [1, 2, 3],
         "label_smoothing": 0.1, "ignore_scope": "image"}
        """;
    Reader reader =
        path -> {
          SpecFile.read(path);
        };
    each("spec.json", spec.getBytes(StandardCharsets.UTF_8), FILES / 4, reader);
  }

  private void annotations() throws IOException {
    BufferedImage image = new BufferedImage(40, 30, BufferedImage.TYPE_INT_RGB);
    List<String> lines = new ArrayList<>();
    YoloSpec spec = YoloSpec.yolov3(3, 64, 64);
    Path one = Files.writeString(folder.resolve("one.txt"), "picture 1,2,30,20,1\n");
    for (String format : new String[] {"png", "jpg", "gif", "bmp"}) {
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      ImageIO.write(image, format, out);
      Files.write(folder.resolve("picture." + format), out.toByteArray());
      lines.add("picture." + format + " 1,2,30,20,1 5,5,9,9,0");
      each( // a picture that is damaged
          "picture",
          out.toByteArray(),
          FILES / 32,
          path -> Annotations.read(one).letterboxed(spec, null, Annotations.Progress.NONE));
    }
    byte[] text = String.join("\n", lines).getBytes(StandardCharsets.UTF_8);
    each(
        "train.txt",
        text,
        FILES / 8,
        path -> Annotations.read(path).letterboxed(spec, null, Annotations.Progress.NONE));
  }
}
