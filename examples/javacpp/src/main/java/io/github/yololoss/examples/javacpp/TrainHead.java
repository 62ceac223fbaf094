package io.github.yololoss.examples.javacpp;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.CudaYoloLoss;
import io.github.yololoss.DeviceBuffer;
import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossDevice;
import io.github.yololoss.LossResult;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.kit.LossLog;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Arrays;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Adam;
import org.bytedeco.pytorch.AdamOptions;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Conv2dImpl;
import org.bytedeco.pytorch.Conv2dOptions;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;

/**
 * Trains two heads of convolutions on one batch: {@code TrainHead [cpu|cuda|cuda:N]}. The loss
 * reads the tensors' memory by {@code data_ptr()} and writes the gradients into tensors, which
 * {@code backward} takes: nothing is copied. On CUDA only the type of the memory differs: {@link
 * CudaYoloLoss} takes {@link DeviceBuffer} where {@link YoloLoss} takes {@link MemorySegment}.
 */
public final class TrainHead {
  private static final int BATCH = 2;
  private static final float[] BOXES = {
    8, 10, 90, 100, 0, /**/ 70, 70, 95, 100, 2, /* image 1 */ 30, 20, 120, 80, 1, /**/ 0, 0, 0, 0, 0
  };

  private static final Path LOG = Path.of("target/examples/javacpp/steps.jsonl");

  private TrainHead() {}

  public static void main(String[] arguments) throws IOException {
    LossDevice on = LossDevice.parse(arguments.length > 0 ? arguments[0] : "cpu");
    boolean cuda = on.kind() == LossDevice.Kind.CUDA;
    YoloSpec spec = YoloSpec.tinyYolov3(3, 128, 128);
    try (PointerScope run = new PointerScope();
        TensorLoss loss = new TensorLoss(spec, on);
        LossLog log = LossLog.create(LOG)) { // for yololoss compare
      torch.manual_seed(1);
      org.bytedeco.pytorch.Device device =
          new org.bytedeco.pytorch.Device(
              cuda ? torch.DeviceType.CUDA : torch.DeviceType.CPU, (byte) on.index());
      Conv2dImpl[] heads = new Conv2dImpl[spec.layers().size()];
      TensorVector parameters = new TensorVector();
      for (int l = 0; l < heads.length; l++) {
        long stride = 128 / spec.layers().get(l).gridHeight();
        Conv2dOptions options = new Conv2dOptions(3, 24, new LongPointer(stride, stride));
        options.stride().put(0, stride).put(1, stride);
        heads[l] = new Conv2dImpl(options);
        heads[l].to(device, false);
        parameters.put(heads[l].parameters().get());
      }
      Adam optimizer = new Adam(parameters, new AdamOptions(0.01));
      Tensor images = torch.rand(BATCH, 3, 128, 128).to(device, torch.ScalarType.Float);
      Tensor boxes = boxes().to(device, torch.ScalarType.Float);
      LossResult result = loss.newResult();
      double first = 0;
      for (int step = 0; step <= 60; step++) {
        try (PointerScope ofStep = new PointerScope()) { // tensors of the step go at its end
          Tensor[] outputs = new Tensor[heads.length];
          Tensor[] grads = new Tensor[heads.length];
          for (int l = 0; l < heads.length; l++) {
            outputs[l] = heads[l].forward(images);
            grads[l] = torch.empty_like(outputs[l]);
          }
          loss.compute(outputs, boxes, grads, result);
          optimizer.zero_grad();
          torch.backward(
              new TensorVector(outputs),
              new TensorVector(grads),
              new BoolOptional(),
              false,
              new TensorVector());
          optimizer.step();
        }
        log.write(step, result);
        first = step == 0 ? result.total() : first;
        if (step % 20 == 0) {
          System.out.printf("step %2d: loss %.3f on %s%n", step, result.total(), loss.deviceName());
        }
      }
      if (!(result.total() < first / 2)) {
        throw new IllegalStateException("the loss did not fall");
      }
    }
  }

  private static Tensor boxes() {
    Tensor boxes = torch.empty(BATCH, BOXES.length / 5 / BATCH, 5);
    MemorySegment.copy(BOXES, 0, segment(boxes), JAVA_FLOAT, 0, BOXES.length);
    return boxes;
  }

  /** The loss of tensors that are on the host, or on a CUDA device. */
  private static final class TensorLoss implements AutoCloseable {
    private final YoloLoss onHost; // null on a CUDA device
    private final CudaYoloLoss onDevice; // null on the host

    TensorLoss(YoloSpec spec, LossDevice device) {
      YoloLoss.Builder builder =
          YoloLoss.builder(spec).maxBatch(BATCH).layout(FeatsLayout.NCHW).device(device);
      boolean cuda = device.kind() == LossDevice.Kind.CUDA;
      onHost = cuda ? null : builder.open();
      onDevice = cuda ? builder.openCuda(device.index()) : null;
    }

    LossResult newResult() {
      return onHost != null ? onHost.newResult() : onDevice.newResult();
    }

    String deviceName() {
      return onHost != null ? onHost.deviceName() : onDevice.deviceName();
    }

    /** Computes loss and gradients of contiguous float32 tensors (B, A*(5+C), H, W). */
    void compute(Tensor[] outputs, Tensor boxes, Tensor[] grads, LossResult result) {
      int perImage = (int) (boxes.numel() / 5 / BATCH);
      if (onDevice != null) { // ordered behind PyTorch's default, the legacy stream
        onDevice.compute(
            BATCH,
            buffers(outputs),
            Targets.boxes(buffer(boxes), perImage),
            buffers(grads),
            result);
      } else {
        onHost.compute(
            BATCH,
            segments(outputs),
            Targets.boxes(segment(boxes), perImage),
            segments(grads),
            result);
      }
    }

    @Override
    public void close() {
      if (onHost != null) {
        onHost.close();
      } else {
        onDevice.close();
      }
    }
  }

  /** Returns the address of a tensor's elements, or refuses a tensor that would be misread. */
  private static long address(Tensor tensor) {
    if (!tensor.is_contiguous() || tensor.scalar_type().intern() != torch.ScalarType.Float) {
      throw new IllegalArgumentException(
          "a tensor is of type "
              + tensor.scalar_type().intern()
              + (tensor.is_contiguous() ? "" : " and not contiguous")
              + "; contiguous float tensors are expected");
    }
    return tensor.data_ptr().address();
  }

  private static MemorySegment segment(Tensor tensor) {
    return MemorySegment.ofAddress(address(tensor)).reinterpret(tensor.nbytes());
  }

  private static MemorySegment[] segments(Tensor[] tensors) {
    return Arrays.stream(tensors).map(TrainHead::segment).toArray(MemorySegment[]::new);
  }

  private static DeviceBuffer buffer(Tensor tensor) {
    LossDevice device = LossDevice.cuda(tensor.device().index());
    return DeviceBuffer.of(device, address(tensor), tensor.nbytes());
  }

  private static DeviceBuffer[] buffers(Tensor[] tensors) {
    return Arrays.stream(tensors).map(TrainHead::buffer).toArray(DeviceBuffer[]::new);
  }
}
