package io.github.yololoss.kit;

import io.github.yololoss.FeatsType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * A NumPy {@code .npy} file, mapped: versions 1, 2 and 3, little-endian, C order; float16, float32,
 * float64, and bfloat16 as ml_dtypes saves it (two bytes of no type). The format is that of
 * numpy.lib.format.
 *
 * {@snippet class="io.github.yololoss.kit.SnippetsTest" region="npy"}
 *
 * @param shape the array's sizes; empty for a scalar
 * @param valueType of the values
 * @param data the values, read-only. The file must not be shortened while it is mapped
 */
public record Npy(long[] shape, FeatsType valueType, MemorySegment data) {

  private static final Map<String, FeatsType> TYPES =
      Map.of(
          "<f4", FeatsType.FLOAT32,
          "<f8", FeatsType.FLOAT64,
          "<f2", FeatsType.FLOAT16,
          "<V2", FeatsType.BFLOAT16,
          "|V2", FeatsType.BFLOAT16);
  private static final byte[] MAGIC = {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y'};
  private static final int MAX_HEADER = 1 << 16;
  // NumPy has at most 64 dimensions; without a bound, thousands would overflow the matcher's stack.
  private static final Pattern HEADER =
      Pattern.compile(
          "\\{\\s*'descr':\\s*'([^']*)',\\s*'fortran_order':\\s*(True|False),\\s*'shape':\\s*"
              + "\\(\\s*((?:\\d+\\s*,\\s*){0,64}(?:\\d+\\s*)?)\\),?\\s*\\}\\s*");

  /**
   * Maps a file.
   *
   * @param file where it lies
   * @param arena owns the mapping
   * @return the array in the file
   * @throws java.nio.file.FileSystemException if it cannot be opened
   * @throws IOException with one sentence naming file and fault, if it is of another form
   */
  public static Npy map(Path file, Arena arena) throws IOException {
    if (Files.isDirectory(file)) {
      throw new IOException(file + ": is a folder, a .npy file is expected");
    }
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
      long bytes = channel.size();
      return parse(
          file.toString(),
          bytes == 0
              ? MemorySegment.NULL
              : channel.map(FileChannel.MapMode.READ_ONLY, 0, bytes, arena));
    }
  }

  /** Finds the array in the bytes of a whole file; messages begin with where. */
  static Npy parse(String where, MemorySegment whole) throws IOException {
    ByteBuffer start = bytes(where, whole, 0, 12);
    byte[] magic = new byte[MAGIC.length];
    start.get(magic);
    if (!Arrays.equals(magic, MAGIC)) {
      throw new IOException(where + ": not a .npy file (it does not begin with \\x93NUMPY)");
    }
    int version = start.get();
    if (version < 1 || version > 3) {
      throw new IOException(where + ": .npy version " + version + ", expected 1, 2 or 3");
    }
    start.get();
    long headerLength = version == 1 ? start.getShort() & 0xFFFF : start.getInt() & 0xFFFFFFFFL;
    long headerStart = version == 1 ? 10 : 12;
    if (headerLength > MAX_HEADER) {
      throw new IOException(
          where + ": a header of " + headerLength + " bytes, expected at most " + MAX_HEADER);
    }
    ByteBuffer header = bytes(where, whole, headerStart, headerLength);
    String text =
        (version == 3 ? StandardCharsets.UTF_8 : StandardCharsets.ISO_8859_1)
            .decode(header)
            .toString();
    Matcher fields = HEADER.matcher(text);
    if (!fields.matches()) {
      String shown = text.strip();
      throw new IOException(
          where
              + ": unreadable .npy header "
              + (shown.length() > 200 ? shown.substring(0, 200) + "..." : shown));
    }
    FeatsType type = TYPES.get(fields.group(1));
    if (type == null) {
      throw new IOException(
          where
              + ": dtype "
              + fields.group(1)
              + ", expected <f4, <f8, <f2 or <V2 (bfloat16), little-endian");
    }
    if (fields.group(2).equals("True")) {
      throw new IOException(
          where + ": Fortran order, expected C order; save numpy.ascontiguousarray of it");
    }
    long[] shape;
    long expected = type.bytes();
    try {
      shape =
          Arrays.stream(fields.group(3).split(","))
              .map(String::strip)
              .filter(s -> !s.isEmpty())
              .mapToLong(Long::parseLong)
              .toArray();
      for (long size : shape) {
        expected = Math.multiplyExact(expected, size);
      }
    } catch (NumberFormatException | ArithmeticException e) {
      throw new IOException(where + ": shape (" + fields.group(3).strip() + ") is too large", e);
    }
    long found = whole.byteSize() - headerStart - headerLength;
    if (found != expected) {
      throw new IOException(
          where
              + ": "
              + found
              + " bytes of data, "
              + expected
              + " are expected for shape "
              + shapeText(shape)
              + " of "
              + fields.group(1));
    }
    return new Npy(shape, type, whole.asSlice(headerStart + headerLength, expected).asReadOnly());
  }

  private static ByteBuffer bytes(String where, MemorySegment whole, long start, long count)
      throws IOException {
    if (start + count > whole.byteSize()) {
      throw new IOException(where + ": ends within its .npy header");
    }
    return whole.asSlice(start, count).asByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
  }

  /** {@return number of values} */
  public long size() {
    return Arrays.stream(shape).reduce(1, (a, b) -> a * b);
  }

  /**
   * {@return one value, by its index in C order}
   *
   * @param index 0..size-1
   */
  public double get(long index) {
    return valueType.get(data, index);
  }

  /**
   * {@return the values in their type, aligned to it: the mapping itself where possible, else a
   * copy}
   *
   * @param arena owns the memory
   */
  public MemorySegment aligned(Arena arena) {
    return data.address() % valueType.bytes() == 0
        ? data
        : arena.allocate(data.byteSize(), valueType.bytes()).copyFrom(data);
  }

  /**
   * {@return the values as float32 aligned to 4 bytes: the mapping itself where possible, otherwise
   * a rounded copy}
   *
   * @param arena owns the memory
   */
  public MemorySegment floats(Arena arena) {
    if (valueType == FeatsType.FLOAT32 && data.address() % Float.BYTES == 0) {
      return data;
    }
    MemorySegment copy = arena.allocate(ValueLayout.JAVA_FLOAT, size());
    for (long i = 0, n = size(); i < n; i++) {
      copy.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) get(i));
    }
    return copy;
  }

  /** {@return the shape as NumPy writes it} */
  public String shapeText() {
    return shapeText(shape);
  }

  private static String shapeText(long[] shape) {
    String sizes = Arrays.stream(shape).mapToObj(Long::toString).collect(Collectors.joining(", "));
    return "(" + sizes + (shape.length == 1 ? ",)" : ")");
  }

  /**
   * Writes float32 values, as the next method.
   *
   * @param file where it lies
   * @param data float32 values, exactly as many as the shape says
   * @param shape of the array, C order
   * @throws IOException as the next method
   */
  public static void write(Path file, MemorySegment data, long... shape) throws IOException {
    write(file, FeatsType.FLOAT32, data, shape);
  }

  /**
   * Writes values of a type as a version 1 file: into a temporary file in the same folder that is
   * then renamed, so that a reader never sees half of it.
   *
   * @param file where it lies
   * @param type of a value
   * @param data the values, exactly as many as the shape says
   * @param shape of the array, C order
   * @throws java.nio.file.FileSystemException if it cannot be made
   * @throws IOException with one sentence naming the file, if it cannot be written
   */
  public static void write(Path file, FeatsType type, MemorySegment data, long... shape)
      throws IOException {
    long bytes = type.bytes();
    for (long size : shape) {
      bytes = Math.multiplyExact(bytes, size);
    }
    if (data.byteSize() != bytes) {
      throw new IllegalArgumentException(
          "data holds "
              + data.byteSize()
              + " bytes, "
              + bytes
              + " are expected for shape "
              + shapeText(shape));
    }
    String descr =
        switch (type) {
          case FLOAT32 -> "<f4";
          case FLOAT64 -> "<f8";
          case FLOAT16 -> "<f2";
          case BFLOAT16 -> "<V2";
        };
    String header =
        "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shapeText(shape) + ", }";
    int padded =
        (10 + header.length() + 1 + 63) / 64 * 64; // as numpy: data begin at a multiple of 64
    ByteBuffer start = ByteBuffer.allocate(padded).order(ByteOrder.LITTLE_ENDIAN);
    start.put(MAGIC).put((byte) 1).put((byte) 0).putShort((short) (padded - 10));
    start.put(header.getBytes(StandardCharsets.US_ASCII));
    while (start.position() < padded - 1) {
      start.put((byte) ' ');
    }
    start.put((byte) '\n').flip();
    Path part = file.resolveSibling(file.getFileName() + ".part");
    try {
      try (FileChannel channel =
          FileChannel.open(
              part,
              StandardOpenOption.CREATE,
              StandardOpenOption.TRUNCATE_EXISTING,
              StandardOpenOption.WRITE)) {
        writeAll(channel, start);
        for (long at = 0; at < bytes; at += 1 << 30) {
          writeAll(channel, data.asSlice(at, Math.min(1 << 30, bytes - at)).asByteBuffer());
        }
      }
      Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
    } catch (FileSystemException e) {
      throw e;
    } catch (IOException e) {
      throw new IOException(file + ": cannot be written: " + e.getMessage(), e);
    } finally {
      Files.deleteIfExists(part);
    }
  }

  private static void writeAll(FileChannel channel, ByteBuffer bytes) throws IOException {
    while (bytes.hasRemaining()) {
      channel.write(bytes);
    }
  }
}
