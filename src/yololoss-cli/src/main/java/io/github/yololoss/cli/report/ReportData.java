package io.github.yololoss.cli.report;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.CellMaps;
import io.github.yololoss.Count;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.Part;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.files.Photos;
import io.github.yololoss.cli.files.Progress;
import io.github.yololoss.cli.run.AuditJson;
import io.github.yololoss.cli.run.Batch;
import io.github.yololoss.cli.run.LossRunner;
import io.github.yololoss.cli.run.Request;
import io.github.yololoss.cli.run.RunResult;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.PriorityQueue;
import java.util.stream.DoubleStream;
import java.util.stream.IntStream;

/**
 * Where the loss comes from: a tree of JSON, which {@code report --json} writes and its page shows,
 * and the pictures of the page. All images are passed over once; the costliest images and cells are
 * then looked at one by one.
 */
public final class ReportData {
  /** What a heat map shows of a place of the grid, over its anchors. */
  public enum Heat {
    /** The largest. */
    OBJECTNESS,
    /** The sum. */
    CONFIDENCE_LOSS,
    /** How many background cells are ignored. */
    IGNORED,
    /** How many are objects. */
    POSITIVES
  }

  /**
   * The pictures of an image.
   *
   * @param photo a data URI, or null
   * @param heat for each layer a data URI for each {@link Heat}
   */
  public record Pictures(String photo, List<EnumMap<Heat, String>> heat) {}

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

  /** What a histogram counts, and of which cells. */
  private enum Histogram {
    BEST_IOU_OBJECT,
    BEST_IOU_BACKGROUND,
    OBJECTNESS_OBJECT,
    OBJECTNESS_BACKGROUND
  }

  private final Batch batch;
  private final Request request;
  private final LossRunner runner;
  private final Arena arena; // of everything that is read and computed
  private final EnumMap<Histogram, long[]> histograms = new EnumMap<>(Histogram.class);
  private final PriorityQueue<Place> costliest = // the least of them first
      new PriorityQueue<>(Place.COSTLIEST.reversed());
  private final ObjectNode root = new ObjectMapper().createObjectNode();
  private final List<Pictures> pictures = new ArrayList<>();
  private final YoloSpec spec;
  private RunResult run;
  private ImageCells cells; // of the chunk that is passed over

  public ReportData(Batch batch, Request request, LossRunner runner, Arena arena) {
    this.batch = batch;
    this.request = request.withExtras(true, LossOptions.Search.USED, false);
    this.runner = runner;
    spec = batch.spec();
    this.arena = arena;
    for (Histogram h : Histogram.values()) {
      histograms.put(h, new long[BINS]);
    }
  }

  /** The tree. */
  public ObjectNode json() {
    return root;
  }

  /** Of the images in the tree, in its order. */
  public List<Pictures> pictures() {
    return pictures;
  }

  /**
   * Computes everything.
   *
   * @param photos of the batch, or null
   * @param mostImages that are looked at
   * @param leastScore of predicted boxes
   * @param poorIou for the audit
   */
  public void compute(Photos photos, int mostImages, double leastScore, float poorIou)
      throws IOException {
    run = runner.run(batch, request, arena, this::visit);
    putSpec();
    root.set("loss", run.toJson());
    putShares();
    putImageLoss();
    putHistograms();
    lookCloser(photos, mostImages, leastScore);
    root.set("audit", AuditJson.of(spec, runner.audit(batch, poorIou, 100), batch.images()));
    ArrayNode advice = root.putArray("advice");
    Advice.of(root).forEach(advice::add);
  }

  // ---- the pass over all images

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

  // ---- the tree

  private void putSpec() {
    root.put("folder", String.valueOf(batch.folder().toAbsolutePath().normalize().getFileName()))
        .put("num_classes", spec.numClasses())
        .put("ignore_thresh", spec.ignoreThresh());
    root.putArray("input_shape").add(spec.inputHeight()).add(spec.inputWidth());
    ArrayNode grids = root.putArray("grids");
    for (int l = 0; l < spec.layers().size(); l++) {
      YoloSpec.Layer layer = spec.layers().get(l);
      grids
          .addObject()
          .put("height", layer.gridHeight())
          .put("width", layer.gridWidth())
          .put("anchors", layer.anchorMask().size())
          .put("cells", spec.cells(l) * batch.images());
    }
  }

  /** Of the total: each part of each layer, each layer, each part; and the parts over layers. */
  private void putShares() {
    double total = run.totals().total();
    ObjectNode parts = root.putObject("parts");
    ObjectNode shares = root.putObject("shares");
    ArrayNode layers = shares.putArray("layers");
    Parts all = Parts.ZERO;
    for (int l = 0; l < run.totals().layers(); l++) {
      Parts p = run.totals().layer(l);
      all = all.plus(p);
      ObjectNode layer = layers.addObject().put("sum", p.sum() / total);
      Part.ALL.forEach(part -> layer.put(part.jsonName(), part.of(p) / total));
    }
    Parts sum = all;
    Part.ALL.forEach(part -> parts.put(part.jsonName(), part.of(sum)));
    Part.ALL.forEach(part -> shares.put(part.jsonName(), part.of(sum) / total));
    root.put("objects", run.totals().objects())
        .put("ignored_background", sum.ignoredBackground())
        .put(
            "background",
            batch.images() * IntStream.range(0, run.totals().layers()).mapToLong(spec::cells).sum()
                - run.totals().objects());
  }

  private double imageLoss(int image) {
    return run.totals().rows(image).stream().mapToDouble(Parts::sum).sum();
  }

  private void putImageLoss() {
    double[] sorted =
        IntStream.range(0, batch.images()).mapToDouble(this::imageLoss).sorted().toArray();
    root.putObject("image_loss")
        .put("least", sorted[0])
        .put("median", (sorted[(sorted.length - 1) / 2] + sorted[sorted.length / 2]) / 2)
        .put("mean", DoubleStream.of(sorted).sum() / sorted.length)
        .put("largest", sorted[sorted.length - 1]);
  }

  private void putHistograms() {
    ObjectNode node = root.putObject("histograms");
    ArrayNode edges = node.putArray("edges");
    for (int bin = 0; bin <= BINS; bin++) {
      edges.add((double) bin / BINS);
    }
    histograms.forEach(
        (histogram, counts) -> {
          ArrayNode values = node.putArray(histogram.name().toLowerCase(Locale.ROOT));
          Arrays.stream(counts).forEach(values::add);
        });
  }

  // ---- the images that are looked at one by one

  private void lookCloser(Photos photos, int mostImages, double leastScore) throws IOException {
    List<Integer> worst =
        IntStream.range(0, batch.images())
            .boxed()
            .sorted(Comparator.comparingDouble(this::imageLoss).reversed())
            .limit(mostImages)
            .toList();
    List<Place> places = costliest.stream().sorted(Place.COSTLIEST).toList();
    List<Integer> others =
        places.stream().map(Place::image).distinct().filter(i -> !worst.contains(i)).toList();
    ObjectNode[] ofPlaces = new ObjectNode[places.size()];
    ArrayNode images = root.putArray("images");
    try (OneImage one = new OneImage(batch, request, arena);
        Progress progress = runner.progress("images in detail", worst.size() + others.size())) {
      for (int image : worst) {
        one.load(image);
        images.add(imageNode(one, photos, leastScore));
        pictures.add(
            new Pictures(photos == null ? null : photos.dataUri(image, spec), one.heatMaps()));
        describe(one, places, ofPlaces);
        progress.step(1);
      }
      for (int image : others) {
        one.load(image);
        describe(one, places, ofPlaces);
        progress.step(1);
      }
    }
    ArrayNode list = root.putArray("cells");
    for (ObjectNode place : ofPlaces) {
      if (photos != null) {
        place.put("file", photos.name(place.get("image").intValue()));
      }
      list.add(place);
    }
  }

  private void describe(OneImage one, List<Place> places, ObjectNode[] into) {
    for (int i = 0; i < into.length; i++) {
      if (places.get(i).image == one.image()) {
        into[i] = one.cellNode(places.get(i).layer, places.get(i).cell);
      }
    }
  }

  private ObjectNode imageNode(OneImage one, Photos photos, double leastScore) {
    int image = one.image();
    ObjectNode node = root.objectNode().put("image", image);
    if (photos != null) {
      node.put("file", photos.name(image));
    }
    Parts sum = run.totals().rows(image).stream().reduce(Parts.ZERO, Parts::plus);
    node.put("loss", imageLoss(image))
        .put("share", imageLoss(image) / (run.totals().total() * run.totals().normaliser()));
    putParts(node, sum);
    ArrayNode layers = node.putArray("layers");
    for (Parts p : run.totals().rows(image)) {
      putParts(layers.addObject(), p);
    }
    one.putBoxes(node, leastScore);
    node.put("confidence_loss_scale", one.confidenceScale());
    PriorityQueue<Place> queue = new PriorityQueue<>(Place.COSTLIEST.reversed());
    for (int l = 0; l < spec.layers().size(); l++) {
      for (int cell = 0; cell < spec.cells(l); cell++) {
        offer(queue, MOST_CELLS_OF_IMAGE, image, l, cell, one.loss(l, cell));
      }
    }
    ArrayNode costly = node.putArray("cells");
    queue.stream()
        .sorted(Place.COSTLIEST)
        .forEach(place -> costly.add(one.cellNode(place.layer, place.cell)));
    return node;
  }

  private static void putParts(ObjectNode node, Parts p) {
    Part.ALL.forEach(part -> node.put(part.jsonName(), part.of(p)));
    for (Count count : List.of(Count.OBJECTS, Count.IGNORED_BACKGROUND)) {
      node.put(count.jsonName(), count.of(p));
    }
  }
}
