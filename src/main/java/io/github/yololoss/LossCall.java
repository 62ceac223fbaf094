package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * A {@code yl_call} and all that it points to, filled anew for each call without creating an
 * object. What does not fit is refused here, before native code sees it.
 */
final class LossCall {
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

  private final Memory memory;
  private final Device device; // with device memory a CUDA device
  private final long[] bytes; // of feats of one image, for each layer
  private final MemorySegment call; // yl_call
  private final MemorySegment boxes; // yl_boxes
  private final MemorySegment feats; // arrays of pointers
  private final MemorySegment yTrue;
  private final MemorySegment grads;
  private final MemorySegment[] held; // feats, y_true or boxes, grads; normaliser and scale

  LossCall(Memory memory, Device device, long[] bytes, Arena arena) {
    this.memory = memory;
    this.device = device;
    this.bytes = bytes;
    call = arena.allocate(Layouts.CALL);
    boxes = arena.allocate(Layouts.BOXES);
    feats = arena.allocate(ADDRESS, bytes.length);
    yTrue = arena.allocate(ADDRESS, bytes.length);
    grads = arena.allocate(ADDRESS, bytes.length);
    held = new MemorySegment[3 * bytes.length + 2];
    call.set(JAVA_LONG, Layouts.offset(Layouts.CALL, "struct_size"), Layouts.CALL.byteSize());
    call.set(ADDRESS, Layouts.offset(Layouts.CALL, "feats"), feats);
    boxes.set(JAVA_LONG, Layouts.offset(Layouts.BOXES, "struct_size"), Layouts.BOXES.byteSize());
  }

  /** {@code yl_call}. */
  MemorySegment struct() {
    return call;
  }

  /** {@code yl_boxes}. */
  MemorySegment boxes() {
    return boxes;
  }

  /** The pointers to y_true, one for each layer. */
  MemorySegment yTrue() {
    return yTrue;
  }

  /** What must not be closed during the call; NULL in the places that are not used. */
  MemorySegment[] held() {
    return held;
  }

  /** For {@code yl_loss}. */
  void fill(int batch, Object[] feats, Targets targets, Object[] grads, LossOptions options) {
    Arrays.fill(held, MemorySegment.NULL);
    point(this.feats, "feats", feats, batch, 0, false);
    switch (targets) {
      case Targets.Dense(MemorySegment[] dense) -> pointDense(dense, batch);
      case Targets.DeviceDense(DeviceBuffer[] dense) -> pointDense(dense, batch);
      case Targets.Boxes b -> pointBoxes(b.boxes(), b.perImage(), b.policy(), batch, bytes.length);
      case Targets.DeviceBoxes b ->
          pointBoxes(b.boxes(), b.perImage(), b.policy(), batch, bytes.length);
      case null ->
          throw new IllegalArgumentException("targets is null, dense truths or boxes are expected");
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
  }

  /** For {@code yl_build_y_true}. */
  void fillToBuild(int batch, Object rows, int perImage, Targets.BoxPolicy policy, Object[] out) {
    Arrays.fill(held, MemorySegment.NULL);
    pointBoxes(rows, perImage, policy, batch, 0);
    point(yTrue, "y_true", out, batch, bytes.length, true);
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
