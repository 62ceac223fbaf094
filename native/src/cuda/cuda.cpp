// The cuda backend, host side: calls as launches. Device memory of the caller's is used
// where it lies; host memory goes through chunks of images.
#include <algorithm>

#include "cuda/chunks.h"
#include "cuda/workspace.h"
#include "head.h"
#include "layer_sums.h"

namespace yl {
namespace {

class Cuda final : public Backend {
 public:
  explicit Cuda(const Shape &shape) : shape_(shape), device_(shape.device_index) {
    const DeviceScope scope(device_);
    plan_ = std::make_unique<DevicePlan>(shape, Chunks::kSlots);
    int64_t image = 0;
    for (int32_t l = 0; l < shape_.layer_count(); ++l)
      image += aligned(feats_bytes(l)) + aligned(truth_bytes(l)) + aligned(grad_bytes(l));
    chunks_ = std::make_unique<Chunks>(device_, shape.threads, !shape.device_memory, shape.max_batch,
                                       shape.layer_count(), image);
    known_.resize(6 * shape.layers.size() + 11);
  }

  ~Cuda() override {  // what yl_loss_async has enqueued may still run
    int before = 0;
    if (cudaGetDevice(&before) == cudaSuccess && cudaSetDevice(device_) == cudaSuccess) cudaDeviceSynchronize();
    cudaSetDevice(before);
  }

  std::string description() const override {
    return std::string(shape_.dtype == YL_F64 ? "float64, " : "float32, ") + cuda_properties(device_).name;
  }

  // Host memory is copied as a whole and a refresh overwrites it, so nothing is left of the gradient before.
  bool was_object(int32_t, int32_t, int32_t) const override { return true; }

  Outcome loss(const Call &call, yl_parts *rows) override {
    const DeviceScope scope(device_);
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

  void loss_async(const Call &call, void *stream, const yl_result &result) override {
    const DeviceScope scope(device_);
    check_pointers(call, result);
    Task task = task_of(call, chunks_->first());
    task.result = result;
    if (!task.result.summary) task.result.summary = task.work.summary;
    start_loss(task, stream);
  }

  void yolo_head(const yl_head &head) override {
    const DeviceScope scope(device_);
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

  yl_box_counts build_y_true(int32_t batch, const yl_boxes &boxes, float *const *y_true) override {
    const DeviceScope scope(device_);
    Call call{};
    call.batch = batch;
    call.boxes = boxes.data;
    call.boxes_per_image = boxes.per_image;
    call.boxes_policy = boxes.policy;
    yl_box_counts counts{};
    const auto enqueue = [&](const Slot &slot, const Call &part, float *const *out) {
      const Task task = task_of(part, slot);
      plan_->start([&] { return launch_truths(task, slot.stream); },
                   [&] { return launch_write_y_true(task, out, slot.stream); },
                   [&] { return finish_truths(task, slot); });
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
  // Of an image.
  int64_t values(int32_t l) const { return shape_.layers[l].cells * shape_.channels; }
  int64_t truth_bytes(int32_t l) const { return values(l) * int64_t(sizeof(float)); }
  int64_t feats_bytes(int32_t l) const { return values(l) * size_of(shape_.dtype); }
  int64_t grad_bytes(int32_t l) const { return shape_.f32_grads ? truth_bytes(l) : feats_bytes(l); }
  int64_t map_bytes(int32_t l) const { return shape_.layers[l].cells * int64_t(sizeof(float)); }

  static int finish_truths(const Task &task, const Slot &slot) {
    return launch_finish_truths(task, &slot.written().boxes, &slot.written().objects, slot.stream);
  }

  void start_loss(const Task &task, void *stream) {
    plan_->start([&] { return launch_truths(task, stream); }, [&] { return launch_cells(task, stream); });
  }

  // ---- a call ----

  // For the images of the call, or those of a chunk: image 0 of the task is image slot.first of the plan's workspace.
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

    task.result = YL_RESULT_INIT;
    task.result.summary = &slot.written().summary;
    task.result.rows = slot.rows();
    task.result.completion = &slot.written().completion;
    if (call.stats) task.result.stats = slot.stats();
    if (call.offender) task.result.offender = &slot.written().offender;
    return task;
  }

  void refuse_bad(const BoxRows &boxes, const yl_completion &completion) const {
    if (completion.status == YL_OK) return;
    const int64_t at = int64_t(completion.image) * boxes.per_image + completion.row;
    BoxRow row{{}, 1};
    cuda_copy(device_, row.values, boxes.data + at * 5, sizeof row.values);
    if (boxes.weights) cuda_copy(device_, &row.weight, boxes.weights + at, sizeof row.weight);
    fail_boxes(shape_, completion.image, completion.row, row);
  }

  // ---- pointers of the caller's ----

  // The driver is asked only about pointers that the call before did not have.
  void check_pointers(const Call &call, const yl_result &result) {
    size_t i = 0;
    const auto check = [&](const char *name, int32_t layer, const void *pointer) {
      if (pointer && pointer != known_[i]) {
        known_[i] = nullptr;
        require_reachable(device_, name, layer, pointer);
        known_[i] = pointer;
      }
      ++i;
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

  // y_true, or boxes and their weights.
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

  Outcome loss_of_host_memory(Call call, yl_parts *rows) {
    if (call.normaliser_at) require_reachable(device_, "normaliser_at", -1, call.normaliser_at);
    if (call.grad_scale_at) require_reachable(device_, "grad_scale_at", -1, call.grad_scale_at);
    if (call.refresh()) call.grad_mode = YL_GRAD_OVERWRITE;  // chunk buffers hold no gradient of before; all is copied
    const Way grads_way = call.grad_mode == YL_GRAD_ACCUMULATE ? Way::kBoth : Way::kOut;
    const int32_t layers = shape_.layer_count();
    std::vector<Transfer> &transfers = transfers_;
    truths_of(call, transfers);
    const auto truths = static_cast<int32_t>(transfers.size());
    for (int32_t l = 0; l < layers; ++l) transfers.emplace_back(call.feats[l], feats_bytes(l), Way::kIn);
    for (int32_t l = 0; l < layers && call.grads; ++l) transfers.emplace_back(call.grads[l], grad_bytes(l), grads_way);
    for (float *const *maps : {call.ignore_mask, call.best_iou, call.cell_loss})
      for (int32_t l = 0; l < layers && maps; ++l) transfers.emplace_back(maps[l], map_bytes(l), Way::kOut);
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

    // The gradient of a chunk needs the objects of all.
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
            plan_->start([&] { return launch_truths(task, slot.stream); }, [&] { return finish_truths(task, slot); });
          },
          [&](const Slot &slot) { objects += slot.written().objects; });
      call.normaliser = YL_NORMALISER_VALUE;
      call.normaliser_value = static_cast<double>(std::max<int64_t>(objects, 1));
    }
    if (call.normaliser == YL_NORMALISER_BATCH) {  // of the call, not of a chunk
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
  std::unique_ptr<DevicePlan> plan_;
  std::unique_ptr<Chunks> chunks_;
  std::vector<Transfer> transfers_;  // of the call
  std::vector<const void *> known_;  // pointers of the call before
};

}  // namespace

const BackendEntry cuda_backend = {
    YL_DEVICE_CUDA,  "cuda",
    "device memory", kMaxCudaLayers,
    check_cuda,      [](const Shape &shape) -> std::unique_ptr<Backend> { return std::make_unique<Cuda>(shape); },
    &cuda_memory,
};

}  // namespace yl
