// Stages sum and result on the device: the last block of an image and layer adds its tiles to a row, and the last block
// of all adds the rows to layers and writes the result. This saves a third launch, whose latency a call of few images
// would feel.
//
// Which block is last depends on the hardware; what it adds does not: tiles along a fixed tree over lanes, rows in the
// order of the images. A ticket shows a block that it is the last one: each block takes one when its partial sum is
// visible to all, and the block that takes the last ticket may read all partial sums. layer_sums.h has the same sums
// for the host.
#pragma once

#include "cuda/statistics.cuh"

namespace yl {

// Adds one field of a row's tiles, by a warp: lane i adds the tiles i, i + 32, ..., and warp_sum adds the lanes. The
// first lane writes the sum into row, and into copy (the caller's row) unless that is NULL. All lanes must call it. The
// loop stays rolled: unrolled, it costs the kernel registers that it does not have.
template <class T>
__device__ inline void sum_tiles(const yl_parts *tiles, int32_t count, int32_t field, yl_parts *row, yl_parts *copy) {
  const auto lane = static_cast<int32_t>(threadIdx.x) % kWarp;
  T value = 0;
#pragma unroll 1
  for (int32_t i = lane; i < count; i += kWarp) value += field_of<T>(tiles[i], field);
  value = warp_sum(value);
  if (lane != 0) return;
  field_of<T>(*row, field) = value;
  if (copy) field_of<T>(*copy, field) = value;
}

// Adds the tiles of a row, a field at a time, so that no thread needs registers for all ten. The fields are spread over
// the eight warps, so that few sums follow each other: a call of one image waits for this. All threads of the block
// must call it. row is in the workspace, copy is the caller's row or NULL.
__device__ inline void sum_parts(const yl_parts *tiles, int32_t count, yl_parts *row, yl_parts *copy) {
  for (auto field = static_cast<int32_t>(threadIdx.x) / kWarp; field < kFields; field += kTile / kWarp) {
    if (field < kSums)
      sum_tiles<double>(tiles, count, field, row, copy);
    else
      sum_tiles<int64_t>(tiles, count, field, row, copy);
  }
}

// Adds one field of a layer's rows, in the order of the images, by one thread. Four loads are under way at a time.
template <class T> __device__ inline void sum_rows(const Task &task, int32_t l, int32_t field) {
  T value = 0;
#pragma unroll 4
  for (int32_t image = 0; image < task.batch; ++image)
    value += field_of<T>(task.work.rows[int64_t(image) * task.layer_count + l], field);
  field_of<T>(task.work.layers[l], field) = value;
}

// Returns the number that sums and gradient are divided by, once stage truths has counted the objects. normaliser_at is
// read here, when the kernel runs, so a captured graph sees the value of each replay.
__device__ inline double normaliser_of(const Task &task) {
  const double value = task.normaliser_at ? *task.normaliser_at : task.normaliser_value;
  return normaliser_of(task.normaliser, value, task.batch, static_cast<int64_t>(task.work.control->objects));
}

// Returns the factor of the gradient, grad_scale / normaliser.
__device__ inline double gradient_factor(const Task &task) {
  const double scale = task.grad_scale_at ? *task.grad_scale_at : task.grad_scale;
  return scale / normaliser_of(task);
}

// Writes summary and layers from the raw sums of the layers, and divides them by the normaliser. Called by one thread
// of the last block. Rows have been written by sum_parts already.
__device__ inline void write_result(const Task &task) {
  const Control &control = *task.work.control;
  const double normaliser = normaliser_of(task);
  summarise(task.work.layers, task.layer_count, normaliser, box_counts(control), *task.result.summary);
  if (task.result.layers)
    for (int32_t l = 0; l < task.layer_count; ++l) task.result.layers[l] = task.work.layers[l];
}

// Adds the extras of the rows, in the order of the images, and writes the caller's statistics and offender. Thread l
// adds layer l. All threads of the last block must call it; the barrier orders the writes of firsts before thread 0
// reads them. The smallest key is the first offender, whatever the order of comparison.
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

// Takes a ticket and returns whether it is the last of count. Called by one thread of each block that comes here; the
// counter starts at 0.
//
// The first __threadfence makes the block's results visible to the device before the ticket is. It covers what other
// threads of the block wrote as well, if this thread has passed a barrier behind those writes. The second __threadfence
// keeps the reads that follow from being served by values from before the ticket. So after the last ticket, and after
// one more barrier in its block, all threads of the last block see what all blocks wrote.
__device__ inline bool take_ticket(unsigned long long *tickets, unsigned long long count) {
  __threadfence();
  const bool last = atomicAdd(tickets, 1ull) == count - 1;
  __threadfence();
  return last;
}

// Adds the row of an image and layer, by all threads of its last block; the last block of all goes on with layers and
// result, and leaves the counters as the next call needs them. bad: the call is refused, so nothing is added or written
// except the completion.
template <bool kExtras> __device__ inline void finish_row(const Task &task, const Tile &tile, bool bad) {
  const Lists lists(task, tile.image, tile.layer);
  YL_SHARED(bool, last, 1);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int64_t row = int64_t(tile.image) * task.layer_count + tile.layer;
  if (!bad)
    sum_parts(task.work.partial_sums + (blockIdx.x - tile.first / kTile), tile.tiles, task.work.rows + row,
              task.result.rows ? task.result.rows + row : nullptr);
  // Warp 0 adds the extras of the tiles, along a tree like that of sum_tiles.
  if (kExtras && !bad && thread < kWarp) {
    Extra sum = YL_NO_EXTRA;
    for (int32_t i = thread; i < tile.tiles; i += kWarp)
      add(sum, task.work.partial_extras[blockIdx.x - tile.first / kTile + i]);
    sum = warp_extra(sum);
    if (thread == 0) task.work.row_extras[row] = sum;
  }
  // The cells of this gradient's objects become the list of those that the next YL_GRAD_REFRESH must clear. A refused
  // call or one without a gradient leaves the older list, because it leaves the gradient too.
  const int32_t objects = *lists.count;
  const bool gradient = !bad && task.layers[0].grads;
  if (gradient)
    for (int32_t i = thread; i < objects; i += kTile) lists.previous[i] = lists.cells[i];
  // This barrier orders two things before what thread 0 does next. All threads have read the length of the list, which
  // thread 0 now resets. And the row, its extras and the list of previous cells are written, so that the fence in
  // take_ticket covers them.
  __syncthreads();
  if (thread == 0) {
    if (gradient) *lists.previous_count = objects;
    // The counters of this image and layer become 0 for the next call. That is safe because all its blocks have taken
    // their tickets, and a block reads no list afterwards. With extras, blocks of other layers may still read the list
    // (YL_SCOPE_IMAGE), so the last block of all resets the counts instead.
    if (!kExtras) *lists.count = 0;
    *lists.tiles_done = 0;
    last[0] =
        take_ticket(&task.work.control->rows_done, static_cast<unsigned long long>(task.batch) * task.layer_count);
  }
  // Makes last[0] visible to all threads, and what other blocks wrote before their tickets.
  __syncthreads();
  if (!last[0]) return;
  // Each thread adds one field of one layer at a time.
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
  // Orders the sums of the layers, which several threads wrote, before thread 0 reads them.
  __syncthreads();
  if (thread != 0) return;
  if (!bad) write_result(task);
  complete(task);
}

}  // namespace yl
