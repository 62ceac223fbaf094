package io.github.yololoss;

/**
 * Where feats, truths and gradients lie, in the order of the native header's {@code YL_MEMORY_...}.
 */
public enum Memory {
  /** On the host, in memory segments. */
  HOST(Abi.YL_MEMORY_HOST),
  /** On the CUDA device, in {@link DeviceBuffer}s. */
  DEVICE(Abi.YL_MEMORY_DEVICE);

  /** On the native boundary. */
  final int value;

  Memory(int value) {
    this.value = value;
  }
}
