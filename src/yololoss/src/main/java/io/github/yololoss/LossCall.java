package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * A {@code yl_call} and all that it points to, filled anew for each call without creating an
 * object. What does not fit is refused here, before native code sees it.
 */
final class LossCall {
  private final Memory memory;
  private final Device device; // with device memory a CUDA device
  private final int layers;
  private final long[] values; // of feats of one image, for each layer
  private final long[] cells; // alike
  private final int featBytes; // of a value
  private final int gradBytes;
  private final MemorySegment call; // yl_call
  private final MemorySegment boxes; // yl_boxes
  private final MemorySegment feats; // arrays of pointers
  private final MemorySegment yTrue;
  private final MemorySegment grads;
  private final MemorySegment[] maps; // three arrays of pointers
  private final Held held;

  LossCall(
      Memory memory,
      Device device,
      YoloSpec spec,
      DataType dataType,
      DataType gradientType,
      Arena arena) {
    this.memory = memory;
    this.device = device;
    layers = spec.layers().size();
    featBytes = dataType.bytes();
    gradBytes = gradientType.bytes();
    values = new long[layers];
    cells = new long[layers];
    for (int l = 0; l < layers; l++) {
      cells[l] = spec.cells(l);
      values[l] = cells[l] * (5L + spec.numClasses());
    }
    call = Abi.Call.allocate(arena);
    boxes = Abi.Boxes.allocate(arena);
    feats = arena.allocate(ADDRESS, layers);
    yTrue = arena.allocate(ADDRESS, layers);
    grads = arena.allocate(ADDRESS, layers);
    maps = new MemorySegment[3];
    for (int m = 0; m < maps.length; m++) {
      maps[m] = arena.allocate(ADDRESS, layers);
    }
    held = new Held(6 * layers + 3); // feats, truths, grads, maps; weights, two scalars
    Abi.Call.setFeats(call, feats);
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

  /** The memory of the call. */
  Held held() {
    return held;
  }

  /** For {@code yl_loss}; what the result has room for, it is asked for. */
  void fill(
      int batch,
      Object[] feats,
      Targets targets,
      Object[] grads,
      LossOptions options,
      MemorySegment result,
      MemorySegment stats,
      MemorySegment offender) {
    held.clear();
    point(this.feats, "feats", feats, batch, false, values, featBytes);
    pointTargets(targets, batch);
    if (grads != null) {
      point(this.grads, "grads", grads, batch, true, values, gradBytes);
    }
    boolean search = options.search() != LossOptions.Search.NONE;
    Abi.Result.setStats(result, options.statistics() ? stats : MemorySegment.NULL);
    Abi.Result.setOffender(result, search ? offender : MemorySegment.NULL);
    CellMaps<?> m = options.maps();
    pointMap(
        result,
        Abi.Result.IGNORE_MASK_OFFSET,
        "ignoreMask",
        0,
        m == null ? null : m.ignoreMask(),
        batch);
    pointMap(
        result, Abi.Result.BEST_IOU_OFFSET, "bestIou", 1, m == null ? null : m.bestIou(), batch);
    pointMap(
        result, Abi.Result.CELL_LOSS_OFFSET, "cellLoss", 2, m == null ? null : m.cellLoss(), batch);
    boolean all = options.search() == LossOptions.Search.ALL;
    Abi.Call.setScan(call, all ? Abi.YL_SCAN_ALL : Abi.YL_SCAN_USED);
    Abi.Call.setGrads(call, grads == null ? MemorySegment.NULL : this.grads);
    Abi.Call.setBatch(call, batch);
    Abi.Call.setGradMode(call, options.gradientMode().value);
    Abi.Call.setNormaliser(call, options.normaliser().kind().value);
    Abi.Call.setNormaliserValue(call, options.normaliser().value());
    Abi.Call.setGradScale(call, options.gradientScale());
    Abi.Call.setNormaliserAt(call, scalar("normaliser", options.normaliser().at()));
    Abi.Call.setGradScaleAt(call, scalar("gradientScaleAt", options.gradientScaleAt()));
  }

  /** For {@code yl_audit}: the pointers to y_true, or NULL; those to boxes are then used. */
  MemorySegment fillToAudit(int batch, Targets targets) {
    held.clear();
    pointTargets(targets, batch);
    return Abi.Call.getYTrue(call);
  }

  private void pointTargets(Targets targets, int batch) {
    switch (targets) {
      case Targets.Dense(MemorySegment[] dense) -> pointDense(dense, batch);
      case Targets.DeviceDense(DeviceBuffer[] dense) -> pointDense(dense, batch);
      case Targets.Boxes b -> pointBoxes(b.boxes(), b.perImage(), b.policy(), b.weights(), batch);
      case Targets.DeviceBoxes b ->
          pointBoxes(b.boxes(), b.perImage(), b.policy(), b.weights(), batch);
      case null ->
          throw new IllegalArgumentException("targets is null, dense truths or boxes are expected");
    }
  }

  /** For {@code yl_build_y_true}. */
  void fillToBuild(
      int batch,
      Object rows,
      int perImage,
      Targets.BoxPolicy policy,
      Object weights,
      Object[] out) {
    held.clear();
    pointBoxes(rows, perImage, policy, weights, batch);
    point(yTrue, "y_true", out, batch, true, values, Float.BYTES);
  }

  /** Checks the memory of each layer and writes its address into pointers. */
  private void point(
      MemorySegment pointers,
      String name,
      Object[] memories,
      int batch,
      boolean written,
      long[] counts,
      int size) {
    if (memories == null || memories.length != layers) {
      throw new IllegalArgumentException(
          name
              + (memories == null ? " is null, " : " has " + memories.length + " segments, ")
              + layers
              + " are expected, one for each layer");
    }
    for (int l = 0; l < layers; l++) {
      MemorySegment address =
          addressOf(name, l, memories[l], counts[l] * size * batch, written, size);
      pointers.setAtIndex(ADDRESS, l, address);
      held.hold(address);
    }
  }

  private void pointDense(Object[] dense, int batch) {
    point(yTrue, "y_true", dense, batch, false, values, Float.BYTES);
    Abi.Call.setYTrue(call, yTrue);
    Abi.Call.setBoxes(call, MemorySegment.NULL);
  }

  private void pointMap(
      MemorySegment result, long field, String name, int m, Object[] memories, int batch) {
    if (memories != null) {
      point(maps[m], name, memories, batch, true, cells, Float.BYTES);
    }
    result.set(ADDRESS, field, memories == null ? MemorySegment.NULL : maps[m]);
  }

  private void pointBoxes(
      Object rows, int perImage, Targets.BoxPolicy policy, Object weights, int batch) {
    Abi.Boxes.setPerImage(boxes, perImage);
    Abi.Boxes.setPolicy(boxes, policy.value);
    long needed = Math.multiplyExact(5L * Float.BYTES * batch, perImage);
    MemorySegment rowsAt = addressOf("boxes", -1, rows, needed, false, Float.BYTES);
    MemorySegment weightsAt = MemorySegment.NULL;
    held.hold(rowsAt);
    if (weights != null) {
      weightsAt = addressOf("weights", -1, weights, needed / 5, false, Float.BYTES);
      held.hold(weightsAt);
    }
    Abi.Boxes.setWeights(boxes, weightsAt);
    Abi.Boxes.setData(boxes, rowsAt);
    Abi.Call.setYTrue(call, MemorySegment.NULL);
    Abi.Call.setBoxes(call, boxes);
  }

  /** The address of a number in device memory, or NULL. */
  private MemorySegment scalar(String name, DeviceBuffer at) {
    MemorySegment address = MemorySegment.NULL;
    if (at != null) {
      if (device.kind() != Device.Kind.CUDA) {
        throw new IllegalArgumentException(
            name + " is device memory, which only a CUDA device reads; give a value");
      }
      address = at.checked(name, device, Float.BYTES);
      held.hold(address);
    }
    return address;
  }

  /** Checks memory of the kind that this object takes. layer -1: not of a layer. */
  private MemorySegment addressOf(
      String name, int layer, Object given, long needed, boolean written, int alignment) {
    if (memory == Memory.HOST && given instanceof MemorySegment segment) {
      if (!Segments.fits(segment, needed, written, alignment)) {
        Segments.refuse(named(name, layer), segment, needed, written, alignment);
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
