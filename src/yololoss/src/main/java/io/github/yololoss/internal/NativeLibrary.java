package io.github.yololoss.internal;

import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;

/**
 * Finds and loads the native library, once. It is searched for in this order: the system property,
 * the environment, the jar ({@link LibraryCache} unpacks it), the system's library path. A library
 * that the property or the environment names is never replaced by another.
 */
public final class NativeLibrary {
  private static final String PROPERTY = "yololoss.library";
  private static final String ENVIRONMENT = "YOLOLOSS_LIBRARY";
  private static final String SYSTEM_NAME = "libyololoss.so.0";

  private static final String FIX =
      "; set -D" + PROPERTY + " or " + ENVIRONMENT + " to a libyololoss.so of this version";
  private static final String FIX_CACHE =
      "; set -D" + LibraryCache.PROPERTY + " to a folder that can be written and executed from";

  private static NativeLibrary loaded;

  private final SymbolLookup symbols;
  private final String origin;

  private NativeLibrary(SymbolLookup symbols, String origin) {
    this.symbols = symbols;
    this.origin = origin;
  }

  /**
   * Returns the library, and loads it the first time.
   *
   * @throws LibraryMissingException if it cannot be loaded, at every call until it can
   */
  public static synchronized NativeLibrary get() {
    if (loaded == null) {
      loaded = load();
    }
    return loaded;
  }

  /** Returns its functions. */
  public SymbolLookup symbols() {
    return symbols;
  }

  /** Returns the path of the file and how it was found. */
  public String origin() {
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
        return openUnpacked(in.readAllBytes());
      }
    } catch (IOException e) {
      throw new LibraryMissingException(
          "the library in the jar could not be unpacked: " + e + FIX_CACHE, e);
    }
    try {
      return checked(
          SymbolLookup.libraryLookup(SYSTEM_NAME, Arena.global()), SYSTEM_NAME + " of the system");
    } catch (IllegalArgumentException e) {
      throw new LibraryMissingException(
          "tried -D%s (not set), %s (not set), %s in the jar (not there), %s on the system path (%s)%s"
              .formatted(PROPERTY, ENVIRONMENT, resource, SYSTEM_NAME, e.getMessage(), FIX),
          e);
    }
  }

  /**
   * Loads the library of the jar from the cache. If the cache cannot be used and the user has not
   * named it, loads it from a temporary folder, for this process only.
   */
  private static NativeLibrary openUnpacked(byte[] library) throws IOException {
    Exception failure;
    try {
      return open(LibraryCache.unpack(library, version()), "from the jar", FIX_CACHE);
    } catch (IOException | LibraryMissingException e) { // not writable, executable or private
      if (LibraryCache.isNamed()) {
        throw e;
      }
      failure = e;
    }
    Path file = LibraryCache.unpackOnce(library);
    try {
      String how = "from the jar, for this process only: " + failure.getMessage();
      return open(file, how, FIX_CACHE);
    } finally {
      LibraryCache.remove(file);
    }
  }

  private static NativeLibrary open(Path path, String how, String fix) {
    Path file = path.toAbsolutePath();
    String error = Files.exists(file) ? Posix.loadError(file) : "no such file";
    if (error != null) {
      throw new LibraryMissingException(
          "%s (%s) could not be loaded: %s%s".formatted(file, how, error, fix), null);
    }
    return checked(SymbolLookup.libraryLookup(file, Arena.global()), file + " (" + how + ")");
  }

  /** Refuses a library that is not yololoss, or has another ABI version than this jar. */
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
                    throw new AssertionError(t); // it takes nothing and throws nothing
                  }
                })
            .orElseThrow(
                () ->
                    new LibraryMissingException(
                        origin + " is not yololoss: it has no yl_abi_version" + FIX, null));
    if (version != Abi.YL_ABI_VERSION) {
      throw new LibraryMissingException(
          origin + " has ABI version " + version + ", this jar needs " + Abi.YL_ABI_VERSION + FIX,
          null);
    }
    return new NativeLibrary(symbols, origin);
  }

  private static String platform() {
    String arch = System.getProperty("os.arch");
    String os = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    return os + "-" + (arch.equals("amd64") ? "x86_64" : arch);
  }

  private static String version() {
    Module module = NativeLibrary.class.getModule();
    String version =
        module.isNamed()
            ? module.getDescriptor().rawVersion().orElse(null)
            : NativeLibrary.class.getPackage().getImplementationVersion();
    return version == null ? "unpackaged" : version;
  }
}
