package io.github.yololoss.cli.report;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import io.github.yololoss.CellMaps;
import io.github.yololoss.FeatsLayout;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloHead;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.run.Batch;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Reads what a call computed for the cells of a chunk of images. The numbering of cells does not
 * depend on the layout: a cell of a layer is numbered by row, column and anchor, in this order.
 */
public final class ImageCells {
  private final YoloSpec spec;
  private final FeatsLayout layout;
  private final MemorySegment[] yTrue; // built from boxes; null for dense truths
  private final MemorySegment[] objectness;
  private MemorySegment[] truths; // yTrue, or the caller's dense truths
  private CellMaps<MemorySegment> maps;

  /** Allocates memory for a number of images. */
  public ImageCells(Batch batch, int images, Arena arena) {
    spec = batch.spec();
    layout = batch.layout();
    yTrue = batch.truths(0, 1) instanceof Targets.Boxes ? spec.allocate(arena, images) : null;
    objectness = spec.allocateMap(arena, images);
  }

  /** Takes the maps that a call computed for the images from first on. */
  public void load(
      Batch batch, YoloLoss loss, int first, int images, CellMaps<MemorySegment> newMaps) {
    maps = newMaps;
    switch (batch.truths(first, images)) {
      case Targets.Dense(MemorySegment[] dense) -> truths = dense;
      case Targets.Boxes<MemorySegment> boxes -> {
        truths = yTrue;
        loss.buildYTrue(images, boxes, truthsOf(images));
      }
      default -> throw new AssertionError();
    }
    MemorySegment[] feats = batch.feats(first, images);
    for (int l = 0; l < feats.length; l++) {
      loss.yoloHead(l, images, feats[l], new YoloHead(null, null, null, objectness[l], null));
    }
  }

  private MemorySegment[] truthsOf(int images) {
    MemorySegment[] slices = new MemorySegment[yTrue.length];
    for (int l = 0; l < slices.length; l++) {
      slices[l] = yTrue[l].asSlice(0, spec.bytes(l, images));
    }
    return slices;
  }

  public int count(int l) {
    return (int) spec.cells(l);
  }

  private int anchors(int l) {
    return spec.layers().get(l).anchorMask().size();
  }

  public int row(int l, int cell) {
    return cell / anchors(l) / spec.layers().get(l).gridWidth();
  }

  public int column(int l, int cell) {
    return cell / anchors(l) % spec.layers().get(l).gridWidth();
  }

  public int anchor(int l, int cell) {
    return cell % anchors(l);
  }

  /** Returns the value of a cell in a map, which has the layout of feats. */
  public double map(MemorySegment[] map, int l, int image, int cell) {
    long at = (long) image * count(l) + cell;
    if (layout == FeatsLayout.NCHW) {
      int places = count(l) / anchors(l);
      at = (long) image * count(l) + (long) anchor(l, cell) * places + cell / anchors(l);
    }
    return map[l].getAtIndex(JAVA_FLOAT, at);
  }

  public double loss(int l, int image, int cell) {
    return map(maps.cellLoss(), l, image, cell);
  }

  public double bestIou(int l, int image, int cell) {
    return map(maps.bestIou(), l, image, cell);
  }

  public boolean ignored(int l, int image, int cell) {
    return map(maps.ignoreMask(), l, image, cell) == 0;
  }

  public double objectness(int l, int image, int cell) {
    return objectness[l].getAtIndex(JAVA_FLOAT, (long) image * count(l) + cell);
  }

  /** Returns a channel of y_true: centre, size, mask or a class target. */
  public double truth(int l, int image, int cell, int channel) {
    long at = (long) image * count(l) + cell;
    return truths[l].getAtIndex(JAVA_FLOAT, at * (5 + spec.numClasses()) + channel);
  }

  public boolean isObject(int l, int image, int cell) {
    return truth(l, image, cell, 4) != 0;
  }
}
