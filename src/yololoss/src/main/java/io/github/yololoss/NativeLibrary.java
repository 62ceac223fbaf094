package io.github.yololoss;

import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Locale;

/**
 * Finds and loads the native library, once: the property, the environment, the jar, the system, in
 * this order. A library named by property or environment is never replaced by another.
 */
final class NativeLibrary {
  static final String PROPERTY = "yololoss.library";
  static final String ENVIRONMENT = "YOLOLOSS_LIBRARY";
  static final String CACHE_PROPERTY = "yololoss.cache";
  static final String SYSTEM_NAME = "libyololoss.so.0";

  private static final String FIX =
      "; set -D" + PROPERTY + " or " + ENVIRONMENT + " to a libyololoss.so of this version";

  private static final String FIX_CACHE =
      "; set -D" + CACHE_PROPERTY + " to a folder that can be written and executed from";

  private static final String PART = ".part"; // a library that is not whole yet
  private static final int OTHERS_WRITE = 022; // mode: group and all

  private static NativeLibrary loaded;

  private final SymbolLookup symbols;
  private final String origin;

  private NativeLibrary(SymbolLookup symbols, String origin) {
    this.symbols = symbols;
    this.origin = origin;
  }

  /** The library; every call fails with the reason until it could be loaded. */
  static synchronized NativeLibrary get() {
    if (loaded == null) {
      loaded = load();
    }
    return loaded;
  }

  SymbolLookup symbols() {
    return symbols;
  }

  /** Path of the file and how it was found. */
  String origin() {
    return origin;
  }

  private static NativeLibrary load() {
    String path = System.getProperty(PROPERTY);
    if (path != null) {
      return open(Path.of(path), "named by -D" + PROPERTY, FIX);
    }
    path = System.getenv(ENVIRONMENT);
    if (path != null) {
      return open(Path.of(path), "named by " + ENVIRONMENT, FIX);
    }
    String resource = "/META-INF/native/" + platform() + "/libyololoss.so";
    try (InputStream in = NativeLibrary.class.getResourceAsStream(resource)) {
      if (in != null) {
        return unpack(in.readAllBytes());
      }
    } catch (IOException e) {
      throw unavailable("the library in the jar could not be unpacked: " + e + FIX_CACHE, e);
    }
    try {
      return checked(
          SymbolLookup.libraryLookup(SYSTEM_NAME, Arena.global()), SYSTEM_NAME + " of the system");
    } catch (IllegalArgumentException e) {
      throw unavailable(
          "tried -D%s (not set), %s (not set), %s in the jar (not there), %s on the system path (%s)%s"
              .formatted(PROPERTY, ENVIRONMENT, resource, SYSTEM_NAME, e.getMessage(), FIX),
          e);
    }
  }

  private static NativeLibrary open(Path path, String how, String fix) {
    Path file = path.toAbsolutePath();
    String fault = fault(file);
    if (fault != null) {
      throw unavailable("%s (%s) could not be loaded: %s%s".formatted(file, how, fault, fix), null);
    }
    return checked(SymbolLookup.libraryLookup(file, Arena.global()), file + " (" + how + ")");
  }

  private static NativeLibrary checked(SymbolLookup symbols, String origin) {
    int version =
        symbols
            .find("yl_abi_version")
            .map(
                function -> {
                  try {
                    return (int)
                        Linker.nativeLinker()
                            .downcallHandle(function, FunctionDescriptor.of(ValueLayout.JAVA_INT))
                            .invokeExact();
                  } catch (Throwable t) {
                    throw new AssertionError(t); // the function takes nothing and throws nothing
                  }
                })
            .orElseThrow(
                () ->
                    unavailable(origin + " is not yololoss: it has no yl_abi_version" + FIX, null));
    if (version != Abi.YL_ABI_VERSION) {
      throw unavailable(
          origin + " has ABI version " + version + ", this jar needs " + Abi.YL_ABI_VERSION + FIX,
          null);
    }
    return new NativeLibrary(symbols, origin);
  }

  /**
   * What the dynamic linker has against a file, which libraryLookup keeps to itself; null if it can
   * be loaded.
   */
  private static String fault(Path file) {
    if (!Files.exists(file)) {
      return "no such file";
    }
    Linker linker = Linker.nativeLinker();
    MethodHandle dlopen =
        linker.downcallHandle(
            linker.defaultLookup().findOrThrow("dlopen"),
            FunctionDescriptor.of(ValueLayout.ADDRESS, ValueLayout.ADDRESS, ValueLayout.JAVA_INT));
    MethodHandle dlerror =
        linker.downcallHandle(
            linker.defaultLookup().findOrThrow("dlerror"),
            FunctionDescriptor.of(ValueLayout.ADDRESS));
    try (Arena arena = Arena.ofConfined()) {
      int now = 2; // RTLD_NOW
      MemorySegment handle =
          (MemorySegment) dlopen.invokeExact(arena.allocateFrom(file.toString()), now);
      return handle.address() != 0
          ? null
          : ((MemorySegment) dlerror.invokeExact()).reinterpret(Integer.MAX_VALUE).getString(0);
    } catch (Throwable t) {
      throw new AssertionError(t); // neither throws
    }
  }

  /**
   * Into a folder named after the content, by an atomic rename: any number of JVMs may do this at
   * once, and one that is killed leaves nothing that another would load.
   */
  private static NativeLibrary unpack(byte[] library) throws IOException {
    String folder = version() + "-" + sha256(library).substring(0, 12);
    Exception failure;
    try {
      Path home = cacheHome().resolve(folder);
      createPrivate(home);
      requireOwn(home);
      Path file = home.resolve("libyololoss.so");
      if (!isOwn(file) || !Arrays.equals(Files.readAllBytes(file), library)) {
        replace(file, library);
      }
      return open(file, "from the jar", FIX_CACHE);
    } catch (IOException | YoloLossException e) { // not writable, not executable, not safe
      if (System.getProperty(CACHE_PROPERTY) != null) {
        throw e; // asked for by name
      }
      failure = e;
    }
    Path home = Files.createTempDirectory("yololoss-"); // this user's only
    Path file = home.resolve("libyololoss.so");
    try {
      replace(file, library);
      String how = "from the jar, for this process only: " + failure.getMessage();
      return open(file, how, FIX_CACHE);
    } finally { // a loaded library needs its file no more
      Files.deleteIfExists(file);
      Files.deleteIfExists(home);
    }
  }

  /**
   * Refuses a folder in which another user could put a library, or in whose place another folder:
   * it must be this user's, those above it this user's or root's, and none may be written by others
   * (but a folder like /tmp, in which each may rename only what is his).
   */
  private static void requireOwn(Path folder) throws IOException {
    int user = user();
    Path real = folder.toRealPath();
    for (Path each = real; each != null; each = each.getParent()) {
      int owner = (int) Files.getAttribute(each, "unix:uid");
      int mode = (int) Files.getAttribute(each, "unix:mode");
      boolean sticky = (mode & 01000) != 0 && each != real;
      if (owner != user && (owner != 0 || each == real) || (mode & OTHERS_WRITE) != 0 && !sticky) {
        throw new IOException(
            "%s belongs to user %d and has mode %o: another user than %d could put a library there"
                .formatted(each, owner, mode & 07777, user));
      }
    }
  }

  /** Whether it is a file that this user alone can have written. */
  private static boolean isOwn(Path file) throws IOException {
    return Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS)
        && (int) Files.getAttribute(file, "unix:uid") == user()
        && ((int) Files.getAttribute(file, "unix:mode") & OTHERS_WRITE) == 0;
  }

  private static int user() {
    Linker linker = Linker.nativeLinker();
    try {
      return (int)
          linker
              .downcallHandle(
                  linker.defaultLookup().findOrThrow("geteuid"),
                  FunctionDescriptor.of(ValueLayout.JAVA_INT))
              .invokeExact();
    } catch (Throwable t) {
      throw new AssertionError(t); // the function takes nothing and throws nothing
    }
  }

  private static Path cacheHome() throws IOException {
    String property = System.getProperty(CACHE_PROPERTY);
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
    removeRemains(file.getParent());
    Path part = Files.createTempFile(file.getParent(), "libyololoss", PART);
    try {
      try (FileOutputStream out = new FileOutputStream(part.toFile())) { // deaf to interrupts
        out.write(content);
        out.getFD().sync();
      }
      Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
    } finally {
      Files.deleteIfExists(part);
    }
  }

  /** What JVMs left that were killed while they unpacked, an hour ago at least. */
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

  private static void createPrivate(Path folder) throws IOException {
    FileAttribute<?> owner =
        PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"));
    Files.createDirectories(folder, owner);
  }

  private static String sha256(byte[] content) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError(e); // every JDK has it
    }
  }

  private static String platform() {
    String arch = System.getProperty("os.arch");
    String os = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    return os + "-" + (arch.equals("amd64") ? "x86_64" : arch);
  }

  /** Names the folder of the cache; the content's hash decides. */
  private static String version() {
    Module module = NativeLibrary.class.getModule();
    String version =
        module.isNamed()
            ? module.getDescriptor().rawVersion().orElse(null)
            : NativeLibrary.class.getPackage().getImplementationVersion();
    return version == null ? "unpackaged" : version;
  }

  private static YoloLossException unavailable(String sentence, Throwable cause) {
    return new YoloLossException(
        YoloLossException.Status.NO_LIBRARY, "no native library: " + sentence, cause);
  }
}
