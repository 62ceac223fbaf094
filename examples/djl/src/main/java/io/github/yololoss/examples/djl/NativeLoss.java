package io.github.yololoss.examples.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDArrays;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.types.Shape;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.jni.JniUtils;
import ai.djl.training.loss.Loss;
import io.github.yololoss.CudaYoloLoss;
import io.github.yololoss.DeviceBuffer;
import io.github.yololoss.FeatsLayout;
import io.github.yololoss.FeatsType;
import io.github.yololoss.LossDevice;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * Makes yololoss a loss of DJL, on the CPU or on a CUDA device. The labels are boxes (B, T, 5), the
 * predictions the layers' outputs (B, A*(5+C), H, W). Predictions are read where DJL stores them,
 * and the gradient is written into a tensor of DJL: nothing is copied between host and device. A
 * training loop calls {@link #backward}; {@link #evaluate} is for DJL's own trainers.
 */
public final class NativeLoss extends Loss implements AutoCloseable {
  private final ai.djl.Device device;
  private final TensorPointer pointer; // null on the CPU
  private final FeatsType type;
  private final YoloLoss onHost; // null on a CUDA device
  private final CudaYoloLoss onDevice; // null on the CPU
  private final LossOptions options;
  private final LossResult result;

  /**
   * Opens the library for one device.
   *
   * @param type of predictions and gradients
   * @param options with a normaliser other than the batch where a batch is spread over several
   *     calls or processes
   * @param device of boxes and predictions
   * @throws UnsupportedOperationException if this version of DJL does not show where CUDA tensors
   *     are
   */
  public NativeLoss(
      YoloSpec spec, int maxBatch, FeatsType type, LossOptions options, ai.djl.Device device) {
    super("yololoss");
    this.options = options;
    this.device = device;
    pointer = device.isGpu() ? new TensorPointer() : null;
    this.type = type;
    YoloLoss.Builder builder =
        YoloLoss.builder(spec).maxBatch(maxBatch).featsType(type).layout(FeatsLayout.NCHW);
    onHost = device.isGpu() ? null : builder.open();
    onDevice = device.isGpu() ? builder.openCuda(device.getDeviceId()) : null;
    result = onHost != null ? onHost.newResult() : onDevice.newResult();
  }

  /**
   * Computes the loss and passes its gradient to the backward pass of the network. The outputs are
   * joined, so that one pass serves all layers; PyTorch reads the gradient where the library wrote
   * it.
   *
   * @param boxes (B, T, 5)
   * @param predictions computed while a gradient collector was open
   * @return the loss
   */
  public double backward(NDArray boxes, NDList predictions) {
    NDArray gradient = gradient(boxes, predictions);
    JniUtils.backward((PtNDArray) joined(predictions), (PtNDArray) gradient, false, false);
    return result.total();
  }

  /** Returns a scalar with the value of the loss, whose derivative is the library's gradient. */
  @Override
  public NDArray evaluate(NDList labels, NDList predictions) {
    NDArray gradient = gradient(labels.singletonOrThrow(), predictions);
    NDArray product = joined(predictions).dot(gradient); // d product / d predictions = gradient
    return product.sub(product.stopGradient()).add((float) result.total());
  }

  /** Returns the loss without a gradient. */
  double valueOf(NDArray boxes, NDList predictions) {
    require(boxes, predictions);
    compute(boxes, predictions, null);
    return result.total();
  }

  /** Returns the gradients of all layers in one new tensor, in the order of {@link #joined}. */
  private NDArray gradient(NDArray boxes, NDList predictions) {
    require(boxes, predictions);
    NDArray first = predictions.head();
    long[] ends = predictions.stream().mapToLong(NDArray::size).toArray();
    Arrays.parallelPrefix(ends, Long::sum);
    int last = ends.length - 1;
    NDArray gradient =
        first.getManager().create(new Shape(ends[last]), first.getDataType(), device);
    compute(boxes, predictions, gradient.split(Arrays.copyOf(ends, last))); // views
    return gradient;
  }

  private static NDArray joined(NDList predictions) {
    return NDArrays.concat(
        new NDList(predictions.stream().map(NDArray::flatten).toArray(NDArray[]::new)));
  }

  /** Refuses tensors that this loss was not opened for; it would misread them. */
  private void require(NDArray boxes, NDList predictions) {
    require("the boxes", boxes, FeatsType.FLOAT32);
    predictions.forEach(prediction -> require("a prediction", prediction, type));
  }

  private void require(String name, NDArray array, FeatsType type) {
    if (!array.getDevice().equals(device) || !array.getDataType().name().equals(type.name())) {
      throw new IllegalArgumentException(
          "%s: %s on %s; this NativeLoss expects %s on %s"
              .formatted(name, array.getDataType(), array.getDevice(), type, device));
    }
  }

  /**
   * Runs the library. Its calls in device memory are ordered behind the legacy default stream,
   * which is PyTorch's unless a program chooses another. DJL chooses none, unless the property
   * ai.djl.pytorch.enable_cuda_stream gives TorchScript models streams of their own.
   *
   * @param grads a tensor for each layer, or null
   */
  void compute(NDArray boxes, NDList predictions, NDList grads) {
    int batch = (int) boxes.getShape().get(0);
    int perImage = (int) boxes.getShape().get(1);
    if (onDevice != null) {
      onDevice.compute(
          batch,
          buffers(predictions),
          Targets.boxes(buffer(boxes), perImage),
          grads == null ? null : buffers(grads),
          options,
          result);
    } else {
      onHost.compute(
          batch,
          segments(predictions),
          Targets.boxes(segment(boxes), perImage),
          grads == null ? null : segments(grads),
          options,
          result);
    }
  }

  private DeviceBuffer buffer(NDArray array) {
    long bytes = array.size() * array.getDataType().getNumOfBytes();
    return DeviceBuffer.of(LossDevice.cuda(device.getDeviceId()), pointer.of(array), bytes);
  }

  private DeviceBuffer[] buffers(NDList arrays) {
    return arrays.stream().map(this::buffer).toArray(DeviceBuffer[]::new);
  }

  /**
   * Returns the memory of a CPU tensor, without a copy if it is contiguous, as outputs of a
   * convolution and new tensors are. A CUDA tensor is copied to the host.
   */
  public static MemorySegment segment(NDArray array) {
    return MemorySegment.ofBuffer(array.toByteBuffer(true));
  }

  private static MemorySegment[] segments(NDList arrays) {
    return arrays.stream().map(NativeLoss::segment).toArray(MemorySegment[]::new);
  }

  /** Returns the result of the last call. */
  public LossResult result() {
    return result;
  }

  /** Returns the type of predictions and gradients. */
  public FeatsType featsType() {
    return type;
  }

  /** Returns the library's name of the device that it uses. */
  public String deviceName() {
    return onHost != null ? onHost.deviceName() : onDevice.deviceName();
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
