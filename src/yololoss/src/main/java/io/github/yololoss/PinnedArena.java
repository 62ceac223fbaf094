package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;

import io.github.yololoss.internal.Native;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * An arena of pinned host memory. To Java it is memory like any other; every CUDA device can reach
 * it, so that it is copied at full speed, and {@link CudaYoloLoss} takes it by {@link
 * DeviceBuffer#of}. It is scarce: allocate once and reuse it. Each segment is aligned to 256 bytes
 * and zeroed.
 */
public final class PinnedArena implements Arena {
  private static final long ALIGNMENT = 256;
  private final Arena arena;

  private PinnedArena(Arena arena) {
    Library.load();
    this.arena = arena;
  }

  /**
   * {@return an arena for the calling thread only}
   *
   * @throws YoloLossException if the native library cannot be loaded
   */
  public static PinnedArena ofConfined() {
    return new PinnedArena(Arena.ofConfined());
  }

  /**
   * {@return an arena for all threads}
   *
   * @throws YoloLossException if the native library cannot be loaded
   */
  public static PinnedArena ofShared() {
    return new PinnedArena(Arena.ofShared());
  }

  /**
   * {@return an arena whose memory the garbage collector frees} It cannot be closed.
   *
   * @throws YoloLossException if the native library cannot be loaded
   */
  public static PinnedArena ofAuto() {
    return new PinnedArena(Arena.ofAuto());
  }

  /**
   * Allocates pinned memory, zeroed.
   *
   * @param byteSize size in bytes
   * @param byteAlignment a power of 2, at most 256
   * @throws IllegalArgumentException if the size is negative, or the alignment is not allowed
   * @throws YoloLossException if there is no CUDA device or not that much memory
   */
  @Override
  public MemorySegment allocate(long byteSize, long byteAlignment) {
    if (byteSize < 0
        || byteAlignment < 1
        || byteAlignment > ALIGNMENT
        || Long.bitCount(byteAlignment) != 1) {
      throw new IllegalArgumentException(
          byteSize
              + " bytes aligned to "
              + byteAlignment
              + ": a size of at least 0 and a power of 2 up to "
              + ALIGNMENT
              + " are expected");
    }
    if (byteSize == 0) {
      return arena.allocate(0, byteAlignment);
    }
    try (Arena scratch = Arena.ofConfined()) {
      MemorySegment place = scratch.allocate(ADDRESS);
      Library.check(Native.cudaMallocHost(byteSize, place));
      MemorySegment memory = place.get(ADDRESS, 0);
      try {
        return memory.reinterpret(byteSize, arena, Native::cudaFreeHost).fill((byte) 0);
      } catch (RuntimeException e) { // the arena is closed, or of another thread
        Native.cudaFreeHost(memory);
        throw e;
      }
    }
  }

  /** {@return the kind of memory, and whether it is closed} */
  @Override
  public String toString() {
    return "arena of pinned memory" + (arena.scope().isAlive() ? "" : ", closed");
  }

  @Override
  public MemorySegment.Scope scope() {
    return arena.scope();
  }

  @Override
  public void close() {
    arena.close();
  }
}
