package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/**
 * Memory between two pages whose touch ends the process. It lies against one of them; what is left
 * over up to the other holds a pattern that {@link #isWhole} looks for.
 */
final class GuardedMemory {
  private static final long PAGE = 4096;
  private static final byte PATTERN = 0x5C;
  private static final MethodHandle MMAP =
      handle("mmap", ADDRESS, ADDRESS, JAVA_LONG, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_LONG);
  private static final MethodHandle MUNMAP = handle("munmap", JAVA_INT, ADDRESS, JAVA_LONG);
  private static final MethodHandle MPROTECT =
      handle("mprotect", JAVA_INT, ADDRESS, JAVA_LONG, JAVA_INT);

  private final MemorySegment pages; // between the guards
  private final MemorySegment pattern;
  private final long start;
  private final long byteSize;

  private static MethodHandle handle(String name, ValueLayout result, MemoryLayout... arguments) {
    Linker linker = Linker.nativeLinker();
    return linker.downcallHandle(
        linker.defaultLookup().findOrThrow(name), FunctionDescriptor.of(result, arguments));
  }

  /**
   * @param atEnd whether it ends at a guard, or begins at one
   */
  GuardedMemory(Arena arena, long byteSize, boolean atEnd) {
    this.byteSize = byteSize;
    long inner = Math.max(PAGE, (byteSize + PAGE - 1) / PAGE * PAGE);
    long all = inner + 2 * PAGE;
    try {
      int none = 0;
      int readAndWrite = 3;
      int privateAndAnonymous = 0x22;
      MemorySegment mapped =
          (MemorySegment)
              MMAP.invokeExact(MemorySegment.NULL, all, readAndWrite, privateAndAnonymous, -1, 0L);
      MemorySegment whole =
          mapped.reinterpret(
              all,
              arena,
              m -> {
                try {
                  int ignored = (int) MUNMAP.invokeExact(m, all);
                } catch (Throwable t) {
                  throw new AssertionError(t);
                }
              });
      int first = (int) MPROTECT.invokeExact(whole.asSlice(0, PAGE), PAGE, none);
      int last = (int) MPROTECT.invokeExact(whole.asSlice(PAGE + inner, PAGE), PAGE, none);
      if (first != 0 || last != 0) {
        throw new AssertionError("mprotect failed");
      }
      pages = whole.asSlice(PAGE, inner);
    } catch (Throwable t) {
      throw new AssertionError(t);
    }
    pages.fill(PATTERN);
    pattern = arena.allocate(inner).fill(PATTERN);
    start = atEnd ? inner - byteSize : 0;
  }

  /** The memory. */
  MemorySegment segment() {
    return pages.asSlice(start, byteSize);
  }

  /** Whether nothing beside it was written. */
  boolean isWhole() {
    return isPattern(0, start) && isPattern(start + byteSize, pages.byteSize());
  }

  private boolean isPattern(long from, long to) {
    return MemorySegment.mismatch(pages, from, to, pattern, from, to) == -1;
  }
}
