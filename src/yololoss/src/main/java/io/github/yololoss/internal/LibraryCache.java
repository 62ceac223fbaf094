package io.github.yololoss.internal;

import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.HexFormat;

/**
 * The folder to which the library of the jar is unpacked, because the dynamic linker loads files
 * only. Any number of JVMs may unpack at once, and one that is killed leaves nothing that another
 * would load: the folder is named after the content, and a whole file gets its name by an atomic
 * rename. Nothing is used that another user could have written.
 */
final class LibraryCache {
  /** System property that names the folder. */
  static final String PROPERTY = "yololoss.cache";

  private static final String NAME = "libyololoss.so";
  private static final String PART = ".part"; // suffix of a library that is not whole yet

  private LibraryCache() {}

  /** Returns whether the user has chosen the folder; then no other may be used instead. */
  static boolean isNamed() {
    return System.getProperty(PROPERTY) != null;
  }

  /**
   * Returns the file in the cache that has this content; writes it if it is not there, or if it is
   * damaged or not private.
   *
   * @param version names the folder, for people; the hash of the content decides
   * @throws IOException if the folder cannot be written, or is not private
   */
  static Path unpack(byte[] library, String version) throws IOException {
    Path folder = home().resolve(version + "-" + sha256(library).substring(0, 12));
    Posix.createPrivateFolder(folder);
    Posix.requirePrivateFolder(folder);
    Path file = folder.resolve(NAME);
    if (!Posix.isPrivateFile(file) || !Arrays.equals(Files.readAllBytes(file), library)) {
      removeRemains(folder);
      replace(file, library);
    }
    return file;
  }

  /** Returns a file in a new temporary folder that only this user can read. */
  static Path unpackOnce(byte[] library) throws IOException {
    Path file = Files.createTempDirectory("yololoss-").resolve(NAME);
    try {
      replace(file, library);
      return file;
    } catch (IOException e) {
      remove(file);
      throw e;
    }
  }

  /** Removes what {@link #unpackOnce} made; a loaded library does not need its file any more. */
  static void remove(Path file) throws IOException {
    Files.deleteIfExists(file);
    Files.deleteIfExists(file.getParent());
  }

  private static Path home() throws IOException {
    String property = System.getProperty(PROPERTY);
    if (property != null) {
      return Path.of(property).toAbsolutePath();
    }
    String xdg = System.getenv("XDG_CACHE_HOME");
    if (xdg != null && !xdg.isEmpty()) {
      return Path.of(xdg).toAbsolutePath().resolve("yololoss");
    }
    Path home = Path.of(System.getProperty("user.home"));
    if (!Files.isDirectory(home)) { // "?" in a container without a user
      throw new NoSuchFileException(home.toString(), null, "no home folder");
    }
    return home.resolve(".cache").resolve("yololoss");
  }

  private static void replace(Path file, byte[] content) throws IOException {
    Path part = Files.createTempFile(file.getParent(), "libyololoss", PART);
    try {
      // Unlike a channel, this stream is not closed by an interrupt of the thread.
      try (FileOutputStream out = new FileOutputStream(part.toFile())) {
        out.write(content);
        out.getFD().sync();
      }
      Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
    } finally {
      Files.deleteIfExists(part);
    }
  }

  /** Removes what JVMs left that were killed while they unpacked, at least an hour ago. */
  private static void removeRemains(Path folder) throws IOException {
    FileTime old = FileTime.from(Instant.now().minus(Duration.ofHours(1)));
    try (DirectoryStream<Path> parts = Files.newDirectoryStream(folder, "libyololoss*" + PART)) {
      for (Path part : parts) {
        if (Files.getLastModifiedTime(part).compareTo(old) < 0) {
          Files.deleteIfExists(part);
        }
      }
    } catch (NoSuchFileException e) {
      // another JVM was faster
    }
  }

  private static String sha256(byte[] content) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError(e); // every JDK has it
    }
  }
}
