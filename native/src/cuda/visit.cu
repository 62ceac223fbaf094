// Stages 2 and 3, cells and sums. And yolo_head.
#include "cuda/format.h"
#include "sums.h"

namespace yl {
namespace {

__device__ inline Cell<float> cell_at(const LayerTask &layer, int32_t cell) {
  const int32_t anchor = cell % layer.anchors, place = cell / layer.anchors;
  return {static_cast<float>(place % layer.width), static_cast<float>(place / layer.width),
          static_cast<float>(layer.width),         static_cast<float>(layer.height),
          layer.anchor_sizes[2 * anchor],          layer.anchor_sizes[2 * anchor + 1]};
}

template <class Format> __device__ inline Box<float> box_logits(const Format &format, int32_t cell) {
  return {format.read(cell, 0), format.read(cell, 1), format.read(cell, 2), format.read(cell, 3)};
}

__device__ inline float gradient_factor(const Task &task) {
  const double value = task.normaliser_at ? *task.normaliser_at : task.normaliser_value;
  const double scale = task.grad_scale_at ? *task.grad_scale_at : task.grad_scale;
  const auto objects = static_cast<int64_t>(task.work.control->objects);
  return static_cast<float>(scale / normaliser_of(task.normaliser, value, task.batch, objects));
}

// The row of an object, by a warp, lanes over channels: its parts into sum (those of classes lane by lane, the others in
// every lane alike), its gradient.
template <class Format, bool kGradient>
__device__ inline void visit_object(const Task &task, const LayerTask &layer, const Lists &lists, const Format &format,
                                    int32_t image, int32_t cell, const Box<float> &truth, float k, float factor,
                                    yl_parts &sum) {
  const auto lane = static_cast<int32_t>(threadIdx.x) % kWarp;
  const float m = target_of(task, layer, lists, image, cell, 4);
  const Box<float> logits = box_logits(format, cell);
  const float objectness = format.read(cell, 4);
  const BoxLoss<float> box = box_loss(truth, m, logits, cell_at(layer, cell));
  const Term<float> confidence = confidence_loss(m, k, objectness);
  sum.xy += box.xy;
  sum.wh += box.wh;
  sum.confidence_object += confidence.loss;
  if (lane == 0) {
    sum.non_finite += !finite(logits.x) + !finite(logits.y) + !finite(logits.w) + !finite(logits.h) +
                      !finite(objectness) + !finite(truth.x) + !finite(truth.y) + !finite(truth.w) + !finite(truth.h) +
                      !finite(m);
  }
  __syncwarp();  // the gradient may lie over feats: all lanes have read what the next lines write
  if (kGradient && lane < 5) {
    const float slope = lane == 0   ? box.slope.x
                        : lane == 1 ? box.slope.y
                        : lane == 2 ? box.slope.w
                        : lane == 3 ? box.slope.h
                                    : confidence.slope;
    format.write(cell, lane, slope * factor);
  }
  for (int32_t channel = 5 + lane; channel < task.channels; channel += kWarp) {
    const float y = target_of(task, layer, lists, image, cell, channel), logit = format.read(cell, channel);
    const Term<float> term = class_loss(m, y, logit);
    sum.class_ += term.loss;
    sum.non_finite += !finite(logit) + !finite(y);
    if (kGradient) format.write(cell, channel, term.slope * factor);
  }
}

// ---- stage 3 ---------------------------------------------------------------------------------------------------------

// The sum of a field of parts, by one warp of the block, lanes over parts; into row, and into copy if it is not NULL.
template <class T>
__device__ inline void sum_field(int32_t by_warp, const yl_parts *parts, int32_t count, T yl_parts::*field,
                                 yl_parts *row, yl_parts *copy) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  if (thread / kWarp != by_warp) return;
  T value = 0;
#pragma unroll 1  // unrolled, it costs the kernel registers that it does not have
  for (int32_t i = thread % kWarp; i < count; i += kWarp) value += parts[i].*field;
  value = warp_sum(value);
  if (thread % kWarp != 0) return;
  row->*field = value;
  if (copy) copy->*field = value;
}

// Fields are spread over the warps, so that few sums follow each other: a call of one image waits for this.
__device__ inline void sum_parts(const yl_parts *parts, int32_t count, yl_parts *row, yl_parts *copy) {
  sum_field(0, parts, count, &yl_parts::xy, row, copy);
  sum_field(1, parts, count, &yl_parts::wh, row, copy);
  sum_field(2, parts, count, &yl_parts::confidence_object, row, copy);
  sum_field(3, parts, count, &yl_parts::confidence_background, row, copy);
  sum_field(4, parts, count, &yl_parts::class_, row, copy);
  sum_field(5, parts, count, &yl_parts::objects, row, copy);
  sum_field(6, parts, count, &yl_parts::ignored, row, copy);
  sum_field(7, parts, count, &yl_parts::ignored_background, row, copy);
  sum_field(0, parts, count, &yl_parts::non_finite, row, copy);
}

// By one thread: layers are the raw sums.
__device__ inline void give_result(const Task &task) {
  const Control &control = *task.work.control;
  const double value = task.normaliser_at ? *task.normaliser_at : task.normaliser_value;
  const double normaliser = normaliser_of(task.normaliser, value, task.batch, static_cast<int64_t>(control.objects));
  const yl_summary summary = summarise(task.work.layers, task.layer_count, normaliser, box_counts(control));
  if (task.result.summary) *task.result.summary = summary;
  if (task.result.layers)
    for (int32_t l = 0; l < task.layer_count; ++l) task.result.layers[l] = task.work.layers[l];
}

// By one thread, for its block: whether it is the last of count that come here. What any thread of a block wrote before a
// barrier that this thread has passed, all threads of the last block see after a barrier that follows.
__device__ inline bool take_ticket(unsigned long long *tickets, unsigned long long count) {
  __threadfence();
  const bool last = atomicAdd(tickets, 1ull) == count - 1;
  __threadfence();
  return last;
}

// By all threads of the last block of an (image, layer): its row; and, of the last block of all, the result.
__device__ inline void finish_row(const Task &task, const Tile &tile, bool bad) {
  const Lists lists(task, tile.image, tile.layer);
  YL_SHARED(bool, last, 1);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int64_t row = int64_t(tile.image) * task.layer_count + tile.layer;
  if (!bad)
    sum_parts(task.work.partial_sums + (blockIdx.x - tile.first / kTile), tile.tiles, task.work.rows + row,
              task.result.rows ? task.result.rows + row : nullptr);
  // The cells that a refreshed gradient must clear.
  const int32_t objects = *lists.count;
  const bool gradient = !bad && task.layers[0].grads;
  if (gradient)
    for (int32_t i = thread; i < objects; i += kTile) lists.previous[i] = lists.cells[i];
  __syncthreads();
  if (thread == 0) {
    if (gradient) *lists.previous_count = objects;
    *lists.count = 0;
    *lists.tiles_done = 0;
    last[0] =
        take_ticket(&task.work.control->rows_done, static_cast<unsigned long long>(task.batch) * task.layer_count);
  }
  __syncthreads();
  if (!last[0]) return;
  for (int32_t l = thread; l < task.layer_count && !bad; l += kTile)
    task.work.layers[l] = layer_sum(task.work.rows, task.batch, task.layer_count, l);
  __syncthreads();
  if (thread != 0) return;
  if (!bad) give_result(task);
  complete(task);
}

// A tile of a call that is refused.
__device__ inline bool pass_tile(const Task &task, const Tile &tile) {
  YL_SHARED(bool, last, 1);
  if (threadIdx.x == 0)
    last[0] = take_ticket(Lists(task, tile.image, tile.layer).tiles_done, static_cast<unsigned long long>(tile.tiles));
  __syncthreads();
  return last[0];
}

// Returns whether the block is the last of its (image, layer).
template <class Format, bool kGradient> __device__ inline bool visit_tile(const Task &task, const Tile &tile) {
  const Lists lists(task, tile.image, tile.layer);
  constexpr int32_t kList = 64;  // objects in shared memory at a time
  YL_SHARED(Box<float>, truths, kList);
  YL_SHARED(Zone<float>, zones, kList);
  YL_SHARED(int32_t, cells, kList);
  YL_SHARED(float, slopes, kTile);
  YL_SHARED(uint32_t, object_bits, kTile / kWarp);
  YL_SHARED(yl_parts, warp_sums, kTile / kWarp);
  YL_SHARED(bool, last, 1);

  const LayerTask &layer = task.layers[tile.layer];
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t lane = thread % kWarp, warp = thread / kWarp;
  const int32_t cell = tile.first + thread;
  const bool inside = thread < tile.count;
  const Format format(layer, task.channels, tile.image);
  const float objectness = inside ? format.read(cell, 4) : 0.0f;
  const int32_t objects = *lists.count;

  // The ignore factor, and whether the cell is an object.
  bool ignored = false, decoded = false;
  int32_t object = -1;  // place in the list
  Cell<float> place{};
  Box<float> box{};
  if (objects > 0) place = cell_at(layer, inside ? cell : tile.first);
  for (int32_t first = 0; first < objects; first += kList) {
    const int32_t count = objects - first < kList ? objects - first : kList;
    if (first > 0) __syncthreads();  // all have done with the list before
    if (thread < count) {
      const Box<float> truth = lists.truths[first + thread];
      truths[thread] = truth;
      zones[thread] = zone_of(truth, task.ignore_thresh, place.grid_width, place.grid_height);
      cells[thread] = lists.cells[first + thread];
    }
    __syncthreads();
    for (int32_t i = 0; i < count && inside; ++i) {
      if (cells[i] == cell) object = first + i;
      const Zone<float> zone = zones[i];
      if (ignored || !in_zone(zone, place.column, place.row)) continue;
      if (!decoded) box = decode(box_logits(format, cell), place);
      decoded = true;
      const Box<float> truth = truths[i];
      ignored = iou(box, truth) >= task.ignore_thresh;
    }
  }

  // Background: the confidence part.
  const float factor = kGradient ? gradient_factor(task) : 0.0f;
  const bool background = inside && object < 0;
  Term<float> confidence{0, 0};
  if (background) confidence = confidence_loss(0.0f, ignored ? 0.0f : 1.0f, objectness);
  const float slope = confidence.slope * factor;
  if (kGradient) slopes[thread] = slope;
  yl_parts sum{};
  sum.confidence_background = warp_sum(static_cast<double>(confidence.loss));
  sum.non_finite = background && !finite(objectness);

  // Objects, each by the warp that has its cell.
  const unsigned object_lanes = __ballot_sync(kAllLanes, object >= 0);
  const unsigned ignored_lanes = __ballot_sync(kAllLanes, ignored);
  for (unsigned left = object_lanes; left != 0; left &= left - 1) {
    const int32_t source = __ffs(static_cast<int>(left)) - 1;
    const int32_t at = __shfl_sync(kAllLanes, object, source);
    visit_object<Format, kGradient>(task, layer, lists, format, tile.image, cell - lane + source, lists.truths[at],
                                    ignored_lanes >> source & 1 ? 0.0f : 1.0f, factor, sum);
  }
  if (object_lanes != 0) sum.class_ = warp_sum(sum.class_);
  if (__any_sync(kAllLanes, sum.non_finite != 0)) sum.non_finite = warp_sum(sum.non_finite);
  sum.objects = __popc(object_lanes);
  sum.ignored = __popc(ignored_lanes);
  sum.ignored_background = __popc(ignored_lanes & ~object_lanes);
  if (lane == 0) {
    object_bits[warp] = object_lanes;
    warp_sums[warp] = sum;
  }

  // Rows that the previous gradient left as objects'.
  if (kGradient && task.refresh) {
    if (background) format.write(cell, 4, slope);
    bool stale = false;
    for (int32_t i = 0, count = *lists.previous_count; i < count; ++i) stale |= lists.previous[i] == cell;
    for (unsigned left = __ballot_sync(kAllLanes, stale && background); left != 0; left &= left - 1) {
      const int32_t row = cell - lane + __ffs(static_cast<int>(left)) - 1;
      for (int32_t channel = lane; channel < task.channels; channel += kWarp)
        if (channel != 4) format.write(row, channel, 0);
    }
  }
  __syncthreads();  // slopes, bits and sums are written; and, over feats, everything of the tile but objects' rows is read
  if (thread == 0) {
    yl_parts total = warp_sums[0];
    for (int32_t w = 1; w < kTile / kWarp; ++w) {
      const yl_parts part = warp_sums[w];
      add(total, part);
    }
    task.work.partial_sums[blockIdx.x] = total;
    last[0] =
        take_ticket(lists.tiles_done, static_cast<unsigned long long>(tile.tiles));  // the other warps go on meanwhile
  }
  if (kGradient && !task.refresh) format.write_background(tile.first, tile.count, slopes, objects > 0, object_bits);
  __syncthreads();
  return last[0];
}

// Four blocks a multiprocessor: 64 registers, which it takes without spilling.
template <class Format, bool kGradient>
__global__ void __launch_bounds__(kTile, 4) visit_cells(const __grid_constant__ Task task, int32_t blocks_per_image) {
  const Tile tile = tile_of_block(task, blocks_per_image, kTile);
  const bool bad = task.work.control->first_bad != kNoBadRow;
  const bool last = bad ? pass_tile(task, tile) : visit_tile<Format, kGradient>(task, tile);
  if (last) finish_row(task, tile, bad);
}

// ---- yolo_head -------------------------------------------------------------------------------------------------------

template <class Format>
__global__ void __launch_bounds__(kTile)
    decode_cells(const __grid_constant__ LayerTask layer, const yl_head head, int32_t num_classes, int64_t cells) {
  const int64_t at = int64_t(blockIdx.x) * kTile + threadIdx.x;
  if (at >= cells) return;
  const auto cell = static_cast<int32_t>(at % layer.cells);
  const Format format(layer, 5 + num_classes, static_cast<int32_t>(at / layer.cells));
  const Cell<float> place = cell_at(layer, cell);
  const Box<float> box = decode(box_logits(format, cell), place);
  if (head.grid && at < int64_t(layer.height) * layer.width) {
    head.grid[2 * at] = static_cast<float>(at % layer.width);
    head.grid[2 * at + 1] = static_cast<float>(at / layer.width);
  }
  if (head.box_xy) {
    head.box_xy[2 * at] = box.x;
    head.box_xy[2 * at + 1] = box.y;
  }
  if (head.box_wh) {
    head.box_wh[2 * at] = box.w;
    head.box_wh[2 * at + 1] = box.h;
  }
  if (head.box_confidence) head.box_confidence[at] = sigmoid(format.read(cell, 4));
  if (!head.box_class_probs) return;
  for (int32_t c = 0; c < num_classes; ++c)
    head.box_class_probs[at * num_classes + c] = sigmoid(format.read(cell, 5 + c));
}

}  // namespace

int load_visit() {
  cudaFuncAttributes attributes;
  const int error = cudaFuncGetAttributes(&attributes, visit_cells<Nhwc<float>, false>);
  return error ? error : cudaFuncGetAttributes(&attributes, visit_cells<Nhwc<float>, true>);
}

int launch_visit(const Task &task, void *stream) {
  const auto blocks = static_cast<int32_t>(tiles_per_image(task, kTile));
  const auto kernel = task.layers[0].grads ? visit_cells<Nhwc<float>, true> : visit_cells<Nhwc<float>, false>;
  return launch(kernel, int64_t(task.batch) * blocks, kTile, stream, task, blocks);
}

int launch_yolo_head(const Task &task, const yl_head &head, void *stream) {
  LayerTask layer = task.layers[head.layer];
  layer.feats = head.feats;
  layer.grads = nullptr;
  const int64_t cells = int64_t(head.batch) * layer.cells;
  return launch(decode_cells<Nhwc<float>>, (cells - 1) / kTile + 1, kTile, stream, layer, head, task.rules.num_classes,
                cells);
}

}  // namespace yl
