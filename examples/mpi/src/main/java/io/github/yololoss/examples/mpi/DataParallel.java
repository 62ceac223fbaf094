package io.github.yololoss.examples.mpi;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import ai.djl.Device;
import ai.djl.Model;
import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.nn.Parameter;
import ai.djl.training.DefaultTrainingConfig;
import ai.djl.training.GradientCollector;
import ai.djl.training.Trainer;
import ai.djl.training.optimizer.Optimizer;
import ai.djl.training.tracker.Tracker;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossResult;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.LossSum;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.examples.djl.Anchors;
import io.github.yololoss.examples.djl.Dataset;
import io.github.yololoss.examples.djl.Dataset.Batch;
import io.github.yololoss.examples.djl.NativeLoss;
import io.github.yololoss.examples.djl.Network;
import io.github.yololoss.kit.Npy;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/**
 * The DJL example's training, divided among the ranks of MPI. Each rank has the whole network and a
 * part of each batch. A step: gradients of raw sums, one micro-batch at a time; their sum over all
 * ranks; divided by the normaliser of the whole batch, which the exact sum of the loss gives; a
 * step of the optimiser, the same on every rank.
 *
 * <p>Gradients are added in a fixed tree over the micro-batches: halves, halves of halves. Where
 * the ranks are a power of two and MPI goes along the same tree (recursive doubling), any number of
 * ranks gives the same bits for the same micro-batches.
 */
final class DataParallel implements AutoCloseable {
  private final Train options;
  private final Mpi mpi;
  private final Dataset data;
  private final NativeLoss loss;
  private final DataType type; // of weights, outputs and gradients
  private final Model model = Model.newInstance("yolov3", Device.cpu());
  private final Optimizer optimizer;
  private final Trainer trainer;
  private final Arena arena = Arena.ofShared();
  private final List<NDArray> parameters = new ArrayList<>();
  private final long weights; // in all parameters
  private final MemorySegment rows; // of a step, this rank's
  private final MemorySegment allRows; // of all steps and ranks; rank 0 only
  private final long rowBytes; // of an image
  private final List<double[]> seconds = new ArrayList<>(); // of each step, by phase
  private LossSum ofStep; // this rank's, then all ranks'
  private double lossSeconds;

  DataParallel(Train options, Mpi mpi) throws IOException {
    this.options = options;
    this.mpi = mpi;
    int classes =
        (int)
            Files.readAllLines(options.data.resolve("classes.txt")).stream()
                .filter(name -> !name.isBlank())
                .count();
    data = new Dataset(options.data.resolve("train.txt"), classes, options.width, options.height);
    if (data.size() < options.batch) {
      throw new IOException(
          options.data
              + ": "
              + data.size()
              + " images, a batch of "
              + options.batch
              + " is wanted");
    }
    YoloSpec spec =
        Anchors.spec(
            data.boxSizes(), options.scales, classes, options.height, options.width, options.seed);
    loss =
        new NativeLoss(
            spec,
            options.microBatch(mpi.size()),
            options.float64
                ? io.github.yololoss.FeatsType.FLOAT64
                : io.github.yololoss.FeatsType.FLOAT32,
            new LossOptions(Normaliser.NONE, 1),
            Device.cpu());
    type = options.float64 ? DataType.FLOAT64 : DataType.FLOAT32;
    model.setDataType(type);
    Engine.getInstance().setRandomSeed(options.seed);
    model.setBlock(new Network(options.scales, 3 * (5 + classes), false));
    optimizer =
        Optimizer.sgd()
            .setLearningRateTracker(Tracker.fixed(options.learningRate))
            .optMomentum(0.9f)
            .build();
    trainer =
        model.newTrainer(
            new DefaultTrainingConfig(loss)
                .optOptimizer(optimizer)
                .optDevices(new Device[] {Device.cpu()}));
    trainer.initialize(new Shape(1, 3, options.height, options.width));
    long count = 0;
    for (Parameter parameter : model.getBlock().getParameters().values()) {
      parameters.add(parameter.getArray());
      count += parameter.getArray().size();
      mpi.broadcast(NativeLoss.segment(parameter.getArray())); // all begin with those of rank 0
    }
    weights = count;
    rowBytes = 10L * Double.BYTES * spec.layers().size();
    rows = arena.allocate(rowBytes * options.batch / mpi.size(), 8);
    allRows = mpi.rank() == 0 ? arena.allocate(rowBytes * options.batch * options.steps, 8) : null;
  }

  void run() throws IOException {
    int step = 0;
    for (int epoch = 1; step < options.steps; epoch++) {
      for (int[] images : data.shuffledBatches(options.batch, options.seed + epoch)) {
        if (images.length == options.batch && step < options.steps) {
          step(step++, images);
        }
      }
    }
    if (mpi.rank() == 0) {
      write();
    }
  }

  private void step(int step, int[] images) throws IOException {
    long start = System.nanoTime();
    lossSeconds = 0;
    ofStep = LossSum.zero(options.scales);
    int share = images.length / mpi.size();
    try (Arena ofThisStep = Arena.ofConfined()) {
      MemorySegment gradient =
          gradient(images, mpi.rank() * share, share, ofThisStep); // of this rank's raw sums
      long computed = System.nanoTime();
      mpi.sum(gradient, options.float64);
      ofStep = LossSum.ofWords(mpi.sumLongs(ofStep.words()));
      long reduced = System.nanoTime();
      divide(gradient, ofStep.divisor(options.normaliser()));
      double norm = norm(gradient); // the same on every rank, as all that follows
      if (norm > options.clip) {
        divide(gradient, norm / options.clip);
      }
      long at = 0;
      for (NDArray parameter : parameters) {
        MemorySegment ofParameter = NativeLoss.segment(parameter.getGradient());
        ofParameter.copyFrom(gradient.asSlice(at, ofParameter.byteSize()));
        at += ofParameter.byteSize();
      }
      for (NDArray parameter : parameters) { // as Trainer.step, which knows float32 alone
        NDArray ofParameter = parameter.getGradient();
        optimizer.update(parameter.getUid(), parameter, ofParameter);
        NativeLoss.segment(ofParameter).fill((byte) 0);
      }
      long stepped = System.nanoTime();
      seconds.add(
          new double[] {
            (computed - start) / 1e9 - lossSeconds,
            lossSeconds,
            (reduced - computed) / 1e9,
            (stepped - reduced) / 1e9
          });
    }
    mpi.gather(
        rows,
        mpi.rank() != 0
            ? null
            : allRows.asSlice(step * rowBytes * options.batch, rowBytes * options.batch));
    if (mpi.rank() == 0) {
      System.out.printf(
          Locale.ROOT, "step %d loss %.6f%n", step + 1, ofStep.total(options.normaliser()));
    }
  }

  /** Of the raw sums of some images of the batch, all parameters in a row. */
  private MemorySegment gradient(int[] images, int first, int count, Arena in) throws IOException {
    int micro = options.microBatch(mpi.size());
    if (count <= micro) {
      return ofMicroBatch(Arrays.copyOfRange(images, first, first + count), first, in);
    }
    int half = count / 2;
    MemorySegment sum = gradient(images, first, half, in);
    try (Arena right = Arena.ofConfined()) {
      MemorySegment other = gradient(images, first + half, count - half, right);
      add(sum, other);
    }
    return sum;
  }

  private void add(MemorySegment sum, MemorySegment other) {
    for (long i = 0; i < weights; i++) {
      if (options.float64) {
        double both = sum.getAtIndex(JAVA_DOUBLE, i) + other.getAtIndex(JAVA_DOUBLE, i);
        sum.setAtIndex(JAVA_DOUBLE, i, both);
      } else {
        float both = sum.getAtIndex(JAVA_FLOAT, i) + other.getAtIndex(JAVA_FLOAT, i);
        sum.setAtIndex(JAVA_FLOAT, i, both);
      }
    }
  }

  private void divide(MemorySegment gradient, double by) {
    for (long i = 0; i < weights; i++) {
      if (options.float64) {
        gradient.setAtIndex(JAVA_DOUBLE, i, gradient.getAtIndex(JAVA_DOUBLE, i) / by);
      } else {
        gradient.setAtIndex(JAVA_FLOAT, i, (float) (gradient.getAtIndex(JAVA_FLOAT, i) / by));
      }
    }
  }

  private double norm(MemorySegment gradient) {
    double sum = 0;
    for (long i = 0; i < weights; i++) {
      double g =
          options.float64
              ? gradient.getAtIndex(JAVA_DOUBLE, i)
              : gradient.getAtIndex(JAVA_FLOAT, i);
      sum += g * g;
    }
    return Math.sqrt(sum);
  }

  private MemorySegment ofMicroBatch(int[] images, int first, Arena in) throws IOException {
    try (Batch batch = data.batch(images, null);
        NDManager manager = trainer.getManager().newSubManager()) {
      try (GradientCollector collector = trainer.newGradientCollector()) {
        NDList outputs =
            trainer.forward(
                new NDList(
                    array(
                            manager,
                            batch.images(),
                            new Shape(batch.size(), 3, options.height, options.width))
                        .toType(type, false)));
        NDArray boxes =
            array(manager, batch.boxes(), new Shape(batch.size(), batch.boxesPerImage(), 5));
        long start = System.nanoTime();
        NDArray value = loss.evaluate(new NDList(boxes), outputs);
        lossSeconds += (System.nanoTime() - start) / 1e9;
        collector.backward(value);
      }
      keep(loss.result(), first - mpi.rank() * options.batch / mpi.size());
      MemorySegment gradient = in.allocate(type.getNumOfBytes() * weights, 8);
      long at = 0;
      for (NDArray parameter : parameters) {
        MemorySegment ofParameter = NativeLoss.segment(parameter.getGradient());
        gradient.asSlice(at, ofParameter.byteSize()).copyFrom(ofParameter);
        ofParameter.fill((byte) 0); // the engine adds the next one to it
        at += ofParameter.byteSize();
      }
      return gradient;
    }
  }

  private static NDArray array(NDManager manager, MemorySegment values, Shape shape) {
    return manager.create(
        values.asByteBuffer().order(ByteOrder.nativeOrder()), shape, DataType.FLOAT32);
  }

  /** The rows of a micro-batch. */
  private void keep(LossResult result, int first) {
    ofStep = ofStep.merge(LossSum.of(result));
    for (int image = 0; image < result.batch(); image++) {
      for (int l = 0; l < result.layers(); l++) {
        Parts p = result.row(image, l);
        double[] row = {
          p.xy(),
          p.wh(),
          p.confidenceObject(),
          p.confidenceBackground(),
          p.classes(),
          p.objects(),
          p.ignored(),
          p.ignoredBackground(),
          p.nonFinite(),
          p.foundInf()
        };
        long at = (first + image) * rowBytes + l * 10L * Double.BYTES;
        MemorySegment.copy(row, 0, rows, JAVA_DOUBLE, at, row.length);
      }
    }
  }

  private void write() throws IOException {
    Files.createDirectories(options.output);
    Npy.write(
        options.output.resolve("rows.npy"),
        io.github.yololoss.FeatsType.FLOAT64,
        allRows,
        options.steps,
        options.batch,
        options.scales,
        10);
    MemorySegment all = arena.allocate(type.getNumOfBytes() * weights, 8);
    long at = 0;
    for (NDArray parameter : parameters) {
      MemorySegment values = NativeLoss.segment(parameter);
      all.asSlice(at, values.byteSize()).copyFrom(values);
      at += values.byteSize();
    }
    Npy.write(options.output.resolve("parameters.npy"), loss.featsType(), all, weights);
    System.out.printf(
        Locale.ROOT,
        "%d ranks, micro-batches of %d, %d weights; median of a step: network %.2f ms, loss %.3f"
            + " ms, all-reduce of %.2f MB %.2f ms, optimiser %.2f ms%n",
        mpi.size(),
        options.microBatch(mpi.size()),
        weights,
        median(0),
        median(1),
        ((double) type.getNumOfBytes() * weights + 8 * ofStep.words().length) / 1e6,
        median(2),
        median(3));
  }

  /** Milliseconds of a phase. */
  private double median(int phase) {
    return 1e3
        * seconds.stream()
            .mapToDouble(s -> s[phase])
            .sorted()
            .skip(seconds.size() / 2)
            .findFirst()
            .orElse(Double.NaN);
  }

  @Override
  public void close() {
    trainer.close();
    model.close();
    loss.close();
    arena.close();
  }
}
