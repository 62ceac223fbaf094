package io.github.yololoss.cli.report;

import io.github.yololoss.Audit;
import io.github.yololoss.CellMaps;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.Part;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.files.Photos;
import io.github.yololoss.cli.files.Progress;
import io.github.yololoss.cli.report.Report.Cell;
import io.github.yololoss.cli.report.Report.Grid;
import io.github.yololoss.cli.report.Report.Histogram;
import io.github.yololoss.cli.report.Report.Histograms;
import io.github.yololoss.cli.report.Report.Image;
import io.github.yololoss.cli.report.Report.ImageLoss;
import io.github.yololoss.cli.report.Report.Labels;
import io.github.yololoss.cli.report.Report.LayerLoss;
import io.github.yololoss.cli.report.Report.LayerShares;
import io.github.yololoss.cli.report.Report.Loss;
import io.github.yololoss.cli.report.Report.Pictures;
import io.github.yololoss.cli.report.Report.Shares;
import io.github.yololoss.cli.run.AuditJson.BestIou;
import io.github.yololoss.cli.run.Batch;
import io.github.yololoss.cli.run.LossRunner;
import io.github.yololoss.cli.run.Request;
import io.github.yololoss.cli.run.RunResult;
import io.github.yololoss.cli.run.Totals;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.PriorityQueue;
import java.util.stream.DoubleStream;
import java.util.stream.IntStream;
import java.util.stream.LongStream;

/**
 * Computes a {@link Report}: runs all images once, chunk by chunk, and then computes the costliest
 * images and the images of the costliest cells one by one.
 */
public final class ReportBuilder {
  private static final int BINS = 20;
  private static final int MOST_CELLS = 20; // of all images
  private static final int MOST_CELLS_OF_IMAGE = 5;

  /** A cell among all; a NaN costs most. */
  private record Place(int image, int layer, int cell, double loss) {
    static final Comparator<Place> COSTLIEST =
        Comparator.comparingDouble(Place::loss) // NaN is above all numbers
            .reversed()
            .thenComparing(Place::image)
            .thenComparing(Place::layer)
            .thenComparing(Place::cell);
  }

  private final Batch batch;
  private final Request request;
  private final LossRunner runner;
  private final Arena arena; // of everything that is read and computed
  private final EnumMap<Histogram, long[]> histograms = new EnumMap<>(Histogram.class);
  private final PriorityQueue<Place> costliest = // the least of them first
      new PriorityQueue<>(Place.COSTLIEST.reversed());
  private final List<Image> images = new ArrayList<>();
  private final YoloSpec spec;
  private RunResult run;
  private ImageCells cells; // of the chunk that is visited

  /**
   * Makes a builder.
   *
   * @param batch to report on
   * @param request how to compute it
   * @param runner that computes it
   * @param arena of everything that is read and computed
   */
  public ReportBuilder(Batch batch, Request request, LossRunner runner, Arena arena) {
    this.batch = batch;
    this.request = request.withExtras(true, LossOptions.Search.USED, false);
    this.runner = runner;
    spec = batch.spec();
    this.arena = arena;
    for (Histogram h : Histogram.values()) {
      histograms.put(h, new long[BINS]);
    }
  }

  /**
   * Computes the report.
   *
   * @param photos of the batch, or null
   * @param mostImages number of images in detail
   * @param leastScore of predicted boxes
   * @param poorIou limit of poor anchors for the audit
   */
  public Report build(Photos photos, int mostImages, double leastScore, float poorIou)
      throws IOException {
    run = runner.run(batch, request, arena, this::visit);
    Totals totals = run.totals();
    List<LayerLoss> layers = new ArrayList<>();
    Parts parts = Parts.ZERO;
    for (int l = 0; l < totals.layers(); l++) {
      layers.add(new LayerLoss(totals.layer(l), totals.statistics(l)));
      parts = parts.plus(totals.layer(l));
    }
    List<Cell> cellsInDetail = computeDetails(photos, mostImages, leastScore);
    Audit audit = runner.audit(batch, poorIou, 100);
    return new Report(
        String.valueOf(batch.folder().toAbsolutePath().normalize().getFileName()),
        spec,
        grids(),
        new Loss(run, layers),
        parts,
        new Shares(
            layers.stream()
                .map(layer -> layer.parts())
                .map(p -> new LayerShares(p.sum() / totals.total(), shares(p)))
                .toList(),
            shares(parts)),
        batch.images() * IntStream.range(0, totals.layers()).mapToLong(spec::cells).sum()
            - totals.objects(),
        distribution(),
        histograms(),
        images,
        cellsInDetail,
        new Labels(spec, audit, batch.images(), BestIou.of(audit)));
  }

  // ---- the run over all images

  private void visit(YoloLoss loss, int first, int images, CellMaps<MemorySegment> maps) {
    if (cells == null) {
      cells = new ImageCells(batch, images, arena); // no later chunk is larger
    }
    cells.load(batch, loss, first, images, maps);
    for (int image = 0; image < images; image++) {
      for (int l = 0; l < spec.layers().size(); l++) {
        for (int cell = 0; cell < cells.count(l); cell++) {
          boolean object = cells.isObject(l, image, cell);
          count(
              object ? Histogram.BEST_IOU_OBJECT : Histogram.BEST_IOU_BACKGROUND,
              cells.bestIou(l, image, cell));
          count(
              object ? Histogram.OBJECTNESS_OBJECT : Histogram.OBJECTNESS_BACKGROUND,
              cells.objectness(l, image, cell));
          offer(costliest, MOST_CELLS, first + image, l, cell, cells.loss(l, image, cell));
        }
      }
    }
  }

  /** 0..1 in equal bins; 1 is in the last, NaN in none. */
  private void count(Histogram histogram, double value) {
    if (!Double.isNaN(value)) {
      histograms.get(histogram)[(int) Math.clamp(value * BINS, 0, BINS - 1)]++;
    }
  }

  private static void offer(
      PriorityQueue<Place> queue, int most, int image, int l, int cell, double loss) {
    if (queue.size() == most && Double.compare(loss, queue.peek().loss) <= 0) {
      return;
    }
    queue.add(new Place(image, l, cell, loss));
    if (queue.size() > most) {
      queue.remove();
    }
  }

  // ---- sums

  private List<Grid> grids() {
    List<Grid> grids = new ArrayList<>();
    for (int l = 0; l < spec.layers().size(); l++) {
      YoloSpec.Layer layer = spec.layers().get(l);
      grids.add(
          new Grid(
              layer.gridHeight(),
              layer.gridWidth(),
              layer.anchorMask().size(),
              spec.cells(l) * batch.images()));
    }
    return grids;
  }

  /** Returns the shares of parts in the total. */
  private Map<Part, Double> shares(Parts parts) {
    EnumMap<Part, Double> shares = new EnumMap<>(Part.class);
    Part.ALL.forEach(part -> shares.put(part, part.of(parts) / run.totals().total()));
    return shares;
  }

  private double imageLoss(int image) {
    return run.totals().rows(image).stream().mapToDouble(Parts::sum).sum();
  }

  private ImageLoss distribution() {
    double[] sorted =
        IntStream.range(0, batch.images()).mapToDouble(this::imageLoss).sorted().toArray();
    return new ImageLoss(
        sorted[0],
        (sorted[(sorted.length - 1) / 2] + sorted[sorted.length / 2]) / 2,
        DoubleStream.of(sorted).sum() / sorted.length,
        sorted[sorted.length - 1]);
  }

  private Histograms histograms() {
    EnumMap<Histogram, List<Long>> counts = new EnumMap<>(Histogram.class);
    histograms.forEach((h, bins) -> counts.put(h, LongStream.of(bins).boxed().toList()));
    return new Histograms(
        IntStream.rangeClosed(0, BINS).mapToObj(bin -> (double) bin / BINS).toList(), counts);
  }

  // ---- images and cells in detail

  /** Computes the images in detail, and returns the costliest cells. */
  private List<Cell> computeDetails(Photos photos, int mostImages, double leastScore)
      throws IOException {
    List<Integer> worst =
        IntStream.range(0, batch.images())
            .boxed()
            .sorted(Comparator.comparingDouble(this::imageLoss).reversed())
            .limit(mostImages)
            .toList();
    List<Place> places = costliest.stream().sorted(Place.COSTLIEST).toList();
    List<Integer> others =
        places.stream().map(Place::image).distinct().filter(i -> !worst.contains(i)).toList();
    Map<Place, Cell> found = new HashMap<>();
    try (OneImage one = new OneImage(batch, request, arena);
        Progress progress = runner.progress("images in detail", worst.size() + others.size())) {
      for (int image : worst) {
        one.load(image);
        images.add(image(one, photos, leastScore));
        describe(one, photos, places, found);
        progress.step(1);
      }
      for (int image : others) {
        one.load(image);
        describe(one, photos, places, found);
        progress.step(1);
      }
    }
    return places.stream().map(found::get).toList();
  }

  /** Describes those of the places that are in an image. */
  private static void describe(
      OneImage one, Photos photos, List<Place> places, Map<Place, Cell> into) {
    for (Place place : places) {
      if (place.image == one.image()) {
        Cell cell = one.cell(place.layer, place.cell);
        into.put(place, photos == null ? cell : cell.withFile(photos.name(place.image)));
      }
    }
  }

  private Image image(OneImage one, Photos photos, double leastScore) throws IOException {
    int index = one.image();
    PriorityQueue<Place> queue = new PriorityQueue<>(Place.COSTLIEST.reversed());
    for (int l = 0; l < spec.layers().size(); l++) {
      for (int cell = 0; cell < spec.cells(l); cell++) {
        offer(queue, MOST_CELLS_OF_IMAGE, index, l, cell, one.loss(l, cell));
      }
    }
    List<Parts> rows = run.totals().rows(index);
    return new Image(
        index,
        photos == null ? null : photos.name(index),
        imageLoss(index),
        imageLoss(index) / (run.totals().total() * run.totals().normaliser()),
        rows.stream().reduce(Parts.ZERO, Parts::plus),
        rows,
        one.truths(),
        one.predictions(leastScore),
        one.confidenceScale(),
        queue.stream()
            .sorted(Place.COSTLIEST)
            .map(place -> one.cell(place.layer, place.cell))
            .toList(),
        new Pictures(photos == null ? null : photos.dataUri(index, spec), one.heatMaps()));
  }
}
