package io.github.yololoss.internal;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * Keeps memory alive during a native call. The JVM pins the scope of every segment that is passed
 * as an argument, so one segment of each scope is passed in a variadic tail that the callee
 * ignores.
 *
 * <p>Nearly every call holds few scopes. The handles for {@link #FEW} segments are constants to the
 * JIT compiler and so faster than those for {@link #many}.
 */
public final class Held {
  static final int FEW = 4;

  private final MemorySegment[] few = new MemorySegment[FEW];
  private final MemorySegment[] many;
  private int count;
  private int filled; // elements that may not be NULL, once all are held

  /**
   * Makes an empty list.
   *
   * @param most largest number of segments of a call, each perhaps of a scope of its own
   */
  public Held(int most) {
    many = new MemorySegment[most];
    Arrays.fill(few, MemorySegment.NULL);
    Arrays.fill(many, MemorySegment.NULL);
  }

  /** Empties the list, for another call. */
  public void clear() {
    filled = Math.max(filled, count);
    count = 0;
  }

  /** Adds a segment, unless its scope is held already. */
  public void hold(MemorySegment segment) {
    for (int i = 0; i < count; i++) {
      if (many[i].scope().equals(segment.scope())) {
        return;
      }
    }
    put(count++, segment);
  }

  /** Returns the number of segments that {@link #many} always has. */
  public int most() {
    return many.length;
  }

  boolean isFew() {
    return count <= FEW;
  }

  /** Returns {@link #FEW} segments, if they are few; NULL follows the last. */
  MemorySegment[] few() {
    trim();
    return few;
  }

  /** Returns as many segments as the constructor was given; NULL follows the last. */
  public MemorySegment[] many() {
    trim();
    return many;
  }

  private void trim() {
    while (filled > count) {
      put(--filled, MemorySegment.NULL);
    }
  }

  /**
   * Stores a segment, unless it is there: calls with the same memory as before store nothing, since
   * storing a reference costs more than reading one.
   */
  private void put(int index, MemorySegment segment) {
    if (many[index] == segment) {
      return;
    }
    many[index] = segment;
    if (index < FEW) {
      few[index] = segment;
    }
  }
}
