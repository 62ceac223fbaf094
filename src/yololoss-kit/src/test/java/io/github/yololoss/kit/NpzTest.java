package io.github.yololoss.kit;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.FeatsType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Archives that NumPy 2.4.6 wrote, and damaged ones. */
class NpzTest {
  private static final Path FILES = Path.of("src/yololoss-kit/src/test/resources");

  @TempDir Path folder;

  @ParameterizedTest
  @ValueSource(strings = {"numpy.npz", "numpy-compressed.npz"})
  void ofNumPy(String name) throws IOException {
    try (Npz npz = Npz.open(FILES.resolve(name));
        Arena arena = Arena.ofConfined()) {
      assertEquals(List.of("feats_0", "boxes"), npz.names());
      assertTrue(npz.has("boxes"));
      assertFalse(npz.has("y_true_0"));
      Npy feats = npz.load("feats_0", arena);
      assertArrayEquals(new long[] {3, 4}, feats.shape());
      assertEquals(FeatsType.FLOAT32, feats.valueType());
      assertEquals(0, feats.data().address() % 64); // NumPy aligns the data
      Npy boxes = npz.load("boxes", arena);
      assertEquals("(1, 2, 5)", boxes.shapeText());
      assertEquals(FeatsType.FLOAT64, boxes.valueType());
      for (int i = 0; i < 10; i++) {
        assertEquals(i + 0.5, feats.get(i));
        assertEquals(i, boxes.get(i));
      }
      String sentence =
          assertThrows(IOException.class, () -> npz.load("y_true_0", arena)).getMessage();
      assertTrue(sentence.endsWith("has no array y_true_0, only [feats_0, boxes]"), sentence);
    }
  }

  @Test
  void entriesThatAreNoArrays() throws IOException {
    Path file = folder.resolve("x.npz");
    try (ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(file))) {
      zip.putNextEntry(new ZipEntry("images.txt"));
      zip.write("a.png\nb.png\n".getBytes());
      zip.putNextEntry(new ZipEntry("text.npy"));
      zip.write("no numbers, but more than twelve bytes".getBytes());
      zip.putNextEntry(new ZipEntry("empty.npy"));
    }
    try (Npz npz = Npz.open(file);
        Arena arena = Arena.ofConfined()) {
      assertEquals(List.of("text", "empty"), npz.names());
      assertEquals(List.of("a.png", "b.png"), npz.lines("images.txt"));
      assertEquals(List.of(), npz.lines("none.txt"));
      String sentence = assertThrows(IOException.class, () -> npz.load("text", arena)).getMessage();
      assertTrue(sentence.startsWith(file + ": text.npy: not a .npy file"), sentence);
      assertThrows(IOException.class, () -> npz.load("empty", arena));
    }
  }

  @Test
  void otherFiles() throws IOException {
    assertThrows(NoSuchFileException.class, () -> Npz.open(folder.resolve("none.npz")));
    String sentence = assertThrows(IOException.class, () -> Npz.open(folder)).getMessage();
    assertTrue(sentence.endsWith("is a folder, a .npz file is expected"), sentence);
    Path text = Files.writeString(folder.resolve("text.npz"), "text");
    sentence = assertThrows(IOException.class, () -> Npz.open(text)).getMessage();
    assertTrue(sentence.startsWith(text + ": not a .npz file: "), sentence);
  }

  /** Whatever a byte is changed to, the arrays are read or refused by an IOException. */
  @Test
  void damagedArchives() throws IOException {
    int refused = 0;
    for (String name : List.of("numpy.npz", "numpy-compressed.npz")) {
      byte[] whole = Files.readAllBytes(FILES.resolve(name));
      for (int at = 0; at < whole.length; at++) {
        for (int change : new int[] {1, 0x80, 0xff}) {
          byte[] damaged = whole.clone();
          damaged[at] ^= (byte) change;
          refused += isRefused(damaged) ? 1 : 0;
        }
        assertTrue(isRefused(Arrays.copyOf(whole, at)), "cut after " + at);
      }
    }
    assertTrue(refused > 1000, "refused: " + refused);
  }

  private boolean isRefused(byte[] bytes) throws IOException {
    Path file = Files.write(folder.resolve("damaged.npz"), bytes);
    try (Npz npz = Npz.open(file);
        Arena arena = Arena.ofConfined()) {
      for (String name : npz.names()) {
        npz.load(name, arena);
      }
      return npz.names().size() < 2;
    } catch (IOException e) {
      assertTrue(e.getMessage().startsWith(file + ": "), e.getMessage());
      return true;
    }
  }
}
