package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Checks the memory that a caller passes and returns its address, for one kind of memory. This is
 * all that differs between {@link YoloLoss} and {@link CudaYoloLoss}; {@link Plan} and {@link
 * LossCall} are written once for both.
 *
 * @param <M> the type that users see: {@link MemorySegment} or {@link DeviceBuffer}
 */
sealed interface MemoryKind<M> {

  /** Returns the name of the public class whose calls take this memory. */
  String owner();

  /** Returns the value of {@code yl_config.memory}. */
  int value();

  /** Returns whether results must lie in memory that a CUDA device can write. */
  boolean onDevice();

  /**
   * Checks memory and returns its address.
   *
   * @param name of the argument, for the sentence of a refusal
   * @param layer index of the memory in an array of layers; -1 if it is not in one
   * @param memory as the caller passed it, perhaps null
   * @param needed smallest size in bytes
   * @param written whether the call writes it
   * @param alignment in bytes, a power of two
   * @return a segment at that address, whose scope must not be closed during the call
   */
  MemorySegment address(
      String name, int layer, M memory, long needed, boolean written, int alignment);

  /** Returns the name of an argument as its caller knows it. */
  private static String named(String name, int layer) {
    return layer < 0 ? name : name + "[" + layer + "]";
  }

  /** Memory of the host, in segments of any {@link Arena}. */
  record Host() implements MemoryKind<MemorySegment> {
    @Override
    public String owner() {
      return "YoloLoss";
    }

    @Override
    public int value() {
      return Abi.YL_MEMORY_HOST;
    }

    @Override
    public boolean onDevice() {
      return false;
    }

    @Override
    public MemorySegment address(
        String name, int layer, MemorySegment memory, long needed, boolean written, int alignment) {
      if (!Segments.fits(memory, needed, written, alignment)) {
        Segments.refuse(named(name, layer), memory, needed, written, alignment);
      }
      return memory;
    }
  }

  /**
   * Memory that a CUDA device can reach.
   *
   * @param device the CUDA device
   */
  record Cuda(LossDevice device) implements MemoryKind<DeviceBuffer> {
    @Override
    public String owner() {
      return "CudaYoloLoss";
    }

    @Override
    public int value() {
      return Abi.YL_MEMORY_DEVICE;
    }

    @Override
    public boolean onDevice() {
      return true;
    }

    @Override
    public MemorySegment address(
        String name, int layer, DeviceBuffer memory, long needed, boolean written, int alignment) {
      if (memory == null || !memory.fits(device, needed)) {
        DeviceBuffer.refuse(named(name, layer), memory, device, needed);
      }
      return memory.address();
    }
  }
}
