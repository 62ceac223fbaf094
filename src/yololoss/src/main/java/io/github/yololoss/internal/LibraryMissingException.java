package io.github.yololoss.internal;

/** Reports that the native library cannot be used; the message is a sentence that says why. */
public final class LibraryMissingException extends RuntimeException {
  private static final long serialVersionUID = 1;

  LibraryMissingException(String sentence, Throwable cause) {
    super("no native library: " + sentence, cause);
  }
}
