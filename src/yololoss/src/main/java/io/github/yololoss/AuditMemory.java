package io.github.yololoss;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.github.yololoss.internal.Abi;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/** A {@code yl_audit_result} and all that it points to, which is then read as an {@link Audit}. */
final class AuditMemory {
  private final YoloSpec spec;
  private final int batch;
  private final int rows; // rows of an image; 0 for dense truths
  private final int capacity;
  private final MemorySegment findings;
  private final MemorySegment counts;
  private final MemorySegment anchorUse;
  private final MemorySegment bestIou;
  private final MemorySegment struct;

  AuditMemory(YoloSpec spec, int batch, int rows, int capacity, Arena arena) {
    this.spec = spec;
    this.batch = batch;
    this.capacity = capacity;
    this.rows = rows;
    findings = arena.allocate(Abi.Finding.LAYOUT, capacity);
    counts = arena.allocate(JAVA_LONG, Abi.YL_REASON_COUNT);
    anchorUse = arena.allocate(JAVA_LONG, (long) spec.layers().size() * spec.anchors().size());
    bestIou = arena.allocate(JAVA_FLOAT, (long) batch * rows);
    struct = Abi.AuditResult.allocate(arena);
    Abi.AuditResult.setFindings(struct, orNull(findings));
    Abi.AuditResult.setCapacity(struct, capacity);
    Abi.AuditResult.setCounts(struct, counts);
    Abi.AuditResult.setAnchorUse(struct, anchorUse);
    Abi.AuditResult.setBestIou(struct, orNull(bestIou));
  }

  private static MemorySegment orNull(MemorySegment memory) {
    return memory.byteSize() > 0 ? memory : MemorySegment.NULL;
  }

  MemorySegment struct() {
    return struct;
  }

  /** Returns the number of findings, listed or not. */
  long found() {
    long all = 0;
    for (Audit.Reason reason : Audit.Reason.values()) {
      all += counts.getAtIndex(JAVA_LONG, reason.value);
    }
    return all;
  }

  Audit read() {
    Map<Audit.Reason, Long> found = new EnumMap<>(Audit.Reason.class);
    for (Audit.Reason reason : Audit.Reason.values()) {
      found.put(reason, counts.getAtIndex(JAVA_LONG, reason.value));
    }
    List<Audit.Finding> list = new ArrayList<>();
    long listed = Math.min(found(), capacity);
    for (int i = 0; i < listed; i++) {
      list.add(finding(i));
    }
    List<List<Long>> use = new ArrayList<>();
    int anchors = spec.anchors().size();
    for (int l = 0; l < spec.layers().size(); l++) {
      List<Long> ofLayer = new ArrayList<>();
      for (int n = 0; n < anchors; n++) {
        ofLayer.add(anchorUse.getAtIndex(JAVA_LONG, (long) l * anchors + n));
      }
      use.add(ofLayer);
    }
    List<List<Float>> best = new ArrayList<>();
    for (int image = 0; image < batch && rows > 0; image++) {
      List<Float> ofImage = new ArrayList<>();
      for (int row = 0; row < rows; row++) {
        ofImage.add(bestIou.getAtIndex(JAVA_FLOAT, (long) image * rows + row));
      }
      best.add(ofImage);
    }
    return new Audit(list, found, use, best);
  }

  private Audit.Finding finding(int i) {
    return new Audit.Finding(
        Audit.Reason.of(Abi.Finding.getReason(findings, i)),
        Audit.Action.of(Abi.Finding.getAction(findings, i)),
        Abi.Finding.getImage(findings, i),
        Abi.Finding.getRow(findings, i),
        Abi.Finding.getOther(findings, i),
        Abi.Finding.getLayer(findings, i),
        Abi.Finding.getGridRow(findings, i),
        Abi.Finding.getGridColumn(findings, i),
        Abi.Finding.getAnchor(findings, i),
        Abi.Finding.getValue(findings, i));
  }
}
