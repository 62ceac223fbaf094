package io.github.yololoss;

import io.github.yololoss.internal.Abi;

/**
 * A call that the native library refused, or the library itself missing; the message is one
 * sentence that says why.
 */
public final class YoloLossException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /** The cause: the native header's {@code yl_status}; the last is Java's own. */
  public enum Status {
    /** Not a failure. */
    OK(Abi.YL_OK),
    /** A size or value that the contract does not allow. */
    INVALID_ARGUMENT(Abi.YL_INVALID_ARGUMENT),
    /** A row of boxes that the policy refuses. */
    INVALID_BOXES(Abi.YL_INVALID_BOXES),
    /** In the contract, but not in this version. */
    UNSUPPORTED(Abi.YL_UNSUPPORTED),
    /** The device asked for cannot be used on this machine. */
    NO_DEVICE(Abi.YL_NO_DEVICE),
    /** Workspace or threads could not be had. */
    OUT_OF_MEMORY(Abi.YL_OUT_OF_MEMORY),
    /** A fault of the library. */
    INTERNAL(Abi.YL_INTERNAL),
    /** The CUDA driver reported an error; what was to be written is lost. */
    DEVICE_FAILED(Abi.YL_DEVICE_FAILED),
    /** The native library could not be loaded. */
    NO_LIBRARY(-1);

    /** On the native boundary. */
    final int value;

    Status(int value) {
      this.value = value;
    }

    /** The status of a value; INTERNAL for one that this version does not know. */
    static Status of(int value) {
      for (Status status : values()) {
        if (status.value == value && status != NO_LIBRARY) {
          return status;
        }
      }
      return INTERNAL;
    }
  }

  /** The cause. */
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
