package io.github.yololoss;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

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
    NativeLibrary.get();
    try (Arena scratch = Arena.ofConfined()) {
      MemorySegment count = scratch.allocate(JAVA_INT);
      int status = Native.cudaDeviceCount(count);
      if (status == YoloLossException.Status.NO_DEVICE.ordinal()) {
        return List.of();
      }
      Native.check(status);
      List<CudaDevice> devices = new ArrayList<>();
      for (int i = 0; i < count.get(JAVA_INT, 0); i++) {
        MemorySegment info = scratch.allocate(Layouts.DEVICE_PROPERTIES);
        info.set(JAVA_LONG, offset("struct_size"), Layouts.DEVICE_PROPERTIES.byteSize());
        Native.check(Native.cudaDeviceInfo(i, info));
        devices.add(
            new CudaDevice(
                i,
                info.getString(offset("name")),
                info.get(JAVA_LONG, offset("total_memory")),
                info.get(JAVA_LONG, offset("free_memory")),
                info.get(JAVA_INT, offset("compute_capability")),
                info.get(JAVA_INT, offset("multiprocessors"))));
      }
      return List.copyOf(devices);
    }
  }

  private static long offset(String field) {
    return Layouts.offset(Layouts.DEVICE_PROPERTIES, field);
  }

  /** {@return the device as {@link YoloLoss.Builder#device} takes it} */
  public Device device() {
    return Device.cuda(index);
  }
}
