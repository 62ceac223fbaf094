package io.github.yololoss.kit;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.Count;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossResult;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.LossSum;
import io.github.yololoss.Offender;
import io.github.yololoss.Part;
import io.github.yololoss.Statistics;
import io.github.yololoss.Targets.BoxCounts;
import io.github.yololoss.YoloSpec;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;

/**
 * A loss as JSON, with the fields and the meaning of a golden case's {@code expected.json}, so that
 * {@code yololoss verify} can compare with it.
 *
 * {@snippet class="io.github.yololoss.kit.SnippetsTest" region="json"}
 *
 * <p>The object has {@code total}, {@code batch}, {@code normaliser}, {@code non_finite}, {@code
 * found_inf} and {@code layers}; a layer has the parts, divided by the normaliser ({@code xy, wh,
 * confidence, class, confidence_object, confidence_background, sum}), and the counts ({@code
 * object_count, ignore_count, ignore_count_background, ignore_mask_sum, non_finite, found_inf}).
 * {@code ignore_mask_sum} is the number of cells that are not ignored. NaN and infinities are
 * strings.
 */
public final class LossJson {
  private static final ObjectMapper MAPPER = new ObjectMapper();

  private LossJson() {}

  /**
   * Returns the result of a call, and what became of its boxes.
   *
   * @param spec of the network
   * @param result of a call; waits for it
   * @return the object, to which more may be added
   */
  public static ObjectNode of(YoloSpec spec, LossResult result) {
    ObjectNode root =
        of(
            spec,
            result.batch(),
            result.normaliser(),
            result.total(),
            IntStream.range(0, result.layers()).mapToObj(result::layer).toList());
    putBoxes(root, result.boxes());
    return root;
  }

  /**
   * Returns the sum of any number of calls, and what became of their boxes.
   *
   * @param spec of the network
   * @param sum of all calls
   * @param normaliser what parts and total are divided by
   * @return the object, to which more may be added
   * @throws IllegalArgumentException if the normaliser is in device memory
   */
  public static ObjectNode of(YoloSpec spec, LossSum sum, Normaliser normaliser) {
    double divisor = sum.divisor(normaliser);
    List<Parts> layers = new ArrayList<>();
    for (int l = 0; l < sum.layers(); l++) {
      layers.add(sum.layer(l).dividedBy(divisor));
    }
    ObjectNode root = of(spec, sum.images(), divisor, sum.total(normaliser), layers);
    putBoxes(root, sum.boxes());
    return root;
  }

  /**
   * Returns parts that were merged elsewhere.
   *
   * @param spec of the network
   * @param batch images
   * @param normaliser what parts and total were divided by
   * @param total of all layers
   * @param layers the parts of each layer, divided
   * @return the object, to which more may be added
   */
  public static ObjectNode of(
      YoloSpec spec, long batch, double normaliser, double total, List<Parts> layers) {
    ObjectNode root =
        MAPPER
            .createObjectNode()
            .put("total", total)
            .put("batch", batch)
            .put("normaliser", normaliser)
            .put("non_finite", layers.stream().mapToLong(Parts::nonFinite).sum())
            .put("found_inf", layers.stream().mapToLong(Parts::foundInf).sum());
    ArrayNode array = root.putArray("layers");
    for (int l = 0; l < layers.size(); l++) {
      Parts p = layers.get(l);
      ObjectNode layer = array.addObject();
      // The parts of keras-yolo3 come first; a field that is put again keeps its place.
      layer.put("xy", p.xy()).put("wh", p.wh());
      layer.put("confidence", p.confidence()).put("class", p.classes());
      putParts(layer, p);
      layer.put("sum", p.sum());
      for (Count count : Count.ALL) {
        layer.put(count.jsonName(), count.of(p));
        if (count == Count.IGNORED_BACKGROUND) {
          layer.put("ignore_mask_sum", spec.cells(l) * batch - p.ignored());
        }
      }
    }
    return root;
  }

  /** Puts the parts under the names that they have in every JSON of this project. */
  static void putParts(ObjectNode layer, Parts parts) {
    Part.ALL.forEach(part -> layer.put(part.jsonName(), part.of(parts)));
  }

  /**
   * Puts {@code statistics} into each layer.
   *
   * @param root as {@link #of} makes it
   * @param layers the statistics of each layer
   */
  public static void putStatistics(ObjectNode root, List<Statistics> layers) {
    for (int l = 0; l < layers.size(); l++) {
      ObjectNode node = ((ObjectNode) root.get("layers").get(l)).putObject("statistics");
      for (Statistic statistic : Statistic.ALL) {
        if (statistic.of(layers.get(l)) instanceof Long count) {
          node.put(statistic.jsonName(), count);
        } else {
          node.put(statistic.jsonName(), statistic.of(layers.get(l)).doubleValue());
        }
      }
    }
  }

  /**
   * Puts {@code offender}, with the fields of {@link Offender}.
   *
   * @param root as {@link #of} makes it
   * @param offender the first value that is not finite; null, which becomes JSON's null, if all are
   */
  public static void putOffender(ObjectNode root, Offender offender) {
    root.set("offender", MAPPER.<JsonNode>valueToTree(offender));
  }

  /**
   * Puts {@code boxes}, with the fields of {@link BoxCounts}, unless there was none: dense truths
   * have no boxes.
   *
   * @param root as {@link #of} makes it
   * @param boxes what became of them
   */
  public static void putBoxes(ObjectNode root, BoxCounts boxes) {
    if (boxes.used() + boxes.skipped() > 0) {
      root.set("boxes", MAPPER.<JsonNode>valueToTree(boxes));
    }
  }
}
