package io.github.yololoss;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * What must not be closed during a native call: one segment of each scope, which holds all memory
 * of that scope. Passed to a function as a tail of arguments that it does not look at.
 */
final class Held {
  /** So many scopes nearly always suffice; the handles for as many are constants to the JIT. */
  static final int FEW = 4;

  private final MemorySegment[] few = new MemorySegment[FEW];
  private final MemorySegment[] many;
  private int count;
  private int filled; // places that are not NULL, once all are held

  /**
   * @param most segments of a call, each perhaps of a scope of its own
   */
  Held(int most) {
    many = new MemorySegment[most];
    Arrays.fill(few, MemorySegment.NULL);
    Arrays.fill(many, MemorySegment.NULL);
  }

  /** For another call. */
  void clear() {
    filled = Math.max(filled, count);
    count = 0;
  }

  void hold(MemorySegment segment) {
    for (int i = 0; i < count; i++) {
      if (many[i].scope().equals(segment.scope())) {
        return;
      }
    }
    put(count++, segment);
  }

  boolean isFew() {
    return count <= FEW;
  }

  /** If they are few: {@link #FEW} segments, NULL behind them. */
  MemorySegment[] few() {
    trim();
    return few;
  }

  /** As many as the constructor was told, NULL behind them. */
  MemorySegment[] many() {
    trim();
    return many;
  }

  private void trim() {
    while (filled > count) {
      put(--filled, MemorySegment.NULL);
    }
  }

  /** Calls with the same memory as before store nothing: a reference that is stored costs more. */
  private void put(int place, MemorySegment segment) {
    if (many[place] == segment) {
      return;
    }
    many[place] = segment;
    if (place < FEW) {
      few[place] = segment;
    }
  }
}
