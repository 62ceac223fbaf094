package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import java.util.Random;

/** Calls of the public interface that are right, and can be spoilt. */
final class BadCalls extends CallMemory {
  BadCalls(Random random) {
    super(random);
  }

  /** A call, not yet spoilt. */
  Call next() {
    used.clear();
    return switch (random.nextInt(20)) {
      case 0, 1, 2 -> new Build();
      case 3, 4, 5 -> new Head();
      case 6, 7, 8 -> new Auditing();
      case 9 -> new Opening();
      case 10, 11 -> new Single();
      default -> new Compute();
    };
  }

  /** The loss; truths dense, as boxes or as weighted boxes; with gradient and maps or without. */
  private final class Compute extends Call {
    private record Expected(double total, MemorySegment[] grads, MemorySegment[] map) {}

    final int kind = random.nextInt(3);
    final boolean withGrads = random.nextBoolean();
    final boolean withMap = random.nextBoolean();
    MemorySegment[] feats = inputs("feats", right);
    MemorySegment[] yTrue = inputs("y_true", right);
    MemorySegment[] rows = {guarded("boxes0", right * ROWS * 20L)};
    MemorySegment[] weights = {guarded("weights0", right * ROWS * 4L)};
    MemorySegment[] grads = withGrads ? outputs("grads", l -> SPEC.bytes(l, right)) : null;
    MemorySegment[] map = withMap ? outputs("map", l -> SPEC.cells(l) * 4 * right) : null;
    int perImage = ROWS;
    boolean without; // any truths
    CellMaps<MemorySegment> maps = withMap ? new CellMaps<>(null, map, null) : null;
    LossOptions options = options(withMap);
    LossResult result = open.newResult();

    Compute() {
      spoilBatchAndLoss();
      spoilSegments("feats", feats, false);
      if (kind == 0) {
        spoilSegments("y_true", yTrue, false);
      } else {
        spoilSegment("boxes", rows, 0, false);
        Class<NullPointerException> nothing = NullPointerException.class;
        harms.add(new Harm("boxes", "boxes null", nothing, false, () -> rows[0] = null));
        int[] bad = {-1, ROWS + 1, Integer.MAX_VALUE, Integer.MIN_VALUE};
        harms.add(new Harm("boxes", "rows", BAD, false, () -> perImage = pick(bad)));
      }
      if (kind == 2) {
        spoilSegment("weights", weights, 0, false);
      }
      if (withMap) {
        spoilSegments("best_iou", map, true);
      }
      spoil("feats null", BAD, () -> feats = null);
      spoil(
          "feats few",
          BAD,
          () -> feats = Arrays.copyOf(feats == null ? yTrue : feats, pick(0, 2, 4)));
      spoil("targets null", BAD, () -> without = true);
      spoil("options null", BAD, () -> options = null);
      spoil("result null", BAD, () -> result = null);
      spoil("result of another", BAD, () -> result = otherResult);
      if (withGrads) {
        spoilSegments("grads", grads, true);
        spoil("grads few", BAD, () -> grads = Arrays.copyOf(grads, pick(0, 2, 4)));
        Class<YoloLossException> refused = YoloLossException.class;
        harms.add(new Harm("grads overlap", refused, true, () -> grads[0] = grads[2]));
        harms.add(new Harm("grads over feats", refused, true, () -> grads[0] = shared(feats, 1)));
        harms.add(new Harm("sum over feats", refused, true, this::sumInPlace));
      }
    }

    private static LossOptions options(boolean withMap) {
      return withMap
          ? LossOptions.DEFAULT.withStatistics(true).withSearch(LossOptions.Search.ALL)
          : LossOptions.DEFAULT;
    }

    private MemorySegment shared(MemorySegment[] inputs, int l) {
      return inputs[l] = copy(inputs[l], Arena.ofAuto(), inputs[l].byteSize());
    }

    private void sumInPlace() {
      grads[1] = shared(feats, 1);
      options = options.withGradientMode(LossOptions.GradientMode.ACCUMULATE);
    }

    private Targets<MemorySegment> targets() {
      if (without) {
        return null;
      }
      return kind == 0
          ? Targets.dense(yTrue)
          : boxes(rows[0], perImage, kind == 2 ? weights[0] : null);
    }

    @Override
    void run() {
      loss.compute(batch, feats, targets(), grads, options, maps, result);
    }

    /** The bits of the same call in plain memory, on one thread. */
    @Override
    void requireRight(String what) {
      Expected want =
          expected("compute " + kind + right + withGrads + withMap, this::inPlainMemory);
      assertEquals(want.total, result.total(), what);
      requireSame(what + ": gradient ", want.grads, grads);
      requireSame(what + ": map ", want.map, map);
    }

    private Expected inPlainMemory() {
      MemorySegment[] g = withGrads ? SPEC.allocate(memory, right) : null;
      MemorySegment[] m = withMap ? SPEC.allocateMap(memory, right) : null;
      Targets<MemorySegment> truths =
          kind == 0
              ? Targets.dense(each(l -> plain.get("y_true" + l)))
              : boxes(plain.get("boxes0"), ROWS, kind == 2 ? plain.get("weights0") : null);
      LossResult r = oneThread.newResult();
      CellMaps<MemorySegment> all = withMap ? new CellMaps<>(null, m, null) : null;
      MemorySegment[] f = each(l -> plain.get("feats" + l));
      oneThread.compute(right, f, truths, g, options(withMap), all, r);
      return new Expected(r.total(), g, m);
    }

    @Override
    public String toString() {
      return "compute of kind " + kind;
    }
  }

  /** Dense truths of boxes. */
  private final class Build extends Call {
    MemorySegment[] rows = {guarded("boxes0", right * ROWS * 20L)};
    MemorySegment[] out = outputs("out", l -> SPEC.bytes(l, right));
    boolean without;
    MemorySegment weights;

    Build() {
      spoilBatchAndLoss();
      spoilSegment("boxes", rows, 0, false);
      spoilSegments("out", out, true);
      spoil("source null", BAD, () -> without = true);
      spoil("out null", BAD, () -> out = null);
      spoil("weights", YoloLossException.class, () -> weights = plain.get("weights0"));
    }

    @Override
    void run() {
      loss.buildYTrue(batch, without ? null : boxes(rows[0], ROWS, weights), out);
    }

    @Override
    void requireRight(String what) {
      requireSame(
          what + ": y_true ",
          each(l -> plain.get("y_true" + l).asSlice(0, SPEC.bytes(l, right))),
          out);
    }

    @Override
    public String toString() {
      return "buildYTrue";
    }
  }

  /** Decoding of a layer. */
  private final class Head extends Call {
    final int l = random.nextInt(LAYERS);
    final long cells = SPEC.cells(l) * right;
    int layer = l;
    MemorySegment[] feats = {guarded("feats" + l, SPEC.bytes(l, right))};
    MemorySegment[] out = {
      fresh("grid", SPEC.cells(l) / 3 * 8),
      fresh("xy", cells * 8),
      fresh("wh", cells * 8),
      fresh("confidence", cells * 4),
      fresh("probs", cells * 4 * SPEC.numClasses())
    };
    boolean without;

    Head() {
      spoilBatchAndLoss();
      spoilSegments("feats", feats, false);
      for (int i = 0; i < out.length; i++) {
        spoilSegment("output " + i, out, i, true);
      }
      spoil("head null", BAD, () -> without = true);
      int[] bad = {-1, LAYERS, Integer.MAX_VALUE, Integer.MIN_VALUE};
      spoil("layer", IndexOutOfBoundsException.class, () -> layer = pick(bad));
      Class<YoloLossException> refused = YoloLossException.class;
      harms.add(new Harm("outputs overlap", refused, true, () -> out[2] = out[1]));
    }

    private MemorySegment fresh(String name, long size) {
      return guarded(name + l, size).fill(UNTOUCHED);
    }

    private static YoloHead head(MemorySegment[] out) {
      return new YoloHead(out[0], out[1], out[2], out[3], out[4]);
    }

    @Override
    void run() {
      loss.yoloHead(layer, batch, feats[0], without ? null : head(out));
    }

    @Override
    void requireRight(String what) {
      MemorySegment[] want =
          expected(
              "head " + l + right,
              () -> {
                MemorySegment[] made = out.clone();
                Arrays.setAll(made, i -> memory.allocate(sizeOf(i), 64));
                oneThread.yoloHead(l, right, plain.get("feats" + l), head(made));
                return made;
              });
      requireSame(what + ": output ", want, out);
    }

    private long sizeOf(int i) {
      return new long[] {SPEC.cells(l) / 3 * 8, cells * 8, cells * 8, cells * 4, cells * 8}[i];
    }

    @Override
    public String toString() {
      return "yoloHead";
    }
  }

  /** What is wrong with truths. */
  private final class Auditing extends Call {
    final boolean dense = random.nextBoolean();
    MemorySegment[] yTrue = inputs("y_true", right);
    MemorySegment[] rows = {guarded("boxes0", right * ROWS * 20L)};
    boolean without;
    float poorIou = 0.5f;
    int maxFindings = 100;
    Audit got;

    Auditing() {
      spoilBatchAndLoss();
      if (dense) {
        spoilSegments("y_true", yTrue, false);
      } else {
        spoilSegment("boxes", rows, 0, false);
      }
      spoil("targets null", BAD, () -> without = true);
      spoil(
          "poorIou",
          YoloLossException.class,
          () ->
              poorIou =
                  new float[] {Float.NaN, -1, 1.5f, Float.POSITIVE_INFINITY}[random.nextInt(4)]);
      spoil("maxFindings", BAD, () -> maxFindings = pick(-1, Integer.MIN_VALUE));
      harms.add(new Harm("many findings", null, true, () -> maxFindings = Integer.MAX_VALUE));
    }

    @Override
    void run() {
      Targets<MemorySegment> given = dense ? Targets.dense(yTrue) : boxes(rows[0], ROWS, null);
      got = loss.audit(batch, without ? null : given, poorIou, maxFindings);
    }

    @Override
    void requireRight(String what) {
      Targets<MemorySegment> given =
          dense
              ? Targets.dense(each(l -> plain.get("y_true" + l)))
              : boxes(plain.get("boxes0"), ROWS, null);
      assertEquals(
          expected("audit " + dense + right, () -> oneThread.audit(right, given, 0.5f, 100)),
          got,
          what);
    }

    @Override
    public String toString() {
      return "audit";
    }
  }

  /** Making a YoloLoss. */
  private final class Opening extends Call {
    int maxBatch = 1;
    int threads = 1;
    LossDevice device = LossDevice.CPU;
    LossRules rules = LossRules.DEFAULT;
    boolean onDevice;
    String name = "";

    Opening() {
      Class<YoloLossException> refused = YoloLossException.class;
      spoil("interrupted", null, () -> Thread.currentThread().interrupt());
      int[] bad = {0, -1, Integer.MIN_VALUE, Integer.MAX_VALUE};
      spoil("maxBatch", refused, () -> maxBatch = pick(bad));
      spoil("threads", refused, () -> threads = pick(-1, 1025, Integer.MAX_VALUE));
      spoil("device memory", BAD, () -> onDevice = true);
      spoil("device", NullPointerException.class, () -> device = null);
      spoil("rules", NullPointerException.class, () -> rules = null);
      spoil(
          "weights",
          refused,
          () -> rules = rules == null ? null : rules.withWeights(-1, 1, 1, 1, 1));
      spoil(
          "class weights",
          BAD,
          () -> rules = rules == null ? null : rules.withClassWeights(List.of(1f)));
    }

    @Override
    void run() {
      YoloLoss.Builder builder = YoloLoss.builder(SPEC).maxBatch(maxBatch).threads(threads);
      builder.device(device).rules(rules);
      if (onDevice) { // which the cpu device does not have
        builder.openCuda(0).close();
      }
      try (YoloLoss made = builder.open()) {
        name = made.deviceName();
      }
    }

    @Override
    void requireRight(String what) {
      assertEquals("cpu", name, what);
    }

    @Override
    public String toString() {
      return "open";
    }
  }

  /** One of the others, which are refused as they stand. */
  private final class Single extends Call {
    private final Harm chosen;

    Single() {
      Class<NullPointerException> nothing = NullPointerException.class;
      Class<IndexOutOfBoundsException> outside = IndexOutOfBoundsException.class;
      Class<IllegalStateException> state = IllegalStateException.class;
      LossResult result = written;
      int any = random.nextInt(); // each bad in its place but for 0, 1 and 2
      int bad = any >= 0 && any < LAYERS ? -1 : any;
      long huge = Long.MAX_VALUE - (any & 0xFFFF);
      MemorySegment some = plain.get("feats0");
      List<Harm> all =
          List.of(
              one("unwritten", state, () -> open.newResult().total()),
              one("layer", outside, () -> result.layer(bad)),
              one("row", outside, () -> result.row(bad, 0)),
              one("statistics", state, () -> result.statistics(0)),
              one("offender", state, result::offender),
              one("buffer at 0", BAD, () -> DeviceBuffer.of(LossDevice.cuda(0), 0, 8)),
              one("buffer of -1", BAD, () -> DeviceBuffer.of(LossDevice.cuda(0), 8, -1)),
              one("buffer of cpu", BAD, () -> DeviceBuffer.of(LossDevice.CPU, 8, 8)),
              one("buffer of null", nothing, () -> DeviceBuffer.of(null, 8, 8)),
              one("slice", outside, () -> device.slice(1 << 20, 1)),
              one("slice of -1", outside, () -> device.slice(-1, 1)),
              one("slice of all", outside, () -> device.slice(1, huge)),
              one("copy from heap", BAD, () -> device.copyFrom(MemorySegment.ofArray(new int[9]))),
              one("copy of closed", state, () -> device.copyFrom(closedMemory)),
              one(
                  "copy of foreign",
                  WrongThreadException.class,
                  () -> device.copyTo(foreignMemory)),
              one("copy to read-only", BAD, () -> device.copyTo(some.asReadOnly())),
              one("copy of more", BAD, () -> device.copyTo(some.reinterpret(huge))),
              one("pinned -1", BAD, () -> PinnedArena.ofAuto().allocate(-1, 1)),
              one("pinned odd", BAD, () -> PinnedArena.ofAuto().allocate(8, 3)),
              one("stream of cpu", BAD, () -> CudaStream.open(LossDevice.CPU)),
              one(
                  "cuda:99",
                  YoloLossException.class,
                  () -> YoloLoss.checkDevice(LossDevice.cuda(99))),
              one(
                  "99 memory",
                  YoloLossException.class,
                  () -> DeviceBuffer.allocate(LossDevice.cuda(99), huge)),
              one("anchor", BAD, () -> new YoloSpec.Anchor(Float.NaN, 1)),
              one("grid", BAD, () -> new YoloSpec.Layer(0, bad, List.of(0))),
              one("spec null", nothing, () -> YoloLoss.open(null, 1)),
              one(
                  "spec bytes",
                  ArithmeticException.class,
                  () -> hugeSpec().bytes(0, Integer.MAX_VALUE)),
              one("huge spec", YoloLossException.class, () -> YoloLoss.open(hugeSpec(), 1)),
              one("spec layer", outside, () -> SPEC.bytes(bad, 1)),
              one("dense null", nothing, () -> Targets.dense((MemorySegment[]) null)),
              one("scale", BAD, () -> new LossOptions(LossOptions.Normaliser.BATCH, Double.NaN)),
              one("normaliser", BAD, () -> LossOptions.Normaliser.value(-1.0 - (any >>> 1))),
              one("value", outside, () -> FeatsType.FLOAT64.get(some, 1L << 40)),
              one(
                  "device index",
                  BAD,
                  () -> new LossDevice(LossDevice.Kind.CPU, bad == 0 ? 1 : bad)),
              one("device name", BAD, () -> LossDevice.parse("cuda:" + huge)));
      chosen = all.get(random.nextInt(all.size()));
      done.add(chosen);
    }

    private static Harm one(String name, Class<? extends Throwable> refusal, Action action) {
      return new Harm(name, refusal, true, action);
    }

    @Override
    void run() {
      chosen.apply().run();
    }

    @Override
    void requireRight(String what) {}

    @Override
    public String toString() {
      return "one of the others";
    }
  }

  /** An expression or statement that throws no checked exception but I/O's. */
  @FunctionalInterface
  private interface Action extends Runnable {
    void go() throws java.io.IOException;

    @Override
    default void run() {
      try {
        go();
      } catch (java.io.IOException e) {
        throw new java.io.UncheckedIOException(e);
      }
    }
  }

  private static YoloSpec hugeSpec() {
    YoloSpec.Layer layer = new YoloSpec.Layer(1 << 15, 1 << 15, List.of(0));
    return new YoloSpec(1 << 30, 64, 32, List.of(new YoloSpec.Anchor(1, 1)), List.of(layer), 0.5f);
  }
}
