package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;

import io.github.yololoss.internal.Native;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * An arena of pinned host memory: memory like any other to Java, which every CUDA device can reach,
 * so that it is copied at full speed and a {@link YoloLoss} of device memory takes it too. It is
 * scarce; allocate once and use it again. Each segment is aligned to 256 bytes and zeroed.
 */
public final class PinnedArena implements Arena {
  private static final long ALIGNMENT = 256;
  private final Arena arena;

  private PinnedArena(Arena arena) {
    Library.load();
    this.arena = arena;
  }

  /**
   * For the calling thread alone.
   *
   * @return the arena
   */
  public static PinnedArena ofConfined() {
    return new PinnedArena(Arena.ofConfined());
  }

  /**
   * For any thread.
   *
   * @return the arena
   */
  public static PinnedArena ofShared() {
    return new PinnedArena(Arena.ofShared());
  }

  /**
   * Freed some time after nothing refers to it any more; it cannot be closed.
   *
   * @return the arena
   */
  public static PinnedArena ofAuto() {
    return new PinnedArena(Arena.ofAuto());
  }

  /**
   * Pinned memory.
   *
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

  @Override
  public MemorySegment.Scope scope() {
    return arena.scope();
  }

  @Override
  public void close() {
    arena.close();
  }
}
