package io.github.yololoss.examples.spark;

import io.github.yololoss.Audit;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.examples.spark.ShardResult.Found;
import io.github.yololoss.examples.spark.ShardResult.ImageLoss;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.types.StructType;

/** The tables that are written, as Parquet. Sums are raw: to be divided by images or objects. */
final class Tables {
  private Tables() {}

  private static final String PARTS =
      "xy double, wh double, confidence_object double, confidence_background double, class double,"
          + " objects bigint, ignored bigint, ignored_background bigint, non_finite bigint";

  /** An image in a layer. */
  static final StructType ROWS =
      StructType.fromDDL("shard string, index int, image string, layer int, " + PARTS);

  /** A shard in a layer; without layer and sums where it has an error. */
  static final StructType SHARDS =
      StructType.fromDDL("shard string, error string, images bigint, layer int, " + PARTS);

  /** The costliest images, the costliest first. */
  static final StructType WORST =
      StructType.fromDDL("rank int, shard string, index int, image string, loss double");

  /** What is wrong with labels, or fits no anchor well; -1 where a number does not apply. */
  static final StructType FINDINGS =
      StructType.fromDDL(
          "shard string, index int, image string, reason string, action string, row int, other int,"
              + " layer int, grid_row int, grid_column int, anchor int, value float");

  static List<Row> rows(ImageLoss image) {
    List<Row> rows = new ArrayList<>();
    for (int l = 0; l < image.layers().size(); l++) {
      rows.add(row(image.layers().get(l), image.shard(), image.index(), image.image(), l));
    }
    return rows;
  }

  static List<Row> shard(ShardResult shard) {
    if (shard.error() != null) {
      Object[] values = new Object[SHARDS.length()];
      values[0] = shard.shard();
      values[1] = shard.error();
      values[2] = 0L;
      return List.of(RowFactory.create(values));
    }
    List<Row> rows = new ArrayList<>();
    for (int l = 0; l < shard.sum().layers(); l++) {
      rows.add(row(shard.sum().layer(l), shard.shard(), null, shard.sum().images(), l));
    }
    return rows;
  }

  static Row worst(int rank, ImageLoss image) {
    return RowFactory.create(rank, image.shard(), image.index(), image.image(), image.loss());
  }

  static Row finding(Found found) {
    Audit.Finding f = found.finding();
    return RowFactory.create(
        found.shard(),
        f.image(),
        found.image(),
        f.reason().name().toLowerCase(Locale.ROOT),
        f.action().name().toLowerCase(Locale.ROOT),
        f.row(),
        f.other(),
        f.layer(),
        f.gridRow(),
        f.gridColumn(),
        f.anchor(),
        f.value());
  }

  private static Row row(Parts p, Object... key) {
    List<Object> values = new ArrayList<>(Arrays.asList(key));
    values.addAll(
        List.of(
            p.xy(),
            p.wh(),
            p.confidenceObject(),
            p.confidenceBackground(),
            p.classes(),
            p.objects(),
            p.ignored(),
            p.ignoredBackground(),
            p.nonFinite()));
    return RowFactory.create(values.toArray());
  }
}
