// Stage 3, sum, and the result: the last block of an (image, layer) adds its tiles to a row, the last block of all adds
// the rows to layers and writes the result.
//
// Which block is last depends on the hardware, what it adds does not: tiles along a fixed tree over lanes, rows in the
// order of the images. Tickets tell which one is last; each block counts itself when its partial sum is visible to all.
#pragma once

#include "cuda/statistics.cuh"

namespace yl {

// Adds a field of a row's tiles, by a warp, lanes over tiles; writes it into row, and into copy if that is not NULL.
template <class T>
__device__ inline void sum_tiles(const yl_parts *tiles, int32_t count, int32_t field, yl_parts *row, yl_parts *copy) {
  const auto lane = static_cast<int32_t>(threadIdx.x) % kWarp;
  T value = 0;
#pragma unroll 1  // unrolled, it costs the kernel registers that it does not have
  for (int32_t i = lane; i < count; i += kWarp) value += field_of<T>(tiles[i], field);
  value = warp_sum(value);
  if (lane != 0) return;
  field_of<T>(*row, field) = value;
  if (copy) field_of<T>(*copy, field) = value;
}

// Adds the tiles of a row, a field at a time, so that no thread needs registers for all. The fields are spread over the
// warps, so that few sums follow each other: a call of one image waits for this.
__device__ inline void sum_parts(const yl_parts *tiles, int32_t count, yl_parts *row, yl_parts *copy) {
  for (auto field = static_cast<int32_t>(threadIdx.x) / kWarp; field < kFields; field += kTile / kWarp) {
    if (field < kSums)
      sum_tiles<double>(tiles, count, field, row, copy);
    else
      sum_tiles<int64_t>(tiles, count, field, row, copy);
  }
}

// Adds a field of a layer's rows, in the order of the images, by one thread.
template <class T> __device__ inline void sum_rows(const Task &task, int32_t l, int32_t field) {
  T value = 0;
#pragma unroll 4
  for (int32_t image = 0; image < task.batch; ++image)
    value += field_of<T>(task.work.rows[int64_t(image) * task.layer_count + l], field);
  field_of<T>(task.work.layers[l], field) = value;
}

// Returns what the sums are divided by, once stage 1 has counted the objects.
__device__ inline double normaliser_of(const Task &task) {
  const double value = task.normaliser_at ? *task.normaliser_at : task.normaliser_value;
  return normaliser_of(task.normaliser, value, task.batch, static_cast<int64_t>(task.work.control->objects));
}

// Returns the factor of the gradient.
__device__ inline double gradient_factor(const Task &task) {
  const double scale = task.grad_scale_at ? *task.grad_scale_at : task.grad_scale;
  return scale / normaliser_of(task);
}

// Writes the result from the raw sums of the layers. Called by one thread.
__device__ inline void write_result(const Task &task) {
  const Control &control = *task.work.control;
  const double normaliser = normaliser_of(task);
  summarise(task.work.layers, task.layer_count, normaliser, box_counts(control), *task.result.summary);
  if (task.result.layers)
    for (int32_t l = 0; l < task.layer_count; ++l) task.result.layers[l] = task.work.layers[l];
}

// Adds the extras of the rows and writes them. All threads of the last block take part.
__device__ inline void write_extras(const Task &task) {
  YL_SHARED(Offence, firsts, kMaxCudaLayers);
  const auto l = static_cast<int32_t>(threadIdx.x);
  if (l < task.layer_count) {
    Extra sum = YL_NO_EXTRA;
    for (int32_t image = 0; image < task.batch; ++image)
      add(sum, task.work.row_extras[int64_t(image) * task.layer_count + l]);
    if (task.result.stats) task.result.stats[l] = sum.stats;
    firsts[l] = sum.first;
  }
  __syncthreads();
  if (l != 0 || !task.result.offender) return;
  Offence first = firsts[0];
  for (int32_t i = 1; i < task.layer_count; ++i) meet(first, firsts[i]);
  *task.result.offender = describe(first, task.layers, task.layer_count, task.cells_per_image, task.channels);
}

// Returns whether the block is the last of count that come here. Called by one thread of each. What any thread of a
// block wrote before a barrier that this thread has passed is visible to all threads of the last block after its next
// barrier.
__device__ inline bool take_ticket(unsigned long long *tickets, unsigned long long count) {
  __threadfence();
  const bool last = atomicAdd(tickets, 1ull) == count - 1;
  __threadfence();
  return last;
}

// Adds the row of an (image, layer), by all threads of its last block; the last block of all goes on with the result.
template <bool kExtras> __device__ inline void finish_row(const Task &task, const Tile &tile, bool bad) {
  const Lists lists(task, tile.image, tile.layer);
  YL_SHARED(bool, last, 1);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int64_t row = int64_t(tile.image) * task.layer_count + tile.layer;
  if (!bad)
    sum_parts(task.work.partial_sums + (blockIdx.x - tile.first / kTile), tile.tiles, task.work.rows + row,
              task.result.rows ? task.result.rows + row : nullptr);
  if (kExtras && !bad && thread < kWarp) {
    Extra sum = YL_NO_EXTRA;
    for (int32_t i = thread; i < tile.tiles; i += kWarp)
      add(sum, task.work.partial_extras[blockIdx.x - tile.first / kTile + i]);
    sum = warp_extra(sum);
    if (thread == 0) task.work.row_extras[row] = sum;
  }
  // The cells that a refreshed gradient must clear.
  const int32_t objects = *lists.count;
  const bool gradient = !bad && task.layers[0].grads;
  if (gradient)
    for (int32_t i = thread; i < objects; i += kTile) lists.previous[i] = lists.cells[i];
  __syncthreads();
  if (thread == 0) {
    if (gradient) *lists.previous_count = objects;
    if (!kExtras) *lists.count = 0;  // with extras other layers of the image may still read the list
    *lists.tiles_done = 0;
    last[0] =
        take_ticket(&task.work.control->rows_done, static_cast<unsigned long long>(task.batch) * task.layer_count);
  }
  __syncthreads();
  if (!last[0]) return;
  for (int32_t i = thread; i < task.layer_count * kFields && !bad; i += kTile) {
    const int32_t l = i / kFields, field = i % kFields;
    if (field < kSums)
      sum_rows<double>(task, l, field);
    else
      sum_rows<int64_t>(task, l, field);
  }
  if (kExtras) {
    for (int64_t i = thread; i < int64_t(task.batch) * task.layer_count; i += kTile) task.work.counts[i] = 0;
    if (!bad) write_extras(task);
  }
  __syncthreads();
  if (thread != 0) return;
  if (!bad) write_result(task);
  complete(task);
}

}  // namespace yl
