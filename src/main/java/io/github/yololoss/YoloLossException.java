package io.github.yololoss;

/**
 * A call that the native library refused, or the library itself missing; the message is one
 * sentence that says why.
 */
public final class YoloLossException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /** The cause, in the order of the native header's {@code yl_status}; the last is Java's own. */
  public enum Status {
    /** Not a failure. */
    OK,
    /** A size or value that the contract does not allow. */
    INVALID_ARGUMENT,
    /** A row of boxes that the policy refuses. */
    INVALID_BOXES,
    /** In the contract, but not in this version. */
    UNSUPPORTED,
    /** The device asked for cannot be used on this machine. */
    NO_DEVICE,
    /** Workspace or threads could not be had. */
    OUT_OF_MEMORY,
    /** A fault of the library. */
    INTERNAL,
    /** The CUDA driver reported an error; what was to be written is lost. */
    DEVICE_FAILED,
    /** The native library could not be loaded. */
    NO_LIBRARY
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
