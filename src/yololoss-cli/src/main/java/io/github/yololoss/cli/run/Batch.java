package io.github.yololoss.cli.run;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.FeatsType;
import io.github.yololoss.LossRules;
import io.github.yololoss.LossRules.IgnoreScope;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.files.BatchFiles;
import io.github.yololoss.cli.files.InputException;
import io.github.yololoss.kit.SpecFile;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * A batch as it was read from a folder: the spec, its rules, feats and truths. It is read once and
 * never changes, so a command can compute it under several options without touching the disk again.
 * Its memory belongs to the arena that it was read into.
 */
public final class Batch {
  /** The two forms of truths. */
  public enum Form {
    /** y_true_&lt;l&gt;.npy. */
    DENSE,
    /** boxes.npy. */
    BOXES
  }

  /**
   * Says what to read and how.
   *
   * @param folder with the arrays
   * @param specFile the spec in JSON
   * @param form of the truths, or null: dense where y_true_0.npy exists, else boxes
   * @param layout of feats and gradient
   * @param badBoxes the policy for boxes that are not valid objects
   */
  public record Source(
      Path folder, Path specFile, Form form, FeatsLayout layout, Targets.BoxPolicy badBoxes) {
    /** Returns the same arrays in another layout. */
    public Source withLayout(FeatsLayout other) {
      return new Source(folder, specFile, form, other, badBoxes);
    }
  }

  private final Source source;
  private final YoloSpec spec;
  private final LossRules rules;
  private final FeatsType type;
  private final int images;
  private final MemorySegment[] feats;
  private final Targets<MemorySegment> truths;

  private Batch(
      Source source,
      YoloSpec spec,
      LossRules rules,
      FeatsType type,
      int images,
      MemorySegment[] feats,
      Targets<MemorySegment> truths) {
    this.source = source;
    this.spec = spec;
    this.rules = rules;
    this.type = type;
    this.images = images;
    this.feats = feats;
    this.truths = truths;
  }

  /** Reads a batch and checks every array against the spec. */
  public static Batch read(Source source, Arena arena) throws IOException {
    SpecFile file = SpecFile.read(source.specFile);
    YoloSpec spec = file.spec();
    BatchFiles files = new BatchFiles(source.folder, spec, source.layout, arena);
    MemorySegment[] feats = files.layers("feats");
    Targets<MemorySegment> truths = readTruths(source, files);
    return new Batch(source, spec, file.rules(), files.dataType(), files.batch(), feats, truths);
  }

  private static Targets<MemorySegment> readTruths(Source source, BatchFiles files)
      throws IOException {
    boolean dense = Files.exists(source.folder.resolve("y_true_0.npy"));
    boolean boxes = Files.exists(source.folder.resolve("boxes.npy"));
    if (source.form == null && !dense && !boxes) {
      throw new InputException(
          source.folder + ": neither y_true_0.npy nor boxes.npy is there; one of them is needed");
    }
    return source.form == Form.DENSE || source.form == null && dense
        ? Targets.dense(files.layers("y_true"))
        : files.boxes(source.badBoxes);
  }

  /** Returns the same batch under another ignore scope. */
  public Batch withIgnoreScope(IgnoreScope scope) {
    return new Batch(source, spec, rules.withIgnoreScope(scope), type, images, feats, truths);
  }

  /** Returns the folder that the batch came from. */
  public Path folder() {
    return source.folder;
  }

  /** Returns the file that the spec and the rules came from. */
  public Path specFile() {
    return source.specFile;
  }

  /** Returns the network's output. */
  public YoloSpec spec() {
    return spec;
  }

  /** Returns the rules of the loss. */
  public LossRules rules() {
    return rules;
  }

  /** Returns the layout of feats and gradient. */
  public FeatsLayout layout() {
    return source.layout;
  }

  /** Returns the type of feats. */
  public FeatsType type() {
    return type;
  }

  /** Returns the number of images. */
  public int images() {
    return images;
  }

  /** Returns the feats of some images. */
  public MemorySegment[] feats(int first, int count) {
    return slice(feats, first, count);
  }

  /** Returns the truths of some images. */
  public Targets<MemorySegment> truths(int first, int count) {
    return BatchFiles.slice(truths, images, first, count);
  }

  /** Returns the truths of all images. */
  public Targets<MemorySegment> truths() {
    return truths;
  }

  /** Returns some images of arrays that hold one entry for each image of this batch. */
  MemorySegment[] slice(MemorySegment[] layers, int first, int count) {
    return BatchFiles.slice(layers, images, first, count);
  }

  /** Adds the file to an exception about boxes; returns others unchanged. */
  RuntimeException naming(YoloLossException e) {
    return BatchFiles.naming(source.folder.resolve("boxes.npy"), e);
  }

  /** Makes the sentence for a row of boxes that a call refused. */
  InputException refusedRow(String finding) {
    return new InputException(
        source.folder.resolve("boxes.npy") + ": " + finding + "; correct the row");
  }
}
