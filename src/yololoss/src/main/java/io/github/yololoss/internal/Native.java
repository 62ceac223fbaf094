package io.github.yololoss.internal;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.AddressLayout;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;

/**
 * The binding: one static method for each function of {@code yololoss.h}. Initialising this class
 * loads the library, so call {@link NativeLibrary#get} first: it fails with a sentence, not with an
 * {@link ExceptionInInitializerError}.
 */
public final class Native {
  private static final Linker LINKER = Linker.nativeLinker();
  private static final SymbolLookup SYMBOLS = NativeLibrary.get().symbols();
  private static final AddressLayout TEXT =
      ADDRESS.withTargetLayout(MemoryLayout.sequenceLayout(Integer.MAX_VALUE, JAVA_BYTE));

  private static final MethodHandle PLAN_CREATE =
      bind("yl_plan_create", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS));
  private static final MethodHandle PLAN_DESTROY =
      bind("yl_plan_destroy", FunctionDescriptor.ofVoid(ADDRESS));
  private static final MethodHandle DEVICE_NAME =
      bind("yl_device_name", FunctionDescriptor.of(TEXT, ADDRESS));
  private static final MethodHandle DEVICE_WHY =
      bind("yl_device_why", FunctionDescriptor.of(TEXT, ADDRESS));
  private static final MethodHandle DEVICE_CHECK =
      bind("yl_device_check", FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT));
  private static final MethodHandle DEVICE_COUNT =
      bind("yl_device_count", FunctionDescriptor.of(JAVA_INT, JAVA_INT, ADDRESS));
  private static final MethodHandle DEVICE_GET_PROPERTIES =
      bind(
          "yl_device_get_properties", FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT, ADDRESS));
  private static final MethodHandle DEVICE_MALLOC =
      bind(
          "yl_device_malloc",
          FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT, JAVA_LONG, ADDRESS));
  private static final MethodHandle DEVICE_MALLOC_HOST =
      bind("yl_device_malloc_host", FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_LONG, ADDRESS));
  private static final MethodHandle DEVICE_COPY =
      bind(
          "yl_device_copy",
          FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG));
  private static final MethodHandle STREAM_CREATE =
      bind("yl_stream_create", FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT, ADDRESS));
  private static final MethodHandle STREAM_DESTROY =
      bind("yl_stream_destroy", FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT, ADDRESS));
  private static final MethodHandle STREAM_SYNCHRONIZE =
      bind("yl_stream_synchronize", FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT, ADDRESS));
  private static final MethodHandle DEVICE_FREE =
      bind("yl_device_free", FunctionDescriptor.of(JAVA_INT, JAVA_INT, ADDRESS));
  private static final MethodHandle DEVICE_FREE_HOST =
      bind("yl_device_free_host", FunctionDescriptor.of(JAVA_INT, JAVA_INT, ADDRESS));
  private static final MethodHandle LAST_ERROR = bind("yl_last_error", FunctionDescriptor.of(TEXT));
  private static final MethodHandle VERSION_STRING =
      bind("yl_version_string", FunctionDescriptor.of(TEXT));
  private static final MethodHandle OFFSET_OF =
      bind("yl_offset_of", FunctionDescriptor.of(JAVA_LONG, ADDRESS, ADDRESS));
  private static final MethodHandle LOSS = bindLoss(Held.FEW);
  private static final MethodHandle LOSS_ASYNC = bindLossAsync(Held.FEW);
  private static final MethodHandle YOLO_HEAD =
      bindHolding("yl_yolo_head_holding", 6, ADDRESS, ADDRESS);

  /** The only kind of device that has memory and streams. */
  private static final int CUDA = Abi.YL_DEVICE_CUDA;

  private Native() {}

  private static MemorySegment symbol(String name) {
    return SYMBOLS
        .find(name)
        .orElseThrow(
            () ->
                new LibraryMissingException(
                    NativeLibrary.get().origin()
                        + " has no function "
                        + name
                        + "; it is not of this version",
                    null));
  }

  private static MethodHandle bind(String name, FunctionDescriptor descriptor) {
    return LINKER.downcallHandle(symbol(name), descriptor);
  }

  /**
   * Returns a handle of a function whose variadic tail is segments that are held, see {@link Held}.
   * The handle takes the tail as an array of that length.
   */
  private static MethodHandle bindHolding(String name, int held, MemoryLayout... fixed) {
    FunctionDescriptor descriptor = FunctionDescriptor.of(JAVA_INT, fixed);
    for (int i = 0; i < held; i++) {
      descriptor = descriptor.appendArgumentLayouts(ADDRESS);
    }
    return LINKER
        .downcallHandle(symbol(name), descriptor, Linker.Option.firstVariadicArg(fixed.length))
        .asSpreader(MemorySegment[].class, held);
  }

  /** Returns a handle of {@link #loss} for that many held segments. */
  public static MethodHandle bindLoss(int held) {
    return bindHolding("yl_loss_holding", held, ADDRESS, ADDRESS, ADDRESS);
  }

  /** Returns a handle of {@link #lossAsync} for that many held segments. */
  public static MethodHandle bindLossAsync(int held) {
    return bindHolding("yl_loss_async_holding", held, ADDRESS, ADDRESS, ADDRESS, ADDRESS);
  }

  /** Returns a handle of {@link #buildYTrue} for that many held segments. */
  public static MethodHandle bindBuildYTrue(int held) {
    return bindHolding(
        "yl_build_y_true_holding", held, ADDRESS, JAVA_INT, ADDRESS, ADDRESS, ADDRESS);
  }

  /** Returns a handle of {@link #audit} for that many held segments. */
  public static MethodHandle bindAudit(int held) {
    return bindHolding(
        "yl_audit_holding", held, ADDRESS, JAVA_INT, ADDRESS, ADDRESS, JAVA_FLOAT, ADDRESS);
  }

  /** Calls {@code yl_status yl_plan_create(const yl_config *config, yl_plan **plan)}. */
  public static int planCreate(MemorySegment config, MemorySegment plan) {
    try {
      return (int) PLAN_CREATE.invokeExact(config, plan);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /** Calls {@code void yl_plan_destroy(yl_plan *plan)}. */
  public static void planDestroy(MemorySegment plan) {
    try {
      PLAN_DESTROY.invokeExact(plan);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /** Calls {@code const char *yl_device_name(const yl_plan *plan)}. */
  public static String deviceName(MemorySegment plan) {
    try {
      return ((MemorySegment) DEVICE_NAME.invokeExact(plan)).getString(0);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /** Calls {@code const char *yl_device_why(const yl_plan *plan)}. */
  public static String deviceWhy(MemorySegment plan) {
    try {
      return ((MemorySegment) DEVICE_WHY.invokeExact(plan)).getString(0);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /** Calls {@code yl_status yl_device_check(int32_t device, int32_t device_index)}. */
  public static int deviceCheck(int device, int index) {
    try {
      return (int) DEVICE_CHECK.invokeExact(device, index);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_loss_holding(yl_plan *plan, const yl_call *call, const yl_result
   * *result, ...)}.
   *
   * @param handle used if the held segments are not few
   */
  public static int loss(
      MethodHandle handle,
      MemorySegment plan,
      MemorySegment call,
      MemorySegment result,
      Held held) {
    try {
      return held.isFew()
          ? (int) LOSS.invokeExact(plan, call, result, held.few())
          : (int) handle.invokeExact(plan, call, result, held.many());
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_loss_async_holding(yl_plan *plan, const yl_call *call, void *stream,
   * const yl_result *result, ...)}.
   *
   * @param handle used if the held segments are not few
   */
  public static int lossAsync(
      MethodHandle handle,
      MemorySegment plan,
      MemorySegment call,
      MemorySegment stream,
      MemorySegment result,
      Held held) {
    try {
      return held.isFew()
          ? (int) LOSS_ASYNC.invokeExact(plan, call, stream, result, held.few())
          : (int) handle.invokeExact(plan, call, stream, result, held.many());
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_yolo_head_holding(yl_plan *plan, const yl_head *head, ...)}, holding
   * six segments.
   */
  public static int yoloHead(MemorySegment plan, MemorySegment head, MemorySegment[] held) {
    try {
      return (int) YOLO_HEAD.invokeExact(plan, head, held);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_build_y_true_holding(yl_plan *plan, int32_t batch, const yl_boxes
   * *boxes, float *const *y_true, yl_box_counts *counts, ...)}.
   */
  public static int buildYTrue(
      MethodHandle handle,
      MemorySegment plan,
      int batch,
      MemorySegment boxes,
      MemorySegment yTrue,
      MemorySegment counts,
      MemorySegment[] held) {
    try {
      return (int) handle.invokeExact(plan, batch, boxes, yTrue, counts, held);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_audit_holding(yl_plan *plan, int32_t batch, const float *const
   * *y_true, const yl_boxes *boxes, float poor_iou, const yl_audit_result *result, ...)}.
   */
  public static int audit(
      MethodHandle handle,
      MemorySegment plan,
      int batch,
      MemorySegment yTrue,
      MemorySegment boxes,
      float poorIou,
      MemorySegment result,
      MemorySegment[] held) {
    try {
      return (int) handle.invokeExact(plan, batch, yTrue, boxes, poorIou, result, held);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /** Calls {@code yl_status yl_device_count(int32_t device, int32_t *count)}. */
  public static int cudaDeviceCount(MemorySegment count) {
    try {
      return (int) DEVICE_COUNT.invokeExact(CUDA, count);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_device_get_properties(int32_t device, int32_t device_index,
   * yl_device_properties *properties)}.
   */
  public static int cudaDeviceInfo(int index, MemorySegment info) {
    try {
      return (int) DEVICE_GET_PROPERTIES.invokeExact(CUDA, index, info);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_device_malloc(int32_t device, int32_t device_index, int64_t bytes,
   * void **memory)}.
   */
  public static int cudaMalloc(int index, long bytes, MemorySegment memory) {
    try {
      return (int) DEVICE_MALLOC.invokeExact(CUDA, index, bytes, memory);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_device_malloc_host(int32_t device, int64_t bytes, void **memory)}.
   */
  public static int cudaMallocHost(long bytes, MemorySegment memory) {
    try {
      return (int) DEVICE_MALLOC_HOST.invokeExact(CUDA, bytes, memory);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_device_copy(int32_t device, int32_t device_index, void *to, const
   * void *from, int64_t bytes)}.
   */
  public static int cudaCopy(int index, MemorySegment to, MemorySegment from, long bytes) {
    try {
      return (int) DEVICE_COPY.invokeExact(CUDA, index, to, from, bytes);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_stream_create(int32_t device, int32_t device_index, void **stream)}.
   */
  public static int cudaStreamCreate(int index, MemorySegment stream) {
    try {
      return (int) STREAM_CREATE.invokeExact(CUDA, index, stream);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_stream_destroy(int32_t device, int32_t device_index, void *stream)}.
   */
  public static int cudaStreamDestroy(int index, MemorySegment stream) {
    try {
      return (int) STREAM_DESTROY.invokeExact(CUDA, index, stream);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_stream_synchronize(int32_t device, int32_t device_index, void
   * *stream)}.
   */
  public static int cudaStreamSynchronize(int index, MemorySegment stream) {
    try {
      return (int) STREAM_SYNCHRONIZE.invokeExact(CUDA, index, stream);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_device_free(int32_t device, void *memory)}; as a cleanup, which has
   * nobody to tell of a failure.
   */
  public static void cudaFree(MemorySegment memory) {
    try {
      int ignored = (int) DEVICE_FREE.invokeExact(CUDA, memory);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Calls {@code yl_status yl_device_free_host(int32_t device, void *memory)}; as a cleanup, which
   * has nobody to tell of a failure.
   */
  public static void cudaFreeHost(MemorySegment memory) {
    try {
      int ignored = (int) DEVICE_FREE_HOST.invokeExact(CUDA, memory);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /** Calls {@code const char *yl_last_error(void)}: that of this thread. */
  public static String lastError() {
    try {
      return ((MemorySegment) LAST_ERROR.invokeExact()).getString(0);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /** Calls {@code const char *yl_version_string(void)}. */
  public static String versionString() {
    try {
      return ((MemorySegment) VERSION_STRING.invokeExact()).getString(0);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /** Calls {@code int64_t yl_offset_of(const char *struct_name, const char *field)}. */
  public static long offsetOf(MemorySegment structName, MemorySegment field) {
    try {
      return (long) OFFSET_OF.invokeExact(structName, field);
    } catch (Throwable t) {
      throw rethrow(t);
    }
  }

  /**
   * Returns what a handle threw, which is unchecked: the JVM's refusal of a segment, or an error.
   */
  private static RuntimeException rethrow(Throwable t) {
    if (t instanceof RuntimeException e) {
      return e;
    }
    if (t instanceof Error e) {
      throw e;
    }
    throw new AssertionError("a downcall threw a checked exception", t);
  }
}
