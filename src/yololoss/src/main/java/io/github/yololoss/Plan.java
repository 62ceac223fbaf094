package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;

import io.github.yololoss.internal.Abi;
import io.github.yololoss.internal.Native;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * A {@code yl_plan} and the calls on it, for one kind of memory: the common core of {@link
 * YoloLoss} and {@link CudaYoloLoss}, which only say what their users may pass.
 *
 * <p>A native plan serves one call at a time, so each call holds the lock from the moment that it
 * fills the shared {@link LossCall} until the library has returned.
 *
 * <p>A plan that is dropped without {@link #close} is freed by a {@link Cleaner}. Each method that
 * calls native code ends in a reachability fence. Without it, the JIT could find the plan
 * unreachable before its last call has ended, and the cleaner would close the arena too early.
 *
 * @param <M> the type of memory
 */
final class Plan<M> implements AutoCloseable {
  /** A small runtime image may lack jdk.jfr on the class path; calls are then no events. */
  private static final boolean HAS_RECORDER = ModuleLayer.boot().findModule("jdk.jfr").isPresent();

  private static final Cleaner CLEANER = Cleaner.create();

  final YoloSpec spec;
  final int maxBatch;
  final FeatsType featsType;
  final FeatsLayout layout;
  final FeatsType gradientType;
  final String deviceName;
  final String deviceWhy;

  private final MemoryKind<M> kind;
  private final Arena arena; // owns the native plan and the memory of the call
  private final MemorySegment plan;

  // One call at a time: guarded by lock.
  private final Object lock = new Object();
  private final LossCall<M> call;
  private final MethodHandle lossHandle;
  private final MethodHandle lossAsyncHandle;
  private final MethodHandle buildYTrueHandle;
  private final MethodHandle auditHandle;
  private CudaStream enqueuedOn; // where the last enqueued call may still run, or null

  private final Cleaner.Cleanable cleanable;

  Plan(YoloLoss.Builder b, LossDevice device, MemoryKind<M> kind) {
    spec = b.spec;
    maxBatch = b.maxBatch;
    featsType = b.featsType;
    layout = b.layout;
    gradientType = b.float32Gradients ? FeatsType.FLOAT32 : featsType;
    this.kind = kind;
    Library.load();
    arena = Arena.ofShared();
    try {
      plan = create(b, device, kind.value(), arena); // refuses sizes that cannot be addressed
      deviceName = Native.deviceName(plan);
      deviceWhy = Native.deviceWhy(plan);
      call = new LossCall<>(kind, spec, featsType, gradientType, arena);
      int held = call.held().most();
      lossHandle = Native.bindLoss(held);
      lossAsyncHandle = Native.bindLossAsync(held);
      buildYTrueHandle = Native.bindBuildYTrue(held);
      auditHandle = Native.bindAudit(held);
      cleanable = CLEANER.register(this, new Dropped(arena, kind.owner(), deviceName));
    } catch (Throwable t) {
      arena.close(); // otherwise a failed open leaks
      throw t;
    }
  }

  private static MemorySegment create(
      YoloLoss.Builder b, LossDevice device, int memory, Arena arena) {
    try (Arena scratch = Arena.ofConfined()) {
      MemorySegment config = b.spec.config(scratch);
      Abi.Config.setMaxBatch(config, b.maxBatch);
      Abi.Config.setDevice(config, device.kind().value);
      Abi.Config.setDeviceIndex(config, device.index());
      Abi.Config.setMemory(config, memory);
      Abi.Config.setThreads(config, b.threads);
      Abi.Config.setDtype(config, b.featsType.value);
      Abi.Config.setLayout(config, b.layout.value);
      Abi.Config.setGradDtype(
          config, b.float32Gradients ? Abi.YL_GRAD_F32 : Abi.YL_GRAD_LIKE_FEATS);
      Abi.Config.setRules(config, b.rules.struct(b.spec, scratch));
      MemorySegment made = scratch.allocate(ADDRESS);
      Library.check(Native.planCreate(config, made));
      return made.get(ADDRESS, 0).reinterpret(arena, Native::planDestroy);
    }
  }

  LossResult newResult() {
    return new LossResult(maxBatch, spec.layers().size(), kind.onDevice());
  }

  /**
   * Computes the loss, and the gradient if there is memory for it.
   *
   * @param grads null: loss only
   * @param maps null: none
   * @param normaliserAt memory of one float32 that replaces the normaliser, or null
   * @param gradientScaleAt memory of one float32 that replaces the gradient scale, or null
   * @param stream where the call is enqueued; null: it is done when this returns
   */
  void compute(
      int batch,
      M[] feats,
      Targets<M> targets,
      M[] grads,
      LossOptions options,
      CellMaps<M> maps,
      M normaliserAt,
      M gradientScaleAt,
      CudaStream stream,
      LossResult result) {
    requireBatch(batch);
    Segments.requireGiven("options", options);
    if (result == null || !result.fits(batch, spec.layers().size(), stream != null)) {
      throw new IllegalArgumentException(
          "result is null or of another "
              + kind.owner()
              + "; make one with newResult() of this object");
    }
    try {
      synchronized (lock) {
        requireOpen();
        MemorySegment struct = stream == null ? result.struct() : result.asyncStruct();
        call.fill(batch, feats, targets, grads, options, normaliserAt, gradientScaleAt);
        call.fillOutputs(batch, options, maps, struct, result.stats(), result.offenderStruct());
        follow(stream);
        result.overwrite();
        LossEvent event =
            HAS_RECORDER ? LossEvent.begin(deviceName, batch, grads != null, stream != null) : null;
        if (stream == null) {
          Library.check(Native.loss(lossHandle, plan, call.struct(), struct, call.held()));
        } else {
          MemorySegment handle = stream.checked();
          enqueuedOn = stream;
          Library.check(
              Native.lossAsync(lossAsyncHandle, plan, call.struct(), handle, struct, call.held()));
        }
        result.written(batch, options, stream, event);
      }
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  /** Decodes a layer. All memory is checked by the caller; held are its six segments. */
  void yoloHead(MemorySegment struct, MemorySegment[] held) {
    try {
      requireOpen();
      Library.check(Native.yoloHead(plan, struct, held));
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  Targets.BoxCounts buildYTrue(int batch, Targets.Boxes<M> source, M[] out) {
    Segments.requireGiven("source", source);
    try (Arena scratch = Arena.ofConfined()) {
      synchronized (lock) {
        requireOpen();
        requireBatch(batch);
        call.fillToBuild(batch, source, out);
        follow(null);
        MemorySegment counts = scratch.allocate(Abi.BoxCounts.LAYOUT);
        Library.check(
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
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  Audit audit(int batch, Targets<M> targets, float poorIou, int maxFindings) {
    requireBatch(batch);
    if (maxFindings < 0) {
      throw new IllegalArgumentException(
          "maxFindings is " + maxFindings + ", at least 0 is expected");
    }
    int rows = targets instanceof Targets.Boxes<M> boxes ? boxes.perImage() : 0;
    try (Arena scratch = Arena.ofConfined()) {
      synchronized (lock) {
        requireOpen();
        MemorySegment yTrue = call.fillToAudit(batch, targets);
        follow(null);
        AuditMemory memory = new AuditMemory(spec, batch, rows, 0, scratch);
        audit(batch, yTrue, poorIou, memory);
        int listed = (int) Math.min(memory.found(), maxFindings);
        if (listed > 0) { // now it is known how much memory the list takes
          memory = new AuditMemory(spec, batch, rows, listed, scratch);
          audit(batch, yTrue, poorIou, memory);
        }
        return memory.read();
      }
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  private void audit(int batch, MemorySegment yTrue, float poorIou, AuditMemory memory) {
    MemorySegment boxes = yTrue.address() != 0 ? MemorySegment.NULL : call.boxes();
    MemorySegment[] held = call.held().many();
    Library.check(
        Native.audit(auditHandle, plan, batch, yTrue, boxes, poorIou, memory.struct(), held));
  }

  @Override
  public void close() {
    if (!arena.scope().isAlive()) {
      return;
    }
    try {
      arena.close();
      cleanable.clean(); // finds nothing to free, and is forgotten
    } catch (IllegalStateException e) {
      if (arena.scope().isAlive()) {
        throw new IllegalStateException(
            "a call is running on another thread; close this " + kind.owner() + " after it", e);
      }
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  /**
   * Frees what a plan that was dropped without {@link #close} holds. It does not refer to the plan,
   * which would then stay reachable for ever.
   */
  private record Dropped(Arena arena, String owner, String deviceName) implements Runnable {
    private static final AtomicBoolean WARNED = new AtomicBoolean();

    @Override
    public void run() {
      if (!arena.scope().isAlive()) {
        return; // closed, as it should be
      }
      arena.close();
      if (WARNED.compareAndSet(false, true)) {
        System.getLogger("io.github.yololoss")
            .log(
                System.Logger.Level.WARNING,
                "a "
                    + owner
                    + " on "
                    + deviceName
                    + " was dropped without close(); its memory and threads were freed late, by the"
                    + " garbage collector. Close it, for example by try-with-resources. This is"
                    + " reported once.");
      }
    }
  }

  /** Waits for what is enqueued on another stream, because a plan serves one call at a time. */
  private void follow(CudaStream stream) {
    if (enqueuedOn != null && enqueuedOn != stream) {
      enqueuedOn.synchronize();
      enqueuedOn = null;
    }
  }

  private void requireOpen() {
    if (!arena.scope().isAlive()) {
      throw new IllegalStateException("this " + kind.owner() + " is closed; open another one");
    }
  }

  /** Returns device, largest batch, types and spec in one line. */
  @Override
  public String toString() {
    return kind.owner()
        + " on "
        + deviceName
        + ", batches up to "
        + maxBatch
        + ", feats "
        + featsType.name().toLowerCase(Locale.ROOT)
        + " "
        + layout.name().toLowerCase(Locale.ROOT)
        + (gradientType == featsType
            ? ""
            : ", gradients " + gradientType.name().toLowerCase(Locale.ROOT))
        + ", "
        + spec
        + (arena.scope().isAlive() ? "" : ", closed");
  }

  void requireBatch(int batch) {
    if (batch < 1 || batch > maxBatch) {
      throw new IllegalArgumentException(
          "batch is "
              + batch
              + ", expected 1.."
              + maxBatch
              + "; open a "
              + kind.owner()
              + " with a larger maxBatch");
    }
  }
}
