package io.github.yololoss.kit;

import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.zip.ZipEntry;
import java.util.zip.ZipException;
import java.util.zip.ZipFile;

/**
 * A NumPy {@code .npz} file: a ZIP archive of {@code .npy} files, stored ({@code numpy.savez}) or
 * deflated ({@code numpy.savez_compressed}).
 *
 * {@snippet class="io.github.yololoss.kit.SnippetsTest" region="npz"}
 *
 * <p>Arrays are read on request, each into memory of the caller's arena, from which it can be
 * passed on without a copy.
 */
public final class Npz implements AutoCloseable {
  private static final String SUFFIX = ".npy";

  /** Deflate shrinks nothing further than this, so that a size beyond it is a lie. */
  private static final long MOST_DEFLATED = 1032;

  private final Path file;
  private final ZipFile zip;

  private Npz(Path file, ZipFile zip) {
    this.file = file;
    this.zip = zip;
  }

  /**
   * Opens a file and reads its directory.
   *
   * @param file the archive
   * @return the archive, to be closed
   * @throws NoSuchFileException if the file does not exist
   * @throws IOException with one sentence that names file and fault, if it is no ZIP archive
   */
  public static Npz open(Path file) throws IOException {
    if (Files.isDirectory(file)) {
      throw new IOException(file + ": is a folder, a .npz file is expected");
    }
    if (!Files.exists(file)) {
      throw new NoSuchFileException(file.toString());
    }
    try {
      return new Npz(file, new ZipFile(file.toFile()));
    } catch (FileSystemException e) {
      throw e;
    } catch (IOException e) {
      throw new IOException(file + ": not a .npz file: " + e.getMessage(), e);
    }
  }

  /** {@return the names of the arrays, in the order of the archive, as NumPy shows them} */
  public List<String> names() {
    return zip.stream()
        .map(ZipEntry::getName)
        .filter(name -> name.endsWith(SUFFIX))
        .map(name -> name.substring(0, name.length() - SUFFIX.length()))
        .toList();
  }

  /**
   * Says whether the archive has an array.
   *
   * @param name as {@link #names} has it
   * @return whether it does
   */
  public boolean has(String name) {
    return zip.getEntry(name + SUFFIX) != null;
  }

  /**
   * Reads an array.
   *
   * @param name as {@link #names} has it
   * @param arena owns the memory
   * @return the array
   * @throws IOException with one sentence that names file, array and fault: if there is no such
   *     array, the archive is damaged, or the array has a form that {@link Npy#map} refuses
   */
  public Npy load(String name, Arena arena) throws IOException {
    ZipEntry entry = zip.getEntry(name + SUFFIX);
    if (entry == null) {
      throw new IOException(file + ": has no array " + name + ", only " + names());
    }
    String where = file + ": " + name + SUFFIX;
    long bytes = entry.getSize();
    if (bytes > entry.getCompressedSize() * MOST_DEFLATED + MOST_DEFLATED) {
      throw new IOException(
          where
              + ": "
              + bytes
              + " bytes cannot come from the archive's "
              + entry.getCompressedSize()
              + ": the file is damaged");
    }
    MemorySegment whole = arena.allocate(bytes, 64);
    try (InputStream in = zip.getInputStream(entry)) {
      byte[] buffer = new byte[1 << 16];
      for (long at = 0; at < bytes; ) {
        int count = in.read(buffer, 0, (int) Math.min(buffer.length, bytes - at));
        if (count < 0) {
          throw new EOFException("it ends after " + at + " of " + bytes + " bytes");
        }
        MemorySegment.copy(buffer, 0, whole, ValueLayout.JAVA_BYTE, at, count);
        at += count;
      }
      if (in.read() >= 0) {
        throw new ZipException("it has more than " + bytes + " bytes");
      }
    } catch (IOException e) {
      throw new IOException(where + ": the archive is damaged: " + e.getMessage(), e);
    }
    return Npy.parse(where, whole);
  }

  /**
   * Reads a text that the archive holds besides the arrays, such as a list of the images' names.
   *
   * @param name of the entry, with its suffix
   * @return its lines; empty if the archive has no such entry
   * @throws IOException with one sentence that names file, entry and fault
   */
  public List<String> lines(String name) throws IOException {
    ZipEntry entry = zip.getEntry(name);
    if (entry == null) {
      return List.of();
    }
    ByteArrayOutputStream text = new ByteArrayOutputStream();
    try (InputStream in = zip.getInputStream(entry)) {
      in.transferTo(text);
    } catch (IOException e) {
      throw new IOException(file + ": " + name + ": the archive is damaged: " + e.getMessage(), e);
    }
    return text.toString(StandardCharsets.UTF_8).lines().toList();
  }

  /**
   * Closes the archive. Arrays that were read stay valid.
   *
   * @throws IOException if that fails
   */
  @Override
  public void close() throws IOException {
    zip.close();
  }
}
