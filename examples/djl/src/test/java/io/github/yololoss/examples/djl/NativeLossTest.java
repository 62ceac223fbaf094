package io.github.yololoss.examples.djl;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import ai.djl.Device;
import ai.djl.Model;
import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.training.DefaultTrainingConfig;
import ai.djl.training.GradientCollector;
import ai.djl.training.Trainer;
import io.github.yololoss.DeviceBuffer;
import io.github.yololoss.LossOptions;
import io.github.yololoss.YoloSpec;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.BiConsumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/** Tests how tensors reach the library and how gradients return, without training. */
class NativeLossTest {
  private static final YoloSpec SPEC = YoloSpec.tinyYolov3(3, 96, 96);
  private static final int CHANNELS = 3 * (5 + 3);
  private static final int BATCH = 2;
  private static final float[] BOXES = {
    8, 10, 70, 80, 0, 50, 50, 75, 90, 2, /* image 1 */ 30, 20, 90, 80, 1, 0, 0, 0, 0, 0
  };

  private NDManager manager;

  @BeforeEach
  void open() {
    manager = NDManager.newBaseManager(Device.cpu());
  }

  @AfterEach
  void close() {
    manager.close();
  }

  private static NativeLoss loss(Device device) {
    return new NativeLoss(
        SPEC, BATCH, io.github.yololoss.FeatsType.FLOAT32, LossOptions.DEFAULT, device);
  }

  private NDArray boxes() {
    return manager.create(BOXES, new Shape(BATCH, 2, 5));
  }

  private NDList predictions() {
    Engine.getInstance().setRandomSeed(1);
    NDList predictions = new NDList();
    for (YoloSpec.Layer layer : SPEC.layers()) {
      predictions.add(
          manager.randomNormal(new Shape(BATCH, CHANNELS, layer.gridHeight(), layer.gridWidth())));
    }
    return predictions;
  }

  @Test
  void thePointerOfACpuTensorIsTheAddressOfItsBuffer() {
    TensorPointer pointer = new TensorPointer();
    NDArray whole = manager.zeros(new Shape(3, 5));
    NDArray part = whole.split(new long[] {2}).get(1); // a view of the last row
    for (NDArray array : List.of(whole, part)) {
      MemorySegment buffer = MemorySegment.ofBuffer(array.toByteBuffer(true));
      assertEquals(buffer.address(), pointer.of(array));
    }
    assertEquals(pointer.of(whole) + 40, pointer.of(part));
    MemorySegment.ofAddress(pointer.of(part)).reinterpret(20).set(ValueLayout.JAVA_FLOAT, 4, 7);
    assertEquals(7, whole.getFloat(2, 1));
  }

  @Test
  void aMethodThatDjlLacksIsOneSentence() {
    assertEquals(
        "ai.djl.pytorch.jni.PyTorchLibrary of this DJL has no torchAddress(long) that this code may"
            + " call, which finds CUDA tensors; use DJL 0.36.0, which has it, or train on the CPU",
        assertThrows(UnsupportedOperationException.class, () -> new TensorPointer("torchAddress"))
            .getMessage());
  }

  @Test
  void tensorsThatWouldBeMisreadAreRefused() {
    NDArray columns = manager.zeros(new Shape(3, 5)).transpose();
    String sentence =
        assertThrows(IllegalArgumentException.class, () -> new TensorPointer().of(columns))
            .getMessage();
    assertTrue(sentence.contains("(5, 3)") && sentence.contains("contiguous"), sentence);
    try (NativeLoss loss = loss(Device.cpu())) {
      NDList predictions = predictions();
      predictions.set(1, predictions.get(1).toType(DataType.FLOAT64, false));
      assertEquals(
          "a prediction: float64 on cpu(); this NativeLoss expects FLOAT32 on cpu()",
          assertThrows(IllegalArgumentException.class, () -> loss.backward(boxes(), predictions))
              .getMessage());
    }
  }

  /** Returns the gradients of all parameters of a network whose backbone serves both outputs. */
  private static List<float[]> gradients(
      Trainer trainer, NDArray images, BiConsumer<GradientCollector, NDList> backward) {
    List<float[]> gradients = new ArrayList<>();
    try (GradientCollector collector = trainer.newGradientCollector()) {
      backward.accept(collector, trainer.forward(new NDList(images)));
    }
    trainer
        .getModel()
        .getBlock()
        .getParameters()
        .values()
        .forEach(
            parameter -> {
              NDArray gradient = parameter.getArray().getGradient();
              gradients.add(gradient.toFloatArray());
              gradient.subi(gradient.duplicate()); // the engine adds the next one to it
            });
    return gradients;
  }

  @Test
  void theDirectGradientIsThatOfTheSurrogates() {
    Engine.getInstance().setRandomSeed(1);
    try (NativeLoss loss = loss(Device.cpu());
        Model model = Model.newInstance("test", Device.cpu())) {
      model.setBlock(new Network(2, CHANNELS, false));
      try (Trainer trainer =
          model.newTrainer(
              new DefaultTrainingConfig(loss).optDevices(new Device[] {Device.cpu()}))) {
        trainer.initialize(new Shape(1, 3, 96, 96));
        NDArray images = manager.randomUniform(0, 1, new Shape(BATCH, 3, 96, 96));
        double[] totals = new double[2];
        List<float[]> direct =
            gradients(
                trainer,
                images,
                (collector, outputs) -> totals[0] = loss.backward(boxes(), outputs));
        List<float[]> surrogate =
            gradients(
                trainer,
                images,
                (collector, outputs) -> {
                  NDArray value = loss.evaluate(new NDList(boxes()), outputs);
                  totals[1] = value.getFloat();
                  collector.backward(value);
                });
        List<float[]> products =
            gradients(
                trainer,
                images,
                (collector, outputs) -> {
                  NDList grads = new NDList();
                  outputs.forEach(output -> grads.add(output.zerosLike()));
                  loss.compute(boxes(), outputs, grads);
                  NDArray coarse = outputs.get(0).mul(grads.get(0)).sum();
                  collector.backward(coarse.add(outputs.get(1).mul(grads.get(1)).sum()));
                });
        assertEquals((float) totals[0], (float) totals[1]);
        for (int i = 0; i < direct.size(); i++) {
          assertArrayEquals(surrogate.get(i), direct.get(i));
          assertArrayEquals(products.get(i), direct.get(i));
        }
      }
    }
  }

  /**
   * Runs the whole CUDA path but for PyTorch's own device memory: the tensors are DJL's, over the
   * device memory of the library whose kernels run on the host. That library refuses every address
   * which is not its device memory.
   */
  @Test
  @Tag("cuda")
  void theCudaPathOverTheStandInForADevice() {
    assumeTrue(Files.exists(Path.of(System.getProperty("yololoss.library", "none"))));
    List<DeviceBuffer> memory = new ArrayList<>();
    try (NativeLoss onHost = loss(Device.cpu());
        NativeLoss onDevice = loss(Device.gpu(0))) {
      assertEquals("cuda:0", onDevice.deviceName());
      NDArray boxes = boxes();
      NDList predictions = predictions();
      NDList grads = new NDList();
      NDList deviceGrads = new NDList();
      NDList devicePredictions = new NDList();
      for (NDArray prediction : predictions) {
        grads.add(prediction.zerosLike());
        deviceGrads.add(onDevice(prediction.zerosLike(), memory));
        devicePredictions.add(onDevice(prediction, memory));
      }
      onHost.compute(boxes, predictions, grads);
      onDevice.compute(onDevice(boxes, memory), devicePredictions, deviceGrads);
      assertEquals(onHost.result().total(), onDevice.result().total(), 1e-4);
      for (int l = 0; l < grads.size(); l++) {
        assertArrayEquals(grads.get(l).toFloatArray(), deviceGrads.get(l).toFloatArray(), 1e-5f);
        assertTrue(grads.get(l).abs().max().getFloat() > 1e-2);
      }
      assertTrue(
          assertThrows(
                  io.github.yololoss.YoloLossException.class,
                  () -> onDevice.compute(boxes, devicePredictions, null))
              .getMessage()
              .contains("is host memory, which cuda:0 cannot reach"));
      assertThrows(
          IllegalArgumentException.class, () -> onDevice.backward(boxes, devicePredictions));
    } finally {
      memory.forEach(DeviceBuffer::close);
    }
  }

  /** Returns a tensor with the same elements over device memory of the stand-in. */
  private NDArray onDevice(NDArray array, List<DeviceBuffer> memory) {
    MemorySegment elements = NativeLoss.segment(array);
    DeviceBuffer buffer =
        DeviceBuffer.allocate(io.github.yololoss.LossDevice.cuda(0), elements.byteSize());
    buffer.copyFrom(elements);
    memory.add(buffer);
    return manager.create(
        buffer
            .address()
            .reinterpret(elements.byteSize())
            .asByteBuffer()
            .order(ByteOrder.nativeOrder()),
        array.getShape(),
        array.getDataType());
  }
}
