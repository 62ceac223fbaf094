package io.github.yololoss.cli.run;

import io.github.yololoss.Audit;
import io.github.yololoss.CellMaps;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossResult;
import io.github.yololoss.LossRules;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.files.BatchFiles;
import io.github.yololoss.cli.files.InputException;
import io.github.yololoss.cli.files.Progress;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Computes the loss of a batch, chunk by chunk. The chunks of any size give the bits of one call;
 * {@link Totals} says why. The runner holds nothing of a run: it can run any number of batches.
 */
public final class LossRunner {
  /** Sees each chunk while its maps are in memory. Image 0 of the maps is image first. */
  public interface Visitor {
    /** Uses the maps of some images. They are overwritten by the next chunk. */
    void visit(YoloLoss loss, int first, int images, CellMaps<MemorySegment> maps);
  }

  private final String what;
  private final PrintWriter err;

  /**
   * Makes a runner.
   *
   * @param what is done, in a word, for the progress line
   * @param err where the progress line goes
   */
  public LossRunner(String what, PrintWriter err) {
    this.what = what;
    this.err = err;
  }

  /** Computes a batch. */
  public RunResult run(Batch batch, Request request, Arena arena) throws IOException {
    return run(batch, request, arena, null);
  }

  /** Computes a batch and shows the maps of each chunk to a visitor, unless that is null. */
  public RunResult run(Batch batch, Request request, Arena arena, Visitor visitor)
      throws IOException {
    int size = request.chunk() > 0 ? request.chunk() : BatchFiles.chunkSize(batch.spec());
    int chunk = Math.min(batch.images(), size);
    try (YoloLoss loss = open(batch, request, chunk, batch.rules())) {
      MemorySegment[] grads = gradients(batch, request, loss, arena);
      CellMaps<MemorySegment> maps =
          request.maps() ? allocateMaps(batch.spec(), arena, batch.images()) : null;
      Chunks chunks = new Chunks(batch, request, loss, chunk);
      Totals totals;
      if (visitor == null) {
        totals = compute(chunks, divisor(chunks), grads, maps, null);
      } else {
        CellMaps<MemorySegment> reused = allocateMaps(batch.spec(), arena, chunk);
        totals = compute(chunks, divisor(chunks), grads, reused, visitor);
      }
      return new RunResult(
          batch,
          request,
          totals,
          loss.deviceName(),
          loss.deviceWhy(),
          loss.gradientType(),
          grads,
          maps);
    } catch (YoloLossException e) {
      throw batch.naming(e);
    }
  }

  /** The data that all calls of a run share. */
  private record Chunks(Batch batch, Request request, YoloLoss loss, int size) {}

  private static MemorySegment[] gradients(Batch batch, Request request, YoloLoss loss, Arena arena)
      throws IOException {
    if (!request.gradient()) {
      return null;
    }
    MemorySegment[] grads = batch.spec().allocate(arena, batch.images(), loss.gradientType());
    if (request.accumulateOn() != null) {
      BatchFiles.readGradients(
          request.accumulateOn(),
          batch.spec(),
          batch.layout(),
          batch.images(),
          loss.gradientType(),
          grads);
    }
    return grads;
  }

  /**
   * Returns what each call divides its gradient by: the normaliser of the whole batch, which a
   * chunk alone does not know. The number of objects costs a pass over the batch.
   */
  private Normaliser divisor(Chunks chunks) throws IOException {
    Normaliser wanted = chunks.request.normaliser();
    return switch (wanted.kind()) {
      case BATCH -> Normaliser.value(chunks.batch.images());
      case OBJECTS ->
          chunks.request.gradient() && chunks.size < chunks.batch.images()
              ? Normaliser.value(compute(chunks, Normaliser.NONE, null, null, null).normaliser())
              : wanted;
      case NONE, VALUE -> wanted;
    };
  }

  /**
   * Calls the library for each chunk.
   *
   * @param divisor of the gradient
   * @param gradients of the whole batch, or null
   * @param maps of the whole batch, or of one chunk if there is a visitor, or null
   */
  private Totals compute(
      Chunks chunks,
      Normaliser divisor,
      MemorySegment[] gradients,
      CellMaps<MemorySegment> maps,
      Visitor visitor)
      throws IOException {
    Batch batch = chunks.batch;
    Request request = chunks.request;
    LossOptions options =
        new LossOptions(divisor, request.gradientScale())
            .withStatistics(request.statistics())
            .withSearch(request.search());
    if (gradients != null && request.accumulateOn() != null) {
      options = options.withGradientMode(LossOptions.GradientMode.ACCUMULATE);
    }
    Totals totals = new Totals(batch.spec().layers().size(), request.normaliser());
    LossResult call = chunks.loss.newResult();
    try (Progress progress = new Progress(err, what, "images", batch.images())) {
      for (int first = 0; first < batch.images(); first += chunks.size) {
        int images = Math.min(chunks.size, batch.images() - first);
        CellMaps<MemorySegment> some =
            maps == null || visitor != null ? maps : slice(batch, maps, first, images);
        try {
          chunks.loss.compute(
              images,
              batch.feats(first, images),
              batch.truths(first, images),
              gradients == null ? null : batch.slice(gradients, first, images),
              options,
              some,
              call);
        } catch (YoloLossException e) {
          throw first == 0 ? e : inWholeBatch(batch, e);
        }
        totals.add(call, request.statistics(), request.search() != LossOptions.Search.NONE);
        if (visitor != null) {
          visitor.visit(chunks.loss, first, images, some);
        }
        progress.step(images);
      }
    }
    return totals;
  }

  /**
   * Names the image of the batch where a call named the image of its chunk, by an audit of the
   * whole batch.
   */
  private RuntimeException inWholeBatch(Batch batch, YoloLossException e) {
    if (e.status() != YoloLossException.Status.INVALID_BOXES) {
      return e;
    }
    int rows = ((Targets.Boxes<MemorySegment>) batch.truths()).perImage();
    // A row may have four reasons.
    int most = (int) Math.min(4L * rows * batch.images(), Integer.MAX_VALUE);
    return audit(batch, 0, most).findings().stream()
        .filter(f -> f.action() == Audit.Action.REFUSED)
        .findFirst()
        .<RuntimeException>map(f -> batch.refusedRow(f.toString()))
        .orElse(e);
  }

  /** Returns a progress line for what follows a run. */
  public Progress progress(String next, int images) {
    return new Progress(err, next, "images", images);
  }

  /** Audits the truths of all images. */
  public Audit audit(Batch batch, float poorIou, int most) {
    return Audits.of(batch.spec(), batch.truths(), batch.images(), poorIou, most, err);
  }

  /** Opens the library for a batch, under the rules of the batch or others. */
  public static YoloLoss open(Batch batch, Request request, int maxBatch, LossRules rules) {
    try {
      return YoloLoss.builder(batch.spec())
          .maxBatch(maxBatch)
          .device(request.device())
          .featsType(batch.type())
          .layout(batch.layout())
          .float32Gradients(request.float32Gradients())
          .rules(rules)
          .open();
    } catch (IllegalArgumentException e) { // lists of the rules that do not fit the spec
      throw new InputException(batch.specFile() + ": " + e.getMessage());
    }
  }

  /** Allocates all three maps for some images. */
  public static CellMaps<MemorySegment> allocateMaps(YoloSpec spec, Arena arena, int images) {
    return new CellMaps<>(
        spec.allocateMap(arena, images),
        spec.allocateMap(arena, images),
        spec.allocateMap(arena, images));
  }

  private static CellMaps<MemorySegment> slice(
      Batch batch, CellMaps<MemorySegment> all, int first, int images) {
    return new CellMaps<>(
        batch.slice(all.ignoreMask(), first, images),
        batch.slice(all.bestIou(), first, images),
        batch.slice(all.cellLoss(), first, images));
  }
}
