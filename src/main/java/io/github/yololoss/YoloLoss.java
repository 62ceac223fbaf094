package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.util.Arrays;
import java.util.Objects;

/**
 * The YOLOv3 training loss: {@link #open} once, {@link #compute} often, {@link #close}. The
 * semantics and formulas are those of keras-yolo3's {@code yolo_loss}, written down in {@code
 * yololoss.h} at {@code yl_loss}.
 *
 * <p>All data lie off the heap, in segments of the caller: float32, C order, aligned to 4 bytes, of
 * any arena. A segment cannot be closed while a call uses it. An object opened with {@link
 * Memory#DEVICE} takes {@link DeviceBuffer}s instead, and calls that only enqueue.
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
  private static final long CALL_BATCH = Layouts.offset(Layouts.CALL, "batch");
  private static final long CALL_Y_TRUE = Layouts.offset(Layouts.CALL, "y_true");
  private static final long CALL_BOXES = Layouts.offset(Layouts.CALL, "boxes");
  private static final long CALL_GRADS = Layouts.offset(Layouts.CALL, "grads");
  private static final long CALL_GRAD_MODE = Layouts.offset(Layouts.CALL, "grad_mode");
  private static final long CALL_NORMALISER_AT = Layouts.offset(Layouts.CALL, "normaliser_at");
  private static final long CALL_GRAD_SCALE_AT = Layouts.offset(Layouts.CALL, "grad_scale_at");
  private static final long CALL_NORMALISER = Layouts.offset(Layouts.CALL, "normaliser");
  private static final long CALL_NORMALISER_VALUE =
      Layouts.offset(Layouts.CALL, "normaliser_value");
  private static final long CALL_GRAD_SCALE = Layouts.offset(Layouts.CALL, "grad_scale");
  private static final long BOXES_DATA = Layouts.offset(Layouts.BOXES, "data");
  private static final long BOXES_PER_IMAGE = Layouts.offset(Layouts.BOXES, "per_image");
  private static final long BOXES_POLICY = Layouts.offset(Layouts.BOXES, "policy");

  private final YoloSpec spec;
  private final int maxBatch;
  private final Memory memory;
  private final Device device; // as asked for; with device memory a CUDA device
  private final Arena arena; // owns the plan and the memory below
  private final MemorySegment plan;
  private final String deviceName;
  private final String deviceWhy;
  private final long[] bytes; // of feats of one image, for each layer

  // One call at a time: guarded by lock.
  private final Object lock = new Object();
  private final MemorySegment call; // yl_call
  private final MemorySegment boxes; // yl_boxes
  private final MemorySegment feats; // arrays of pointers
  private final MemorySegment yTrue;
  private final MemorySegment grads;
  private final MethodHandle lossHandle;
  private final MethodHandle lossAsyncHandle;
  private final MethodHandle buildYTrueHandle;
  private final MemorySegment[] held; // feats, y_true or boxes, grads; normaliser and scale
  private CudaStream enqueuedOn; // null, or where the last enqueued call may still run

  private YoloLoss(Builder b) {
    spec = b.spec;
    maxBatch = b.maxBatch;
    memory = b.memory;
    device = memory == Memory.DEVICE && b.device.equals(Device.AUTO) ? Device.cuda(0) : b.device;
    int layers = spec.layers().size();
    bytes = new long[layers];
    arena = Arena.ofShared();
    try {
      plan = create(b, arena); // refuses sizes that cannot be addressed
      for (int l = 0; l < layers; l++) {
        bytes[l] = spec.bytes(l, 1);
      }
      deviceName = Native.deviceName(plan);
      deviceWhy = Native.deviceWhy(plan);
      call = arena.allocate(Layouts.CALL);
      boxes = arena.allocate(Layouts.BOXES);
      feats = arena.allocate(ADDRESS, layers);
      yTrue = arena.allocate(ADDRESS, layers);
      grads = arena.allocate(ADDRESS, layers);
      call.set(JAVA_LONG, Layouts.offset(Layouts.CALL, "struct_size"), Layouts.CALL.byteSize());
      call.set(ADDRESS, Layouts.offset(Layouts.CALL, "feats"), feats);
      boxes.set(JAVA_LONG, Layouts.offset(Layouts.BOXES, "struct_size"), Layouts.BOXES.byteSize());
      held = new MemorySegment[3 * layers + 2];
      lossHandle = Native.bindLoss(held.length);
      lossAsyncHandle = Native.bindLossAsync(held.length);
      buildYTrueHandle = Native.bindBuildYTrue(held.length);
    } catch (Throwable t) {
      arena.close(); // otherwise a failed open leaks
      throw t;
    }
  }

  private static MemorySegment create(Builder b, Arena arena) {
    try (Arena scratch = Arena.ofConfined()) {
      MemorySegment config = b.spec.config(scratch);
      config.set(JAVA_INT, Layouts.offset(Layouts.CONFIG, "max_batch"), b.maxBatch);
      config.set(JAVA_INT, Layouts.offset(Layouts.CONFIG, "device"), b.device.kind().ordinal());
      config.set(JAVA_INT, Layouts.offset(Layouts.CONFIG, "device_index"), b.device.index());
      config.set(JAVA_INT, Layouts.offset(Layouts.CONFIG, "memory"), b.memory.ordinal());
      config.set(JAVA_INT, Layouts.offset(Layouts.CONFIG, "threads"), b.threads);
      MemorySegment made = scratch.allocate(ADDRESS);
      Native.check(Native.planCreate(config, made));
      return made.get(ADDRESS, 0).reinterpret(arena, Native::planDestroy);
    }
  }

  /**
   * A loss for batches up to maxBatch on the best device.
   *
   * @throws YoloLossException if the library, the device or memory cannot be had, or the spec is
   *     refused
   */
  public static YoloLoss open(YoloSpec spec, int maxBatch) {
    return builder(spec).maxBatch(maxBatch).open();
  }

  /** A loss with options. */
  public static Builder builder(YoloSpec spec) {
    return new Builder(Objects.requireNonNull(spec, "spec"));
  }

  /**
   * Whether a device can be used.
   *
   * @throws YoloLossException with the reason, if not
   */
  public static void checkDevice(Device device) {
    NativeLibrary.get();
    Native.check(Native.deviceCheck(device.kind().ordinal(), device.index()));
  }

  /**
   * The native library in use: its version, its file and how it was found.
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

    private Builder(YoloSpec spec) {
      this.spec = spec;
    }

    /** Largest batch of a call; default 1. */
    public Builder maxBatch(int value) {
      maxBatch = value;
      return this;
    }

    /** Default {@link Device#AUTO}. */
    public Builder device(Device value) {
      device = Objects.requireNonNull(value, "device");
      return this;
    }

    /** Where the arrays of the calls lie; default {@link Memory#HOST}. */
    public Builder memory(Memory value) {
      memory = Objects.requireNonNull(value, "memory");
      return this;
    }

    /**
     * Threads of the cpu device, 1..1024; default 0: one for each processor that this process may
     * use.
     */
    public Builder threads(int value) {
      threads = value;
      return this;
    }

    /** As {@link YoloLoss#open}. */
    public YoloLoss open() {
      NativeLibrary.get(); // its failure is an exception, not an initialisation error of Native
      return new YoloLoss(this);
    }
  }

  /** The spec. */
  public YoloSpec spec() {
    return spec;
  }

  /** Largest batch of a call. */
  public int maxBatch() {
    return maxBatch;
  }

  /** Where the arrays of the calls lie. */
  public Memory memory() {
    return memory;
  }

  /** The device in use: {@code reference}, {@code cpu} or {@code cuda:N}. */
  public String deviceName() {
    return deviceName;
  }

  /** One line that says why this device was taken. */
  public String deviceWhy() {
    return deviceWhy;
  }

  /** A result for any call on this object; nothing is allocated by a call that is given one. */
  public LossResult newResult() {
    return new LossResult(maxBatch, spec.layers().size(), memory == Memory.DEVICE);
  }

  /**
   * The loss of a batch as keras-yolo3 computes it, and its gradient.
   *
   * @param batch B, 1..maxBatch
   * @param feats for each layer (B, H, W, A*(5+C)): raw outputs; may be read-only
   * @param targets the truths
   * @param grads for each layer (B, H, W, A*(5+C)), written whole: d total / d feats; {@code
   *     grads[l]} may be {@code feats[l]}. Null: loss only
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
   * @param feats as above, memory of this object's device; targets alike
   * @param grads as above; null: loss only
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
    if (result == null || !result.fits(batch, bytes.length, stream != null)) {
      throw new IllegalArgumentException(
          "result is null or of another YoloLoss; make one with newResult() of this object");
    }
    synchronized (lock) {
      requireOpen();
      Arrays.fill(held, MemorySegment.NULL);
      point(this.feats, "feats", feats, batch, 0, false);
      switch (targets) {
        case Targets.Dense(MemorySegment[] dense) -> pointDense(dense, batch);
        case Targets.DeviceDense(DeviceBuffer[] dense) -> pointDense(dense, batch);
        case Targets.Boxes b ->
            pointBoxes(b.boxes(), b.perImage(), b.policy(), batch, bytes.length);
        case Targets.DeviceBoxes b ->
            pointBoxes(b.boxes(), b.perImage(), b.policy(), batch, bytes.length);
        case null ->
            throw new IllegalArgumentException(
                "targets is null, dense truths or boxes are expected");
      }
      if (grads != null) {
        point(this.grads, "grads", grads, batch, 2 * bytes.length, true);
      }
      call.set(ADDRESS, CALL_GRADS, grads == null ? MemorySegment.NULL : this.grads);
      call.set(JAVA_INT, CALL_BATCH, batch);
      call.set(JAVA_INT, CALL_GRAD_MODE, options.refresh() ? 1 : 0);
      call.set(JAVA_INT, CALL_NORMALISER, options.normaliser().kind().ordinal());
      call.set(JAVA_DOUBLE, CALL_NORMALISER_VALUE, options.normaliser().value());
      call.set(JAVA_DOUBLE, CALL_GRAD_SCALE, options.gradientScale());
      pointScalar(CALL_NORMALISER_AT, "normaliser", options.normaliser().at(), 0);
      pointScalar(CALL_GRAD_SCALE_AT, "gradientScaleAt", options.gradientScaleAt(), 1);
      if (enqueuedOn != null && enqueuedOn != stream) {
        enqueuedOn.synchronize(); // the plan serves one call at a time
        enqueuedOn = null;
      }
      result.overwrite();
      if (stream == null) {
        Native.check(Native.loss(lossHandle, plan, call, result.struct(), held));
      } else {
        MemorySegment handle = stream.checked();
        enqueuedOn = stream;
        Native.check(
            Native.lossAsync(lossAsyncHandle, plan, call, handle, result.asyncStruct(), held));
      }
      result.written(batch, stream);
    }
  }

  /**
   * Decodes the raw outputs of a layer as keras-yolo3's {@code yolo_head}.
   *
   * @param layer 0..L-1
   * @param batch B, 1..maxBatch
   * @param layerFeats (B, H, W, A*(5+C))
   * @param head where to
   */
  public void yoloHead(int layer, int batch, MemorySegment layerFeats, YoloHead head) {
    Segments.requireGiven("head", head);
    requireBatch(batch);
    if (memory == Memory.DEVICE) {
      throw new IllegalArgumentException(
          "this YoloLoss takes device memory; decode with one that is opened with Memory.HOST");
    }
    YoloSpec.Layer l = spec.layers().get(Objects.checkIndex(layer, bytes.length));
    long cells = spec.cells(layer) * batch;
    MemorySegment[] used = {
      Segments.checked("feats", layerFeats, bytes[layer] * batch, false),
      Segments.optional("grid", head.grid(), 2L * l.gridHeight() * l.gridWidth()),
      Segments.optional("boxXy", head.boxXy(), 2 * cells),
      Segments.optional("boxWh", head.boxWh(), 2 * cells),
      Segments.optional("boxConfidence", head.boxConfidence(), cells),
      Segments.optional("boxClassProbs", head.boxClassProbs(), cells * spec.numClasses())
    };
    try (Arena scratch = Arena.ofConfined()) {
      MemorySegment struct = scratch.allocate(Layouts.HEAD);
      struct.set(JAVA_LONG, Layouts.offset(Layouts.HEAD, "struct_size"), Layouts.HEAD.byteSize());
      long first = Layouts.offset(Layouts.HEAD, "feats");
      for (int i = 0; i < used.length; i++) { // the six pointers stand in this order
        struct.set(ADDRESS, first + i * ADDRESS.byteSize(), used[i]);
      }
      struct.set(JAVA_INT, Layouts.offset(Layouts.HEAD, "layer"), layer);
      struct.set(JAVA_INT, Layouts.offset(Layouts.HEAD, "batch"), batch);
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
   */
  public Targets.BoxCounts buildYTrue(int batch, Targets.Boxes source, MemorySegment[] out) {
    Segments.requireGiven("source", source);
    return build(batch, source.boxes(), source.perImage(), source.policy(), out);
  }

  /** The same in device memory. */
  public Targets.BoxCounts buildYTrue(int batch, Targets.DeviceBoxes source, DeviceBuffer[] out) {
    Segments.requireGiven("source", source);
    return build(batch, source.boxes(), source.perImage(), source.policy(), out);
  }

  private Targets.BoxCounts build(
      int batch, Object rows, int perImage, Targets.BoxPolicy policy, Object[] out) {
    synchronized (lock) {
      requireOpen();
      requireBatch(batch);
      Arrays.fill(held, MemorySegment.NULL);
      pointBoxes(rows, perImage, policy, batch, 0);
      point(yTrue, "y_true", out, batch, bytes.length, true);
      if (enqueuedOn != null) {
        enqueuedOn.synchronize();
        enqueuedOn = null;
      }
      try (Arena scratch = Arena.ofConfined()) {
        MemorySegment counts = scratch.allocate(Layouts.BOX_COUNTS);
        Native.check(Native.buildYTrue(buildYTrueHandle, plan, batch, boxes, yTrue, counts, held));
        return LossResult.boxCounts(counts);
      }
    }
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

  /** Checks the memory of each layer and writes its address into pointers. */
  private void point(
      MemorySegment pointers,
      String name,
      Object[] memories,
      int batch,
      int firstHeld,
      boolean written) {
    if (memories == null || memories.length != bytes.length) {
      throw new IllegalArgumentException(
          name
              + (memories == null ? " is null, " : " has " + memories.length + " segments, ")
              + bytes.length
              + " are expected, one for each layer");
    }
    for (int l = 0; l < bytes.length; l++) {
      MemorySegment address = addressOf(name, l, memories[l], bytes[l] * batch, written);
      pointers.setAtIndex(ADDRESS, l, address);
      held[firstHeld + l] = address;
    }
  }

  private void pointDense(Object[] dense, int batch) {
    point(yTrue, "y_true", dense, batch, bytes.length, false);
    call.set(ADDRESS, CALL_Y_TRUE, yTrue);
    call.set(ADDRESS, CALL_BOXES, MemorySegment.NULL);
  }

  private void pointBoxes(
      Object rows, int perImage, Targets.BoxPolicy policy, int batch, int heldAt) {
    boxes.set(JAVA_INT, BOXES_PER_IMAGE, perImage);
    boxes.set(JAVA_INT, BOXES_POLICY, policy.ordinal());
    long needed = Math.multiplyExact(5L * Float.BYTES * batch, perImage);
    held[heldAt] = addressOf("boxes", -1, rows, needed, false);
    boxes.set(ADDRESS, BOXES_DATA, held[heldAt]);
    call.set(ADDRESS, CALL_Y_TRUE, MemorySegment.NULL);
    call.set(ADDRESS, CALL_BOXES, boxes);
  }

  private void pointScalar(long field, String name, DeviceBuffer at, int place) {
    MemorySegment address = MemorySegment.NULL;
    if (at != null) {
      if (device.kind() != Device.Kind.CUDA) {
        throw new IllegalArgumentException(
            name + " is device memory, which only a CUDA device reads; give a value");
      }
      address = at.checked(name, device, Float.BYTES);
    }
    call.set(ADDRESS, field, address);
    held[3 * bytes.length + place] = address;
  }

  /** Checks memory of the kind that this object takes. layer -1: not of a layer. */
  private MemorySegment addressOf(
      String name, int layer, Object given, long needed, boolean written) {
    if (memory == Memory.HOST && given instanceof MemorySegment segment) {
      if (!Segments.fits(segment, needed, written, Float.BYTES)) {
        Segments.refuse(named(name, layer), segment, needed, written);
      }
      return segment;
    }
    if (memory == Memory.DEVICE && given instanceof DeviceBuffer buffer) {
      if (!buffer.fits(device, needed)) {
        buffer.checked(named(name, layer), device, needed);
      }
      return buffer.address();
    }
    throw new IllegalArgumentException(
        named(name, layer)
            + (given == null
                ? " is null, "
                : memory == Memory.HOST ? " is device memory, " : " is host memory, ")
            + (memory == Memory.HOST ? "a segment of " : "device memory of ")
            + needed
            + " bytes is expected");
  }

  private static String named(String name, int layer) {
    return layer < 0 ? name : name + "[" + layer + "]";
  }
}
