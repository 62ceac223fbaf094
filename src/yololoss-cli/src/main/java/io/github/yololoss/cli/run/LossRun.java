package io.github.yololoss.cli.run;

import io.github.yololoss.Audit;
import io.github.yololoss.CellMaps;
import io.github.yololoss.FeatsLayout;
import io.github.yololoss.FeatsType;
import io.github.yololoss.LossDevice;
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
import io.github.yololoss.kit.Npy;
import io.github.yololoss.kit.SpecFile;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/**
 * What {@code loss}, {@code verify} and {@code report} share: a folder of arrays in, a result,
 * gradients and maps out, computed chunk by chunk.
 */
public final class LossRun {
  public enum Form {
    DENSE,
    BOXES
  }

  @Parameters(
      arity = "0..1",
      paramLabel = "DIR",
      description =
          "Folder with feats_<l>.npy (B,H,W,A*(5+C)) and y_true_<l>.npy (B,H,W,A,5+C) or boxes.npy"
              + " (B,T,5).")
  public Path folder;

  @Option(
      names = "--spec",
      paramLabel = "FILE",
      description =
          "JSON with anchors, anchor_mask, num_classes, ignore_thresh, input_shape [height,"
              + " width].")
  public Path specFile;

  @Option(
      names = "--targets",
      paramLabel = "dense|boxes",
      description = "Truths to use; default: dense where y_true_0.npy is there, else boxes.")
  public Form targets;

  @Option(
      names = "--device",
      paramLabel = "D",
      defaultValue = "auto",
      converter = Converters.OfDevice.class,
      description = "auto, cpu, cuda, cuda:N or reference (double precision); default auto.")
  public LossDevice device;

  @Option(
      names = "--layout",
      paramLabel = "nhwc|nchw",
      defaultValue = "nhwc",
      description =
          "Order of feats and gradient: (B,H,W,A*(5+C)) as in Keras (default), or (B,A*(5+C),H,W)"
              + " as in Darknet and PyTorch.")
  public FeatsLayout layout;

  @Option(
      names = "--normaliser",
      paramLabel = "N",
      defaultValue = "batch",
      converter = Converters.OfNormaliser.class,
      description = "batch (default, as keras-yolo3), none, objects, or a number.")
  public Normaliser normaliser;

  @Option(
      names = "--gradient-scale",
      paramLabel = "X",
      defaultValue = "1",
      description = "Factor of the gradient (loss scale); default 1.")
  public double gradientScale;

  @Option(
      names = "--bad-boxes",
      paramLabel = "error|skip|clamp",
      defaultValue = "error",
      description =
          "Boxes that name no object: refuse them (default), leave them out, or cut those that"
              + " reach out of the input and leave out the rest.")
  public Targets.BoxPolicy badBoxes;

  @Option(
      names = "--chunk",
      paramLabel = "N",
      description =
          "Images that are computed at a time; loss, gradient and maps have the same bits for any"
              + " number. Default: so many that their dense truths take 64 MiB.")
  public Integer chunkImages;

  // What a command asks for.
  public boolean gradient;
  public boolean float32Gradients;
  public Path accumulateOn; // a folder with grad_<l>.npy, or null
  public boolean statistics;
  public LossOptions.Search search = LossOptions.Search.NONE;
  public boolean maps;
  public LossRules.IgnoreScope scope; // null: as the spec says

  @Spec(Spec.Target.MIXEE)
  private CommandSpec command;

  public YoloSpec spec;
  public int batch;
  public String deviceName;
  public String deviceWhy;
  public Totals result;
  public MemorySegment[] grads; // null: loss only
  public FeatsType gradientType;
  public CellMaps<MemorySegment> cellMaps; // null: none

  private FeatsType dataType;
  private MemorySegment[] feats;
  private Targets<MemorySegment> truths;

  /** What looks at a chunk while its maps are there: image first of the batch is their image 0. */
  public interface Visitor {
    void visit(YoloLoss loss, int first, int images, CellMaps<MemorySegment> maps);
  }

  /** Reads, checks and computes. Memory belongs to the arena. */
  public void compute(Arena arena) throws IOException {
    compute(arena, null);
  }

  /** The same, with maps of each chunk for a visitor. */
  public void compute(Arena arena, Visitor visitor) throws IOException {
    if (!Double.isFinite(gradientScale)) {
      throw new InputException(
          "--gradient-scale is " + gradientScale + ", a finite number is expected");
    }
    YoloLoss.checkDevice(device);
    spec = SpecFile.read(specFile).spec();
    BatchFiles files = new BatchFiles(folder, spec, layout, arena);
    feats = files.layers("feats");
    truths = readTargets(files);
    batch = files.batch();
    dataType = files.dataType();
    int chunk = Math.min(batch, chunkSize());
    try (YoloLoss loss = open(chunk, rules())) {
      deviceName = loss.deviceName();
      deviceWhy = loss.deviceWhy();
      gradientType = loss.gradientType();
      grads = gradient ? spec.allocate(arena, batch, gradientType) : null;
      if (accumulateOn != null) {
        readGradients(arena);
      }
      cellMaps = maps ? allocateMaps(arena, batch) : null;
      Normaliser known = normaliser;
      if (normaliser.kind() == Normaliser.Kind.BATCH) {
        known = Normaliser.value(batch);
      } else if (normaliser.kind() == Normaliser.Kind.OBJECTS && gradient && chunk < batch) {
        known = Normaliser.value(run(loss, chunk, Normaliser.NONE, null, null, null).normaliser());
      }
      result =
          run(
              loss,
              chunk,
              known,
              grads,
              visitor == null ? null : allocateMaps(arena, chunk),
              visitor);
    } catch (YoloLossException e) {
      throw BatchFiles.naming(folder.resolve("boxes.npy"), e);
    }
  }

  /** Calls over the chunks of the batch. The normaliser is what the gradient is divided by. */
  private Totals run(
      YoloLoss loss,
      int chunk,
      Normaliser known,
      MemorySegment[] gradients,
      CellMaps<MemorySegment> chunkMaps,
      Visitor visitor)
      throws IOException {
    LossOptions options =
        new LossOptions(known, gradientScale).withStatistics(statistics).withSearch(search);
    if (gradients != null && accumulateOn != null) {
      options = options.withGradientMode(LossOptions.GradientMode.ACCUMULATE);
    }
    Totals totals = new Totals(spec.layers().size(), normaliser);
    LossResult call = loss.newResult();
    try (Progress progress = progress(command.name(), batch)) {
      for (int first = 0; first < batch; first += chunk) {
        int images = Math.min(chunk, batch - first);
        CellMaps<MemorySegment> ofChunk =
            visitor != null ? chunkMaps : cellMaps == null ? null : slice(cellMaps, first, images);
        try {
          loss.compute(
              images,
              feats(first, images),
              truths(first, images),
              gradients == null ? null : slice(gradients, first, images),
              options,
              ofChunk,
              call);
        } catch (YoloLossException e) {
          throw first == 0 ? e : inWholeBatch(e);
        }
        totals.add(call, statistics, search != LossOptions.Search.NONE);
        if (visitor != null) {
          visitor.visit(loss, first, images, ofChunk);
        }
        progress.step(images);
      }
    }
    return totals;
  }

  public Progress progress(String what, int images) {
    return new Progress(command.commandLine().getErr(), what, "images", images);
  }

  /** A call names the image of its chunk; the audit of all of them names the image of the batch. */
  private RuntimeException inWholeBatch(YoloLossException e) throws IOException {
    if (e.status() != YoloLossException.Status.INVALID_BOXES) {
      return e;
    }
    int rows = ((Targets.Boxes<MemorySegment>) truths).perImage();
    int most = (int) Math.min(4L * rows * batch, Integer.MAX_VALUE); // reasons that a row may have
    return audit(0, most).findings().stream()
        .filter(f -> f.action() == Audit.Action.REFUSED)
        .findFirst()
        .<RuntimeException>map(
            f -> new InputException(folder.resolve("boxes.npy") + ": " + f + "; correct the row"))
        .orElse(e);
  }

  /** Of the truths of all images. */
  public Audit audit(float poorIou, int most) {
    return Audits.of(spec, truths, batch, poorIou, most, command.commandLine().getErr());
  }

  /** As asked for, or so many images that their dense truths take 64 MiB, and at least 8. */
  private int chunkSize() {
    if (chunkImages != null && chunkImages < 1) {
      throw new InputException("--chunk is " + chunkImages + ", at least 1 is expected");
    }
    return chunkImages != null ? chunkImages : BatchFiles.chunkSize(spec);
  }

  public LossRules rules() throws IOException {
    LossRules rules = SpecFile.read(specFile).rules();
    return scope == null ? rules : rules.withIgnoreScope(scope);
  }

  public YoloLoss open(int maxBatch, LossRules rules) {
    try {
      return YoloLoss.builder(spec)
          .maxBatch(maxBatch)
          .device(device)
          .featsType(dataType)
          .layout(layout)
          .float32Gradients(float32Gradients)
          .rules(rules)
          .open();
    } catch (IllegalArgumentException e) { // lists of the rules that do not fit the spec
      throw new InputException(specFile + ": " + e.getMessage());
    }
  }

  /** Feats of some images. */
  public MemorySegment[] feats(int first, int images) {
    return slice(feats, first, images);
  }

  /** Truths of some images. */
  public Targets<MemorySegment> truths(int first, int images) {
    return BatchFiles.slice(truths, batch, first, images);
  }

  public CellMaps<MemorySegment> allocateMaps(Arena arena, int images) {
    return new CellMaps<>(
        spec.allocateMap(arena, images),
        spec.allocateMap(arena, images),
        spec.allocateMap(arena, images));
  }

  private CellMaps<MemorySegment> slice(CellMaps<MemorySegment> all, int first, int images) {
    return new CellMaps<>(
        slice(all.ignoreMask(), first, images),
        slice(all.bestIou(), first, images),
        slice(all.cellLoss(), first, images));
  }

  private MemorySegment[] slice(MemorySegment[] layers, int first, int images) {
    return BatchFiles.slice(layers, batch, first, images);
  }

  /** The layout that the shape of feats_0.npy shows; the one asked for, if it shows neither. */
  public FeatsLayout layoutOfFiles() throws IOException {
    YoloSpec read = SpecFile.read(specFile).spec();
    Path file = folder.resolve("feats_0.npy");
    if (!Files.exists(file)) {
      return layout; // compute says what is missing
    }
    FeatsLayout other = layout == FeatsLayout.NHWC ? FeatsLayout.NCHW : FeatsLayout.NHWC;
    try (Arena arena = Arena.ofConfined()) {
      long[] shape = Npy.map(file, arena).shape();
      int images = shape.length > 0 ? (int) Math.clamp(shape[0], 0, Integer.MAX_VALUE) : 0;
      boolean fits = Arrays.equals(shape, BatchFiles.shape("feats", read, layout, 0, images));
      boolean fitsOther = Arrays.equals(shape, BatchFiles.shape("feats", read, other, 0, images));
      return !fits && fitsOther ? other : layout;
    }
  }

  private void readGradients(Arena arena) throws IOException {
    for (int l = 0; l < grads.length; l++) {
      Path file = accumulateOn.resolve("grad_" + l + ".npy");
      Npy held = Npy.map(file, arena);
      long[] expected = BatchFiles.shape("grad", spec, layout, l, batch);
      if (held.valueType() != gradientType || !Arrays.equals(held.shape(), expected)) {
        throw new InputException(
            file
                + ": "
                + held.valueType()
                + " of shape "
                + held.shapeText()
                + ", expected "
                + gradientType
                + " of shape "
                + Arrays.toString(expected));
      }
      grads[l].copyFrom(held.data());
    }
  }

  private Targets<MemorySegment> readTargets(BatchFiles files) throws IOException {
    Path dense = folder.resolve("y_true_0.npy");
    Path boxes = folder.resolve("boxes.npy");
    if (targets == null && !Files.exists(dense) && !Files.exists(boxes)) {
      throw new InputException(folder + ": neither y_true_0.npy nor boxes.npy is there");
    }
    if (targets == Form.DENSE || targets == null && Files.exists(dense)) {
      return Targets.dense(files.layers("y_true"));
    }
    return files.boxes(badBoxes);
  }

  /** Cells with k = 1, as the reference's K.sum(ignore_mask). */
  public long ignoreMaskSum(int l) {
    return spec.cells(l) * batch - result.layer(l).ignored();
  }
}
