package io.github.yololoss.cli.run;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.Audit;
import io.github.yololoss.YoloSpec;
import java.util.List;
import java.util.Locale;

/** Writes an audit as JSON, for {@code audit} and {@code report}. */
public final class AuditJson {
  private AuditJson() {}

  /**
   * The best possible IoU of the boxes that are used.
   *
   * @param boxes that are used
   * @param mean over them
   * @param median over them
   * @param least of them
   * @param belowHalf number of boxes below 0.5
   */
  public record BestIou(int boxes, double mean, float median, float least, long belowHalf) {
    /** Returns the summary of an audit, or null if no box is used, as with dense truths. */
    public static BestIou of(Audit audit) {
      List<Float> used = bestIou(audit);
      return used.isEmpty()
          ? null
          : new BestIou(
              used.size(),
              used.stream().mapToDouble(Float::doubleValue).average().orElse(0),
              used.get(used.size() / 2),
              used.getFirst(),
              used.stream().filter(iou -> iou < 0.5).count());
    }
  }

  /** Returns the tree that {@code audit --json} writes. */
  public static ObjectNode of(YoloSpec spec, Audit audit, int images) {
    ObjectMapper mapper = new ObjectMapper();
    ObjectNode root = mapper.createObjectNode();
    root.put("images", images).put("faults", audit.faults());
    ObjectNode counts = root.putObject("counts");
    for (Audit.Reason reason : Audit.Reason.values()) {
      counts.put(reason.name().toLowerCase(Locale.ROOT), audit.count(reason));
    }
    ArrayNode anchors = root.putArray("anchors");
    for (YoloSpec.Anchor anchor : spec.anchors()) {
      anchors.addArray().add(anchor.width()).add(anchor.height());
    }
    root.set("anchor_use", mapper.valueToTree(audit.anchorUse()));
    BestIou best = BestIou.of(audit);
    if (best != null) {
      root.putObject("best_possible_iou")
          .put("boxes", best.boxes())
          .put("mean", best.mean())
          .put("median", best.median())
          .put("least", best.least())
          .put("below_half", best.belowHalf());
    }
    ArrayNode findings = root.putArray("findings");
    for (Audit.Finding f : audit.findings()) {
      findings
          .addObject()
          .put("reason", f.reason().name().toLowerCase(Locale.ROOT))
          .put("action", f.action().name().toLowerCase(Locale.ROOT))
          .put("image", f.image())
          .put("row", f.row())
          .put("other", f.other())
          .put("layer", f.layer())
          .put("grid_row", f.gridRow())
          .put("grid_column", f.gridColumn())
          .put("anchor", f.anchor())
          .put("value", f.value());
    }
    return root;
  }

  /** Returns the best possible IoU of each box that is used, the least first. */
  public static List<Float> bestIou(Audit audit) {
    return audit.bestIou().stream().flatMap(List::stream).filter(iou -> iou > 0).sorted().toList();
  }
}
