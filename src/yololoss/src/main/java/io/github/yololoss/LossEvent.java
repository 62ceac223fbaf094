package io.github.yololoss;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Enabled;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/**
 * A call of the loss in a recording of Java Flight Recorder. It is off unless a recording enables
 * {@code io.github.yololoss.Loss}; then there is one event for each call that was not refused. The
 * event of an enqueued call ends when its result has arrived and is read or overwritten; a result
 * that is never read makes no event.
 */
@Name("io.github.yololoss.Loss")
@Label("YOLO Loss")
@Category("yololoss")
@Description("A call of the YOLOv3 loss: its parts over all layers, divided by the normaliser")
@Enabled(false)
@StackTrace(false)
final class LossEvent extends Event {
  /** Says whether anything records. Asking it costs less than making an event. */
  private static final LossEvent PROBE = new LossEvent();

  @Label("Device")
  String device;

  @Label("Batch")
  int batch;

  @Label("With Gradient")
  boolean gradient;

  @Label("Enqueued")
  @Description("On a CUDA stream; the duration is until the result was read")
  boolean enqueued;

  @Label("Total")
  double total;

  @Label("Centres (xy)")
  double xy;

  @Label("Sizes (wh)")
  double wh;

  @Label("Confidence of Objects")
  double confidenceObject;

  @Label("Confidence of Background")
  double confidenceBackground;

  @Label("Classes")
  double classes;

  @Label("Normaliser")
  double normaliser;

  @Label("Objects")
  @Description("Cells with a truth")
  long objects;

  @Label("Ignored Background")
  @Description("Background cells that overlap a truth by the threshold or more")
  long ignoredBackground;

  @Label("Non-finite Values")
  long nonFinite;

  @Label("Overflowed Gradient Elements")
  long foundInf;

  /** Begins an event; returns null if nothing records it. */
  static LossEvent begin(String device, int batch, boolean gradient, boolean enqueued) {
    if (!PROBE.isEnabled()) {
      return null;
    }
    LossEvent event = new LossEvent();
    event.begin();
    event.device = device;
    event.batch = batch;
    event.gradient = gradient;
    event.enqueued = enqueued;
    return event;
  }

  /** Ends the event of a call whose result can be read. */
  void commit(LossResult result) {
    end();
    total = result.total();
    normaliser = result.normaliser();
    objects = result.objects();
    ignoredBackground = result.ignoredBackground();
    nonFinite = result.nonFinite();
    foundInf = result.foundInf();
    for (int l = 0; l < result.layers(); l++) {
      LossResult.Parts parts = result.layer(l);
      xy += parts.xy();
      wh += parts.wh();
      confidenceObject += parts.confidenceObject();
      confidenceBackground += parts.confidenceBackground();
      classes += parts.classes();
    }
    commit();
  }
}
