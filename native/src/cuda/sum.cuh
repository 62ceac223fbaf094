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
template <class T, int32_t kCount>
__device__ inline void sum_tiles(const yl_parts *tiles, int32_t count, int32_t field, int32_t end, yl_parts *row,
                                 yl_parts *copy) {
  const auto lane = static_cast<int32_t>(threadIdx.x) % kWarp;
  T values[kCount] = {};
#pragma unroll 1
  for (int32_t i = lane; i < count; i += kWarp) {
#pragma unroll
    for (int32_t k = 0; k < kCount; ++k)
      if (field + k < end) values[k] += field_of<T>(tiles[i], field + k);
  }
#pragma unroll
  for (int32_t k = 0; k < kCount; ++k) {
    if (field + k >= end) break;
    const T value = warp_sum(values[k]);
    if (lane != 0) continue;
    field_of<T>(*row, field + k) = value;
    if (copy) field_of<T>(*copy, field + k) = value;
  }
}

// Adds the tiles of a row, by all threads of the block: a warp for each sum, and the other warps for the counts, so
// that all loads are under way together: a call of one image waits for them. row is in the workspace, copy is the
// caller's row or NULL.
__device__ inline void sum_parts(const yl_parts *tiles, int32_t count, yl_parts *row, yl_parts *copy) {
  constexpr int32_t kWarpsOfCounts = kTile / kWarp - kSums;
  static_assert(kWarpsOfCounts > 0, "there is a warp for each sum, and one more");
  constexpr int32_t kCountsOfWarp = (kCounts - 1) / kWarpsOfCounts + 1;
  const auto warp = static_cast<int32_t>(threadIdx.x) / kWarp;
  if (warp < kSums)
    sum_tiles<double, 1>(tiles, count, warp, kSums, row, copy);
  else
    sum_tiles<int64_t, kCountsOfWarp>(tiles, count, kSums + (warp - kSums) * kCountsOfWarp, kFields, row, copy);
}

// Returns the number that sums and gradient are divided by, once stage truths has counted the objects. normaliser_at is
// read here, when the kernel runs, so a captured graph sees the value of each replay.
__device__ inline double normaliser_of(const Task &task, const Control &control) {
  const double value = task.normaliser_at ? *task.normaliser_at : task.normaliser_value;
  const bool counts = task.normaliser == YL_NORMALISER_OBJECTS;
  return normaliser_of(task.normaliser, value, task.batch, counts ? static_cast<int64_t>(control.objects) : 0);
}

// Returns the factor of the gradient, grad_scale / normaliser: the host's, unless it depends on device memory.
__device__ inline double gradient_factor(const Task &task, const Control &control) {
  if (!task.factor_on_device) return task.factor;
  const double scale = task.grad_scale_at ? *task.grad_scale_at : task.grad_scale;
  return scale / normaliser_of(task, control);
}

// Adds the rows of all images to layers and writes the result, by all threads of the last block. Thread i has field
// i % kFields of layer i / kFields, and adds it in the order of the images. The block copies the rows to shared memory
// first, many at a time, so that the additions wait for one load instead of each for its own. control: the counters of
// the call.
__device__ inline void write_result(const Task &task, const Control &control) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  constexpr int32_t kCopies = 2;  // four blocks share 64 KB
#else
  constexpr int32_t kCopies = 5;
#endif
  constexpr int32_t kStaged = kCopies * kTile;  // fields
  YL_SHARED(uint64_t, staged, kStaged);
  YL_SHARED(uint64_t, totals, kMaxCudaLayers *kFields);
  static_assert(kMaxCudaLayers * kFields <= kTile, "each field of each layer has a thread");
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t fields = task.layer_count * kFields;
  const bool is_sum = thread % kFields < kSums;
  const auto *rows = reinterpret_cast<const uint64_t *>(task.work.rows);
  const double normaliser = normaliser_of(task, control);
  const yl_box_counts boxes = box_counts(control);
  double sum = 0;
  uint64_t count = 0;
  for (int32_t image = 0; image < task.batch;) {
    const int32_t left = task.batch - image, room = kStaged / fields, images = left < room ? left : room;
    // Orders the additions before the next copies.
    if (image > 0) __syncthreads();
    uint64_t copies[kCopies] = {};
#pragma unroll
    for (int32_t k = 0; k < kCopies; ++k)  // all loads are under way before the first is needed
      if (thread + k * kTile < images * fields) copies[k] = rows[int64_t(image) * fields + thread + k * kTile];
#pragma unroll
    for (int32_t k = 0; k < kCopies; ++k) staged[thread + k * kTile] = copies[k];
    // Orders the copies before the additions.
    __syncthreads();
    for (int32_t i = 0; i < images && thread < fields; ++i) {
      const uint64_t value = staged[i * fields + thread];
      if (is_sum)
        sum += double_of(value);
      else
        count += value;
    }
    image += images;
  }
  if (thread < fields) {
    totals[thread] = is_sum ? bits_of(sum) : count;
    if (task.result.layers)
      reinterpret_cast<uint64_t *>(task.result.layers)[thread] = is_sum ? bits_of(sum / normaliser) : count;
  }
  // Orders the totals of the layers before they are added below.
  __syncthreads();
  yl_summary &summary = *task.result.summary;
  if (thread == 0) {
    const auto sum_at = [&](int32_t l, int32_t field) { return double_of(totals[l * kFields + field]); };
    summary.total = raw_total(task.layer_count, sum_at) / normaliser;
    summary.normaliser = normaliser;
    summary.boxes = boxes;
  }
  const int32_t field = thread - kWarp;  // number of a count, which a thread of another warp adds
  if (field < 0 || field >= kCounts) return;
  uint64_t total = 0;
  for (int32_t l = 0; l < task.layer_count; ++l) total += totals[l * kFields + kSums + field];
  (&summary.objects)[field] = static_cast<int64_t>(total);
}
#define YL_SAME_PLACE(owner, type, field, offset)                                                          \
  static_assert(offsetof(yl_summary, field) - offsetof(yl_summary, objects) == offset - 8 * size_t(kSums), \
                "yl_summary has the counts of yl_parts, in the same order: " #field);
YL_COUNTS_OF_yl_parts(YL_SAME_PLACE)
#undef YL_SAME_PLACE

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
// counter starts at 0. After the last ticket, and one more barrier in its block, all threads of the last block see what
// all blocks wrote before they took theirs (count_up).
__device__ inline bool take_ticket(unsigned long long *tickets, unsigned long long count) {
  return count_up(tickets) == count - 1;
}

// Adds the row of an image and layer, by all threads of its last block; the last block of all goes on with layers and
// result, and leaves the counters as the next call needs them. objects: length of the list; bad: the call is refused,
// so nothing is added or written except the completion.
template <bool kExtras>
__device__ inline void finish_row(const Task &task, const Tile &tile, const Lists &lists, int32_t objects, bool bad) {
  YL_SHARED(bool, last, 1);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int64_t row = int64_t(tile.image) * task.layer_count + tile.layer;
  // The cells of this gradient's objects become the list of those that the next YL_GRAD_REFRESH must clear. A refused
  // call or one without a gradient leaves the older list, because it leaves the gradient too. The load is under way
  // while the tiles are added.
  const bool gradient = !bad && task.layers[0].grads;
  const int32_t listed = gradient && thread < objects ? lists.cells[thread] : 0;
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
  if (gradient && thread < objects) lists.previous[thread] = listed;
  if (gradient)
    for (int32_t i = thread + kTile; i < objects; i += kTile) lists.previous[i] = lists.cells[i];
  // Orders the row, its extras and the list of previous cells before the ticket of thread 0, and the reads of the list
  // before thread 0 resets its length.
  __syncthreads();
  if (thread == 0) {
    if (gradient) lists.counters->previous_count = objects;
    // The counters of this image and layer become 0 for the next call. That is safe because all its blocks have taken
    // their tickets, and a block reads no list afterwards. With extras, blocks of other layers may still read the list
    // (YL_SCOPE_IMAGE), so the last block of all resets the counts instead.
    if (!kExtras) *lists.count = 0;
    lists.counters->tiles_done = 0;
    last[0] =
        take_ticket(&task.work.control->rows_done, static_cast<unsigned long long>(task.batch) * task.layer_count);
  }
  // Makes last[0] visible to all threads, and what other blocks wrote before their tickets.
  __syncthreads();
  if (!last[0]) return;
  if (!bad) write_result(task, *lists.control);
  if (kExtras) {
    for (int64_t i = thread; i < int64_t(task.batch) * task.layer_count; i += kTile)
      task.work.row_counters[i].count = 0;
    if (!bad) write_extras(task);
  }
  // Orders the reads of the counters before thread 0 resets them.
  __syncthreads();
  if (thread == 0) complete(task, *lists.control, bad);
}

}  // namespace yl
