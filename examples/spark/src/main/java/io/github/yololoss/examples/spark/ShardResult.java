package io.github.yololoss.examples.spark;

import io.github.yololoss.Audit;
import io.github.yololoss.LossDevice;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.LossSum;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.examples.spark.Shard.Batch;
import java.io.IOException;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/**
 * What an executor makes of a shard. A shard that cannot be read, or whose labels are refused, has
 * an error and no images: which of them came before the fault changes nothing.
 *
 * @param shard its name
 * @param error one sentence; null: none
 * @param sum of all images
 * @param images the rows of each
 * @param findings the first ones of the audit of its labels
 * @param counts how many there are, also those that were not listed
 * @param device of the executor: another instruction set rounds in another way; null: none
 */
record ShardResult(
    String shard,
    String error,
    LossSum sum,
    List<ImageLoss> images,
    List<Found> findings,
    Map<Audit.Reason, Long> counts,
    String device)
    implements Serializable {

  /**
   * An image.
   *
   * @param index in its shard
   * @param image its name, or null
   * @param dense whether its truths are y_true
   * @param layers raw sums and counts
   * @param loss all parts of all layers
   */
  record ImageLoss(
      String shard, int index, String image, boolean dense, List<Parts> layers, double loss)
      implements Serializable {

    /** The costliest first, a NaN before all; images that cost the same in the order of names. */
    static final Comparator<ImageLoss> WORST_FIRST =
        Comparator.comparingDouble(ImageLoss::loss)
            .reversed()
            .thenComparing(ImageLoss::shard)
            .thenComparingInt(ImageLoss::index);
  }

  /**
   * A finding.
   *
   * @param image the image's name, or null
   * @param finding its image is the place in the shard
   */
  record Found(String shard, String image, Audit.Finding finding) implements Serializable {}

  /**
   * Computes a shard.
   *
   * @param threads of the loss
   */
  static ShardResult of(String shard, Settings settings, int threads) {
    List<ImageLoss> images = new ArrayList<>();
    List<Found> findings = new ArrayList<>();
    Map<Audit.Reason, Long> counts = new EnumMap<>(Audit.Reason.class);
    LossSum none = LossSum.zero(settings.spec().layers().size());
    LossSum sum = none;
    String device = null;
    try (Shard open = Shard.open(shard, settings);
        YoloLoss loss =
            YoloLoss.builder(settings.spec())
                .maxBatch(settings.batch())
                .featsType(open.dataType())
                .layout(settings.layout())
                .device(LossDevice.CPU)
                .threads(threads)
                .open()) {
      LossResult result = loss.newResult();
      device = loss.deviceWhy();
      for (Batch batch; (batch = open.next()) != null; ) {
        audit(shard, images.size(), batch, loss, settings, findings, counts);
        loss.compute(
            batch.images(), batch.feats(), batch.truths(), null, LossOptions.DEFAULT, result);
        sum = sum.merge(LossSum.of(result));
        boolean dense = batch.truths() instanceof Targets.Dense;
        for (int i = 0; i < batch.images(); i++) {
          List<Parts> layers = new ArrayList<>();
          for (int l = 0; l < result.layers(); l++) {
            layers.add(result.row(i, l));
          }
          double cost = LossSum.of(layers).total();
          images.add(new ImageLoss(shard, images.size(), name(batch, i), dense, layers, cost));
        }
      }
      return new ShardResult(shard, null, sum, images, findings, counts, device);
    } catch (YoloLossException e) {
      switch (e.status()) {
        case INVALID_BOXES, INVALID_ARGUMENT -> {} // of this shard
        default -> throw e; // of this executor: the task fails, and is tried elsewhere
      }
      return new ShardResult(shard, e.getMessage(), none, List.of(), findings, counts, device);
    } catch (IOException | RuntimeException e) {
      return new ShardResult(shard, text(e), none, List.of(), findings, counts, device);
    }
  }

  private static String text(Exception e) {
    return e instanceof java.nio.file.NoSuchFileException
        ? e.getMessage() + ": no such file"
        : e.getMessage() == null ? e.toString() : e.getMessage();
  }

  private static String name(Batch batch, int i) {
    return batch.names().isEmpty() ? null : batch.names().get(i);
  }

  private static void audit(
      String shard,
      int first,
      Batch batch,
      YoloLoss loss,
      Settings settings,
      List<Found> findings,
      Map<Audit.Reason, Long> counts) {
    int most = settings.findings() - findings.size();
    Audit audit = loss.audit(batch.images(), batch.truths(), settings.poorIou(), most);
    audit.counts().forEach((reason, count) -> counts.merge(reason, count, Long::sum));
    for (Audit.Finding f : audit.findings()) {
      findings.add(new Found(shard, name(batch, f.image()), f.withImage(first + f.image())));
    }
  }
}
