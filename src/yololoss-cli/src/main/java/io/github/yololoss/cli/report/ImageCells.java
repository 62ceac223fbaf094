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
 * What a call found of the cells of a chunk of images, whatever its layout: a cell of a layer is
 * numbered by row, column and anchor, in this order.
 */
public final class ImageCells {
  private final YoloSpec spec;
  private final FeatsLayout layout;
  private final MemorySegment[] yTrue; // own memory for boxes; the caller's for dense truths
  private final MemorySegment[] objectness;
  private MemorySegment[] truths; // one of the two
  private CellMaps<MemorySegment> maps;

  /** Memory for so many images. */
  public ImageCells(Batch batch, int images, Arena arena) {
    spec = batch.spec();
    layout = batch.layout();
    yTrue = batch.truths(0, 1) instanceof Targets.Boxes ? spec.allocate(arena, images) : null;
    objectness = spec.allocateMap(arena, images);
  }

  /** The images from first on, of which a call gave the maps. */
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

  /** Of the ignore mask, the best IoU or the loss. */
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

  /** Of y_true: centre, size, mask, class targets. */
  public double truth(int l, int image, int cell, int channel) {
    long at = (long) image * count(l) + cell;
    return truths[l].getAtIndex(JAVA_FLOAT, at * (5 + spec.numClasses()) + channel);
  }

  public boolean isObject(int l, int image, int cell) {
    return truth(l, image, cell, 4) != 0;
  }
}
