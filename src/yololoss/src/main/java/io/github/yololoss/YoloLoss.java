package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import io.github.yololoss.internal.Native;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * The YOLOv3 training loss on memory of the host: {@link #open} once, {@link #compute} often,
 * {@link #close}. Formulas and rules are those of keras-yolo3's {@code yolo_loss}; {@code
 * yololoss.h} has them at {@code yl_loss}. For tensors that are on a GPU see {@link CudaYoloLoss}.
 *
 * {@snippet class="io.github.yololoss.SnippetsTest" region="loss"}
 *
 * <p>All arrays are off the heap, in segments of any arena: C order, aligned to their type, float32
 * unless the builder chooses another {@link FeatsType} for feats and gradients. A segment cannot be
 * closed while a call uses it.
 *
 * <p>Any thread may call; calls on one object wait for each other. {@code close} is idempotent;
 * during a call it throws {@link IllegalStateException} and changes nothing.
 *
 * <p>A recording of Java Flight Recorder that enables {@code io.github.yololoss.Loss} gets an event
 * for each call: device, batch, parts, counts, duration. Calls that are not recorded pay nothing.
 *
 * <p>{@code compute}, {@code yoloHead}, {@code buildYTrue} and {@code audit} throw {@link
 * IllegalArgumentException} for an argument that is null or has the wrong size, {@link
 * IllegalStateException} if this object or a segment is closed, {@link WrongThreadException} for a
 * segment that is confined to another thread, {@link IndexOutOfBoundsException} for a layer that
 * does not exist, and {@link YoloLossException} with the native library's sentence for everything
 * else. A call that throws has written nothing. All other methods throw {@link
 * NullPointerException} for null.
 */
public final class YoloLoss implements AutoCloseable {
  private final Plan<MemorySegment> plan;

  private YoloLoss(Plan<MemorySegment> plan) {
    this.plan = plan;
  }

  /**
   * Opens a loss on the best device for memory of the host.
   *
   * @param spec of the network
   * @param maxBatch largest batch of a call, at least 1
   * @return the loss, to be closed
   * @throws YoloLossException if the native library, the device or memory is not available, or the
   *     library refuses the spec
   */
  public static YoloLoss open(YoloSpec spec, int maxBatch) {
    return builder(spec).maxBatch(maxBatch).open();
  }

  /**
   * Makes a builder, which opens a loss with other than the default options, or one for device
   * memory.
   *
   * @param spec of the network
   * @return the builder
   */
  public static Builder builder(YoloSpec spec) {
    return new Builder(Objects.requireNonNull(spec, "spec"));
  }

  /**
   * Checks that a device can be used.
   *
   * @param device a device
   * @throws YoloLossException if it cannot; the message says why
   */
  public static void checkDevice(LossDevice device) {
    Library.load();
    Library.check(Native.deviceCheck(device.kind().value, device.index()));
  }

  /**
   * {@return the native library in use: its version, its file and how it was found}
   *
   * @throws YoloLossException if there is none
   */
  public static String libraryInfo() {
    String origin = Library.load();
    return Native.versionString() + ", " + origin;
  }

  /**
   * Options of a loss, and the two ways to open one: {@link #open} for memory of the host, {@link
   * #openCuda} for device memory.
   */
  public static final class Builder {
    final YoloSpec spec;
    int maxBatch = 1;
    int threads;
    FeatsType featsType = FeatsType.FLOAT32;
    FeatsLayout layout = FeatsLayout.NHWC;
    boolean float32Gradients;
    LossRules rules = LossRules.DEFAULT;
    private LossDevice device = LossDevice.AUTO;

    private Builder(YoloSpec spec) {
      this.spec = spec;
    }

    /**
     * Sets the largest batch of a call; default 1.
     *
     * @param value at least 1
     * @return this
     */
    public Builder maxBatch(int value) {
      maxBatch = value;
      return this;
    }

    /**
     * Sets the device; default {@link LossDevice#AUTO}. A device that is named is never replaced by
     * another.
     *
     * @param value where the loss is computed
     * @return this
     */
    public Builder device(LossDevice value) {
      device = Objects.requireNonNull(value, "device");
      return this;
    }

    /**
     * Sets the number of threads of the cpu device; default 0: one for each processor that this
     * process may use.
     *
     * @param value 0..1024
     * @return this
     */
    public Builder threads(int value) {
      threads = value;
      return this;
    }

    /**
     * Sets the type of feats, and of gradients; default {@link FeatsType#FLOAT32}.
     *
     * @param value the type
     * @return this
     */
    public Builder featsType(FeatsType value) {
      featsType = Objects.requireNonNull(value, "featsType");
      return this;
    }

    /**
     * Sets the order of feats and gradients; default {@link FeatsLayout#NHWC}.
     *
     * @param value the order
     * @return this
     */
    public Builder layout(FeatsLayout value) {
      layout = Objects.requireNonNull(value, "layout");
      return this;
    }

    /**
     * Makes gradients float32, whatever the type of feats; default false: gradients have the type
     * of feats.
     *
     * @param value whether gradients are float32
     * @return this
     */
    public Builder float32Gradients(boolean value) {
      float32Gradients = value;
      return this;
    }

    /**
     * Sets how the loss differs from keras-yolo3's; default {@link LossRules#DEFAULT}: it does not.
     *
     * @param value the rules
     * @return this
     */
    public Builder rules(LossRules value) {
      rules = Objects.requireNonNull(value, "rules");
      return this;
    }

    /**
     * Opens a loss on memory of the host. On a CUDA device, calls copy it there and back.
     *
     * @return the loss, to be closed
     * @throws YoloLossException if the native library, the device or memory is not available, or
     *     the library refuses a value
     * @throws IllegalArgumentException if a list of the rules does not fit the spec
     */
    public YoloLoss open() {
      return new YoloLoss(new Plan<>(this, device, new MemoryKind.Host()));
    }

    /**
     * Opens a loss on memory of a CUDA device.
     *
     * @param index number of the CUDA device, from 0
     * @return the loss, to be closed
     * @throws YoloLossException if the native library, the device or memory is not available, or
     *     the library refuses a value
     * @throws IllegalArgumentException if {@link #device} named another device, or a list of the
     *     rules does not fit the spec
     */
    public CudaYoloLoss openCuda(int index) {
      LossDevice cuda = LossDevice.cuda(index);
      if (!device.equals(LossDevice.AUTO) && !device.equals(cuda)) {
        throw new IllegalArgumentException(
            "device is " + device + ", but openCuda(" + index + ") opens " + cuda);
      }
      return new CudaYoloLoss(new Plan<>(this, cuda, new MemoryKind.Cuda(cuda)), cuda);
    }
  }

  /** {@return the spec} */
  public YoloSpec spec() {
    return plan.spec;
  }

  /** {@return the largest batch of a call} */
  public int maxBatch() {
    return plan.maxBatch;
  }

  /** {@return the type of feats} */
  public FeatsType featsType() {
    return plan.featsType;
  }

  /** {@return the order of feats and gradients} */
  public FeatsLayout layout() {
    return plan.layout;
  }

  /** {@return the type of gradients} */
  public FeatsType gradientType() {
    return plan.gradientType;
  }

  /** {@return the device in use: {@code reference}, {@code cpu} or {@code cuda:N}} */
  public String deviceName() {
    return plan.deviceName;
  }

  /** {@return one line that says why this device was chosen} */
  public String deviceWhy() {
    return plan.deviceWhy;
  }

  /**
   * {@return a result for any call on this object} A call that overwrites a result creates no
   * object.
   */
  public LossResult newResult() {
    return plan.newResult();
  }

  /**
   * Computes the loss of a batch, and its gradient, with {@link LossOptions#DEFAULT}.
   *
   * @param batch B, 1..maxBatch
   * @param feats for each layer (B, H, W, A*(5+C)), or (B, A*(5+C), H, W) for {@link
   *     FeatsLayout#NCHW}: raw outputs of the network; may be read-only
   * @param targets the truths
   * @param grads for each layer as feats, written whole: d total / d feats; {@code grads[l]} may be
   *     {@code feats[l]}. Null: loss only
   * @return the loss and its parts
   */
  public LossResult compute(
      int batch, MemorySegment[] feats, Targets<MemorySegment> targets, MemorySegment[] grads) {
    return compute(batch, feats, targets, grads, LossOptions.DEFAULT);
  }

  /**
   * Computes the loss of a batch, and its gradient.
   *
   * @param batch B, 1..maxBatch
   * @param feats raw outputs of each layer, as above
   * @param targets the truths
   * @param grads gradient of each layer, as above; null: loss only
   * @param options how it is computed
   * @return the loss and its parts
   */
  public LossResult compute(
      int batch,
      MemorySegment[] feats,
      Targets<MemorySegment> targets,
      MemorySegment[] grads,
      LossOptions options) {
    LossResult result = newResult();
    compute(batch, feats, targets, grads, options, null, result);
    return result;
  }

  /**
   * Computes the loss of a batch, and its gradient, with {@link LossOptions#DEFAULT}, into a result
   * that is used again: no object is created.
   *
   * @param batch B, 1..maxBatch
   * @param feats raw outputs of each layer, as above
   * @param targets the truths
   * @param grads gradient of each layer, as above; null: loss only
   * @param result from {@link #newResult()}; overwritten
   */
  public void compute(
      int batch,
      MemorySegment[] feats,
      Targets<MemorySegment> targets,
      MemorySegment[] grads,
      LossResult result) {
    compute(batch, feats, targets, grads, LossOptions.DEFAULT, null, result);
  }

  /**
   * Computes the loss of a batch, and its gradient, into a result that is used again: no object is
   * created.
   *
   * @param batch B, 1..maxBatch
   * @param feats raw outputs of each layer, as above
   * @param targets the truths
   * @param grads gradient of each layer, as above; null: loss only
   * @param options how it is computed
   * @param result from {@link #newResult()}; overwritten
   */
  public void compute(
      int batch,
      MemorySegment[] feats,
      Targets<MemorySegment> targets,
      MemorySegment[] grads,
      LossOptions options,
      LossResult result) {
    compute(batch, feats, targets, grads, options, null, result);
  }

  /**
   * Computes the loss of a batch, its gradient, and maps of its cells, into a result that is used
   * again: no object is created.
   *
   * @param batch B, 1..maxBatch
   * @param feats raw outputs of each layer, as above
   * @param targets the truths
   * @param grads gradient of each layer, as above; null: loss only
   * @param options how it is computed
   * @param maps memory for values of each cell; null: none
   * @param result from {@link #newResult()}; overwritten
   */
  public void compute(
      int batch,
      MemorySegment[] feats,
      Targets<MemorySegment> targets,
      MemorySegment[] grads,
      LossOptions options,
      CellMaps<MemorySegment> maps,
      LossResult result) {
    plan.compute(batch, feats, targets, grads, options, maps, null, null, null, result);
  }

  /**
   * Decodes the raw outputs of a layer as keras-yolo3's {@code yolo_head}.
   *
   * @param layer 0..L-1
   * @param batch B, 1..maxBatch
   * @param layerFeats raw outputs of the layer, in the type and order of this object
   * @param head memory for the outputs
   */
  public void yoloHead(int layer, int batch, MemorySegment layerFeats, YoloHead head) {
    Segments.requireGiven("head", head);
    plan.requireBatch(batch);
    YoloSpec spec = plan.spec;
    FeatsType type = plan.featsType;
    YoloSpec.Layer l = spec.layers().get(Objects.checkIndex(layer, spec.layers().size()));
    long cells = spec.cells(layer) * batch;
    MemorySegment[] used = {
      Segments.checked("feats", layerFeats, spec.bytes(layer, batch, type), false, type.bytes()),
      Segments.optional("grid", head.grid(), 2L * l.gridHeight() * l.gridWidth()),
      Segments.optional("boxXy", head.boxXy(), 2 * cells),
      Segments.optional("boxWh", head.boxWh(), 2 * cells),
      Segments.optional("boxConfidence", head.boxConfidence(), cells),
      Segments.optional("boxClassProbs", head.boxClassProbs(), cells * spec.numClasses())
    };
    try (Arena scratch = Arena.ofConfined()) {
      MemorySegment struct = Abi.Head.allocate(scratch);
      Abi.Head.setFeats(struct, used[0]);
      Abi.Head.setGrid(struct, used[1]);
      Abi.Head.setBoxXy(struct, used[2]);
      Abi.Head.setBoxWh(struct, used[3]);
      Abi.Head.setBoxConfidence(struct, used[4]);
      Abi.Head.setBoxClassProbs(struct, used[5]);
      Abi.Head.setLayer(struct, layer);
      Abi.Head.setBatch(struct, batch);
      plan.yoloHead(struct, used);
    }
  }

  /**
   * Writes the dense truths of boxes, as keras-yolo3's {@code preprocess_true_boxes}.
   *
   * @param batch B, 1..maxBatch
   * @param source the boxes, without weights
   * @param out for each layer (B, H, W, A, 5+C), float32, written whole
   * @return what became of the boxes
   */
  public Targets.BoxCounts buildYTrue(
      int batch, Targets.Boxes<MemorySegment> source, MemorySegment[] out) {
    return plan.buildYTrue(batch, source, out);
  }

  /**
   * Reports what is wrong with truths and how boxes fit the anchors: what a call with them would
   * do, as data. Use it once for a data set, or if a count of a result is suspicious.
   *
   * @param batch B, 1..maxBatch
   * @param targets the truths
   * @param poorIou limit of {@link Audit.Reason#POOR_ANCHOR}, 0..1; 0: nothing is below it
   * @param maxFindings largest length of the list of findings; the counts are of all findings
   * @return the findings
   */
  public Audit audit(int batch, Targets<MemorySegment> targets, float poorIou, int maxFindings) {
    return plan.audit(batch, targets, poorIou, maxFindings);
  }

  /**
   * Frees the native memory and stops its threads. Does nothing the second time. An object that is
   * dropped without close is freed by the garbage collector, late, and with a warning of the logger
   * {@code io.github.yololoss}.
   *
   * @throws IllegalStateException if a call is running on another thread; nothing is freed then
   */
  @Override
  public void close() {
    plan.close();
  }

  /** {@return device, largest batch, types and spec in one line} */
  @Override
  public String toString() {
    return plan.toString();
  }
}
