package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.util.Objects;

/**
 * The YOLOv3 training loss: {@link #open} once, {@link #compute} often, {@link #close}. The
 * semantics and formulas are those of keras-yolo3's {@code yolo_loss}, written down in {@code
 * yololoss.h} at {@code yl_loss}.
 *
 * {@snippet class="io.github.yololoss.SnippetsTest" region="loss"}
 *
 * <p>All data lie off the heap, in segments of the caller: C order, aligned to their type, float32
 * unless another {@link DataType} of feats is asked for, of any arena. A segment cannot be closed
 * while a call uses it. An object opened with {@link Memory#DEVICE} takes {@link DeviceBuffer}s
 * instead, and calls that only enqueue.
 *
 * <p>A recording of Java Flight Recorder that enables {@code io.github.yololoss.Loss} gets an event
 * for each call: device, batch, parts, counts, duration. Without one, calls do not pay for it.
 *
 * <p>Any thread may call; calls on one object wait for each other. {@code close} is idempotent;
 * during a call it throws {@link IllegalStateException} and changes nothing.
 *
 * <p>{@code compute}, {@code yoloHead} and {@code buildYTrue} throw {@link
 * IllegalArgumentException} for an argument that is null or of the wrong size, {@link
 * IllegalStateException} if this object or a segment is closed, {@link WrongThreadException} for a
 * segment confined to another thread, {@link IndexOutOfBoundsException} for a layer that is not
 * there, and {@link YoloLossException} with the native sentence for everything else. Then nothing
 * has been written. Elsewhere null is a {@link NullPointerException}.
 */
public final class YoloLoss implements AutoCloseable {
  /** On the class path a small runtime image may lack jdk.jfr; then calls are no events. */
  private static final boolean HAS_RECORDER = ModuleLayer.boot().findModule("jdk.jfr").isPresent();

  private final YoloSpec spec;
  private final int maxBatch;
  private final Memory memory;
  private final Device device; // as asked for; with device memory a CUDA device
  private final Arena arena; // owns the plan and the memory below
  private final MemorySegment plan;
  private final String deviceName;
  private final String deviceWhy;
  private final DataType dataType;
  private final Layout layout;
  private final DataType gradientType;

  // One call at a time: guarded by lock.
  private final Object lock = new Object();
  private final LossCall call;
  private final MethodHandle lossHandle;
  private final MethodHandle lossAsyncHandle;
  private final MethodHandle buildYTrueHandle;
  private final MethodHandle auditHandle;
  private CudaStream enqueuedOn; // null, or where the last enqueued call may still run

  private YoloLoss(Builder b) {
    spec = b.spec;
    maxBatch = b.maxBatch;
    memory = b.memory;
    device = memory == Memory.DEVICE && b.device.equals(Device.AUTO) ? Device.cuda(0) : b.device;
    dataType = b.dataType;
    layout = b.layout;
    gradientType = b.float32Gradients ? DataType.FLOAT32 : dataType;
    arena = Arena.ofShared();
    try {
      plan = create(b, arena); // refuses sizes that cannot be addressed
      deviceName = Native.deviceName(plan);
      deviceWhy = Native.deviceWhy(plan);
      call = new LossCall(memory, device, spec, dataType, gradientType, arena);
      int held = call.held().many().length;
      lossHandle = Native.bindLoss(held);
      lossAsyncHandle = Native.bindLossAsync(held);
      buildYTrueHandle = Native.bindBuildYTrue(held);
      auditHandle = Native.bindAudit(held);
    } catch (Throwable t) {
      arena.close(); // otherwise a failed open leaks
      throw t;
    }
  }

  private static MemorySegment create(Builder b, Arena arena) {
    try (Arena scratch = Arena.ofConfined()) {
      MemorySegment config = b.spec.config(scratch);
      Abi.Config.setMaxBatch(config, b.maxBatch);
      Abi.Config.setDevice(config, b.device.kind().value);
      Abi.Config.setDeviceIndex(config, b.device.index());
      Abi.Config.setMemory(config, b.memory.value);
      Abi.Config.setThreads(config, b.threads);
      Abi.Config.setDtype(config, b.dataType.value);
      Abi.Config.setLayout(config, b.layout.value);
      Abi.Config.setGradDtype(
          config, b.float32Gradients ? Abi.YL_GRAD_F32 : Abi.YL_GRAD_LIKE_FEATS);
      Abi.Config.setRules(config, b.rules.struct(b.spec, scratch));
      MemorySegment made = scratch.allocate(ADDRESS);
      Native.check(Native.planCreate(config, made));
      return made.get(ADDRESS, 0).reinterpret(arena, Native::planDestroy);
    }
  }

  /**
   * A loss for batches up to maxBatch on the best device.
   *
   * @param spec of the network
   * @param maxBatch largest batch of a call
   * @return the loss, to be closed
   * @throws YoloLossException if the library, the device or memory cannot be had, or the spec is
   *     refused
   */
  public static YoloLoss open(YoloSpec spec, int maxBatch) {
    return builder(spec).maxBatch(maxBatch).open();
  }

  /**
   * A loss with options.
   *
   * @param spec of the network
   * @return the builder
   */
  public static Builder builder(YoloSpec spec) {
    return new Builder(Objects.requireNonNull(spec, "spec"));
  }

  /**
   * Whether a device can be used.
   *
   * @param device a device
   * @throws YoloLossException with the reason, if not
   */
  public static void checkDevice(Device device) {
    NativeLibrary.get();
    Native.check(Native.deviceCheck(device.kind().value, device.index()));
  }

  /**
   * {@return the native library in use: its version, its file and how it was found}
   *
   * @throws YoloLossException if there is none
   */
  public static String libraryInfo() {
    String origin = NativeLibrary.get().origin();
    return Native.versionString() + ", " + origin;
  }

  /** Options of {@link YoloLoss#open}. */
  public static final class Builder {
    private final YoloSpec spec;
    private int maxBatch = 1;
    private Device device = Device.AUTO;
    private Memory memory = Memory.HOST;
    private int threads;
    private DataType dataType = DataType.FLOAT32;
    private Layout layout = Layout.NHWC;
    private boolean float32Gradients;
    private LossRules rules = LossRules.DEFAULT;

    private Builder(YoloSpec spec) {
      this.spec = spec;
    }

    /**
     * Largest batch of a call; default 1.
     *
     * @param value at least 1
     * @return this
     */
    public Builder maxBatch(int value) {
      maxBatch = value;
      return this;
    }

    /**
     * Default {@link Device#AUTO}.
     *
     * @param value where the loss is computed
     * @return this
     */
    public Builder device(Device value) {
      device = Objects.requireNonNull(value, "device");
      return this;
    }

    /**
     * Where the arrays of the calls lie; default {@link Memory#HOST}.
     *
     * @param value host or device
     * @return this
     */
    public Builder memory(Memory value) {
      memory = Objects.requireNonNull(value, "memory");
      return this;
    }

    /**
     * Threads of the cpu device, 1..1024; default 0: one for each processor that this process may
     * use.
     *
     * @param value how many
     * @return this
     */
    public Builder threads(int value) {
      threads = value;
      return this;
    }

    /**
     * Type of feats, and of gradients; default {@link DataType#FLOAT32}.
     *
     * @param value the type
     * @return this
     */
    public Builder dataType(DataType value) {
      dataType = Objects.requireNonNull(value, "dataType");
      return this;
    }

    /**
     * Order of feats and gradients; default {@link Layout#NHWC}.
     *
     * @param value the order
     * @return this
     */
    public Builder layout(Layout value) {
      layout = Objects.requireNonNull(value, "layout");
      return this;
    }

    /**
     * Whether gradients are float32 whatever feats are; default false: as feats.
     *
     * @param value whether
     * @return this
     */
    public Builder float32Gradients(boolean value) {
      float32Gradients = value;
      return this;
    }

    /**
     * Departures from keras-yolo3's loss; default none.
     *
     * @param value the departures
     * @return this
     */
    public Builder rules(LossRules value) {
      rules = Objects.requireNonNull(value, "rules");
      return this;
    }

    /**
     * As {@link YoloLoss#open}.
     *
     * @return the loss, to be closed
     */
    public YoloLoss open() {
      NativeLibrary.get(); // its failure is an exception, not an initialisation error of Native
      return new YoloLoss(this);
    }
  }

  /** {@return the spec} */
  public YoloSpec spec() {
    return spec;
  }

  /** {@return largest batch of a call} */
  public int maxBatch() {
    return maxBatch;
  }

  /** {@return where the arrays of the calls lie} */
  public Memory memory() {
    return memory;
  }

  /** {@return type of feats} */
  public DataType dataType() {
    return dataType;
  }

  /** {@return order of feats and gradients} */
  public Layout layout() {
    return layout;
  }

  /** {@return type of gradients} */
  public DataType gradientType() {
    return gradientType;
  }

  /** {@return the device in use: {@code reference}, {@code cpu} or {@code cuda:N}} */
  public String deviceName() {
    return deviceName;
  }

  /** {@return one line that says why this device was taken} */
  public String deviceWhy() {
    return deviceWhy;
  }

  /**
   * {@return a result for any call on this object; nothing is allocated by a call that is given
   * one}
   */
  public LossResult newResult() {
    return new LossResult(maxBatch, spec.layers().size(), memory == Memory.DEVICE);
  }

  /**
   * The loss of a batch as keras-yolo3 computes it, and its gradient.
   *
   * @param batch B, 1..maxBatch
   * @param feats for each layer (B, H, W, A*(5+C)), or (B, A*(5+C), H, W) for {@link Layout#NCHW}:
   *     raw outputs; may be read-only
   * @param targets the truths
   * @param grads for each layer as feats, written whole: d total / d feats; {@code grads[l]} may be
   *     {@code feats[l]}. Null: loss only
   * @return the loss and its parts
   */
  public LossResult compute(
      int batch, MemorySegment[] feats, Targets targets, MemorySegment[] grads) {
    LossResult result = newResult();
    compute(batch, feats, targets, grads, LossOptions.DEFAULT, result);
    return result;
  }

  /**
   * The same, with options, into a result that is used again: no object is created.
   *
   * @param batch B, 1..maxBatch
   * @param feats as above
   * @param targets the truths
   * @param grads as above; null: loss only
   * @param options how it is computed
   * @param result from {@link #newResult()}; overwritten
   */
  public void compute(
      int batch,
      MemorySegment[] feats,
      Targets targets,
      MemorySegment[] grads,
      LossOptions options,
      LossResult result) {
    run(batch, feats, targets, grads, options, null, result);
  }

  /**
   * The same in device memory: ordered behind what was enqueued on the legacy default stream; wait
   * for other streams first, or use {@link #computeAsync}.
   *
   * @param batch B, 1..maxBatch
   * @param feats as above, memory of this object's device; targets alike
   * @param targets the truths
   * @param grads as above; null: loss only
   * @param options how it is computed
   * @param result from {@link #newResult()}; overwritten
   */
  public void compute(
      int batch,
      DeviceBuffer[] feats,
      Targets targets,
      DeviceBuffer[] grads,
      LossOptions options,
      LossResult result) {
    run(batch, feats, targets, grads, options, null, result);
  }

  /**
   * The same, enqueued on a stream: returns at once. The memory must stay until the stream has
   * passed the call (closing a {@link DeviceBuffer} or {@link PinnedArena} waits for it).
   *
   * @param batch B, 1..maxBatch
   * @param feats as above
   * @param targets the truths
   * @param grads as above; null: loss only
   * @param options how it is computed
   * @param stream a stream of this object's device
   * @param result waits when it is read
   */
  public void computeAsync(
      int batch,
      DeviceBuffer[] feats,
      Targets targets,
      DeviceBuffer[] grads,
      LossOptions options,
      CudaStream stream,
      LossResult result) {
    Segments.requireGiven("stream", stream);
    if (!stream.device().equals(device)) {
      throw new IllegalArgumentException(
          "stream is of " + stream.device() + ", this YoloLoss is on " + device);
    }
    run(batch, feats, targets, grads, options, stream, result);
  }

  private void run(
      int batch,
      Object[] feats,
      Targets targets,
      Object[] grads,
      LossOptions options,
      CudaStream stream,
      LossResult result) {
    requireBatch(batch);
    Segments.requireGiven("options", options);
    if (result == null || !result.fits(batch, spec.layers().size(), stream != null)) {
      throw new IllegalArgumentException(
          "result is null or of another YoloLoss; make one with newResult() of this object");
    }
    synchronized (lock) {
      requireOpen();
      call.fill(
          batch,
          feats,
          targets,
          grads,
          options,
          stream == null ? result.struct() : result.asyncStruct(),
          result.stats(),
          result.offenderStruct());
      follow(stream);
      result.overwrite();
      LossEvent event =
          HAS_RECORDER ? LossEvent.begin(deviceName, batch, grads != null, stream != null) : null;
      if (stream == null) {
        Native.check(Native.loss(lossHandle, plan, call.struct(), result.struct(), call.held()));
      } else {
        MemorySegment handle = stream.checked();
        enqueuedOn = stream;
        Native.check(
            Native.lossAsync(
                lossAsyncHandle, plan, call.struct(), handle, result.asyncStruct(), call.held()));
      }
      result.written(batch, options, stream, event);
    }
  }

  /**
   * Decodes the raw outputs of a layer as keras-yolo3's {@code yolo_head}.
   *
   * @param layer 0..L-1
   * @param batch B, 1..maxBatch
   * @param layerFeats in the type and order of this object
   * @param head where to
   */
  public void yoloHead(int layer, int batch, MemorySegment layerFeats, YoloHead head) {
    Segments.requireGiven("head", head);
    requireBatch(batch);
    if (memory == Memory.DEVICE) {
      throw new IllegalArgumentException(
          "this YoloLoss takes device memory; decode with one that is opened with Memory.HOST");
    }
    YoloSpec.Layer l = spec.layers().get(Objects.checkIndex(layer, spec.layers().size()));
    long cells = spec.cells(layer) * batch;
    MemorySegment[] used = {
      Segments.checked(
          "feats", layerFeats, spec.bytes(layer, batch, dataType), false, dataType.bytes()),
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
      requireOpen();
      Native.check(Native.yoloHead(plan, struct, used));
    }
  }

  /**
   * Writes the dense truths of boxes, as keras-yolo3's {@code preprocess_true_boxes}.
   *
   * @param batch B, 1..maxBatch
   * @param source the boxes
   * @param out for each layer (B, H, W, A, 5+C), written whole
   * @return what became of the boxes
   */
  public Targets.BoxCounts buildYTrue(int batch, Targets.Boxes source, MemorySegment[] out) {
    Segments.requireGiven("source", source);
    return build(batch, source.boxes(), source.perImage(), source.policy(), source.weights(), out);
  }

  /**
   * The same in device memory.
   *
   * @param batch B, 1..maxBatch
   * @param source the boxes
   * @param out as above
   * @return what became of the boxes
   */
  public Targets.BoxCounts buildYTrue(int batch, Targets.DeviceBoxes source, DeviceBuffer[] out) {
    Segments.requireGiven("source", source);
    return build(batch, source.boxes(), source.perImage(), source.policy(), source.weights(), out);
  }

  private Targets.BoxCounts build(
      int batch,
      Object rows,
      int perImage,
      Targets.BoxPolicy policy,
      Object weights,
      Object[] out) {
    synchronized (lock) {
      requireOpen();
      requireBatch(batch);
      call.fillToBuild(batch, rows, perImage, policy, weights, out);
      follow(null);
      try (Arena scratch = Arena.ofConfined()) {
        MemorySegment counts = scratch.allocate(Abi.BoxCounts.LAYOUT);
        Native.check(
            Native.buildYTrue(
                buildYTrueHandle,
                plan,
                batch,
                call.boxes(),
                call.yTrue(),
                counts,
                call.held().many()));
        return LossResult.boxCounts(counts);
      }
    }
  }

  /**
   * What is wrong with truths, and how boxes fit the anchors: what a call with them would do, as
   * data. For once a data set, or when a count of a result says that something is wrong.
   *
   * @param batch B, 1..maxBatch
   * @param targets the truths
   * @param poorIou limit of {@link Audit.Reason#POOR_ANCHOR}, 0..1; 0: never
   * @param maxFindings length of the list; counts are of all
   * @return the findings
   */
  public Audit audit(int batch, Targets targets, float poorIou, int maxFindings) {
    requireBatch(batch);
    if (maxFindings < 0) {
      throw new IllegalArgumentException(
          "maxFindings is " + maxFindings + ", at least 0 is expected");
    }
    synchronized (lock) {
      requireOpen();
      MemorySegment yTrue = call.fillToAudit(batch, targets);
      follow(null);
      try (Arena scratch = Arena.ofConfined()) {
        AuditMemory memory = new AuditMemory(spec, batch, targets, 0, scratch);
        audit(batch, yTrue, poorIou, memory);
        int listed = (int) Math.min(memory.found(), maxFindings);
        if (listed > 0) { // now it is known how much memory the list takes
          memory = new AuditMemory(spec, batch, targets, listed, scratch);
          audit(batch, yTrue, poorIou, memory);
        }
        return memory.read();
      }
    }
  }

  private void audit(int batch, MemorySegment yTrue, float poorIou, AuditMemory memory) {
    MemorySegment boxes = yTrue.address() != 0 ? MemorySegment.NULL : call.boxes();
    MemorySegment[] held = call.held().many();
    Native.check(
        Native.audit(auditHandle, plan, batch, yTrue, boxes, poorIou, memory.struct(), held));
  }

  /**
   * Frees the native memory and stops its threads. Does nothing the second time.
   *
   * @throws IllegalStateException if a call is running on another thread; nothing is freed then
   */
  @Override
  public void close() {
    if (!arena.scope().isAlive()) {
      return;
    }
    try {
      arena.close();
    } catch (IllegalStateException e) {
      if (arena.scope().isAlive()) {
        throw new IllegalStateException(
            "a call is running on another thread; close this YoloLoss after it", e);
      }
    }
  }

  /** The plan serves one call at a time: waits for what is enqueued on another stream. */
  private void follow(CudaStream stream) {
    if (enqueuedOn != null && enqueuedOn != stream) {
      enqueuedOn.synchronize();
      enqueuedOn = null;
    }
  }

  private void requireOpen() {
    if (!arena.scope().isAlive()) {
      throw new IllegalStateException("this YoloLoss is closed; open another one");
    }
  }

  private void requireBatch(int batch) {
    if (batch < 1 || batch > maxBatch) {
      throw new IllegalArgumentException(
          "batch is "
              + batch
              + ", expected 1.."
              + maxBatch
              + "; open a YoloLoss with a larger maxBatch");
    }
  }
}
