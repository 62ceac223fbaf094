// The cuda backend, host side: calls as launches. A plan on device memory launches one or two kernels on the caller's
// arrays and waits (loss) or returns (loss_async); a plan on host memory copies chunks of images through chunks.h and
// launches the same kernels for each.
//
// Everything that can fail or block is outside the path of an enqueued call: pointers to device memory are checked only
// when they change, memory is allocated when the plan is made, and boxes are checked by the kernels. task.h says what
// the kernels get, workspace.h who allocates it. Read kernel.cuh next.
#include <algorithm>

#include "cuda/chunks.h"
#include "cuda/workspace.h"
#include "head.h"
#include "layer_sums.h"

namespace yl {
namespace {

// A plan on one CUDA device, in one context: the one that was current when the plan was made, if it is on that device,
// else the primary one. Every function selects the context for its own duration. Calls are serialised by the lock of
// the plan (api.cpp); what loss_async has enqueued may still run when the next call begins, and the contract makes the
// caller order the two on the device.
class Cuda final : public Backend {
 public:
  // Allocates everything for the largest call. image is the size of all arrays of one image, which chunks are cut by;
  // known_ has an entry for each pointer of check_pointers. If something fails, the local owners free what there is
  // while the context is still selected.
  explicit Cuda(const Shape &shape) : shape_(shape), device_(shape.device_index) {
    const DeviceScope scope(device_);
    const RelaxedCapture relaxed;
    context_ = current_context();
    known_.resize(6 * shape.layers.size() + 10);  // as many as check_pointers visits
    auto plan = std::make_unique<DevicePlan>(shape, Chunks::kSlots);
    int64_t image = 0;
    for (int32_t l = 0; l < shape_.layer_count(); ++l)
      image += aligned(feats_bytes(l)) + aligned(truth_bytes(l)) + aligned(grad_bytes(l)) + 3 * aligned(map_bytes(l));
    auto chunks = std::make_unique<Chunks>(device_, shape.threads, !shape.device_memory, shape.max_batch,
                                           shape.layer_count(), image);
    enqueued_ = std::make_unique<Mark>();
    plan_ = std::move(plan);
    chunks_ = std::move(chunks);
  }

  // Frees everything while the context is selected, after what loss_async has enqueued, which uses the workspace. A
  // destructor must not throw, so errors are ignored.
  ~Cuda() override {
    try {
      const DeviceScope scope(context_);
      const RelaxedCapture relaxed;
      enqueued_.reset();
      chunks_.reset();
      plan_.reset();
    } catch (...) {
    }
  }

  std::string description() const override {
    return std::string(shape_.dtype == YL_F64 ? "float64, " : "float32, ") + cuda_properties(device_).name;
  }

  // Returns true, so that the check of YOLOLOSS_DEBUG skips the cell: host memory is copied as a whole, and a refresh
  // overwrites it (loss_of_host_memory), so every element is written again.
  bool was_object(int32_t, int32_t, int32_t) const override { return true; }

  // Computes a call and waits. With device memory the results arrive in pinned memory of the slot, written by the
  // kernels; they are copied to the caller only if no row of boxes was refused. Rows go to api.cpp, which adds the
  // layers on the host as for every backend.
  Outcome loss(const Call &call, yl_parts *rows) override {
    const DeviceScope scope(context_);
    if (!shape_.device_memory) return loss_of_host_memory(call, rows);
    check_pointers(call, YL_RESULT_INIT);
    Slot &slot = chunks_->first();
    start_loss(task_of(call, slot), slot.stream);
    require(cudaStreamSynchronize(slot.stream), "computing the loss");
    refuse_bad(rows_of(call), slot.written().completion);
    std::copy_n(slot.rows(), int64_t(call.batch) * shape_.layer_count(), rows);
    if (call.stats) std::copy_n(slot.stats(), shape_.layer_count(), call.stats);
    if (call.offender) *call.offender = slot.written().offender;
    return {slot.written().summary.normaliser, slot.written().summary.boxes};
  }

  // Enqueues a call. The kernels write the caller's result themselves, so nothing needs to be done when the call is
  // over, and the launches may be captured in a graph. Without a summary of the caller the kernels write to one in the
  // workspace, so that they need not check for NULL.
  void loss_async(const Call &call, void *stream, const yl_result &result) override {
    const DeviceScope scope(context_);
    check_pointers(call, result);
    Task task = task_of(call, chunks_->first());
    task.result = result;
    if (!task.result.summary) task.result.summary = task.work.summary;
    start_loss(task, stream);
    enqueued_->record(static_cast<cudaStream_t>(stream));
  }

  // Decodes one layer. With host memory the grid is written here, since it has no images that could be cut into chunks.
  void yolo_head(const yl_head &head) override {
    const DeviceScope scope(context_);
    float *const outputs[] = {head.grid, head.box_xy, head.box_wh, head.box_confidence, head.box_class_probs};
    const Slot &slot = chunks_->first();
    if (shape_.device_memory) {
      require_reachable(device_, "head.feats", -1, head.feats);
      for (const float *output : outputs)
        if (output) require_reachable(device_, "an output of head", -1, output);
      launched(launch_yolo_head(plan_->base(), head, slot.stream));
      require(cudaStreamSynchronize(slot.stream), "decoding");
      return;
    }
    write_grid(head, shape_.layers[head.layer].height, shape_.layers[head.layer].width);
    const int64_t cell_bytes = shape_.layers[head.layer].cells * int64_t(sizeof(float));
    const int64_t sizes[] = {0, 2, 2, 1, shape_.num_classes};
    std::vector<Transfer> transfers{{head.feats, feats_bytes(head.layer), Way::kIn}};
    for (size_t i = 1; i < 5; ++i)
      if (outputs[i]) transfers.emplace_back(outputs[i], cell_bytes * sizes[i], Way::kOut);
    const auto enqueue = [&](const Slot &on, char *const *at) {
      yl_head chunk = YL_HEAD_INIT;
      chunk.layer = head.layer;
      chunk.batch = on.count;
      chunk.feats = *at++;
      float **const places[] = {nullptr, &chunk.box_xy, &chunk.box_wh, &chunk.box_confidence, &chunk.box_class_probs};
      for (size_t i = 1; i < 5; ++i)
        if (outputs[i]) *places[i] = reinterpret_cast<float *>(*at++);
      launched(launch_yolo_head(plan_->base(), chunk, on.stream));
    };
    chunks_->run(head.batch, transfers, enqueue, [](const Slot &) {});
  }

  // Writes the dense truths of boxes: stage truths, then write_y_true_kernel instead of stage cells, then
  // finish_truths_kernel, which reports the counts and resets the lists. The results of chunks are added in collect.
  yl_box_counts build_y_true(int32_t batch, const yl_boxes &boxes, float *const *y_true) override {
    const DeviceScope scope(context_);
    Call call{};
    call.batch = batch;
    call.boxes = boxes.data;
    call.boxes_per_image = boxes.per_image;
    call.boxes_policy = boxes.policy;
    yl_box_counts counts{};
    const auto enqueue = [&](const Slot &slot, const Call &part, float *const *out) {
      const Task task = task_of(part, slot);
      plan_->start(
          slot.stream, [&] { return launch_truths(task, slot.stream); },
          [&] { return launch_write_y_true(task, out, slot.stream); }, [&] { return finish_truths(task, slot); });
    };
    if (shape_.device_memory) {
      if (boxes.per_image > 0) require_reachable(device_, "boxes.data", -1, boxes.data);
      for (int32_t l = 0; l < shape_.layer_count(); ++l) require_reachable(device_, "y_true", l, y_true[l]);
      enqueue(chunks_->first(), call, y_true);
      require(cudaStreamSynchronize(chunks_->first().stream), "building y_true");
      refuse_bad(rows_of(call), chunks_->first().written().completion);
      return chunks_->first().written().boxes;
    }
    std::vector<Transfer> transfers{{call.boxes, int64_t(call.boxes_per_image) * 5 * int64_t(sizeof(float)), Way::kIn}};
    for (int32_t l = 0; l < shape_.layer_count(); ++l) transfers.emplace_back(y_true[l], truth_bytes(l), Way::kOut);
    chunks_->run(
        batch, transfers,
        [&](const Slot &slot, char *const *at) {
          Call part = call;
          part.batch = slot.count;
          part.boxes = reinterpret_cast<const float *>(at[0]);
          enqueue(slot, part, reinterpret_cast<float *const *>(at + 1));
        },
        [&](const Slot &slot) { add(counts, slot.written().boxes); });
    return counts;
  }

 private:
  // Sizes of the arrays of one image in a layer: the number of values, then bytes.
  int64_t values(int32_t l) const { return shape_.layers[l].cells * shape_.channels; }
  int64_t truth_bytes(int32_t l) const { return values(l) * int64_t(sizeof(float)); }
  int64_t feats_bytes(int32_t l) const { return values(l) * size_of(shape_.dtype); }
  int64_t grad_bytes(int32_t l) const { return shape_.f32_grads ? truth_bytes(l) : feats_bytes(l); }
  int64_t map_bytes(int32_t l) const { return shape_.layers[l].cells * int64_t(sizeof(float)); }

  // Launches the kernel that ends a call without stage cells; its results go to the slot.
  static int finish_truths(const Task &task, const Slot &slot) {
    return launch_finish_truths(task, &slot.written().boxes, &slot.written().objects, slot.stream);
  }

  // Launches the kernels of a call: two, or one for few boxes of one image. Stage cells with extras, or in double, has
  // no kernel that places boxes; and a block that places those of its own layer does not know the number of objects.
  void start_loss(Task task, void *stream) {
    task.places_boxes = task.batch == 1 && !task.layers[0].y_true && task.boxes_per_image > 0 &&
                        task.boxes_per_image <= kBoxRows && !task.extras && task.dtype != YL_F64 &&
                        task.normaliser != YL_NORMALISER_OBJECTS;
    plan_->start(stream, [&] { return launch_truths(task, stream); }, [&] { return launch_cells(task, stream); });
  }

  // ---- a call ----

  // Returns the task of a call, or of the images of a chunk: image 0 of the task is image slot.first of the plan's
  // workspace. The pointers of the call are device memory. Results go to the pinned memory of the slot. Rows of boxes
  // are refused by the kernels only in device memory; those in host memory have been checked before the call.
  Task task_of(const Call &call, const Slot &slot) const {
    Task task = plan_->task(slot.first, chunks_->number_of(slot));
    for (int32_t l = 0; l < task.layer_count; ++l) {
      task.layers[l].feats = call.feats ? call.feats[l] : nullptr;
      task.layers[l].y_true = call.y_true ? call.y_true[l] : nullptr;
      task.layers[l].grads = call.grads ? call.grads[l] : nullptr;
      task.layers[l].ignore_mask = call.ignore_mask ? call.ignore_mask[l] : nullptr;
      task.layers[l].best_iou = call.best_iou ? call.best_iou[l] : nullptr;
      task.layers[l].cell_loss = call.cell_loss ? call.cell_loss[l] : nullptr;
    }
    task.batch = call.batch;
    task.boxes = call.boxes;
    task.box_weights = call.box_weights;
    task.boxes_per_image = call.boxes_per_image;
    task.box_rules.policy = call.boxes_policy;
    task.refuse_bad_boxes = shape_.device_memory && call.boxes_policy == YL_BOXES_ERROR;
    task.grad_mode = call.grad_mode;
    task.extras = call.extras(shape_.rules);
    task.scan_all = call.scan_all;
    task.normaliser = call.normaliser;
    task.normaliser_value = call.normaliser_value;
    task.grad_scale = call.grad_scale;
    task.normaliser_at = call.normaliser_at;
    task.grad_scale_at = call.grad_scale_at;
    task.factor_on_device = call.normaliser_at || call.grad_scale_at || call.normaliser == YL_NORMALISER_OBJECTS;
    if (!task.factor_on_device)
      task.factor = call.grad_scale / normaliser_of(call.normaliser, call.normaliser_value, call.batch, 0);

    task.result = YL_RESULT_INIT;
    task.result.summary = &slot.written().summary;
    task.result.rows = slot.rows();
    task.result.completion = &slot.written().completion;
    if (call.stats) task.result.stats = slot.stats();
    if (call.offender) task.result.offender = &slot.written().offender;
    return task;
  }

  // Throws a Failure if the kernels have refused a row of boxes. The row is copied back from the device, so that the
  // sentence can show its values; image and row are those of the completion.
  void refuse_bad(const BoxRows &boxes, const yl_completion &completion) const {
    if (completion.status == YL_OK) return;
    const int64_t at = int64_t(completion.image) * boxes.per_image + completion.row;
    BoxRow row{{}, 1};
    cuda_copy(device_, row.values, boxes.data + at * 5, sizeof row.values);
    if (boxes.weights) cuda_copy(device_, &row.weight, boxes.weights + at, sizeof row.weight);
    fail_boxes(shape_, completion.image, completion.row, row);
  }

  // ---- pointers of the caller's ----

  // Checks that the device can reach every pointer of a call with device memory. A kernel that follows a bad pointer
  // would fail asynchronously and make the whole CUDA context unusable, so the check must come first. But each check is
  // a query of the driver, and a call has some dozens of pointers, so a pointer to memory of the device is checked only
  // if it differs from the one that the previous call had in the same position; a training loop passes the same buffers
  // in every step. Pinned, managed and peer memory is checked in every call: its address may become one of malloc's, or
  // unreachable. known_ holds the last pointer to device memory that passed for each position. The order of the checks
  // is the order in known_, so it must be the same in every call; optional pointers that are NULL keep their position.
  void check_pointers(const Call &call, const yl_result &result) {
    size_t i = 0;
    const auto check = [&](const char *name, int32_t layer, const void *pointer) {
      const void *&known = known_[i++];
      if (!pointer || pointer == known) return;
      known = nullptr;  // if the check throws, the pointer must be checked again next time
      if (require_reachable(device_, name, layer, pointer)) known = pointer;
    };
    for (int32_t l = 0; l < shape_.layer_count(); ++l) {
      check("feats", l, call.feats[l]);
      check("y_true", l, call.y_true ? call.y_true[l] : nullptr);
      check("grads", l, call.grads ? call.grads[l] : nullptr);
      check("result.ignore_mask", l, call.ignore_mask ? call.ignore_mask[l] : nullptr);
      check("result.best_iou", l, call.best_iou ? call.best_iou[l] : nullptr);
      check("result.cell_loss", l, call.cell_loss ? call.cell_loss[l] : nullptr);
    }
    check("boxes.data", -1, call.boxes_per_image > 0 ? call.boxes : nullptr);
    check("boxes.weights", -1, call.box_weights);
    check("normaliser_at", -1, call.normaliser_at);
    check("grad_scale_at", -1, call.grad_scale_at);
    check("result.summary", -1, result.summary);
    check("result.layers", -1, result.layers);
    check("result.rows", -1, result.rows);
    check("result.completion", -1, result.completion);
    check("result.stats", -1, result.stats);
    check("result.offender", -1, result.offender);
  }

  // ---- host memory ----

  // Lists the transfers of the truths: y_true, or boxes and their weights. A transfer of 0 bytes keeps the position of
  // weights that are not given.
  void truths_of(const Call &call, std::vector<Transfer> &transfers) const {
    transfers.clear();
    const int64_t row = call.boxes_per_image * int64_t(sizeof(float));
    if (!call.dense()) {
      transfers.emplace_back(call.boxes, 5 * row, Way::kIn);
      transfers.emplace_back(call.box_weights, call.box_weights ? row : 0, Way::kIn);
      return;
    }
    for (int32_t l = 0; l < shape_.layer_count(); ++l) transfers.emplace_back(call.y_true[l], truth_bytes(l), Way::kIn);
  }

  // Computes a call whose arrays are host memory, chunk by chunk. transfers lists all arrays in a fixed order (truths,
  // feats, grads, maps); part_of walks over their device addresses in the same order.
  //
  // A refreshed gradient is overwritten instead: the chunk buffers do not hold the previous gradient, and all of it is
  // copied back in any case. An accumulated gradient is copied in both directions.
  Outcome loss_of_host_memory(Call call, yl_parts *rows) {
    if (call.normaliser_at) require_reachable(device_, "normaliser_at", -1, call.normaliser_at);
    if (call.grad_scale_at) require_reachable(device_, "grad_scale_at", -1, call.grad_scale_at);
    if (call.refresh()) call.grad_mode = YL_GRAD_OVERWRITE;
    const Way grads_way = call.grad_mode == YL_GRAD_ACCUMULATE ? Way::kBoth : Way::kOut;
    const int32_t layers = shape_.layer_count();
    std::vector<Transfer> &transfers = transfers_;
    truths_of(call, transfers);
    const auto truths = static_cast<int32_t>(transfers.size());
    for (int32_t l = 0; l < layers; ++l) transfers.emplace_back(call.feats[l], feats_bytes(l), Way::kIn);
    for (int32_t l = 0; l < layers && call.grads; ++l) transfers.emplace_back(call.grads[l], grad_bytes(l), grads_way);
    for (float *const *maps : {call.ignore_mask, call.best_iou, call.cell_loss})
      for (int32_t l = 0; l < layers && maps; ++l) transfers.emplace_back(maps[l], map_bytes(l), Way::kOut);
    // Returns the call of a chunk: the images of the slot, with the addresses at in the order of transfers.
    const auto part_of = [&](const Slot &slot, char *const *at) {
      Call part = call;
      part.batch = slot.count;
      const auto *arrays = reinterpret_cast<float *const *>(at);
      if (call.dense()) {
        part.y_true = arrays;
      } else {
        part.boxes = arrays[0];
        part.box_weights = call.box_weights ? arrays[1] : nullptr;
      }
      arrays += truths;
      part.feats = reinterpret_cast<const void *const *>(arrays);
      arrays += layers;
      if (call.grads) {
        part.grads = reinterpret_cast<void *const *>(arrays);
        arrays += layers;
      }
      for (float *const **maps : {&part.ignore_mask, &part.best_iou, &part.cell_loss})
        if (*maps) {
          *maps = arrays;
          arrays += layers;
        }
      return part;
    };

    // The gradient of the first chunk is divided by the number of objects of all chunks. So if there are several
    // chunks, stage truths runs over all of them first, and only counts; the call then uses that number as a given
    // value. The price is that the truths are transferred twice. Without a gradient nothing must be known in advance:
    // the sums are divided at the end, on the host.
    if (call.normaliser == YL_NORMALISER_OBJECTS && call.grads &&
        Chunks::chunk_of(transfers, call.batch) < call.batch) {
      int64_t objects = 0;
      std::vector<Transfer> only_truths;
      truths_of(call, only_truths);
      chunks_->run(
          call.batch, only_truths,
          [&](const Slot &slot, char *const *at) {
            Call part = part_of(slot, at);
            part.feats = nullptr;
            part.grads = nullptr;
            part.ignore_mask = part.best_iou = part.cell_loss = nullptr;
            const Task task = task_of(part, slot);
            plan_->start(
                slot.stream, [&] { return launch_truths(task, slot.stream); },
                [&] { return finish_truths(task, slot); });
          },
          [&](const Slot &slot) { objects += slot.written().objects; });
      call.normaliser = YL_NORMALISER_VALUE;
      call.normaliser_value = static_cast<double>(std::max<int64_t>(objects, 1));
    }
    // The batch size is that of the call, not of a chunk.
    if (call.normaliser == YL_NORMALISER_BATCH) {
      call.normaliser = YL_NORMALISER_VALUE;
      call.normaliser_value = call.batch;
    }

    Outcome outcome{};
    int64_t objects = 0;
    if (call.stats) std::fill_n(call.stats, layers, yl_stats{});
    if (call.offender) *call.offender = {};
    chunks_->run(
        call.batch, transfers,
        [&](const Slot &slot, char *const *at) { start_loss(task_of(part_of(slot, at), slot), slot.stream); },
        [&](const Slot &slot) {
          // Chunks are collected in the order of the images, so the sums of statistics are added in that order, and the
          // first offender that is found is the first of the call. Its image is numbered within the chunk, so the first
          // image of the chunk is added.
          std::copy_n(slot.rows(), int64_t(slot.count) * layers, rows + int64_t(slot.first) * layers);
          add(outcome.boxes, slot.written().summary.boxes);
          objects += slot.written().summary.objects;
          outcome.normaliser = slot.written().summary.normaliser;
          for (int32_t l = 0; l < layers && call.stats; ++l) add(call.stats[l], slot.stats()[l]);
          if (call.offender && call.offender->cause == YL_CAUSE_NONE) {
            *call.offender = slot.written().offender;
            if (call.offender->cause != YL_CAUSE_NONE) call.offender->image += slot.first;
          }
        });
    if (call.normaliser == YL_NORMALISER_OBJECTS)
      outcome.normaliser = normaliser_of(call.normaliser, 0, call.batch, objects);
    return outcome;
  }

  const Shape &shape_;
  const int32_t device_;
  CUcontext context_ = nullptr;  // not owned
  std::unique_ptr<DevicePlan> plan_;
  std::unique_ptr<Chunks> chunks_;
  std::unique_ptr<Mark> enqueued_;
  std::vector<Transfer> transfers_;  // of the call
  std::vector<const void *> known_;  // pointers of the call before, see check_pointers
};

}  // namespace

const BackendEntry cuda_backend = {
    YL_DEVICE_CUDA,  "cuda",
    "device memory", kMaxCudaLayers,
    check_cuda,      [](const Shape &shape) -> std::unique_ptr<Backend> { return std::make_unique<Cuda>(shape); },
    &cuda_memory,
};

}  // namespace yl
