package io.github.yololoss.examples.mpi;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.util.Objects;

/**
 * What data-parallel training needs of Open MPI, by java.lang.foreign. Handles are addresses of the
 * library's own objects, which mpi.h names in macros. One thread calls it.
 */
final class Mpi implements AutoCloseable {
  private static final MemorySegment IN_PLACE = MemorySegment.ofAddress(1); // MPI_IN_PLACE
  private static final int MAX_ERROR_STRING = 256;

  private final SymbolLookup library;
  private final MemorySegment world;
  private final MemorySegment sum;
  private final MethodHandle allReduce;
  private final MethodHandle broadcast;
  private final MethodHandle gather;
  private final MethodHandle errorString;
  private final int rank;
  private final int size;

  Mpi() {
    try {
      library = SymbolLookup.libraryLookup("libmpi.so.40", Arena.global());
    } catch (IllegalArgumentException e) {
      throw new IllegalStateException(
          "libmpi.so.40 was not found; install Open MPI (Debian: openmpi-bin)", e);
    }
    world = symbol("ompi_mpi_comm_world");
    sum = symbol("ompi_mpi_op_sum");
    errorString = function("MPI_Error_string", JAVA_INT, ADDRESS, ADDRESS);
    allReduce = function("MPI_Allreduce", ADDRESS, ADDRESS, JAVA_INT, ADDRESS, ADDRESS, ADDRESS);
    broadcast = function("MPI_Bcast", ADDRESS, JAVA_INT, ADDRESS, JAVA_INT, ADDRESS);
    gather =
        function(
            "MPI_Gather",
            ADDRESS,
            JAVA_INT,
            ADDRESS,
            ADDRESS,
            JAVA_INT,
            ADDRESS,
            JAVA_INT,
            ADDRESS);
    call(function("MPI_Init", ADDRESS, ADDRESS), MemorySegment.NULL, MemorySegment.NULL);
    call(
        function("MPI_Comm_set_errhandler", ADDRESS, ADDRESS),
        world,
        symbol("ompi_mpi_errors_return")); // else a failing call ends the JVM
    rank = number("MPI_Comm_rank");
    size = number("MPI_Comm_size");
  }

  private MemorySegment symbol(String name) {
    return library
        .find(name)
        .orElseThrow(() -> new IllegalStateException("libmpi.so.40 has no " + name));
  }

  private MethodHandle function(String name, MemoryLayout... arguments) {
    return Linker.nativeLinker()
        .downcallHandle(symbol(name), FunctionDescriptor.of(JAVA_INT, arguments));
  }

  private int number(String function) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment place = arena.allocate(JAVA_INT);
      call(function(function, ADDRESS, ADDRESS), world, place);
      return place.get(JAVA_INT, 0);
    }
  }

  private void call(MethodHandle function, Object... arguments) {
    try (Arena arena = Arena.ofConfined()) {
      int code = (int) function.invokeWithArguments(arguments);
      if (code != 0) {
        MemorySegment text = arena.allocate(MAX_ERROR_STRING);
        errorString.invokeWithArguments(code, text, arena.allocate(JAVA_INT));
        throw new IllegalStateException("MPI: " + text.getString(0));
      }
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** {@return 0..size-1} */
  int rank() {
    return rank;
  }

  /** {@return how many processes there are} */
  int size() {
    return size;
  }

  /** Every rank gets the sum of all ranks' numbers, float64 or float32. */
  void sum(MemorySegment values, boolean float64) {
    int count = Math.toIntExact(values.byteSize() / (float64 ? Double.BYTES : Float.BYTES));
    MemorySegment type = symbol(float64 ? "ompi_mpi_double" : "ompi_mpi_float");
    call(allReduce, IN_PLACE, values, count, type, sum, world);
  }

  /** {@return the sum of all ranks' words} Integers: exact, in any order. */
  long[] sumLongs(long[] words) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment values = arena.allocateFrom(JAVA_LONG, words);
      call(allReduce, IN_PLACE, values, words.length, symbol("ompi_mpi_int64_t"), sum, world);
      return values.toArray(JAVA_LONG);
    }
  }

  /** Every rank gets what rank 0 has. */
  void broadcast(MemorySegment bytes) {
    int count = Math.toIntExact(bytes.byteSize());
    call(broadcast, bytes, count, symbol("ompi_mpi_byte"), 0, world);
  }

  /**
   * Rank 0 gets what every rank has, in the order of ranks.
   *
   * @param mine as many bytes on every rank
   * @param all size times as many; null on other ranks
   */
  void gather(MemorySegment mine, MemorySegment all) {
    MemorySegment type = symbol("ompi_mpi_byte");
    int count = Math.toIntExact(mine.byteSize());
    MemorySegment to = Objects.requireNonNullElse(all, MemorySegment.NULL);
    call(gather, mine, count, type, to, count, type, 0, world);
  }

  /** Ends all ranks: one of them cannot go on. */
  void abort() {
    call(function("MPI_Abort", ADDRESS, JAVA_INT), world, 1);
  }

  @Override
  public void close() {
    call(function("MPI_Finalize"));
  }
}
