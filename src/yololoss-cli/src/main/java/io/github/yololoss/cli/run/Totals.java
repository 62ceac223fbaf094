package io.github.yololoss.cli.run;

import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossResult;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.Offender;
import io.github.yololoss.Part;
import io.github.yololoss.Statistics;
import io.github.yololoss.Targets.BoxCounts;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * What the images of a run add up to, chunk by chunk. A row does not depend on the batch that it
 * was computed in, and rows are added in the order of the images, as {@code yl_loss} does: chunks
 * of any size give the bits of one call. Statistics are sums of the chunks' sums: equal up to
 * rounding.
 */
public final class Totals {
  private final Normaliser normaliser;
  private final List<List<Parts>> rows = new ArrayList<>(); // of each image, raw
  private final Parts[] layers; // raw
  private final Statistics[] statistics;
  private Offender offender; // of the first image that has one
  private BoxCounts boxes = new BoxCounts(0, 0, 0, 0, 0);

  public Totals(int layers, Normaliser normaliser) {
    this.normaliser = normaliser;
    this.layers = new Parts[layers];
    statistics = new Statistics[layers];
    Arrays.fill(this.layers, Parts.ZERO);
    Arrays.fill(statistics, Statistics.ZERO);
  }

  /** Adds the next images; statistics and offender only if the call was to compute them. */
  public void add(LossResult chunk, boolean withStatistics, boolean withSearch) {
    for (int image = 0; image < chunk.batch(); image++) {
      List<Parts> row = new ArrayList<>();
      for (int l = 0; l < layers.length; l++) {
        row.add(chunk.row(image, l));
        layers[l] = layers[l].plus(row.get(l));
      }
      rows.add(row);
    }
    for (int l = 0; withStatistics && l < layers.length; l++) {
      statistics[l] = statistics[l].plus(chunk.statistics(l));
    }
    if (withSearch && offender == null && chunk.offender() != null) {
      Offender o = chunk.offender();
      offender =
          new Offender(
              o.cause(),
              rows.size() - chunk.batch() + o.image(),
              o.layer(),
              o.row(),
              o.column(),
              o.anchor(),
              o.channel(),
              o.value(),
              o.gradient());
    }
    BoxCounts b = chunk.boxes();
    boxes =
        new BoxCounts(
            boxes.used() + b.used(),
            boxes.skipped() + b.skipped(),
            boxes.clamped() + b.clamped(),
            boxes.dropped() + b.dropped(),
            boxes.collided() + b.collided());
  }

  public int images() {
    return rows.size();
  }

  public int layers() {
    return layers.length;
  }

  public long objects() {
    return Arrays.stream(layers).mapToLong(Parts::objects).sum();
  }

  public long nonFinite() {
    return Arrays.stream(layers).mapToLong(Parts::nonFinite).sum();
  }

  public long foundInf() {
    return Arrays.stream(layers).mapToLong(Parts::foundInf).sum();
  }

  public double normaliser() {
    return switch (normaliser.kind()) {
      case BATCH -> images();
      case NONE -> 1;
      case OBJECTS -> Math.max(1, objects());
      case VALUE -> normaliser.value();
    };
  }

  /** Returns the total, added in the order of yl_loss: layer by layer, part by part. */
  public double total() {
    double sum = 0;
    for (Parts p : layers) {
      for (Part part : Part.ALL) {
        sum += part.of(p);
      }
    }
    return sum / normaliser();
  }

  /** Returns the parts of a layer, divided by the normaliser. */
  public Parts layer(int l) {
    return layers[l].dividedBy(normaliser());
  }

  /** Returns the raw parts of an image in each layer. */
  public List<Parts> rows(int image) {
    return rows.get(image);
  }

  public Statistics statistics(int l) {
    return statistics[l];
  }

  public Offender offender() {
    return offender;
  }

  public BoxCounts boxes() {
    return boxes;
  }

  /** Returns the loss table. */
  @Override
  public String toString() {
    return LossResult.table(
        IntStream.range(0, layers.length).mapToObj(this::layer).toList(), total());
  }
}
