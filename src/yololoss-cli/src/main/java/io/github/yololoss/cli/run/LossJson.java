package io.github.yololoss.cli.run;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.Count;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.Part;
import io.github.yololoss.Statistics;
import io.github.yololoss.Targets;
import io.github.yololoss.kit.Statistic;

/** A run's result as JSON, and where {@code --json} writes any. */
public final class LossJson {
  private LossJson() {}

  /** The result, with the fields and the meaning of a golden case's expected.json. */
  public static ObjectNode of(LossRun run) {
    ObjectNode root = new ObjectMapper().createObjectNode();
    root.put("total", run.result.total())
        .put("batch", run.batch)
        .put("normaliser", run.result.normaliser())
        .put("non_finite", run.result.nonFinite())
        .put("found_inf", run.result.foundInf());
    ArrayNode layers = root.putArray("layers");
    for (int l = 0; l < run.result.layers(); l++) {
      LossResult.Parts p = run.result.layer(l);
      ObjectNode layer = layers.addObject();
      // The parts of keras-yolo3 come first; a field that is put again keeps its place.
      layer
          .put("xy", p.xy())
          .put("wh", p.wh())
          .put("confidence", p.confidence())
          .put("class", p.classes());
      Part.ALL.forEach(part -> layer.put(part.jsonName(), part.of(p)));
      layer.put("sum", p.sum());
      for (Count count : Count.ALL) {
        layer.put(count.jsonName(), count.of(p));
        if (count == Count.IGNORED_BACKGROUND) {
          layer.put("ignore_mask_sum", run.ignoreMaskSum(l));
        }
      }
      if (run.statistics) {
        put(layer.putObject("statistics"), run.result.statistics(l));
      }
    }
    if (run.search != LossOptions.Search.NONE) {
      root.set("offender", new ObjectMapper().valueToTree(run.result.offender()));
    }
    Targets.BoxCounts boxes = run.result.boxes();
    if (boxes.used() + boxes.skipped() > 0) {
      root.putObject("boxes")
          .put("used", boxes.used())
          .put("skipped", boxes.skipped())
          .put("clamped", boxes.clamped())
          .put("dropped", boxes.dropped())
          .put("collided", boxes.collided());
    }
    root.putObject("device").put("name", run.deviceName).put("why", run.deviceWhy);
    return root;
  }

  private static void put(ObjectNode node, Statistics s) {
    for (Statistic statistic : Statistic.ALL) {
      if (statistic.of(s) instanceof Long count) {
        node.put(statistic.jsonName(), count);
      } else {
        node.put(statistic.jsonName(), statistic.of(s).doubleValue());
      }
    }
  }
}
