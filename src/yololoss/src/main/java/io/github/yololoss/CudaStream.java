package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;

import io.github.yololoss.internal.Native;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * A CUDA stream: calls that are enqueued on it run in order. It is opened here and freed by {@link
 * #close}, or it is a framework's and described by {@link #of}.
 */
public final class CudaStream implements AutoCloseable {
  private final LossDevice device;
  private final boolean owned;
  private final MemorySegment handle;
  private volatile boolean closed;

  private CudaStream(LossDevice device, boolean owned, MemorySegment handle) {
    this.device = device;
    this.owned = owned;
    this.handle = handle;
  }

  /**
   * Opens a new stream, which does not wait for the legacy default stream.
   *
   * @param device a CUDA device
   * @return the stream, to be closed
   * @throws IllegalArgumentException if device is not a CUDA device
   * @throws YoloLossException if there is no such device
   */
  public static CudaStream open(LossDevice device) {
    LossDevice.requireCuda(device);
    Library.load();
    try (Arena scratch = Arena.ofConfined()) {
      MemorySegment place = scratch.allocate(ADDRESS);
      Library.check(Native.cudaStreamCreate(device.index(), place));
      return new CudaStream(device, true, place.get(ADDRESS, 0));
    }
  }

  /**
   * Describes a caller-owned stream, which must stay until everything that is enqueued here is
   * done. The handle cannot be checked: as in C, a handle that is not a stream of the device may
   * end the process.
   *
   * @param device the CUDA device of the stream
   * @param handle {@code cudaStream_t} or {@code CUstream}; 0: the legacy default stream
   * @return the stream; closing it destroys nothing
   * @throws IllegalArgumentException if device is not a CUDA device
   */
  public static CudaStream of(LossDevice device, long handle) {
    LossDevice.requireCuda(device);
    Library.load();
    return new CudaStream(device, false, MemorySegment.ofAddress(handle));
  }

  /** {@return the device of the stream} */
  public LossDevice device() {
    return device;
  }

  /** {@return the {@code cudaStream_t}, for other native functions} */
  public long handle() {
    return handle.address();
  }

  /** Returns the handle; refuses a closed stream. */
  MemorySegment checked() {
    if (closed) {
      throw new IllegalStateException("this CudaStream is closed; open another one");
    }
    return handle;
  }

  /**
   * Waits until everything that was enqueued before is done. Does nothing for a closed stream.
   *
   * @throws YoloLossException if the device failed
   */
  public void synchronize() {
    if (!closed) {
      Library.check(Native.cudaStreamSynchronize(device.index(), handle));
    }
  }

  /** {@return the handle and the device of the stream} */
  @Override
  public String toString() {
    return "stream 0x"
        + Long.toHexString(handle.address())
        + " of "
        + device
        + (closed ? ", closed" : "");
  }

  /**
   * Waits for what is enqueued, then frees the stream if it was opened here. Does nothing the
   * second time.
   */
  @Override
  public synchronized void close() {
    if (closed) {
      return;
    }
    synchronize();
    closed = true;
    if (owned) {
      Library.check(Native.cudaStreamDestroy(device.index(), handle));
    }
  }
}
