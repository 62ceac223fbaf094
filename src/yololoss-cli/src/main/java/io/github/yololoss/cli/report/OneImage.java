package io.github.yololoss.cli.report;

import io.github.yololoss.CellMaps;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossResult;
import io.github.yololoss.LossRules;
import io.github.yololoss.Part;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.report.Report.Cell;
import io.github.yololoss.cli.report.Report.Heat;
import io.github.yololoss.cli.run.Batch;
import io.github.yololoss.cli.run.LossRunner;
import io.github.yololoss.cli.run.Request;
import io.github.yololoss.kit.Detections;
import io.github.yololoss.kit.Detections.Box;
import io.github.yololoss.kit.Detections.Limits;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;

/**
 * One image of a run, cell by cell. The parts of a cell are computed by the library: the loss with
 * the weights of all parts but one at 0 is that part.
 */
public final class OneImage implements AutoCloseable {
  private final Batch batch;
  private final YoloSpec spec;
  private final YoloLoss loss;
  private final LossResult result;
  private final CellMaps<MemorySegment> maps;
  private final ImageCells cells;
  private final Detections detections;
  private final EnumMap<Part, YoloLoss> byPart = new EnumMap<>(Part.class);
  private final EnumMap<Part, MemorySegment[]> partMaps = new EnumMap<>(Part.class);
  private int image;
  private double[][] confidence; // the confidence part of each cell of each layer

  public OneImage(Batch batch, Request request, Arena arena) throws IOException {
    this.batch = batch;
    spec = batch.spec();
    LossRules rules = batch.rules();
    loss = LossRunner.open(batch, request, 1, rules);
    result = loss.newResult();
    maps = LossRunner.allocateMaps(spec, arena, 1);
    cells = new ImageCells(batch, 1, arena);
    detections = new Detections(spec, 1, arena);
    for (Part part : Part.ALL) {
      byPart.put(part, LossRunner.open(batch, request, 1, part.only(rules)));
      partMaps.put(part, spec.allocateMap(arena, 1));
    }
  }

  /** Computes an image of the batch; the other methods return its numbers. */
  public void load(int newImage) {
    image = newImage;
    LossOptions options = new LossOptions(Normaliser.NONE, 1);
    MemorySegment[] feats = batch.feats(image, 1);
    loss.compute(1, feats, batch.truths(image, 1), null, options, maps, result);
    cells.load(batch, loss, image, 1, maps);
    detections.decode(loss, 1, feats);
    for (Part part : Part.ALL) {
      byPart
          .get(part)
          .compute(
              1,
              feats,
              batch.truths(image, 1),
              null,
              options,
              new CellMaps<>(null, null, partMaps.get(part)),
              result);
    }
    confidence = new double[spec.layers().size()][];
    for (int l = 0; l < confidence.length; l++) {
      confidence[l] = new double[cells.count(l)];
      for (int cell = 0; cell < confidence[l].length; cell++) {
        confidence[l][cell] =
            part(Part.CONFIDENCE_OBJECT, l, cell) + part(Part.CONFIDENCE_BACKGROUND, l, cell);
      }
    }
  }

  public int image() {
    return image;
  }

  private double part(Part part, int l, int cell) {
    return cells.map(partMaps.get(part), l, 0, cell);
  }

  public double loss(int l, int cell) {
    return cells.loss(l, 0, cell);
  }

  /** Returns a cell with all its numbers. */
  public Cell cell(int l, int cell) {
    EnumMap<Part, Double> parts = new EnumMap<>(Part.class);
    Part.ALL.forEach(part -> parts.put(part, part(part, l, cell)));
    boolean object = cells.isObject(l, 0, cell);
    return new Cell(
        image,
        l,
        cells.row(l, cell),
        cells.column(l, cell),
        cells.anchor(l, cell),
        object,
        cells.loss(l, 0, cell),
        parts,
        cells.objectness(l, 0, cell),
        cells.bestIou(l, 0, cell),
        detections.at(0, l, cell),
        object ? truth(l, cell) : null,
        null);
  }

  /** Returns the true boxes in input pixels, as the objects of y_true represent them. */
  public List<Box> truths() {
    List<Box> truths = new ArrayList<>();
    for (int l = 0; l < spec.layers().size(); l++) {
      for (int cell = 0; cell < cells.count(l); cell++) {
        if (cells.isObject(l, 0, cell)) {
          truths.add(truth(l, cell));
        }
      }
    }
    return truths;
  }

  /** Returns the predicted boxes in input pixels. */
  public List<Box> predictions(double leastScore) {
    return detections.of(0, Limits.DEFAULT.withLeastScore(leastScore));
  }

  /** Returns the true box of a cell with an object; its score is the mask. */
  private Box truth(int l, int cell) {
    int best = 0;
    for (int c = 1; c < spec.numClasses(); c++) {
      best = cells.truth(l, 0, cell, 5 + c) > cells.truth(l, 0, cell, 5 + best) ? c : best;
    }
    return Box.centred(
        spec,
        cells.truth(l, 0, cell, 0),
        cells.truth(l, 0, cell, 1),
        cells.truth(l, 0, cell, 2),
        cells.truth(l, 0, cell, 3),
        best,
        cells.truth(l, 0, cell, 4));
  }

  /** Returns the largest confidence part of a place of any layer, or 0 if none is finite. */
  public double confidenceScale() {
    double largest = 0;
    for (int l = 0; l < confidence.length; l++) {
      for (double[] row : grid(l, Heat.CONFIDENCE_LOSS)) {
        for (double value : row) {
          largest = Double.isFinite(value) ? Math.max(largest, value) : largest;
        }
      }
    }
    return largest;
  }

  /** Returns for each layer a data URI for each heat map. */
  public List<EnumMap<Heat, String>> heatMaps() {
    List<EnumMap<Heat, String>> layers = new ArrayList<>();
    double scale = confidenceScale();
    for (int l = 0; l < confidence.length; l++) {
      int anchors = spec.layers().get(l).anchorMask().size();
      EnumMap<Heat, String> layer = new EnumMap<>(Heat.class);
      for (Heat heat : Heat.values()) {
        double largest =
            switch (heat) {
              case OBJECTNESS -> 1;
              case CONFIDENCE_LOSS -> scale;
              case IGNORED, POSITIVES -> anchors;
            };
        layer.put(heat, HeatMap.dataUri(grid(l, heat), largest));
      }
      layers.add(layer);
    }
    return layers;
  }

  /** Returns what a heat map shows, row by row of the grid. */
  private double[][] grid(int l, Heat heat) {
    YoloSpec.Layer layer = spec.layers().get(l);
    double[][] grid = new double[layer.gridHeight()][layer.gridWidth()];
    for (int cell = 0; cell < cells.count(l); cell++) {
      double[] row = grid[cells.row(l, cell)];
      int x = cells.column(l, cell);
      switch (heat) {
        case OBJECTNESS -> row[x] = Math.max(row[x], cells.objectness(l, 0, cell));
        case CONFIDENCE_LOSS -> row[x] += confidence[l][cell];
        case IGNORED -> row[x] += cells.ignored(l, 0, cell) && !cells.isObject(l, 0, cell) ? 1 : 0;
        case POSITIVES -> row[x] += cells.isObject(l, 0, cell) ? 1 : 0;
      }
    }
    return grid;
  }

  @Override
  public void close() {
    loss.close();
    byPart.values().forEach(YoloLoss::close);
  }
}
