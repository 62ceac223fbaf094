package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;

import io.github.yololoss.internal.Native;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * Memory of a CUDA device: allocated here and freed by {@link #close}, or memory of a framework's
 * that {@link #of} describes. Java cannot read it by mistake: {@link #address()} is a segment of
 * length zero, so that any access throws.
 *
 * <p>Any thread may use it. It cannot be closed during a call; closed while an enqueued call still
 * uses it, it is freed when the device has done with it.
 */
public final class DeviceBuffer implements AutoCloseable {
  private final LossDevice device;
  private final Arena arena; // null: not ours, or a part of another
  private final MemorySegment address; // of length 0
  private final long byteSize;

  private DeviceBuffer(LossDevice device, Arena arena, MemorySegment address, long byteSize) {
    this.device = device;
    this.arena = arena;
    this.address = address;
    this.byteSize = byteSize;
  }

  /**
   * New memory, aligned to 256 bytes; what it holds is not defined.
   *
   * @param device a CUDA device
   * @param byteSize at least 1
   * @return the memory, to be closed
   * @throws YoloLossException if there is no such device or not that much memory
   */
  public static DeviceBuffer allocate(LossDevice device, long byteSize) {
    LossDevice.requireCuda(device);
    Library.load();
    Arena arena = Arena.ofShared();
    try (Arena scratch = Arena.ofConfined()) {
      MemorySegment place = scratch.allocate(ADDRESS);
      Library.check(Native.cudaMalloc(device.index(), byteSize, place));
      MemorySegment address = place.get(ADDRESS, 0).reinterpret(arena, Native::cudaFree);
      return new DeviceBuffer(device, arena, address, byteSize);
    } catch (Throwable t) {
      arena.close();
      throw t;
    }
  }

  /**
   * Memory of somebody else's, a framework's tensor for example. It is not freed here and must stay
   * until everything that uses it is done. A call refuses an address that is not memory which the
   * device can reach; its size is believed.
   *
   * @param device the CUDA device that it belongs to
   * @param address where it begins
   * @param byteSize how long it is
   * @return the memory as a buffer, whose closing frees nothing
   */
  public static DeviceBuffer of(LossDevice device, long address, long byteSize) {
    LossDevice.requireCuda(device);
    if (address == 0 || byteSize < 1) {
      throw new IllegalArgumentException(
          "device memory of "
              + byteSize
              + " bytes at address "
              + address
              + ": both above 0 are expected");
    }
    return new DeviceBuffer(device, null, MemorySegment.ofAddress(address), byteSize);
  }

  /**
   * A part of this memory, which is freed with the whole.
   *
   * @param offset in bytes
   * @param size in bytes
   * @return the part
   * @throws IndexOutOfBoundsException if it does not lie within
   */
  public DeviceBuffer slice(long offset, long size) {
    Objects.checkFromIndexSize(offset, size, byteSize);
    MemorySegment part = MemorySegment.ofAddress(address.address() + offset);
    return new DeviceBuffer(
        device, null, arena == null ? part : part.reinterpret(arena, null), size);
  }

  /** {@return the device that it belongs to} */
  public LossDevice device() {
    return device;
  }

  /** {@return its length} */
  public long byteSize() {
    return byteSize;
  }

  /** {@return where it lies: a segment of length 0, for other native functions} */
  public MemorySegment address() {
    return address;
  }

  /**
   * Copies from memory of the host, its first {@code host.byteSize()} bytes; returns when it is
   * done, behind what was enqueued on the legacy default stream.
   *
   * @param host memory off the heap
   * @throws IllegalArgumentException if host is on the heap or longer than this
   */
  public void copyFrom(MemorySegment host) {
    Library.check(Native.cudaCopy(device.index(), address, requireHost(host), host.byteSize()));
  }

  /**
   * Copies to memory of the host, filling it; as {@link #copyFrom}.
   *
   * @param host memory off the heap
   */
  public void copyTo(MemorySegment host) {
    if (requireHost(host).isReadOnly()) {
      throw new IllegalArgumentException("host is read-only, but it is written");
    }
    Library.check(Native.cudaCopy(device.index(), host, address, host.byteSize()));
  }

  private MemorySegment requireHost(MemorySegment host) {
    Segments.checked("host", host, 0, false, 1);
    if (host.byteSize() > byteSize) {
      throw new IllegalArgumentException(
          "host holds " + host.byteSize() + " bytes, this device memory only " + byteSize);
    }
    return host;
  }

  boolean fits(LossDevice wanted, long needed) {
    return byteSize >= needed && device.index() == wanted.index() && address.scope().isAlive();
  }

  /** Throws the exception that says which of the rules of {@link #fits} is broken. */
  static void refuse(String name, DeviceBuffer buffer, LossDevice wanted, long needed) {
    if (buffer == null) {
      throw new IllegalArgumentException(
          name + " is null, device memory of " + needed + " bytes is expected");
    }
    if (buffer.byteSize < needed) {
      throw new IllegalArgumentException(Segments.tooShort(name, buffer.byteSize, needed));
    }
    if (buffer.device.index() != wanted.index()) {
      throw new IllegalArgumentException(
          name + " is memory of " + buffer.device + ", this CudaYoloLoss is on " + wanted);
    }
    throw new IllegalStateException(name + " is closed");
  }

  /**
   * Frees the memory, if it was allocated here; a part and memory of somebody else's are left
   * alone. Does nothing the second time.
   *
   * @throws IllegalStateException if a call is using it on another thread; nothing is freed then
   */
  @Override
  public void close() {
    if (arena != null && arena.scope().isAlive()) {
      arena.close();
    }
  }

  @Override
  public String toString() {
    return byteSize + " bytes of " + device + " at 0x" + Long.toHexString(address.address());
  }
}
