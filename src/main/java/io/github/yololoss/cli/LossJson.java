package io.github.yololoss.cli;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.LossOptions;
import io.github.yololoss.LossResult;
import io.github.yololoss.Statistics;
import io.github.yololoss.Targets;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;

/** A run's result as JSON, and where {@code --json} writes any. */
final class LossJson {
  private LossJson() {}

  /** To a file, or for - to out. */
  static void write(String target, JsonNode tree, PrintWriter out) throws IOException {
    String text = new ObjectMapper().writerWithDefaultPrettyPrinter().writeValueAsString(tree);
    if ("-".equals(target)) {
      out.println(text);
    } else {
      Files.writeString(Path.of(target), text + System.lineSeparator());
    }
  }

  /** The result, with the fields and the meaning of a golden case's expected.json. */
  static ObjectNode of(LossRun run) {
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
      layer
          .put("xy", p.xy())
          .put("wh", p.wh())
          .put("confidence", p.confidence())
          .put("class", p.classes())
          .put("confidence_object", p.confidenceObject())
          .put("confidence_background", p.confidenceBackground())
          .put("sum", p.sum())
          .put("object_count", p.objects())
          .put("ignore_count", p.ignored())
          .put("ignore_count_background", p.ignoredBackground())
          .put("ignore_mask_sum", run.ignoreMaskSum(l))
          .put("non_finite", p.nonFinite())
          .put("found_inf", p.foundInf());
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
    node.put("object_count", s.objects())
        .put("background_count", s.background())
        .put("mean_iou", s.meanIou())
        .put("share_iou_50", s.shareIou50())
        .put("share_iou_75", s.shareIou75())
        .put("mean_objectness_object", s.meanObjectnessObject())
        .put("mean_objectness_background", s.meanObjectnessBackground())
        .put("grad_norm_xy", Math.sqrt(s.gradXy()))
        .put("grad_norm_wh", Math.sqrt(s.gradWh()))
        .put("grad_norm_object", Math.sqrt(s.gradObject()))
        .put("grad_norm_background", Math.sqrt(s.gradBackground()))
        .put("grad_norm_class", Math.sqrt(s.gradClass()));
  }
}
