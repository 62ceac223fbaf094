package io.github.yololoss;

import static java.lang.foreign.ValueLayout.JAVA_INT;

import io.github.yololoss.internal.Abi;
import io.github.yololoss.internal.Native;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * The properties of a CUDA device of this machine, at the time when they were read.
 *
 * @param index number of the device, from 0
 * @param name as the driver reports it
 * @param totalMemory size of its memory in bytes
 * @param freeMemory size of its free memory in bytes
 * @param computeCapability 10 * major + minor, for example 90 for an H200
 * @param multiprocessors number of multiprocessors
 */
public record CudaDevice(
    int index,
    String name,
    long totalMemory,
    long freeMemory,
    int computeCapability,
    int multiprocessors) {

  /**
   * {@return the usable CUDA devices} The list is empty if CUDA cannot be used; {@link
   * YoloLoss#checkDevice} says why.
   *
   * @throws YoloLossException if the native library cannot be loaded or the driver fails
   */
  public static List<CudaDevice> list() {
    Library.load();
    try (Arena scratch = Arena.ofConfined()) {
      MemorySegment count = scratch.allocate(JAVA_INT);
      int status = Native.cudaDeviceCount(count);
      if (status == Abi.YL_NO_DEVICE) {
        return List.of();
      }
      Library.check(status);
      List<CudaDevice> devices = new ArrayList<>();
      for (int i = 0; i < count.get(JAVA_INT, 0); i++) {
        MemorySegment info = Abi.DeviceProperties.allocate(scratch);
        Library.check(Native.cudaDeviceInfo(i, info));
        devices.add(
            new CudaDevice(
                i,
                Abi.DeviceProperties.getName(info),
                Abi.DeviceProperties.getTotalMemory(info),
                Abi.DeviceProperties.getFreeMemory(info),
                Abi.DeviceProperties.getComputeCapability(info),
                Abi.DeviceProperties.getMultiprocessors(info)));
      }
      return List.copyOf(devices);
    }
  }

  /** {@return name, memory and compute capability in one line} */
  @Override
  public String toString() {
    return device()
        + ": "
        + name
        + ", "
        + (freeMemory >> 20)
        + " of "
        + (totalMemory >> 20)
        + " MiB free, compute capability "
        + computeCapability / 10
        + "."
        + computeCapability % 10
        + ", "
        + multiprocessors
        + " multiprocessors";
  }

  /** {@return the device, for {@link YoloLoss.Builder#device}} */
  public LossDevice device() {
    return LossDevice.cuda(index);
  }
}
