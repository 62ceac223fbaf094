package io.github.yololoss;

import io.github.yololoss.internal.Abi;

/**
 * Reports that the native library refused a call, or that the library cannot be loaded. The message
 * is one sentence: what is wrong, with its value, what was expected, and what to do.
 */
public final class YoloLossException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /** The cause: that of {@code yl_status}, and one that only Java has. */
  public enum Status {
    /** No failure; no exception has it. */
    OK(Abi.YL_OK),
    /** A size or value that {@code yololoss.h} does not allow. */
    INVALID_ARGUMENT(Abi.YL_INVALID_ARGUMENT),
    /** A row of boxes that is not a valid object, or boxes that are not in pixels. */
    INVALID_BOXES(Abi.YL_INVALID_BOXES),
    /** Allowed by {@code yololoss.h}, but not available in this build or version. */
    UNSUPPORTED(Abi.YL_UNSUPPORTED),
    /** The requested device cannot be used on this machine. */
    NO_DEVICE(Abi.YL_NO_DEVICE),
    /** Memory could not be allocated, or threads could not be started. */
    OUT_OF_MEMORY(Abi.YL_OUT_OF_MEMORY),
    /** A bug in the library; please report it with the message. */
    INTERNAL(Abi.YL_INTERNAL),
    /** The CUDA driver reported an error; all outputs are undefined. */
    DEVICE_FAILED(Abi.YL_DEVICE_FAILED),
    /** The native library could not be loaded. */
    NO_LIBRARY(-1);

    /** The value of {@code yl_status}. */
    final int value;

    Status(int value) {
      this.value = value;
    }

    /** Returns the status of a value, or INTERNAL for a value that this version does not know. */
    static Status of(int value) {
      for (Status status : values()) {
        if (status.value == value && status != NO_LIBRARY) {
          return status;
        }
      }
      return INTERNAL;
    }
  }

  /** What {@link #status} returns. */
  private final Status status;

  YoloLossException(Status status, String sentence) {
    super(sentence);
    this.status = status;
  }

  YoloLossException(Status status, String sentence, Throwable cause) {
    super(sentence, cause);
    this.status = status;
  }

  /** {@return the cause} */
  public Status status() {
    return status;
  }
}
