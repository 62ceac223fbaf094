package io.github.yololoss.examples.djl;

import ai.djl.engine.EngineException;
import ai.djl.ndarray.NDArray;
import ai.djl.pytorch.engine.PtNDArray;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.ByteBuffer;

/**
 * Finds where DJL's PyTorch engine stores the elements of a tensor, on the CPU or on a CUDA device.
 * DJL has no public method for it: {@code toByteBuffer} copies a CUDA tensor to the host first. The
 * native method that it calls afterwards wraps {@code data_ptr()} on any device, but is
 * package-private; a private lookup reaches it. It refuses tensors that are not contiguous, sparse
 * tensors and tensors of more than 2 GiB.
 */
final class TensorPointer {
  private static final String LIBRARY = "ai.djl.pytorch.jni.PyTorchLibrary";

  private final MethodHandle directBuffer; // takes a tensor's handle

  /**
   * Looks the method up.
   *
   * @throws UnsupportedOperationException with one sentence if this version of DJL lacks the method
   *     or denies access to it
   */
  TensorPointer() {
    this("torchDirectByteBuffer");
  }

  /** Looks up a method of another name: the test needs one that is missing. */
  TensorPointer(String method) {
    try {
      Class<?> library = Class.forName(LIBRARY);
      MethodHandles.Lookup lookup = MethodHandles.privateLookupIn(library, MethodHandles.lookup());
      directBuffer =
          lookup
              .findVirtual(library, method, MethodType.methodType(ByteBuffer.class, long.class))
              .bindTo(lookup.findStaticVarHandle(library, "LIB", library).get());
    } catch (ReflectiveOperationException e) {
      throw new UnsupportedOperationException(
          LIBRARY
              + " of this DJL has no "
              + method
              + "(long) that this code may call, which finds CUDA tensors; use DJL 0.36.0, which"
              + " has it, or train on the CPU",
          e);
    }
  }

  /**
   * Returns the address of the first element. It is valid while the tensor lives.
   *
   * @throws IllegalArgumentException if the tensor is not PyTorch's, contiguous and below 2 GiB
   */
  long of(NDArray array) {
    if (!(array instanceof PtNDArray tensor)) {
      throw new IllegalArgumentException(
          array.getClass().getSimpleName() + " is not a tensor of DJL's PyTorch engine");
    }
    try {
      ByteBuffer buffer = (ByteBuffer) directBuffer.invokeExact((long) tensor.getHandle());
      return MemorySegment.ofBuffer(buffer).address();
    } catch (EngineException e) {
      throw new IllegalArgumentException(
          "cannot use the tensor of shape " + array.getShape() + ": " + e.getMessage(), e);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("the native method declares no exception", e);
    }
  }
}
