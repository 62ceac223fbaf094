// Stage truths on the device: y_true or boxes -> the lists of objects. And yl_build_y_true, the dense truths of those
// lists. truths.cuh has the lists of boxes. Read cells.cu next.
#include "cuda/truths.cuh"

namespace yl {
// A named namespace, because the mangled name of an anonymous one changes from build to build.
inline namespace truths_kernels {

// Appends the cells of dense y_true whose mask is not 0 to the lists: one block for each tile of kTruthsTile cells.
// Masks are 4 * (5 + C) bytes apart, so each load brings in a sector of memory of which one value is used: the kernel
// is bound by memory. A thread therefore starts the loads of four cells before it needs the first of them. The objects
// that it finds are rare, and are read one at a time.
__global__ void __launch_bounds__(kTile)
    dense_truths_kernel(const __grid_constant__ Task task, int32_t blocks_per_image) {
  start_next_launch();
  const Tile tile = tile_of_block(task, blocks_per_image, kTruthsTile);
  const LayerTask &layer = task.layers[tile.layer];
  const float *y_true = layer.y_true + (int64_t(tile.image) * layer.cells + tile.first) * task.channels;
  constexpr int32_t kCells = kTruthsTile / kTile;  // of a thread, whose loads are under way together
  float masks[kCells];
#pragma unroll
  for (int32_t i = 0; i < kCells; ++i) {
    const auto cell = static_cast<int32_t>(threadIdx.x) + i * kTile;
    masks[i] = cell < tile.count ? y_true[int64_t(cell) * task.channels + kObjectness] : 0.0f;
  }
#pragma unroll
  for (int32_t i = 0; i < kCells; ++i) {
    if (masks[i] == 0.0f) continue;  // a NaN is not 0: its cell is an object
    const auto cell = static_cast<int32_t>(threadIdx.x) + i * kTile;
    const float *y = y_true + int64_t(cell) * task.channels;
    Lists(task, tile.image, tile.layer).append(tile.first + cell, {y[kX], y[kY], y[kW], y[kH]}, 1);
  }
}

// Fills the lists of all images from boxes: a block for each image and layer.
__global__ void __launch_bounds__(kBoxRows, 4)
    box_truths_kernel(const __grid_constant__ Task task, int32_t blocks_per_image) {
  start_next_launch();
  const auto image = static_cast<int32_t>(blockIdx.x) / blocks_per_image;
  const int32_t l = static_cast<int32_t>(blockIdx.x) % blocks_per_image;
  list_boxes(task, image, l, Lists(task, image, l), l == 0, [](int32_t) { return true; });
}

// ---- dense truths of the lists --------------------------------------------------------------------------------------

// The L pointers of yl_build_y_true, as a parameter of the kernel.
struct Outputs {
  float *y_true[kMaxCudaLayers];
};

// Writes the rows of y_true of a tile, whole. A block first inverts the list of objects: owners[i] is the index in the
// list of the object at the tile's cell i, or -1. Then it writes all values of its rows in the order of memory, so that
// adjacent threads write adjacent values. Cells of a list are distinct, so no two threads write the same owner. Nothing
// is written if the policy refuses a row.
__global__ void __launch_bounds__(kTile)
    write_y_true_kernel(const __grid_constant__ Task task, const __grid_constant__ Outputs outputs,
                        int32_t blocks_per_image) {
  YL_SHARED(int32_t, owners, kTile);  // places in the list, or -1
  const Tile tile = tile_of_block(task, blocks_per_image, kTile);
  const Lists lists(task, tile.image, tile.layer);
  const LayerTask &layer = task.layers[tile.layer];
  if (task.work.control->first_bad != kNoBadRow) return;
  owners[threadIdx.x] = -1;
  // Orders the clearing of all owners before they are set.
  __syncthreads();
  for (auto i = static_cast<int32_t>(threadIdx.x); i < *lists.count; i += kTile) {
    const int32_t at = lists.cells[i] - tile.first;
    if (at >= 0 && at < tile.count) owners[at] = i;
  }
  // Orders the owners before they are read.
  __syncthreads();
  float *out = outputs.y_true[tile.layer] + (int64_t(tile.image) * layer.cells + tile.first) * task.channels;
  for (int64_t i = threadIdx.x; i < int64_t(tile.count) * task.channels; i += kTile) {
    const auto at = static_cast<int32_t>(i / task.channels), channel = static_cast<int32_t>(i % task.channels);
    const int32_t owner = owners[at];
    float value = 0;
    if (owner >= 0)
      value = channel >= kBoxChannels ? target_of(task, layer, lists, tile.image, tile.first + at, channel)
                                      : channel_of(lists.truths[owner], channel);
    out[i] = value;
  }
}

// Ends a call after which stage cells does not follow: reports what stage truths counted, and leaves lists and counters
// as the next call needs them. One block. It follows in the same stream, so it needs no ticket.
__global__ void __launch_bounds__(kTile)
    finish_truths_kernel(const __grid_constant__ Task task, yl_box_counts *counts, int64_t *objects) {
  for (int64_t i = threadIdx.x; i < int64_t(task.batch) * task.layer_count; i += kTile)
    task.work.row_counters[i].count = 0;
  if (threadIdx.x != 0) return;
  *counts = box_counts(*task.work.control);
  *objects = static_cast<int64_t>(task.work.control->objects);
  complete(task, *task.work.control, task.work.control->first_bad != kNoBadRow);
}

}  // namespace truths_kernels

// The functions of task.h, which the host calls.
int64_t tiles_per_image(const Task &task, int32_t size) {
  int64_t tiles = 0;
  for (int32_t l = 0; l < task.layer_count; ++l) tiles += tiles_of(task.layers[l].cells, size);
  return tiles;
}

// Asking for the attributes of a kernel makes the runtime load it now; otherwise its first launch would, which is not
// allowed while a stream is captured. It also fails if this build has no code for the device.
int load_truths() {
  cudaFuncAttributes attributes;
  int error = cudaFuncGetAttributes(&attributes, dense_truths_kernel);
  if (!error) error = cudaFuncGetAttributes(&attributes, box_truths_kernel);
  if (!error) error = cudaFuncGetAttributes(&attributes, write_y_true_kernel);
  return error ? error : cudaFuncGetAttributes(&attributes, finish_truths_kernel);
}

int launch_truths(const Task &task, void *stream) {
  if (!launches_truths(task)) return cudaSuccess;
  if (task.layers[0].y_true) {
    const auto blocks = static_cast<int32_t>(tiles_per_image(task, kTruthsTile));
    return launch(dense_truths_kernel, int64_t(task.batch) * blocks, kTile, false, stream, task, blocks);
  }
  const int32_t blocks = task.layer_count;
  return launch(box_truths_kernel, int64_t(task.batch) * blocks, kBoxRows, false, stream, task, blocks);
}

int launch_write_y_true(const Task &task, float *const *y_true, void *stream) {
  Outputs outputs{};
  for (int32_t l = 0; l < task.layer_count; ++l) outputs.y_true[l] = y_true[l];
  const auto blocks = static_cast<int32_t>(tiles_per_image(task, kTile));
  return launch(write_y_true_kernel, int64_t(task.batch) * blocks, kTile, false, stream, task, outputs, blocks);
}

int launch_finish_truths(const Task &task, yl_box_counts *counts, int64_t *objects, void *stream) {
  return launch(finish_truths_kernel, 1, kTile, false, stream, task, counts, objects);
}

}  // namespace yl
