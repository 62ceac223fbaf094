package io.github.yololoss.cli.run;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.CellMaps;
import io.github.yololoss.FeatsType;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.kit.LossJson;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.stream.IntStream;

/**
 * The outputs of a run over a batch. Memory belongs to the arena that the run was given.
 *
 * @param batch that was computed
 * @param request how it was computed
 * @param totals loss, counts, statistics and the first value that is not finite
 * @param deviceName the device that computed
 * @param deviceWhy why that device
 * @param gradientType type of the gradient
 * @param grads the gradient of each layer, in the layout of feats; null if it was not requested
 * @param maps of all images; null if they were not requested
 */
public record RunResult(
    Batch batch,
    Request request,
    Totals totals,
    String deviceName,
    String deviceWhy,
    FeatsType gradientType,
    MemorySegment[] grads,
    CellMaps<MemorySegment> maps) {

  /** Returns the number of cells of a layer with k = 1, as the reference's K.sum(ignore_mask). */
  public long ignoreMaskSum(int layer) {
    return batch.spec().cells(layer) * batch.images() - totals.layer(layer).ignored();
  }

  /**
   * Returns the result as JSON, with the fields and the meaning of a golden case's expected.json.
   */
  public ObjectNode toJson() {
    List<LossResult.Parts> layers =
        IntStream.range(0, totals.layers()).mapToObj(totals::layer).toList();
    ObjectNode root =
        LossJson.of(batch.spec(), batch.images(), totals.normaliser(), totals.total(), layers);
    if (request.statistics()) {
      LossJson.putStatistics(
          root, IntStream.range(0, totals.layers()).mapToObj(totals::statistics).toList());
    }
    if (request.search() != LossOptions.Search.NONE) {
      LossJson.putOffender(root, totals.offender());
    }
    LossJson.putBoxes(root, totals.boxes());
    root.putObject("device").put("name", deviceName).put("why", deviceWhy);
    return root;
  }
}
