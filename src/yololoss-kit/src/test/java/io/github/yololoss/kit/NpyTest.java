package io.github.yololoss.kit;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.FeatsType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Forms of .npy that are read, and sentences for those that are not. */
class NpyTest {
  private static final String F4 = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";

  @TempDir Path folder;

  private Path file(int version, String header, byte[] data) throws IOException {
    ByteBuffer bytes =
        ByteBuffer.allocate(12 + header.length() + 1 + data.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.put(new byte[] {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y', (byte) version, 0});
    if (version == 1) {
      bytes.putShort((short) (header.length() + 1));
    } else {
      bytes.putInt(header.length() + 1);
    }
    bytes.put(header.getBytes(StandardCharsets.ISO_8859_1)).put((byte) '\n').put(data).flip();
    byte[] exact = new byte[bytes.remaining()];
    bytes.get(exact);
    return Files.write(folder.resolve("x.npy"), exact);
  }

  private static byte[] floats(int count) {
    ByteBuffer data = ByteBuffer.allocate(4 * count).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < count; i++) {
      data.putFloat(i + 0.5f);
    }
    return data.array();
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3})
  void versions(int version) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      // Headers of every length modulo 4: aligned or not, the values are the same.
      for (String spaces : new String[] {"", " ", "  ", "   "}) {
        Npy array = Npy.map(file(version, F4 + spaces, floats(6)), arena);
        assertArrayEquals(new long[] {2, 3}, array.shape());
        assertEquals(5.5, array.get(5));
        MemorySegment values = array.floats(arena);
        assertEquals(0, values.address() % 4);
        assertArrayEquals(
            new float[] {0.5f, 1.5f, 2.5f, 3.5f, 4.5f, 5.5f},
            values.toArray(ValueLayout.JAVA_FLOAT));
      }
    }
  }

  @Test
  void float64() throws IOException {
    ByteBuffer data =
        ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN).putDouble(0.1).putDouble(-7);
    try (Arena arena = Arena.ofConfined()) {
      Npy array =
          Npy.map(
              file(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", data.array()),
              arena);
      assertEquals(FeatsType.FLOAT64, array.valueType());
      assertEquals("(2,)", array.shapeText());
      assertEquals(0.1, array.get(0));
      assertArrayEquals(
          new float[] {0.1f, -7}, array.floats(arena).toArray(ValueLayout.JAVA_FLOAT));
    }
  }

  @Test
  void scalarsAndNothing() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      Npy scalar =
          Npy.map(
              file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (), }", floats(1)), arena);
      assertEquals(1, scalar.size());
      Npy empty =
          Npy.map(
              file(
                  1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0, 5), }", new byte[0]),
              arena);
      assertEquals(0, empty.size());
      assertArrayEquals(new long[] {3, 0, 5}, empty.shape());
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '@',
      quoteCharacter = '"',
      value = {
        "{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), } @ 24 @ dtype >f4, expected <f4"
            + ", <f8, <f2 or <V2 (bfloat16)",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), } @ 24 @ dtype <i4",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), } @ 24 @ dtype",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), } @ 24 @ Fortran order, expected"
            + " C order",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } @ 20 @ 20 bytes of data, 24"
            + " are expected for shape (2, 3)",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } @ 28 @ 28 bytes of data, 24"
            + " are expected",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3), } @ 24 @ unreadable .npy"
            + " header",
        "{'descr': '<f4', 'shape': (2, 3), } @ 24 @ unreadable .npy header",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), } @ 24 @ is"
            + " too large",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), } @ 24 @ is too"
            + " large",
        "[('x', '<f4')] @ 24 @ unreadable .npy header"
      })
  void refusedForms(String header, int bytes, String words) throws IOException {
    Path file = file(1, header, new byte[bytes]);
    try (Arena arena = Arena.ofConfined()) {
      String sentence = assertThrows(IOException.class, () -> Npy.map(file, arena)).getMessage();
      assertTrue(sentence.startsWith(file + ": ") && sentence.contains(words), sentence);
    }
  }

  @Test
  void refusedFiles() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      Path file = file(4, F4, floats(6));
      refused(arena, file, ".npy version 4, expected 1, 2 or 3");
      assertThrows(NoSuchFileException.class, () -> Npy.map(folder.resolve("none.npy"), arena));
      refused(arena, folder, "is a folder");
      refused(
          arena,
          Files.write(folder.resolve("empty.npy"), new byte[0]),
          "ends within its .npy header");
      refused(
          arena,
          Files.write(
              folder.resolve("text.npy"), "these are no numbers".getBytes(StandardCharsets.UTF_8)),
          "not a .npy file");
      byte[] whole = Files.readAllBytes(file(2, F4, floats(6)));
      for (int length = 0; length < whole.length; length++) {
        Path cut = Files.write(folder.resolve("cut.npy"), java.util.Arrays.copyOf(whole, length));
        refused(arena, cut, "");
      }
      whole[9] = whole[10] = whole[11] = (byte) 0xFF; // header length
      refused(arena, Files.write(file, whole), "a header of");
    }
  }

  @Test
  void thousandsOfSizes() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      for (String sizes :
          new String[] {"1, ".repeat(20000), "1".repeat(60000), " ".repeat(60000)}) {
        String header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + sizes + ",), }";
        refused(arena, file(1, header, floats(1)), "");
      }
      String most =
          "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, ".repeat(64) + "), }";
      assertEquals(64, Npy.map(file(1, most, floats(1)), arena).shape().length);
    }
  }

  private static void refused(Arena arena, Path file, String words) {
    String sentence = assertThrows(IOException.class, () -> Npy.map(file, arena)).getMessage();
    assertTrue(sentence.startsWith(file + ": ") && sentence.contains(words), sentence);
  }

  @Test
  void written() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      Path file = folder.resolve("w.npy");
      MemorySegment data = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 1, 2, 3, 4, 5, 6);
      Npy.write(file, data, 3, 2);
      Npy back = Npy.map(file, arena);
      assertArrayEquals(new long[] {3, 2}, back.shape());
      assertEquals(-1, data.mismatch(back.data()));
      assertEquals(0, (Files.size(file) - 24) % 64);
      Npy.write(file, data, 6); // over an older file
      assertArrayEquals(new long[] {6}, Npy.map(file, arena).shape());
      assertThrows(IllegalArgumentException.class, () -> Npy.write(file, data, 7));
      Path nowhere = folder.resolve("none/w.npy");
      assertThrows(NoSuchFileException.class, () -> Npy.write(nowhere, data, 6));
      assertFalse(Files.list(folder).anyMatch(p -> p.toString().endsWith(".part")));
    }
  }
}
