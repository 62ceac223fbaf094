package io.github.yololoss;

import static java.lang.foreign.ValueLayout.JAVA_INT;

import io.github.yololoss.internal.Abi;
import io.github.yololoss.internal.Native;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * A CUDA device of this machine, as it was when it was asked for.
 *
 * @param index its number, from 0
 * @param name as the driver gives it
 * @param totalMemory in bytes
 * @param freeMemory in bytes
 * @param computeCapability 10 * major + minor: 90 for an H200
 * @param multiprocessors how many
 */
public record CudaDevice(
    int index,
    String name,
    long totalMemory,
    long freeMemory,
    int computeCapability,
    int multiprocessors) {

  /**
   * {@return the usable CUDA devices; none where CUDA cannot be used ({@link YoloLoss#checkDevice}
   * says why)}
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

  /** {@return the device as {@link YoloLoss.Builder#device} takes it} */
  public LossDevice device() {
    return LossDevice.cuda(index);
  }
}
