package io.github.yololoss.examples.djl;

import ai.djl.Device;
import ai.djl.Model;
import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.training.DefaultTrainingConfig;
import ai.djl.training.GradientCollector;
import ai.djl.training.Trainer;
import ai.djl.training.loss.Loss;
import ai.djl.training.tracker.Tracker;
import io.github.yololoss.FeatsLayout;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.examples.djl.Dataset.Batch;
import io.github.yololoss.kit.Detections.Box;
import io.github.yololoss.kit.Detections.Limits;
import io.github.yololoss.kit.LossLog;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;

/** One run: data, network, loss, and the epochs that are done. */
final class Training implements AutoCloseable {
  private final Train options;
  private final List<String> classes;
  private final Dataset training;
  private final Dataset validation;
  private final YoloSpec spec;
  private final NativeLoss loss;
  private final Loss operations;
  private final YoloLoss library; // in host memory: decodes, and builds truths
  private final Device device;
  private final Model model;
  private final Adam optimizer;
  private final Tracker learningRate;
  private final Trainer trainer;
  private final ExecutorService loader = Executors.newSingleThreadExecutor();
  private final Checkpoint checkpoint;
  private final LossLog curve; // of the steps
  private final List<Epoch> history = new ArrayList<>();
  private final List<Double> stepSeconds = new ArrayList<>();
  private double lossSeconds; // of these, what the loss and its gradient take

  Training(Train options) throws IOException {
    this.options = options;
    device = options.djlDevice();
    model = Model.newInstance("yolov3", device);
    checkpoint = new Checkpoint(options.output.resolve("checkpoint.bin"), options.settings());
    Path steps = options.output.resolve("steps.jsonl");
    curve = options.resume ? LossLog.append(steps) : LossLog.create(steps);
    classes =
        Files.readAllLines(options.data.resolve("classes.txt")).stream()
            .filter(name -> !name.isBlank())
            .map(String::strip)
            .toList();
    training = dataset("train.txt");
    validation = dataset("val.txt");
    Engine.getInstance().setRandomSeed(options.seed);
    List<double[]> sizes = training.boxSizes();
    spec =
        Anchors.spec(
            sizes, options.scales, classes.size(), options.height, options.width, options.seed);
    say(
        "%d training and %d validation images, %d boxes; anchors %s",
        training.size(), validation.size(), sizes.size(), spec.anchors());
    loss =
        new NativeLoss(
            spec, options.batch, io.github.yololoss.FeatsType.FLOAT32, LossOptions.DEFAULT, device);
    library = YoloLoss.builder(spec).maxBatch(options.batch).layout(FeatsLayout.NCHW).open();
    operations = new OperationsLoss(library);

    int batches = (training.size() + options.batch - 1) / options.batch;
    learningRate = Adam.schedule(options.learningRate, batches, options.epochs);
    optimizer = new Adam(learningRate);
    model.setBlock(
        new Network(
            options.scales,
            spec.layers().getFirst().anchorMask().size() * (5 + classes.size()),
            true));
    if (options.resume) {
      checkpoint.load(history, model, optimizer);
      say("resumed after epoch %d", history.size());
    }
    trainer =
        model.newTrainer(
            new DefaultTrainingConfig(options.loss == Train.LossKind.YOLOLOSS ? loss : operations)
                .optOptimizer(optimizer)
                .optDevices(new Device[] {device}));
    trainer.initialize(new Shape(1, 3, options.height, options.width));
  }

  private Dataset dataset(String list) throws IOException {
    return new Dataset(
        options.data.resolve(list),
        options.imagesRoot,
        classes.size(),
        options.width,
        options.height);
  }

  void run() throws Exception {
    say("loss by %s on %s", options.loss, loss.deviceName());
    checkGradient();
    int last =
        options.stopAfter == null ? options.epochs : Math.min(options.stopAfter, options.epochs);
    say("%s", Epoch.header(classes));
    for (int number = history.size() + 1; number <= last; number++) {
      Epoch epoch = train(number);
      history.add(epoch);
      say("%s", epoch.csv());
      checkpoint.save(history, model, optimizer);
    }
    List<String> log = new ArrayList<>(List.of(Epoch.header(classes)));
    history.forEach(epoch -> log.add(epoch.csv()));
    Files.write(options.output.resolve("log.csv"), log);
    if (history.isEmpty()) {
      return;
    }
    Charts.lossChart(options.output.resolve("loss.png"), history);
    Charts.apChart(options.output.resolve("ap.png"), history, classes);
    drawDetections();
    if (options.dumpValidation != null) {
      dumpValidation();
    }
    report();
  }

  private static void say(String format, Object... values) {
    System.out.println(String.format(Locale.ROOT, format, values));
  }

  /**
   * The gradients of the first batch's outputs by the library and by autograd of DJL's operations
   * must agree; then how long each takes.
   */
  private void checkGradient() throws IOException {
    int[] first = training.shuffledBatches(options.batch, options.seed).getFirst();
    try (Batch batch = training.batch(first, null);
        NDManager manager = NDManager.newBaseManager(device)) {
      NDArray boxes = boxes(manager, batch);
      NDList outputs = trainer.evaluate(new NDList(images(manager, batch)));
      Gradients mine = Gradients.of(loss, boxes, outputs);
      Gradients theirs = Gradients.of(operations, boxes, outputs);
      if (options.dump != null) {
        Dump.write(options.dump, spec, outputs, boxes, theirs);
      }
      boolean agree =
          mine.difference(theirs) < 1e-5
              && Math.abs(mine.value() - theirs.value()) < 1e-5 * Math.abs(theirs.value());
      say(
          "gradient check on the first batch: loss %.6f, by DJL's operations %.6f; largest"
              + " difference of the gradients %.1e of their largest element: %s",
          mine.value(), theirs.value(), mine.difference(theirs), agree ? "ok" : "FAILED");
      if (!agree) {
        throw new IllegalStateException("the gradients do not agree");
      }
      double seconds = Gradients.median(Gradients.time(loss, boxes, outputs));
      double theirSeconds = Gradients.median(Gradients.time(operations, boxes, outputs));
      lossSeconds = options.loss == Train.LossKind.YOLOLOSS ? seconds : theirSeconds;
      say(
          "loss and gradient of a batch of %d, forward and backward, medians: yololoss %.3f ms,"
              + " DJL's operations %.3f ms",
          batch.size(), 1e3 * seconds, 1e3 * theirSeconds);
    }
  }

  // ---- an epoch

  private NDArray images(NDManager manager, Batch batch) {
    return manager.create(
        batch.images().asByteBuffer().order(java.nio.ByteOrder.nativeOrder()),
        new Shape(batch.size(), 3, options.height, options.width),
        DataType.FLOAT32);
  }

  private static NDArray boxes(NDManager manager, Batch batch) {
    return manager.create(
        batch.boxes().asByteBuffer().order(java.nio.ByteOrder.nativeOrder()),
        new Shape(batch.size(), batch.boxesPerImage(), 5),
        DataType.FLOAT32);
  }

  private Epoch train(int number) throws Exception {
    long start = System.nanoTime();
    long seed = 1_000_003L * options.seed + number;
    List<int[]> batches = training.shuffledBatches(options.batch, seed);
    double[] sums = new double[5]; // loss, xy, wh, confidence, class
    Future<Batch> next = load(batches, 0, seed);
    for (int i = 0; i < batches.size(); i++) {
      Future<Batch> after = i + 1 < batches.size() ? load(batches, i + 1, seed) : null;
      try (Batch batch = next.get()) {
        step(batch, sums);
        curve.write((long) (number - 1) * batches.size() + i + 1, loss.result());
        showProgress(number, i + 1, batches.size());
      }
      next = after;
    }
    List<Double> ap = new ArrayList<>();
    double validationLoss = validate(ap);
    int count = training.size();
    float rate = learningRate.getNewValue(batches.size() * number);
    return new Epoch(
        number,
        rate,
        sums[0] / count,
        sums[1] / count,
        sums[2] / count,
        sums[3] / count,
        sums[4] / count,
        validationLoss,
        ap,
        (System.nanoTime() - start) / 1e9);
  }

  private Future<Batch> load(List<int[]> batches, int i, long seed) {
    return loader.submit(() -> training.batch(batches.get(i), new Random(1009 * seed + i)));
  }

  private void step(Batch batch, double[] sums) {
    long start = System.nanoTime();
    try (NDManager manager = trainer.getManager().newSubManager()) {
      NDArray boxes = boxes(manager, batch);
      NDList outputs;
      try (GradientCollector collector = trainer.newGradientCollector()) {
        outputs = trainer.forward(new NDList(images(manager, batch)));
        if (options.loss == Train.LossKind.YOLOLOSS) {
          sums[0] += loss.backward(boxes, outputs) * batch.size();
        } else {
          NDArray value = operations.evaluate(new NDList(boxes), outputs);
          collector.backward(value);
          sums[0] += value.getFloat() * batch.size();
        }
      }
      trainer.step();
      stepSeconds.add((System.nanoTime() - start) / 1e9);
      if (options.loss == Train.LossKind.OPERATIONS) {
        loss.valueOf(boxes, outputs); // for the parts in the log, outside of what is timed
      }
    }
    Parts parts = parts();
    sums[1] += parts.xy() * batch.size();
    sums[2] += parts.wh() * batch.size();
    sums[3] += parts.confidence() * batch.size();
    sums[4] += parts.classes() * batch.size();
  }

  /** Of the last call, over its layers. */
  private Parts parts() {
    LossResult result = loss.result();
    return IntStream.range(0, result.layers())
        .mapToObj(result::layer)
        .reduce(Parts.ZERO, Parts::plus);
  }

  /** One line that is overwritten, on a terminal only. */
  private void showProgress(int epoch, int done, int all) {
    if (System.console() == null || !System.console().isTerminal()) {
      return;
    }
    Parts parts = parts();
    System.err.printf(
        Locale.ROOT,
        "\repoch %d/%d [%-20s] %d/%d  loss %.2f = xy %.2f + wh %.2f + confidence %.2f + class"
            + " %.2f  %.2f s/step, %d s left \033[K%s",
        epoch,
        options.epochs,
        "#".repeat(20 * done / all),
        done,
        all,
        loss.result().total(),
        parts.xy(),
        parts.wh(),
        parts.confidence(),
        parts.classes(),
        stepSeconds.getLast(),
        Math.round(
            Gradients.median(stepSeconds) * (all - done + (long) all * (options.epochs - epoch))),
        done == all ? "\r\033[K" : "");
  }

  /** The mean loss of the validation images; the AP of each class goes to ap. */
  private double validate(List<Double> ap) throws IOException {
    List<List<Box>> detections = new ArrayList<>();
    List<List<Box>> truths = new ArrayList<>();
    double sum = 0;
    for (int first = 0; first < validation.size(); first += options.batch) {
      int[] images = validationImages(first);
      try (Batch batch = validation.batch(images, null);
          NDManager manager = trainer.getManager().newSubManager()) {
        NDList outputs = trainer.evaluate(new NDList(images(manager, batch)));
        sum += loss.valueOf(boxes(manager, batch), outputs) * batch.size();
        detections.addAll(Detector.detect(library, outputs, Detector.ALL));
      }
      for (int i : images) {
        truths.add(validation.letterboxed(i).boxes());
      }
    }
    for (int c = 0; c < classes.size(); c++) {
      ap.add(Detector.averagePrecision(detections, truths, c));
    }
    return sum / validation.size();
  }

  /** Those of the batch from first on. */
  private int[] validationImages(int first) {
    return IntStream.range(first, Math.min(validation.size(), first + options.batch)).toArray();
  }

  // ---- what a run leaves

  private void drawDetections() throws IOException {
    int[] images = Arrays.stream(validationImages(0)).limit(6).toArray();
    List<Dataset.Picture> pictures = new ArrayList<>();
    for (int i : images) {
      pictures.add(validation.letterboxed(i));
    }
    try (Batch batch = validation.batch(images, null);
        NDManager manager = trainer.getManager().newSubManager()) {
      NDList outputs = trainer.evaluate(new NDList(images(manager, batch)));
      Charts.detections(
          options.output.resolve("detections.png"),
          pictures,
          Detector.detect(library, outputs, Limits.DEFAULT),
          classes);
    }
  }

  /** What yololoss report needs of the validation images. */
  private void dumpValidation() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment[] feats = spec.allocate(arena, validation.size());
      List<Batch> batches = new ArrayList<>();
      for (int first = 0; first < validation.size(); first += options.batch) {
        Batch batch = validation.batch(validationImages(first), null);
        batches.add(batch);
        try (NDManager manager = trainer.getManager().newSubManager()) {
          NDList outputs = trainer.evaluate(new NDList(images(manager, batch)));
          for (int l = 0; l < feats.length; l++) {
            feats[l].asSlice(spec.bytes(l, first)).copyFrom(NativeLoss.segment(outputs.get(l)));
          }
        }
      }
      Dump.validation(options.dumpValidation, spec, feats, batches, validation.paths());
      batches.forEach(Batch::close);
    }
  }

  private void report() {
    Epoch last = history.getLast();
    say("");
    say("%-24s AP at IoU 0.5 (%d validation images)", "class", validation.size());
    for (int c = 0; c < classes.size(); c++) {
      say("%-24s %.4f", classes.get(c), last.ap().get(c));
    }
    say("%-24s %.4f", "mean", last.meanAp());
    double seconds = history.stream().mapToDouble(Epoch::seconds).sum();
    say("seed %d, %d epochs in %.0f s", options.seed, history.size(), seconds);
    if (!stepSeconds.isEmpty()) { // a resumed run may have had nothing to do
      double step = Gradients.median(stepSeconds);
      say(
          "a step of %d images takes %.1f ms (median), of which the loss and its gradient %.2f ms,"
              + " %.1f%%",
          options.batch, 1e3 * step, 1e3 * lossSeconds, 100 * lossSeconds / step);
    }
    say(
        "log.csv, steps.jsonl, loss.png, ap.png, detections.png and checkpoint.bin are in %s",
        options.output);
  }

  @Override
  public void close() throws IOException {
    loader.shutdownNow();
    trainer.close();
    model.close();
    library.close();
    loss.close();
    curve.close();
  }
}
