package io.github.yololoss;

/**
 * The YOLOv3 training loss on memory of a CUDA device, for tensors that are on a GPU already:
 * opened by {@link YoloLoss.Builder#openCuda}. The loss, its options and its results are those of
 * {@link YoloLoss}; only the type of the memory differs, and calls may be enqueued on a stream.
 *
 * {@snippet class="io.github.yololoss.CudaTest" region="cuda"}
 *
 * <p>{@code compute} is ordered behind what was enqueued on the legacy default stream, and returns
 * when it is done; wait for other streams first. {@link #computeAsync} enqueues the call on a
 * stream and returns at once: the result waits when it is read. Memory must stay until the stream
 * has passed the call (closing a {@link DeviceBuffer} or {@link PinnedArena} waits for it).
 *
 * <p>Any thread may call; calls on one object wait for each other, also enqueued ones. {@code
 * close} is idempotent; during a call it throws {@link IllegalStateException} and changes nothing.
 * Exceptions are those of {@link YoloLoss}.
 */
public final class CudaYoloLoss implements AutoCloseable {
  private final Plan<DeviceBuffer> plan;
  private final LossDevice device;

  CudaYoloLoss(Plan<DeviceBuffer> plan, LossDevice device) {
    this.plan = plan;
    this.device = device;
  }

  /**
   * Numbers in device memory that the device reads when it runs the call, in place of those of the
   * options: for a value that another kernel computes, as a loss scaler or an all-reduce does. They
   * are not checked. Each is one float32.
   *
   * @param normaliser what the sums are divided by, in place of {@link LossOptions#normaliser};
   *     null: as the options say
   * @param gradientScale factor of the gradient, in place of {@link LossOptions#gradientScale};
   *     null: as the options say
   */
  public record Scalars(DeviceBuffer normaliser, DeviceBuffer gradientScale) {}

  /** {@return the spec} */
  public YoloSpec spec() {
    return plan.spec;
  }

  /** {@return the largest batch of a call} */
  public int maxBatch() {
    return plan.maxBatch;
  }

  /** {@return the type of feats} */
  public FeatsType featsType() {
    return plan.featsType;
  }

  /** {@return the order of feats and gradients} */
  public FeatsLayout layout() {
    return plan.layout;
  }

  /** {@return the type of gradients} */
  public FeatsType gradientType() {
    return plan.gradientType;
  }

  /** {@return the CUDA device whose memory calls take} */
  public LossDevice device() {
    return device;
  }

  /** {@return the device in use: {@code cuda:N}} */
  public String deviceName() {
    return plan.deviceName;
  }

  /** {@return one line that says why this device was chosen} */
  public String deviceWhy() {
    return plan.deviceWhy;
  }

  /**
   * {@return a result for any call on this object, in pinned memory} A call that overwrites a
   * result creates no object.
   */
  public LossResult newResult() {
    return plan.newResult();
  }

  /**
   * Computes the loss of a batch, and its gradient, with {@link LossOptions#DEFAULT}.
   *
   * @param batch B, 1..maxBatch
   * @param feats for each layer (B, H, W, A*(5+C)), or (B, A*(5+C), H, W) for {@link
   *     FeatsLayout#NCHW}: raw outputs of the network
   * @param targets the truths
   * @param grads for each layer as feats, written whole: d total / d feats; {@code grads[l]} may be
   *     {@code feats[l]}. Null: loss only
   * @return the loss and its parts
   */
  public LossResult compute(
      int batch, DeviceBuffer[] feats, Targets<DeviceBuffer> targets, DeviceBuffer[] grads) {
    return compute(batch, feats, targets, grads, LossOptions.DEFAULT);
  }

  /**
   * Computes the loss of a batch, and its gradient.
   *
   * @param batch B, 1..maxBatch
   * @param feats raw outputs of each layer, as above
   * @param targets the truths
   * @param grads gradient of each layer, as above; null: loss only
   * @param options how it is computed
   * @return the loss and its parts
   */
  public LossResult compute(
      int batch,
      DeviceBuffer[] feats,
      Targets<DeviceBuffer> targets,
      DeviceBuffer[] grads,
      LossOptions options) {
    LossResult result = newResult();
    compute(batch, feats, targets, grads, options, null, null, result);
    return result;
  }

  /**
   * Computes the loss of a batch, and its gradient, with {@link LossOptions#DEFAULT}, into a result
   * that is used again: no object is created.
   *
   * @param batch B, 1..maxBatch
   * @param feats raw outputs of each layer, as above
   * @param targets the truths
   * @param grads gradient of each layer, as above; null: loss only
   * @param result from {@link #newResult()}; overwritten
   */
  public void compute(
      int batch,
      DeviceBuffer[] feats,
      Targets<DeviceBuffer> targets,
      DeviceBuffer[] grads,
      LossResult result) {
    compute(batch, feats, targets, grads, LossOptions.DEFAULT, null, null, result);
  }

  /**
   * Computes the loss of a batch, and its gradient, into a result that is used again: no object is
   * created.
   *
   * @param batch B, 1..maxBatch
   * @param feats raw outputs of each layer, as above
   * @param targets the truths
   * @param grads gradient of each layer, as above; null: loss only
   * @param options how it is computed
   * @param result from {@link #newResult()}; overwritten
   */
  public void compute(
      int batch,
      DeviceBuffer[] feats,
      Targets<DeviceBuffer> targets,
      DeviceBuffer[] grads,
      LossOptions options,
      LossResult result) {
    compute(batch, feats, targets, grads, options, null, null, result);
  }

  /**
   * Computes the loss of a batch, its gradient, and maps of its cells, into a result that is used
   * again: no object is created.
   *
   * @param batch B, 1..maxBatch
   * @param feats raw outputs of each layer, as above
   * @param targets the truths
   * @param grads gradient of each layer, as above; null: loss only
   * @param options how it is computed
   * @param maps memory for values of each cell; null: none
   * @param scalars numbers that the device reads when it runs; null: none
   * @param result from {@link #newResult()}; overwritten
   */
  public void compute(
      int batch,
      DeviceBuffer[] feats,
      Targets<DeviceBuffer> targets,
      DeviceBuffer[] grads,
      LossOptions options,
      CellMaps<DeviceBuffer> maps,
      Scalars scalars,
      LossResult result) {
    run(batch, feats, targets, grads, options, maps, scalars, null, result);
  }

  /**
   * Enqueues the loss of a batch, and its gradient, with {@link LossOptions#DEFAULT}.
   *
   * @param batch B, 1..maxBatch
   * @param feats raw outputs of each layer, as above
   * @param targets the truths
   * @param grads gradient of each layer, as above; null: loss only
   * @param stream a stream of this object's device
   * @param result from {@link #newResult()}; waits when it is read
   */
  public void computeAsync(
      int batch,
      DeviceBuffer[] feats,
      Targets<DeviceBuffer> targets,
      DeviceBuffer[] grads,
      CudaStream stream,
      LossResult result) {
    computeAsync(batch, feats, targets, grads, LossOptions.DEFAULT, null, null, stream, result);
  }

  /**
   * Enqueues the loss of a batch, and its gradient.
   *
   * @param batch B, 1..maxBatch
   * @param feats raw outputs of each layer, as above
   * @param targets the truths
   * @param grads gradient of each layer, as above; null: loss only
   * @param options how it is computed
   * @param stream a stream of this object's device
   * @param result from {@link #newResult()}; waits when it is read
   */
  public void computeAsync(
      int batch,
      DeviceBuffer[] feats,
      Targets<DeviceBuffer> targets,
      DeviceBuffer[] grads,
      LossOptions options,
      CudaStream stream,
      LossResult result) {
    computeAsync(batch, feats, targets, grads, options, null, null, stream, result);
  }

  /**
   * Enqueues the loss of a batch, its gradient, and maps of its cells.
   *
   * @param batch B, 1..maxBatch
   * @param feats raw outputs of each layer, as above
   * @param targets the truths
   * @param grads gradient of each layer, as above; null: loss only
   * @param options how it is computed
   * @param maps memory for values of each cell; null: none
   * @param scalars numbers that the device reads when it runs; null: none
   * @param stream a stream of this object's device
   * @param result from {@link #newResult()}; waits when it is read
   */
  public void computeAsync(
      int batch,
      DeviceBuffer[] feats,
      Targets<DeviceBuffer> targets,
      DeviceBuffer[] grads,
      LossOptions options,
      CellMaps<DeviceBuffer> maps,
      Scalars scalars,
      CudaStream stream,
      LossResult result) {
    Segments.requireGiven("stream", stream);
    if (!stream.device().equals(device)) {
      throw new IllegalArgumentException(
          "stream is of " + stream.device() + ", this CudaYoloLoss is on " + device);
    }
    run(batch, feats, targets, grads, options, maps, scalars, stream, result);
  }

  private void run(
      int batch,
      DeviceBuffer[] feats,
      Targets<DeviceBuffer> targets,
      DeviceBuffer[] grads,
      LossOptions options,
      CellMaps<DeviceBuffer> maps,
      Scalars scalars,
      CudaStream stream,
      LossResult result) {
    plan.compute(
        batch,
        feats,
        targets,
        grads,
        options,
        maps,
        scalars == null ? null : scalars.normaliser(),
        scalars == null ? null : scalars.gradientScale(),
        stream,
        result);
  }

  /**
   * Writes the dense truths of boxes, as keras-yolo3's {@code preprocess_true_boxes}.
   *
   * @param batch B, 1..maxBatch
   * @param source the boxes, without weights
   * @param out for each layer (B, H, W, A, 5+C), float32, written whole
   * @return what became of the boxes
   */
  public Targets.BoxCounts buildYTrue(
      int batch, Targets.Boxes<DeviceBuffer> source, DeviceBuffer[] out) {
    return plan.buildYTrue(batch, source, out);
  }

  /**
   * Reports what is wrong with truths and how boxes fit the anchors, as {@link YoloLoss#audit}.
   *
   * @param batch B, 1..maxBatch
   * @param targets the truths
   * @param poorIou limit of {@link Audit.Reason#POOR_ANCHOR}, 0..1; 0: nothing is below it
   * @param maxFindings largest length of the list of findings; the counts are of all findings
   * @return the findings
   */
  public Audit audit(int batch, Targets<DeviceBuffer> targets, float poorIou, int maxFindings) {
    return plan.audit(batch, targets, poorIou, maxFindings);
  }

  /**
   * Frees the native memory. Does nothing the second time. An object that is dropped without close
   * is freed by the garbage collector, late, and with a warning of the logger {@code
   * io.github.yololoss}.
   *
   * @throws IllegalStateException if a call is running on another thread; nothing is freed then
   */
  @Override
  public void close() {
    plan.close();
  }

  /** {@return device, largest batch, types and spec in one line} */
  @Override
  public String toString() {
    return plan.toString();
  }
}
