package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import io.github.yololoss.internal.LibraryMissingException;
import io.github.yololoss.internal.Native;
import io.github.yololoss.internal.NativeLibrary;

/**
 * Turns what the native library reports into exceptions of the public API. The package internal
 * knows nothing of that API.
 */
final class Library {
  private Library() {}

  /**
   * Loads the library, if it is not loaded yet. Call this before the first use of {@link Native}.
   *
   * @return where it was found
   * @throws YoloLossException if it cannot be loaded
   */
  static String load() {
    try {
      return NativeLibrary.get().origin();
    } catch (LibraryMissingException e) {
      throw new YoloLossException(
          YoloLossException.Status.NO_LIBRARY, e.getMessage(), e.getCause());
    }
  }

  /**
   * Checks what a native function returned.
   *
   * @throws YoloLossException with the library's sentence, if it is not YL_OK
   */
  static void check(int status) {
    if (status != Abi.YL_OK) {
      throw new YoloLossException(YoloLossException.Status.of(status), Native.lastError());
    }
  }
}
