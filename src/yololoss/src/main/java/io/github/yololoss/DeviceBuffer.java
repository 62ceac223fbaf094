package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;

import io.github.yololoss.internal.Native;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * Memory of a CUDA device. It is allocated here and freed by {@link #close}, or it is a framework's
 * and described by {@link #of}. Java cannot read it by mistake: {@link #address()} is a segment of
 * length zero, so that any access throws.
 *
 * <p>Any thread may use it. It cannot be closed during a call. If it is closed while an enqueued
 * call still uses it, it is freed when the device has executed the call.
 */
public final class DeviceBuffer implements AutoCloseable {
  private final LossDevice device;
  private final Arena arena; // null: caller-owned memory, or a part of a buffer
  private final MemorySegment address; // of length 0
  private final long byteSize;

  private DeviceBuffer(LossDevice device, Arena arena, MemorySegment address, long byteSize) {
    this.device = device;
    this.arena = arena;
    this.address = address;
    this.byteSize = byteSize;
  }

  /**
   * Allocates memory, aligned to 256 bytes. Its content is undefined.
   *
   * @param device a CUDA device
   * @param byteSize size in bytes, at least 1
   * @return the memory, to be closed
   * @throws IllegalArgumentException if device is not a CUDA device
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
   * Describes caller-owned memory, such as a framework's tensor. It is not freed here and must stay
   * until everything that uses it is done. A call refuses memory that the device cannot reach, but
   * it cannot check the size.
   *
   * @param device the CUDA device of the memory
   * @param address address of the first byte
   * @param byteSize size in bytes, at least 1
   * @return the memory as a buffer; closing it frees nothing
   * @throws IllegalArgumentException if device is not a CUDA device, address is 0, or the size is
   *     less than 1
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
   * {@return a part of this memory, which is freed with the whole}
   *
   * @param offset in bytes
   * @param size in bytes
   * @throws IndexOutOfBoundsException if the part does not lie within this memory
   */
  public DeviceBuffer slice(long offset, long size) {
    Objects.checkFromIndexSize(offset, size, byteSize);
    MemorySegment part = MemorySegment.ofAddress(address.address() + offset);
    return new DeviceBuffer(
        device, null, arena == null ? part : part.reinterpret(arena, null), size);
  }

  /** {@return the device of the memory} */
  public LossDevice device() {
    return device;
  }

  /** {@return the size in bytes} */
  public long byteSize() {
    return byteSize;
  }

  /** {@return the address as a segment of length 0, for other native functions} */
  public MemorySegment address() {
    return address;
  }

  /**
   * Copies memory of the host to the beginning of this memory. The copy is ordered behind what was
   * enqueued on the legacy default stream, and is done when this returns.
   *
   * @param host memory off the heap; all of it is copied
   * @throws IllegalArgumentException if host is on the heap or longer than this memory
   * @throws IllegalStateException if host or this memory is closed
   * @throws YoloLossException if the device failed
   */
  public void copyFrom(MemorySegment host) {
    Library.check(Native.cudaCopy(device.index(), address, requireHost(host), host.byteSize()));
  }

  /**
   * Copies the beginning of this memory to memory of the host, ordered as {@link #copyFrom}.
   *
   * @param host memory off the heap; all of it is written
   * @throws IllegalArgumentException if host is on the heap, longer than this memory, or read-only
   * @throws IllegalStateException if host or this memory is closed
   * @throws YoloLossException if the device failed
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

  /** Returns whether a call on a device may use this as memory of needed bytes. */
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
   * Frees the memory if it was allocated here. Does nothing for a part, for caller-owned memory,
   * and the second time.
   *
   * @throws IllegalStateException if a call is using it on another thread; nothing is freed then
   */
  @Override
  public void close() {
    if (arena != null && arena.scope().isAlive()) {
      arena.close();
    }
  }

  /** {@return size, device and address} */
  @Override
  public String toString() {
    return byteSize + " bytes of " + device + " at 0x" + Long.toHexString(address.address());
  }
}
