// The cuda backend, host side: a plan's device memory, and its calls as launches. Device memory of the caller's is used
// where it lies; host memory goes through chunks of images, each on one of two streams: while one is computed, the next is
// copied.
#include <algorithm>
#include <array>

#include "cells.h"
#include "cpu/pool.h"
#include "cuda/runtime.h"
#include "cuda/task.h"

namespace yl {
namespace {

constexpr int64_t kChunkBytes = 16 << 20;  // of a chunk's inputs and outputs together, but at least an image
constexpr int64_t kCopyPiece = 1 << 20;    // of a copy to or from pinned memory, for a thread
constexpr int64_t kAlignment = 256;

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

void launched(int error) { require(static_cast<cudaError_t>(error), "starting a kernel"); }

// An array of the caller's on the host, of which a chunk takes some images.
struct Transfer {
  char *host;
  int64_t bytes;  // of an image
  bool out;       // from the device; else to it
  bool pinned = false;
  Transfer(const void *at, int64_t image_bytes, bool is_output)
      : host(static_cast<char *>(const_cast<void *>(at))), bytes(image_bytes), out(is_output) {}
};

// What the kernels of a chunk write for the host, in pinned memory.
struct Written {
  yl_summary summary;
  yl_completion completion;
  yl_box_counts boxes;
  int64_t objects;
};

class Slot {
 public:
  Slot() = default;
  ~Slot() {
    if (done) cudaEventDestroy(done);
    if (stream) cudaStreamDestroy(stream);
  }
  Slot(const Slot &) = delete;
  Slot &operator=(const Slot &) = delete;

  cudaStream_t stream = nullptr;  // ordered behind the legacy default stream
  cudaEvent_t done = nullptr;
  PinnedMemory written_memory;   // Written, then rows
  DeviceMemory device;           // of a chunk
  PinnedMemory pinned;           // alike
  int32_t first = 0, count = 0;  // images of the chunk that is on its way; count 0: none

  Written &written() const { return *reinterpret_cast<Written *>(written_memory.start()); }
  yl_parts *rows() const { return reinterpret_cast<yl_parts *>(written_memory.start() + sizeof(Written)); }
};

class Cuda final : public Backend {
 public:
  explicit Cuda(const Shape &shape) : shape_(shape), device_(shape.device_index), pool_(pool_threads(shape)) {
    const DeviceScope scope(device_);
    require(static_cast<cudaError_t>(probe_kernels()), "looking for kernels for this device");
    describe_layers();
    allocate_workspace();
    for (size_t s = 0; s < (shape.device_memory ? 1 : slots_.size()); ++s) prepare(slots_[s]);
    known_.resize(3 * shape.layers.size() + 8);
  }

  ~Cuda() override {
    for (const Slot &slot : slots_)
      if (slot.stream) cudaStreamSynchronize(slot.stream);
  }

  Outcome loss(const Call &call, yl_parts *rows) override {
    const DeviceScope scope(device_);
    if (!shape_.device_memory) return loss_of_host_memory(call, rows);
    check_pointers(call, YL_RESULT_INIT);
    Slot &slot = slots_[0];
    Task task = task_of(call, slot);
    launched(launch_gather(task, slot.stream));
    launched(launch_visit(task, slot.stream));
    require(cudaStreamSynchronize(slot.stream), "computing the loss");
    refuse_bad(call.boxes, call.boxes_per_image, slot.written().completion);
    std::copy_n(slot.rows(), int64_t(call.batch) * shape_.layer_count(), rows);
    return {slot.written().summary.normaliser, slot.written().summary.boxes};
  }

  void loss_async(const Call &call, void *stream, const yl_result &result) override {
    const DeviceScope scope(device_);
    check_pointers(call, result);
    Task task = task_of(call, slots_[0]);
    task.result = result;
    launched(launch_gather(task, stream));
    launched(launch_visit(task, stream));
  }

  void yolo_head(const yl_head &head) override {
    const DeviceScope scope(device_);
    float *const outputs[] = {head.grid, head.box_xy, head.box_wh, head.box_confidence, head.box_class_probs};
    const Slot &slot = slots_[0];
    if (shape_.device_memory) {
      check_pointer("head.feats", -1, head.feats);
      for (const float *output : outputs)
        if (output) check_pointer("an output of head", -1, output);
      launched(launch_yolo_head(base_, head, slot.stream));
      require(cudaStreamSynchronize(slot.stream), "decoding");
      return;
    }
    head_grid(shape_, head);
    const int64_t cell_bytes = shape_.layers[head.layer].cells * int64_t(sizeof(float));
    const int64_t sizes[] = {0, 2, 2, 1, shape_.num_classes};
    std::vector<Transfer> transfers{{head.feats, cell_bytes * shape_.channels, false}};
    for (size_t i = 1; i < 5; ++i)
      if (outputs[i]) transfers.emplace_back(outputs[i], cell_bytes * sizes[i], true);
    const auto enqueue = [&](const Slot &on, char *const *at) {
      yl_head chunk = YL_HEAD_INIT;
      chunk.layer = head.layer;
      chunk.batch = on.count;
      chunk.feats = *at++;
      float **const places[] = {nullptr, &chunk.box_xy, &chunk.box_wh, &chunk.box_confidence, &chunk.box_class_probs};
      for (size_t i = 1; i < 5; ++i)
        if (outputs[i]) *places[i] = reinterpret_cast<float *>(*at++);
      launched(launch_yolo_head(base_, chunk, on.stream));
    };
    in_chunks(head.batch, transfers, enqueue, [](const Slot &) {});
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
      launched(launch_gather(task, slot.stream));
      launched(launch_write_y_true(task, out, slot.stream));
      launched(launch_finish_gather(task, &slot.written().boxes, &slot.written().objects, slot.stream));
    };
    if (shape_.device_memory) {
      if (boxes.per_image > 0) check_pointer("boxes.data", -1, boxes.data);
      for (int32_t l = 0; l < shape_.layer_count(); ++l) check_pointer("y_true", l, y_true[l]);
      enqueue(slots_[0], call, y_true);
      require(cudaStreamSynchronize(slots_[0].stream), "building y_true");
      refuse_bad(boxes.data, boxes.per_image, slots_[0].written().completion);
      return slots_[0].written().boxes;
    }
    std::vector<Transfer> transfers{boxes_of(call)};
    for (int32_t l = 0; l < shape_.layer_count(); ++l) transfers.emplace_back(y_true[l], layer_bytes(l), true);
    in_chunks(
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
  static int32_t pool_threads(const Shape &shape) { return shape.device_memory ? 1 : shape.threads; }

  int64_t layer_bytes(int32_t l) const { return shape_.layers[l].cells * shape_.channels * int64_t(sizeof(float)); }

  // ---- the plan ----

  void describe_layers() {
    std::vector<char> constants;
    const auto append = [&](const auto &values) {
      const size_t at = constants.size();
      const size_t bytes = values.size() * sizeof(values[0]);
      constants.resize(static_cast<size_t>(aligned(static_cast<int64_t>(at + bytes))));
      std::memcpy(constants.data() + at, values.data(), bytes);
      return at;
    };
    std::vector<std::array<size_t, 2>> places;
    for (const Layer &layer : shape_.layers) {
      const std::vector<float> sizes(layer.anchor_sizes.begin(), layer.anchor_sizes.end());
      const size_t at = append(sizes);
      places.push_back({at, append(layer.anchor_mask)});
    }
    const size_t anchors = append(shape_.anchors);
    constants_.allocate(static_cast<int64_t>(constants.size()),
                        [&](int64_t bytes) { return cuda_malloc(device_, bytes); });
    cuda_copy(device_, constants_.start(), constants.data(), constants_.bytes());

    base_.layer_count = shape_.layer_count();
    for (size_t l = 0; l < shape_.layers.size(); ++l) {
      const Layer &layer = shape_.layers[l];
      LayerTask &task = base_.layers[l];
      task.anchor_sizes = reinterpret_cast<const float *>(constants_.start() + places[l][0]);
      task.anchor_mask = reinterpret_cast<const int32_t *>(constants_.start() + places[l][1]);
      task.first_cell = base_.cells_per_image;
      task.height = layer.height;
      task.width = layer.width;
      task.anchors = layer.anchors;
      task.cells = static_cast<int32_t>(layer.cells);
      base_.cells_per_image += layer.cells;
    }
    base_.channels = shape_.channels;
    base_.flag_words = (shape_.num_classes + 31) / 32;
    base_.ignore_thresh = shape_.ignore_thresh;
    base_.rules = rules_of(shape_);
    base_.rules.anchors = reinterpret_cast<const float *>(constants_.start() + anchors);
  }

  void allocate_workspace() {
    const int64_t images = shape_.max_batch, layers = shape_.layer_count(), cells = images * base_.cells_per_image;
    const int64_t tiles = images * tiles_per_image(base_, kTile);
    if (tiles > INT32_MAX)
      fail(YL_UNSUPPORTED, "max_batch is %d, too many cells for one launch; use a smaller max_batch", shape_.max_batch);
    Workspace &work = base_.work;
    int64_t cleared = 0;
    const auto lay_out = [&](char *start) {  // NULL: for the size alone
      int64_t bytes = 0;
      const auto take = [&](auto *&place, int64_t count) {
        if (start) place = reinterpret_cast<std::decay_t<decltype(place)>>(start + bytes);
        bytes += aligned(count * int64_t(sizeof(*place)));
      };
      take(controls_, int64_t(slots_.size()));
      take(work.counts, images * layers);
      take(work.previous_counts, images * layers);
      take(work.tiles_done, images * layers);
      cleared = bytes;
      take(work.cells, cells);
      take(work.truths, cells);
      take(work.class_flags, cells * base_.flag_words);
      take(work.previous, cells);
      take(work.partial_sums, tiles);
      take(work.rows, images * layers);
      take(work.layers, int64_t(slots_.size()) * layers);
      return bytes;
    };
    workspace_.allocate(lay_out(nullptr), [&](int64_t size) { return cuda_malloc(device_, size); });
    lay_out(workspace_.start());
    require(cudaMemsetAsync(workspace_.start(), 0, static_cast<size_t>(cleared), nullptr), "clearing the workspace");
    const Control control = YL_CLEARED_CONTROL;
    for (size_t s = 0; s < slots_.size(); ++s) cuda_copy(device_, controls_ + s, &control, sizeof control);
  }

  void prepare(Slot &slot) const {
    require(cudaStreamCreateWithFlags(&slot.stream, cudaStreamDefault), "making a stream");
    require(cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming), "making an event");
    const int64_t rows = int64_t(shape_.max_batch) * shape_.layer_count();
    slot.written_memory.allocate(static_cast<int64_t>(sizeof(Written)) + rows * int64_t(sizeof(yl_parts)),
                                 cuda_malloc_host);
    if (shape_.device_memory) return;
    int64_t image = 0;
    for (int32_t l = 0; l < shape_.layer_count(); ++l) image += 3 * aligned(layer_bytes(l));  // feats, y_true, grads
    const int64_t chunk = std::min<int64_t>(shape_.max_batch, std::max<int64_t>(1, kChunkBytes / image));
    reserve(slot, chunk * image + kAlignment);
  }

  void reserve(Slot &slot, int64_t bytes) const {
    if (slot.device.bytes() >= bytes) return;
    slot.device.allocate(bytes, [&](int64_t size) { return cuda_malloc(device_, size); });
    slot.pinned.allocate(bytes, cuda_malloc_host);
  }

  // ---- a call ----

  // For the images of the call, or those of a chunk: image 0 of the task is image slot.first of the plan's workspace.
  Task task_of(const Call &call, const Slot &slot) const {
    Task task = base_;
    for (int32_t l = 0; l < task.layer_count; ++l) {
      task.layers[l].feats = call.feats ? call.feats[l] : nullptr;
      task.layers[l].y_true = call.y_true ? call.y_true[l] : nullptr;
      task.layers[l].grads = call.grads ? call.grads[l] : nullptr;
    }
    task.batch = call.batch;
    task.boxes = call.boxes;
    task.boxes_per_image = call.boxes_per_image;
    task.refuse_bad_boxes = shape_.device_memory && call.boxes_policy == YL_BOXES_ERROR;
    task.gradient = call.grads != nullptr;
    task.refresh = call.refresh;
    task.normaliser = call.normaliser;
    task.normaliser_value = call.normaliser_value;
    task.grad_scale = call.grad_scale;
    task.normaliser_at = call.normaliser_at;
    task.grad_scale_at = call.grad_scale_at;

    const int64_t cell = slot.first * task.cells_per_image, row = int64_t(slot.first) * task.layer_count;
    Workspace &work = task.work;
    work.cells += cell;
    work.truths += cell;
    work.class_flags += cell * task.flag_words;
    work.previous += cell;
    work.counts += row;
    work.previous_counts += row;
    work.tiles_done += row;
    work.partial_sums += slot.first * tiles_per_image(task, kTile);
    work.rows += row;
    const int64_t s = &slot - slots_.data();
    work.layers += s * task.layer_count;
    work.control = controls_ + s;
    task.result = YL_RESULT_INIT;
    task.result.summary = &slot.written().summary;
    task.result.rows = slot.rows();
    task.result.completion = &slot.written().completion;
    return task;
  }

  void refuse_bad(const float *boxes, int32_t per_image, const yl_completion &completion) const {
    if (completion.status == YL_OK) return;
    float row[5];
    cuda_copy(device_, row, boxes + (int64_t(completion.image) * per_image + completion.row) * 5, sizeof row);
    fail_boxes(shape_, completion.image, completion.row, row);
  }

  // ---- pointers of the caller's ----

  void check_pointer(const char *name, int32_t layer, const void *pointer) const {
    cudaPointerAttributes attributes{};
    const cudaError_t error = cudaPointerGetAttributes(&attributes, pointer);
    const std::string place = layer < 0 ? name : name + ("[" + std::to_string(layer) + "]");
    if (error != cudaSuccess || attributes.type == cudaMemoryTypeUnregistered) {
      cudaGetLastError();
      fail(YL_INVALID_ARGUMENT,
           "%s at %p is host memory, which cuda:%d cannot reach; device, pinned or managed memory is "
           "expected",
           place.c_str(), pointer, device_);
    }
    if (attributes.type == cudaMemoryTypeDevice && attributes.device != device_)
      fail(YL_INVALID_ARGUMENT,
           "%s at %p is memory of cuda:%d, this plan is on cuda:%d; memory of its own device is "
           "expected",
           place.c_str(), pointer, attributes.device, device_);
  }

  // The driver is asked only about pointers that the call before did not have.
  void check_pointers(const Call &call, const yl_result &result) {
    size_t i = 0;
    const auto check = [&](const char *name, int32_t layer, const void *pointer) {
      if (pointer && pointer != known_[i]) {
        known_[i] = nullptr;
        check_pointer(name, layer, pointer);
        known_[i] = pointer;
      }
      ++i;
    };
    for (int32_t l = 0; l < shape_.layer_count(); ++l) {
      check("feats", l, call.feats[l]);
      check("y_true", l, call.y_true ? call.y_true[l] : nullptr);
      check("grads", l, call.grads ? call.grads[l] : nullptr);
    }
    check("boxes.data", -1, call.boxes_per_image > 0 ? call.boxes : nullptr);
    check("normaliser_at", -1, call.normaliser_at);
    check("grad_scale_at", -1, call.grad_scale_at);
    check("result.summary", -1, result.summary);
    check("result.layers", -1, result.layers);
    check("result.rows", -1, result.rows);
    check("result.completion", -1, result.completion);
  }

  // ---- host memory ----

  Transfer boxes_of(const Call &call) const {
    return {call.boxes, int64_t(call.boxes_per_image) * 5 * int64_t(sizeof(float)), false};
  }

  std::vector<Transfer> truths_of(const Call &call) const {
    std::vector<Transfer> transfers;
    if (!call.dense()) return {boxes_of(call)};
    for (int32_t l = 0; l < shape_.layer_count(); ++l) transfers.emplace_back(call.y_true[l], layer_bytes(l), false);
    return transfers;
  }

  Outcome loss_of_host_memory(Call call, yl_parts *rows) {
    if (call.normaliser_at) check_pointer("normaliser_at", -1, call.normaliser_at);
    if (call.grad_scale_at) check_pointer("grad_scale_at", -1, call.grad_scale_at);
    call.refresh = false;  // chunk buffers hold no gradient of before, and all is copied
    const int32_t layers = shape_.layer_count();
    std::vector<Transfer> transfers = truths_of(call);
    const auto truths = static_cast<int32_t>(transfers.size());
    for (int32_t l = 0; l < layers; ++l) transfers.emplace_back(call.feats[l], layer_bytes(l), false);
    for (int32_t l = 0; l < layers && call.grads; ++l) transfers.emplace_back(call.grads[l], layer_bytes(l), true);
    const auto part_of = [&](const Slot &slot, char *const *at) {
      Call part = call;
      part.batch = slot.count;
      const auto *arrays = reinterpret_cast<float *const *>(at);
      if (call.dense())
        part.y_true = arrays;
      else
        part.boxes = arrays[0];
      part.feats = arrays + truths;
      if (call.grads) part.grads = arrays + truths + layers;
      return part;
    };

    // The gradient of a chunk needs the objects of all.
    if (call.normaliser == YL_NORMALISER_OBJECTS && call.grads && chunk_of(transfers, call.batch) < call.batch) {
      int64_t objects = 0;
      std::vector<Transfer> only_truths = truths_of(call);
      in_chunks(
          call.batch, only_truths,
          [&](const Slot &slot, char *const *at) {
            Call part = part_of(slot, at);
            part.feats = nullptr;
            part.grads = nullptr;
            const Task task = task_of(part, slot);
            launched(launch_gather(task, slot.stream));
            launched(launch_finish_gather(task, &slot.written().boxes, &slot.written().objects, slot.stream));
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
    in_chunks(
        call.batch, transfers,
        [&](const Slot &slot, char *const *at) {
          const Task task = task_of(part_of(slot, at), slot);
          launched(launch_gather(task, slot.stream));
          launched(launch_visit(task, slot.stream));
        },
        [&](const Slot &slot) {
          std::copy_n(slot.rows(), int64_t(slot.count) * layers, rows + int64_t(slot.first) * layers);
          add(outcome.boxes, slot.written().summary.boxes);
          objects += slot.written().summary.objects;
          outcome.normaliser = slot.written().summary.normaliser;
        });
    if (call.normaliser == YL_NORMALISER_OBJECTS)
      outcome.normaliser = normaliser_of(call.normaliser, 0, call.batch, objects);
    return outcome;
  }

  static int32_t chunk_of(const std::vector<Transfer> &transfers, int32_t batch) {
    int64_t image = 1;
    for (const Transfer &transfer : transfers) image += transfer.bytes;
    return static_cast<int32_t>(std::min<int64_t>(batch, std::max<int64_t>(1, kChunkBytes / image)));
  }

  // For each chunk, in turn on the slots: inputs to the device, enqueue(slot, the chunk's arrays on the device), outputs
  // back; when they are there, collect(slot). slot.first and slot.count say which images.
  template <class Enqueue, class Collect>
  void in_chunks(int32_t batch, std::vector<Transfer> &transfers, const Enqueue &enqueue, const Collect &collect) {
    const int32_t chunk = chunk_of(transfers, batch);
    for (Transfer &transfer : transfers) {
      cudaPointerAttributes attributes{};
      transfer.pinned = transfer.bytes > 0 && cudaPointerGetAttributes(&attributes, transfer.host) == cudaSuccess &&
                        attributes.type != cudaMemoryTypeUnregistered;
    }
    std::vector<char *> at(transfers.size());
    try {
      size_t s = 0;
      for (int32_t first = 0; first < batch; first += chunk, s = (s + 1) % slots_.size()) {
        Slot &slot = slots_[s];
        finish(slot, transfers, collect);
        slot.first = first;
        slot.count = std::min(chunk, batch - first);
        start(slot, transfers, at, enqueue);
      }
      for (size_t i = 0; i < slots_.size(); ++i, s = (s + 1) % slots_.size()) finish(slots_[s], transfers, collect);
    } catch (...) {
      for (Slot &slot : slots_) {  // the caller's memory is free when this returns
        cudaStreamSynchronize(slot.stream);
        slot.first = slot.count = 0;
      }
      throw;
    }
  }

  template <class Enqueue>
  void start(Slot &slot, const std::vector<Transfer> &transfers, std::vector<char *> &at, const Enqueue &enqueue) {
    int64_t bytes = 0;
    for (const Transfer &transfer : transfers) bytes += aligned(transfer.bytes * slot.count);
    reserve(slot, std::max(bytes, kAlignment));
    int64_t offset = 0;
    for (size_t i = 0; i < transfers.size(); ++i) {
      at[i] = slot.device.start() + offset;
      offset += aligned(transfers[i].bytes * slot.count);
      if (!transfers[i].out) copy(slot, transfers[i], at[i], true);
    }
    enqueue(slot, at.data());
    for (size_t i = 0; i < transfers.size(); ++i)
      if (transfers[i].out) copy(slot, transfers[i], at[i], false);
    require(cudaEventRecord(slot.done, slot.stream), "marking a chunk");
  }

  // Between the host, or the place in pinned memory that stands for it, and the device.
  void copy(const Slot &slot, const Transfer &transfer, char *device, bool in) {
    const auto bytes = static_cast<size_t>(transfer.bytes * slot.count);
    if (bytes == 0) return;
    char *host = transfer.host + slot.first * transfer.bytes;
    if (!transfer.pinned) {
      char *staged = slot.pinned.start() + (device - slot.device.start());
      if (in) copy_by_threads(staged, host, static_cast<int64_t>(bytes));
      host = staged;
    }
    require(cudaMemcpyAsync(in ? device : host, in ? host : device, bytes,
                            in ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, slot.stream),
            "copying a chunk");
  }

  template <class Collect> void finish(Slot &slot, const std::vector<Transfer> &transfers, const Collect &collect) {
    if (slot.count == 0) return;
    require(cudaEventSynchronize(slot.done), "computing a chunk");
    int64_t offset = 0;
    for (const Transfer &transfer : transfers) {
      const int64_t bytes = transfer.bytes * slot.count;
      if (transfer.out && !transfer.pinned)
        copy_by_threads(transfer.host + slot.first * transfer.bytes, slot.pinned.start() + offset, bytes);
      offset += aligned(bytes);
    }
    collect(slot);
    slot.first = slot.count = 0;
  }

  void copy_by_threads(char *to, const char *from, int64_t bytes) {
    pool_.run((bytes + kCopyPiece - 1) / kCopyPiece, [&](int64_t piece, int32_t) {
      const int64_t at = piece * kCopyPiece;
      std::memcpy(to + at, from + at, static_cast<size_t>(std::min(kCopyPiece, bytes - at)));
    });
  }

  const Shape &shape_;
  const int32_t device_;  // of the device
  Pool pool_;             // copies
  DeviceMemory constants_, workspace_;
  Control *controls_ = nullptr;      // (slots), on the device
  Task base_{};                      // what all calls have alike
  std::array<Slot, 2> slots_;        // device memory: the first alone
  std::vector<const void *> known_;  // pointers of the call before
};

}  // namespace

std::unique_ptr<Backend> make_cuda(const Shape &shape) { return std::make_unique<Cuda>(shape); }

}  // namespace yl
