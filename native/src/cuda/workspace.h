// Device memory of a cuda plan: constants, workspace, and the task that all calls of the plan have in common.
//
// A plan allocates once, when it is made: a block of constants (anchors, class weights), and a block of workspace.
// Nothing is allocated in a call, so a call can be captured in a graph and cannot run out of memory half way. task.h
// says what each pointer is for; kernel.cuh and sum.cuh use them.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "cuda/runtime.h"
#include "cuda/task.h"
#include "truths.h"

namespace yl {

// Throws a Failure unless a launch function of task.h succeeded.
inline void launched(int error) { require(static_cast<cudaError_t>(error), "starting a kernel"); }

// Owns the device memory of a plan and makes the tasks of its calls. The plan's device must be current in every
// function. shape must outlive the object.
class DevicePlan {
 public:
  // Allocates for slots chunks that are under way at a time. Throws a Failure, YL_NO_DEVICE if this build has no
  // kernels for the device. The kernels are loaded first, so that a device without kernels is reported as such, and not
  // as one without memory.
  DevicePlan(const Shape &shape, int32_t slots) : shape_(shape), device_(shape.device_index), slots_(slots) {
    describe_rules();
    if (load_truths() != cudaSuccess || load_cells(base_) != cudaSuccess) {
      // Clears the error, which the caller's next check would otherwise report.
      cudaGetLastError();
      const yl_device_properties info = cuda_properties(device_);
      fail(YL_NO_DEVICE,
           "cuda:%d cannot be used: %s has compute capability %d.%d, for which this build has no kernels; use the cpu "
           "device",
           device_, info.name, info.compute_capability / 10, info.compute_capability % 10);
    }
    describe_layers();
    allocate_workspace();
  }

  // Returns the task without a call: layers and constants only, for yl_yolo_head.
  const Task &base() const { return base_; }

  // Returns the task of a call of a slot whose image 0 is image first_image of the workspace. Chunks of one call
  // therefore have lists, rows and sums of their own and can overlap. Only the results of a whole call (layers,
  // summary) and the counters (control) exist once for each slot.
  Task task(int32_t first_image, int64_t slot) const {
    Task task = base_;
    const int64_t cell = first_image * task.cells_per_image, row = int64_t(first_image) * task.layer_count;
    Workspace &work = task.work;
    work.cells += cell;
    work.truths += cell;
    work.weights += cell;
    work.class_flags += cell * task.flag_words;
    work.previous += cell;
    work.row_counters += row;
    work.partial_sums += first_image * tiles_per_image(task, kTile);
    work.rows += row;
    work.partial_extras += first_image * tiles_per_image(task, kTile);
    work.row_extras += row;
    work.summary += slot;
    work.control = controls_ + slot;
    return task;
  }

  // Runs the launch functions of a call on its stream in order, and throws a Failure if one of them fails. The kernels
  // of a call leave the counters as the next call needs them, but only if all of them run: after a failed launch the
  // counters may be in any state. So cleared_ is false while a call is being launched, and the next call clears the
  // counters if it finds it false.
  template <class... Launches> void start(void *stream, const Launches &...launches) {
    if (!cleared_) clear_counters();
    cleared_ = false;
    try {
      (launched(launches()), ...);
    } catch (...) {
      wait_after_failure(static_cast<cudaStream_t>(stream));
      throw;
    }
    cleared_ = true;
  }

 private:
  // Copies what load_cells needs to choose the kernels, and the rules.
  void describe_rules() {
    base_.dtype = shape_.dtype;
    base_.layout = shape_.layout;
    base_.f32_grads = shape_.f32_grads;
    base_.rules = shape_.rules.cells;
  }

  // Copies the constants to the device in one allocation and one copy, each array aligned like an allocation of its
  // own, and sets the pointers to them. Positions are kept as offsets until the memory exists. Anchor sizes are stored
  // in the type of the arithmetic, so that no kernel converts them.
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
      const size_t at = shape_.dtype == YL_F64 ? append(layer.anchor_sizes) : append(sizes);
      places.push_back({at, append(layer.anchor_mask)});
    }
    const size_t anchors = append(shape_.anchors), class_weights = append(shape_.rules.class_weights);
    constants_.allocate(static_cast<int64_t>(constants.size()),
                        [&](int64_t bytes) { return cuda_malloc(device_, bytes); });
    cuda_copy(device_, constants_.start(), constants.data(), constants_.bytes());

    base_.layer_count = shape_.layer_count();
    for (size_t l = 0; l < shape_.layers.size(); ++l) {
      const Layer &layer = shape_.layers[l];
      LayerTask &task = base_.layers[l];
      task.anchor_sizes = constants_.start() + places[l][0];
      task.anchor_mask = reinterpret_cast<const int32_t *>(constants_.start() + places[l][1]);
      task.first_cell = base_.cells_per_image;
      task.height = layer.height;
      task.width = layer.width;
      task.anchors = layer.anchors;
      task.cells = static_cast<int32_t>(layer.cells);
      task.ignore_thresh = layer.ignore_thresh;
      base_.cells_per_image += layer.cells;
    }
    base_.channels = shape_.channels;
    base_.flag_words = (shape_.num_classes + 31) / 32;
    base_.rules.class_weights = reinterpret_cast<const float *>(constants_.start() + class_weights);
    base_.box_rules = rules_of(shape_, YL_BOXES_ERROR);
    base_.box_rules.anchors = reinterpret_cast<const float *>(constants_.start() + anchors);
  }

  // Allocates the workspace in one piece. lay_out runs twice: without memory it only adds up the sizes, then it sets
  // the pointers, so that the size and the layout cannot differ. The counters come first, because they alone must be
  // cleared; a memset of their part is enough:
  //
  //   controls | row_counters          || cells | truths | weights | class_flags | previous | sums ...
  //   <- cleared when the plan is made ->|  written before they are read in every call
  //
  // previous is the exception: it is kept from call to call, and previous_count says how much of it is valid.
  void allocate_workspace() {
    const int64_t images = shape_.max_batch, layers = shape_.layer_count(), cells = images * base_.cells_per_image;
    const int64_t tiles = images * tiles_per_image(base_, kTile);
    if (tiles > INT32_MAX)
      fail(YL_UNSUPPORTED, "max_batch is %d, too many cells for one launch; use a smaller max_batch", shape_.max_batch);
    Workspace &work = base_.work;
    int64_t cleared = 0;
    const auto lay_out = [&](char *start) {
      int64_t bytes = 0;
      const auto take = [&](auto *&place, int64_t count) {
        if (start) place = reinterpret_cast<std::decay_t<decltype(place)>>(start + bytes);
        bytes += aligned(count * int64_t(sizeof(*place)));
      };
      take(controls_, int64_t(slots_));
      const int64_t controls = bytes;
      take(work.row_counters, images * layers);
      cleared = bytes - controls;
      take(work.cells, cells);
      take(work.truths, cells);
      take(work.weights, cells);
      take(work.class_flags, cells * base_.flag_words);
      take(work.previous, cells);
      take(work.partial_sums, tiles);
      take(work.rows, images * layers);
      take(work.summary, int64_t(slots_));
      take(work.partial_extras, tiles);
      take(work.row_extras, images * layers);
      return bytes;
    };
    workspace_.allocate(lay_out(nullptr), [&](int64_t size) { return cuda_malloc(device_, size); });
    lay_out(workspace_.start());
    counter_bytes_ = static_cast<size_t>(cleared);
    clear_counters();
  }

  // Waits for the kernels of the failed call that have been launched, and with them for all earlier calls of the plan,
  // which the stream is ordered behind: clear_counters uses the legacy default stream, which does not wait for a
  // non-blocking one, and a kernel that ran after it would count for the next call. If the stream is being captured,
  // nothing runs, and the wait ends the capture: half a call must not be replayed. An error is ignored, since the call
  // has failed.
  static void wait_after_failure(cudaStream_t stream) {
    cudaStreamSynchronize(stream);
    cudaGetLastError();  // see require
  }

  // Clears all counters, and waits. No kernel of the plan is queued then (wait_after_failure). The controls are not all
  // zero bytes, so they are copied. Everything runs on the legacy default stream, which the streams of the slots are
  // ordered behind. Each step waits, so that nothing is queued when a step fails and the workspace is freed.
  void clear_counters() {
    const Control control = YL_CLEARED_CONTROL;
    for (int64_t s = 0; s < slots_; ++s) cuda_copy(device_, controls_ + s, &control, sizeof control);
    require(cudaMemsetAsync(base_.work.row_counters, 0, counter_bytes_, nullptr), "clearing the workspace");
    cuda_stream_synchronize(device_, nullptr);
    cleared_ = true;
  }

  const Shape &shape_;
  const int32_t device_;
  const int64_t slots_;
  DeviceBytes constants_, workspace_;
  Control *controls_ = nullptr;  // (slots), on the device
  size_t counter_bytes_ = 0;     // the size of row_counters, which is cleared
  bool cleared_ = false;         // the counters are as the next call needs them
  Task base_{};
};

}  // namespace yl
