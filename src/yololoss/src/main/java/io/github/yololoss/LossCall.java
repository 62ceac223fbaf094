package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;

import io.github.yololoss.internal.Abi;
import io.github.yololoss.internal.Held;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * A {@code yl_call} and all that it points to, filled again for each call without creating an
 * object. Every argument is checked here, before native code sees it.
 *
 * @param <M> the type of memory that calls take
 */
final class LossCall<M> {
  private final MemoryKind<M> kind;
  private final int layers;
  private final long[] values; // elements of feats of one image, for each layer
  private final long[] cells; // cells of one image, for each layer
  private final int featBytes; // size of an element of feats
  private final int gradBytes; // size of an element of grads
  private final MemorySegment call; // yl_call
  private final MemorySegment boxes; // yl_boxes
  private final MemorySegment feats; // arrays of pointers, one for each layer
  private final MemorySegment yTrue;
  private final MemorySegment grads;
  private final MemorySegment ignoreMask;
  private final MemorySegment bestIou;
  private final MemorySegment cellLoss;
  private final Held held;

  LossCall(MemoryKind<M> kind, YoloSpec spec, FeatsType type, FeatsType gradientType, Arena arena) {
    this.kind = kind;
    layers = spec.layers().size();
    featBytes = type.bytes();
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
    ignoreMask = arena.allocate(ADDRESS, layers);
    bestIou = arena.allocate(ADDRESS, layers);
    cellLoss = arena.allocate(ADDRESS, layers);
    held = new Held(6 * layers + 3); // feats, truths, grads, maps; weights, two scalars
    Abi.Call.setFeats(call, feats);
  }

  /** Returns the {@code yl_call}. */
  MemorySegment struct() {
    return call;
  }

  /** Returns the {@code yl_boxes}. */
  MemorySegment boxes() {
    return boxes;
  }

  /** Returns the pointers to y_true, one for each layer. */
  MemorySegment yTrue() {
    return yTrue;
  }

  /** Returns the memory that must not be closed during the call. */
  Held held() {
    return held;
  }

  /** Fills the call for {@code yl_loss}; {@link #fillOutputs} does the rest. */
  void fill(
      int batch,
      M[] feats,
      Targets<M> targets,
      M[] grads,
      LossOptions options,
      M normaliserAt,
      M gradientScaleAt) {
    held.clear();
    point(this.feats, "feats", feats, batch, false, values, featBytes);
    pointTargets(targets, batch);
    if (grads != null) {
      point(this.grads, "grads", grads, batch, true, values, gradBytes);
    }
    LossOptions.Normaliser normaliser = options.normaliser();
    boolean all = options.search() == LossOptions.Search.ALL;
    Abi.Call.setScan(call, all ? Abi.YL_SCAN_ALL : Abi.YL_SCAN_USED);
    Abi.Call.setGrads(call, grads == null ? MemorySegment.NULL : this.grads);
    Abi.Call.setBatch(call, batch);
    Abi.Call.setGradMode(call, options.gradientMode().value);
    Abi.Call.setNormaliser(
        call, normaliserAt == null ? normaliser.kind().value : Abi.YL_NORMALISER_VALUE);
    Abi.Call.setNormaliserValue(call, normaliser.value());
    Abi.Call.setGradScale(call, options.gradientScale());
    Abi.Call.setNormaliserAt(call, scalar("normaliser", normaliserAt));
    Abi.Call.setGradScaleAt(call, scalar("gradientScale", gradientScaleAt));
  }

  /** Requests those outputs of a {@code yl_result} that the options and maps ask for. */
  void fillOutputs(
      int batch,
      LossOptions options,
      CellMaps<M> maps,
      MemorySegment result,
      MemorySegment stats,
      MemorySegment offender) {
    boolean search = options.search() != LossOptions.Search.NONE;
    Abi.Result.setStats(result, options.statistics() ? stats : MemorySegment.NULL);
    Abi.Result.setOffender(result, search ? offender : MemorySegment.NULL);
    M[] wantedMask = maps == null ? null : maps.ignoreMask();
    M[] wantedIou = maps == null ? null : maps.bestIou();
    M[] wantedLoss = maps == null ? null : maps.cellLoss();
    Abi.Result.setIgnoreMask(result, map(ignoreMask, "ignoreMask", wantedMask, batch));
    Abi.Result.setBestIou(result, map(bestIou, "bestIou", wantedIou, batch));
    Abi.Result.setCellLoss(result, map(cellLoss, "cellLoss", wantedLoss, batch));
  }

  /** Fills for {@code yl_audit}; returns the pointers to y_true, or NULL if there are boxes. */
  MemorySegment fillToAudit(int batch, Targets<M> targets) {
    held.clear();
    pointTargets(targets, batch);
    return Abi.Call.getYTrue(call);
  }

  /** Fills for {@code yl_build_y_true}. */
  void fillToBuild(int batch, Targets.Boxes<M> source, M[] out) {
    held.clear();
    pointBoxes(source, batch);
    point(yTrue, "y_true", out, batch, true, values, Float.BYTES);
  }

  private void pointTargets(Targets<M> targets, int batch) {
    switch (targets) {
      case Targets.Dense<M> dense -> {
        point(yTrue, "y_true", dense.yTrue(), batch, false, values, Float.BYTES);
        Abi.Call.setYTrue(call, yTrue);
        Abi.Call.setBoxes(call, MemorySegment.NULL);
      }
      case Targets.Boxes<M> b -> {
        pointBoxes(b, batch);
        Abi.Call.setYTrue(call, MemorySegment.NULL);
        Abi.Call.setBoxes(call, boxes);
      }
      case null ->
          throw new IllegalArgumentException("targets is null, dense truths or boxes are expected");
    }
  }

  private void pointBoxes(Targets.Boxes<M> source, int batch) {
    long needed = Math.multiplyExact(5L * Float.BYTES * batch, source.perImage());
    Abi.Boxes.setPerImage(boxes, source.perImage());
    Abi.Boxes.setPolicy(boxes, source.policy().value);
    Abi.Boxes.setData(boxes, one("boxes", source.boxes(), needed));
    Abi.Boxes.setWeights(
        boxes,
        source.weights() == null
            ? MemorySegment.NULL
            : one("weights", source.weights(), needed / 5));
  }

  /** Checks the memory of each layer and writes its address into pointers. */
  private void point(
      MemorySegment pointers,
      String name,
      M[] memories,
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
          kind.address(name, l, memories[l], counts[l] * size * batch, written, size);
      pointers.setAtIndex(ADDRESS, l, address);
      held.hold(address);
    }
  }

  /** Returns the pointers to a map, or NULL if it is not wanted. */
  private MemorySegment map(MemorySegment pointers, String name, M[] wanted, int batch) {
    if (wanted == null) {
      return MemorySegment.NULL;
    }
    point(pointers, name, wanted, batch, true, cells, Float.BYTES);
    return pointers;
  }

  /** Returns the address of a number, or NULL if there is none. */
  private MemorySegment scalar(String name, M at) {
    return at == null ? MemorySegment.NULL : one(name, at, Float.BYTES);
  }

  /** Checks and holds memory of float32 that is read. */
  private MemorySegment one(String name, M memory, long needed) {
    MemorySegment address = kind.address(name, -1, memory, needed, false, Float.BYTES);
    held.hold(address);
    return address;
  }
}
