package io.github.yololoss;

import java.lang.foreign.MemorySegment;

/** Checks segments of a caller. One that passes can be read, or written, by native code. */
final class Segments {
  private Segments() {}

  /** Refuses null. */
  static void requireGiven(String name, Object argument) {
    if (argument == null) {
      throw new IllegalArgumentException(name + " is null");
    }
  }

  /** Returns checked memory of that many floats that is written, or NULL for null. */
  static MemorySegment optional(String name, MemorySegment segment, long floats) {
    return segment == null
        ? MemorySegment.NULL
        : checked(name, segment, floats * Float.BYTES, true);
  }

  static MemorySegment checked(String name, MemorySegment segment, long needed, boolean written) {
    return checked(name, segment, needed, written, Float.BYTES);
  }

  /** Returns the segment, if it fits. */
  static MemorySegment checked(
      String name, MemorySegment segment, long needed, boolean written, long alignment) {
    if (!fits(segment, needed, written, alignment)) {
      refuse(name, segment, needed, written, alignment);
    }
    return segment;
  }

  /** Returns whether native code may use a segment as memory of needed bytes. */
  static boolean fits(MemorySegment segment, long needed, boolean written, long alignment) {
    return segment != null
        && segment.isNative()
        && segment.isAccessibleBy(Thread.currentThread())
        && segment.scope().isAlive()
        && segment.byteSize() >= needed
        && (segment.address() & alignment - 1) == 0 // a power of two
        && !(written && segment.isReadOnly());
  }

  /** Returns the sentence for memory that is too short. */
  static String tooShort(String name, long bytes, long needed) {
    return name + " holds " + bytes + " bytes, " + needed + " are expected for this batch and spec";
  }

  /** Throws the exception that says which of the rules of {@link #fits} is broken. */
  static void refuse(
      String name, MemorySegment segment, long needed, boolean written, long alignment) {
    if (segment == null) {
      throw new IllegalArgumentException(
          name + " is null, a segment of " + needed + " bytes is expected");
    }
    if (!segment.isNative()) {
      throw new IllegalArgumentException(
          name + " lies on the heap, memory of an Arena is expected");
    }
    if (!segment.scope().isAlive()) {
      throw new IllegalStateException(name + " is closed: its arena was closed before the call");
    }
    if (!segment.isAccessibleBy(Thread.currentThread())) {
      throw new WrongThreadException(
          name + " is confined to another thread; allocate it with Arena.ofShared()");
    }
    if (segment.byteSize() < needed) {
      throw new IllegalArgumentException(tooShort(name, segment.byteSize(), needed));
    }
    if (written && segment.isReadOnly()) {
      throw new IllegalArgumentException(name + " is read-only, but it is written");
    }
    throw new IllegalArgumentException(
        name + " at " + segment.address() + " is not aligned to " + alignment + " bytes");
  }
}
