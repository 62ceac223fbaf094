package io.github.yololoss.cli.run;

import io.github.yololoss.Audit;
import io.github.yololoss.LossDevice;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.files.BatchFiles;
import io.github.yololoss.cli.files.Progress;
import java.io.PrintWriter;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/** Audits any number of images, chunk by chunk. */
public final class Audits {
  private Audits() {}

  /**
   * Returns what is wrong with truths, as one audit of the whole batch would.
   *
   * @param poorIou limit of poor anchors
   * @param most findings that are listed
   * @param err for progress
   */
  public static Audit of(
      YoloSpec spec,
      Targets<MemorySegment> truths,
      int batch,
      float poorIou,
      int most,
      PrintWriter err) {
    List<Audit.Finding> findings = new ArrayList<>();
    Map<Audit.Reason, Long> counts = new EnumMap<>(Audit.Reason.class);
    List<List<Long>> use = new ArrayList<>();
    List<List<Float>> bestIou = new ArrayList<>();
    int chunk = Math.min(batch, BatchFiles.chunkSize(spec));
    try (YoloLoss loss =
            YoloLoss.builder(spec).maxBatch(chunk).device(LossDevice.CPU).threads(1).open();
        Progress progress = new Progress(err, "audit", "images", batch)) {
      for (int first = 0; first < batch; first += chunk) {
        int images = Math.min(chunk, batch - first);
        Targets<MemorySegment> some = BatchFiles.slice(truths, batch, first, images);
        Audit audit = loss.audit(images, some, poorIou, most - findings.size());
        for (Audit.Finding f : audit.findings()) {
          findings.add(f.withImage(first + f.image()));
        }
        audit.counts().forEach((reason, count) -> counts.merge(reason, count, Long::sum));
        for (int l = 0; l < audit.anchorUse().size(); l++) {
          if (first == 0) {
            use.add(audit.anchorUse().get(l));
          } else {
            use.set(l, sum(use.get(l), audit.anchorUse().get(l)));
          }
        }
        bestIou.addAll(audit.bestIou());
        progress.step(images);
      }
    }
    return new Audit(findings, counts, use, bestIou);
  }

  private static List<Long> sum(List<Long> a, List<Long> b) {
    List<Long> sum = new ArrayList<>();
    for (int n = 0; n < a.size(); n++) {
      sum.add(a.get(n) + b.get(n));
    }
    return sum;
  }
}
