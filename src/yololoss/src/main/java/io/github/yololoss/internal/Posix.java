package io.github.yololoss.internal;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;

/**
 * What only the operating system knows: why a library does not load, and whether a file or folder
 * belongs to this user alone. Java has no methods for these, so functions of libc are called.
 */
final class Posix {
  private static final int OTHERS_WRITE = 022; // mode: group and others
  private static final int STICKY = 01000; // mode of a folder like /tmp
  private static final int RTLD_NOW = 2; // of dlopen: resolve all symbols at once

  private Posix() {}

  private static MethodHandle function(String name, ValueLayout result, MemoryLayout... arguments) {
    Linker linker = Linker.nativeLinker();
    return linker.downcallHandle(
        linker.defaultLookup().findOrThrow(name), FunctionDescriptor.of(result, arguments));
  }

  /**
   * Returns the dynamic linker's error for a library, or null if the library loads. {@link
   * java.lang.foreign.SymbolLookup#libraryLookup} discards this error.
   */
  static String loadError(Path library) {
    MethodHandle dlopen =
        function("dlopen", ValueLayout.ADDRESS, ValueLayout.ADDRESS, ValueLayout.JAVA_INT);
    MethodHandle dlerror = function("dlerror", ValueLayout.ADDRESS);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment path = arena.allocateFrom(library.toString());
      MemorySegment handle = (MemorySegment) dlopen.invokeExact(path, RTLD_NOW);
      return handle.address() != 0
          ? null
          : ((MemorySegment) dlerror.invokeExact()).reinterpret(Integer.MAX_VALUE).getString(0);
    } catch (Throwable t) {
      throw new AssertionError(t); // neither throws
    }
  }

  /** Returns the effective user of this process. */
  private static int user() {
    try {
      return (int) function("geteuid", ValueLayout.JAVA_INT).invokeExact();
    } catch (Throwable t) {
      throw new AssertionError(t); // it takes nothing and throws nothing
    }
  }

  private static int owner(Path path, LinkOption... options) throws IOException {
    return (int) Files.getAttribute(path, "unix:uid", options);
  }

  private static int mode(Path path, LinkOption... options) throws IOException {
    return (int) Files.getAttribute(path, "unix:mode", options);
  }

  /** Creates a folder, and those above it, that only this user can read and write. */
  static void createPrivateFolder(Path folder) throws IOException {
    FileAttribute<?> owner =
        PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"));
    Files.createDirectories(folder, owner);
  }

  /**
   * Refuses a folder in which another user could put a file, or which another user could replace.
   * It must belong to this user, those above it to this user or root, and none may be writable by
   * others. Sticky folders like /tmp are allowed above it, since everybody may rename only their
   * own entries there.
   */
  static void requirePrivateFolder(Path folder) throws IOException {
    int user = user();
    Path real = folder.toRealPath();
    for (Path each = real; each != null; each = each.getParent()) {
      int owner = owner(each);
      int mode = mode(each);
      boolean sticky = (mode & STICKY) != 0 && each != real;
      if (owner != user && (owner != 0 || each == real) || (mode & OTHERS_WRITE) != 0 && !sticky) {
        throw new IOException(
            "%s belongs to user %d and has mode %o: another user than %d could put a library there"
                .formatted(each, owner, mode & 07777, user));
      }
    }
  }

  /** Returns whether a path is a file, and no link, that only this user can have written. */
  static boolean isPrivateFile(Path file) throws IOException {
    return Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS)
        && owner(file) == user()
        && (mode(file) & OTHERS_WRITE) == 0;
  }
}
