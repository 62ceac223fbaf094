package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import java.util.Objects;

/**
 * A device that computes the loss. A device that a caller names is never replaced by another.
 *
 * @param kind the backend
 * @param index number of the CUDA device, from 0; 0 for other kinds
 */
public record LossDevice(Kind kind, int index) {

  /** The backends, in the order of the native header's {@code YL_DEVICE_...}. */
  public enum Kind {
    /** The best device for the caller's memory; {@link YoloLoss#deviceWhy()} says why it is. */
    AUTO(Abi.YL_DEVICE_AUTO),
    /** Double precision, one thread, plain loops: a second opinion. */
    REFERENCE(Abi.YL_DEVICE_REFERENCE),
    /** Float32 arithmetic, several threads. */
    CPU(Abi.YL_DEVICE_CPU),
    /** Hand-written kernels, float32 arithmetic. */
    CUDA(Abi.YL_DEVICE_CUDA);

    /** The value of {@code yl_config.device}. */
    final int value;

    Kind(int value) {
      this.value = value;
    }
  }

  /** {@link Kind#AUTO}. */
  public static final LossDevice AUTO = new LossDevice(Kind.AUTO, 0);

  /** {@link Kind#REFERENCE}. */
  public static final LossDevice REFERENCE = new LossDevice(Kind.REFERENCE, 0);

  /** {@link Kind#CPU}. */
  public static final LossDevice CPU = new LossDevice(Kind.CPU, 0);

  /**
   * Checks that only CUDA devices have a number.
   *
   * @throws NullPointerException if kind is null
   * @throws IllegalArgumentException if index is negative, or not 0 for another kind than CUDA
   */
  public LossDevice {
    Objects.requireNonNull(kind, "kind");
    if (index < 0 || index > 0 && kind != Kind.CUDA) {
      throw new IllegalArgumentException(
          "device index " + index + ": 0 is expected, or a CUDA device's number");
    }
  }

  /**
   * {@return a CUDA device}
   *
   * @param index its number, from 0
   * @throws IllegalArgumentException if index is negative
   */
  public static LossDevice cuda(int index) {
    return new LossDevice(Kind.CUDA, index);
  }

  /**
   * {@return the device of a name: {@code auto}, {@code reference}, {@code cpu}, {@code cuda} or
   * {@code cuda:N}}
   *
   * @param name as the command line takes it
   * @throws IllegalArgumentException for any other name
   */
  public static LossDevice parse(String name) {
    return switch (name) {
      case "auto" -> AUTO;
      case "reference" -> REFERENCE;
      case "cpu" -> CPU;
      case "cuda" -> cuda(0);
      default -> {
        if (name.matches("cuda:\\d{1,4}")) {
          yield cuda(Integer.parseInt(name.substring(5)));
        }
        throw new IllegalArgumentException(
            "unknown device '" + name + "', expected auto, reference, cpu, cuda or cuda:N");
      }
    };
  }

  /** Refuses a device that is not a CUDA device. */
  static void requireCuda(LossDevice device) {
    Objects.requireNonNull(device, "device");
    if (device.kind != Kind.CUDA) {
      throw new IllegalArgumentException("device is " + device + ", a CUDA device is expected");
    }
  }

  /** {@return the name that {@link #parse} takes} */
  @Override
  public String toString() {
    return kind == Kind.CUDA ? "cuda:" + index : kind.name().toLowerCase(java.util.Locale.ROOT);
  }
}
