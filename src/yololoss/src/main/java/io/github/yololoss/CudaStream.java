package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;

import io.github.yololoss.internal.Native;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * A CUDA stream: what is enqueued on it runs in order. One of its own, closed here, or one of a
 * framework's ({@link #of}).
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
   * A new stream, which does not wait for the legacy default stream.
   *
   * @param device a CUDA device
   * @return the stream, to be closed
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
   * A stream of somebody else's, which must stay until everything enqueued here is done. The handle
   * cannot be checked: as in C, one that is no stream of the device may end the process.
   *
   * @param device its CUDA device
   * @param handle {@code cudaStream_t} or {@code CUstream}; 0: the legacy default stream
   * @return the stream, whose closing destroys nothing
   */
  public static CudaStream of(LossDevice device, long handle) {
    LossDevice.requireCuda(device);
    Library.load();
    return new CudaStream(device, false, MemorySegment.ofAddress(handle));
  }

  /** {@return its device} */
  public LossDevice device() {
    return device;
  }

  /** {@return {@code cudaStream_t}, for other native functions} */
  public long handle() {
    return handle.address();
  }

  MemorySegment checked() {
    if (closed) {
      throw new IllegalStateException("this CudaStream is closed; open another one");
    }
    return handle;
  }

  /** Returns when everything is done that was enqueued so far; at once for a closed stream. */
  public void synchronize() {
    if (!closed) {
      Library.check(Native.cudaStreamSynchronize(device.index(), handle));
    }
  }

  /** Waits for what is enqueued, then frees the stream if it was opened here. */
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
