// Stage 2, cells, and the kernels of stages 2 and 3. And yolo_head.
#include "cuda/sum.cuh"

namespace yl {
inline namespace cells_kernels {  // of no name would have one that differs from build to build

// A tile of a call that is refused.
__device__ inline bool pass_tile(const Task &task, const Tile &tile) {
  YL_SHARED(bool, last, 1);
  if (threadIdx.x == 0)
    last[0] = take_ticket(Lists(task, tile.image, tile.layer).tiles_done, static_cast<unsigned long long>(tile.tiles));
  __syncthreads();
  return last[0];
}

// Returns whether the block is the last of its (image, layer).
template <class F, bool kGradient, bool kExtras> __device__ inline bool tile_cells(const Task &task, const Tile &tile) {
  using T = typename F::Number;
  const Lists lists(task, tile.image, tile.layer);
  constexpr int32_t kList = 64;  // objects in shared memory at a time
  YL_SHARED(Box<float>, truths, kList);
  YL_SHARED(Zone<T>, zones, kList);
  YL_SHARED(int32_t, cells, kList);
  YL_SHARED(T, slopes, kTile);
  YL_SHARED(uint32_t, object_bits, kTile / kWarp);
  YL_SHARED(double, warp_sums, kTile / kWarp * kSums);
  YL_SHARED(int32_t, warp_counts, kTile / kWarp * kSums);
  YL_SHARED(Extra, warp_extras, kExtras ? kTile / kWarp : 1);
  YL_SHARED(bool, last, 1);

  const LayerTask &layer = task.layers[tile.layer];
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t lane = thread % kWarp, warp = thread / kWarp;
  const F format(layer, task.channels, tile.image, task.f32_grads);
  const bool inside = thread < tile.count;
  const int32_t cell = format.cell_of(tile.first + (inside ? thread : 0));
  const T objectness = inside ? format.read(cell, 4) : T(0);
  const int32_t objects = *lists.count;
  const bool gradient = kExtras ? layer.grads != nullptr : kGradient;
  const bool every_iou = kExtras && layer.best_iou;

  // The ignore factor, and whether the cell is an object.
  bool ignored = false, decoded = false;
  int32_t object = -1;  // place in the list
  Cell<T> place{};
  Box<T> box{};
  T best = 0;
  const bool whole_image = kExtras && task.rules.image_scope;
  if (objects > 0 || whole_image) place = formula_cell<T>(layer, cell);
  for (int32_t l = whole_image ? 0 : tile.layer; l <= (whole_image ? task.layer_count - 1 : tile.layer); ++l) {
    const Lists there = kExtras ? Lists(task, tile.image, l) : lists;
    const int32_t listed = kExtras ? *there.count : objects;
    for (int32_t first = 0; first < listed; first += kList) {
      const int32_t count = listed - first < kList ? listed - first : kList;
      if (first > 0 || whole_image) __syncthreads();  // all have done with the list before
      if (thread < count) {
        const Box<float> truth = there.truths[first + thread];
        truths[thread] = truth;
        zones[thread] = zone_of(as<T>(truth), T(layer.ignore_thresh), place.grid_width, place.grid_height);
        cells[thread] = l == tile.layer ? there.cells[first + thread] : -1;
      }
      __syncthreads();
      for (int32_t i = 0; i < count && inside; ++i) {
        if (cells[i] == cell) object = first + i;
        const Zone<T> zone = zones[i];
        if (!every_iou && (ignored || !in_zone(zone, place.column, place.row))) continue;
        if (!decoded) box = decode(box_logits(format, cell), place);
        decoded = true;
        const Box<float> truth = truths[i];
        ignored |= reaches(box, as<T>(truth), T(layer.ignore_thresh));
        if (kExtras) best = larger(iou(box, as<T>(truth)), best);
      }
    }
  }
  const int64_t exported = int64_t(tile.image) * layer.cells + tile.first + thread;
  if (every_iou && inside) layer.best_iou[exported] = static_cast<float>(best);

  // Background: the confidence part.
  const T factor = gradient ? static_cast<T>(gradient_factor(task)) : T(0);
  const bool background = inside && object < 0;
  Term<T> confidence{0, 0};
  if (background) confidence = confidence_loss(T(0), ignored ? T(0) : T(1), objectness);
  if (kExtras) confidence = weighted(confidence, T(task.rules.weight_background));
  const T slope = confidence.slope * factor;
  if (gradient) slopes[thread] = slope;
  yl_parts sum{};
  Extra extra = YL_NO_EXTRA;
  sum.confidence_background = warp_sum(static_cast<double>(confidence.loss));
  Faults faults{background && !finite(objectness), 0};
  bool lost = false;  // not finite as stored
  if (gradient && background && task.grad_mode == YL_GRAD_OVERWRITE) lost = !format.fits(slope);
  if (kExtras) {
    if (task.scan_all) faults.non_finite = inside ? scan(task, layer, format, tile.image, cell, extra.first) : 0;
    if (background) export_cell(layer, exported, ignored, confidence.loss);
  }

  // Objects, each by the warp that has its cell.
  const unsigned object_lanes = __ballot_sync(kAllLanes, object >= 0);
  const unsigned ignored_lanes = __ballot_sync(kAllLanes, ignored);
  for (unsigned left = object_lanes; left != 0; left &= left - 1) {
    const int32_t source = __ffs(static_cast<int>(left)) - 1;
    object_cells<F, kGradient, kExtras>(task, layer, lists, format, tile.image, __shfl_sync(kAllLanes, cell, source),
                                        __shfl_sync(kAllLanes, object, source), ignored_lanes >> source & 1,
                                        exported - lane + source, factor, sum, faults, kExtras ? &extra : nullptr);
  }

  // Where the gradient of background is not written as a whole: its objectness, and rows that the previous gradient left as
  // objects'.
  if (gradient && task.grad_mode != YL_GRAD_OVERWRITE) {
    if (background) lost = !format.write(cell, 4, slope, task.grad_mode == YL_GRAD_ACCUMULATE);
    bool stale = false;
    const int32_t previous = task.grad_mode == YL_GRAD_REFRESH ? *lists.previous_count : 0;
    for (int32_t i = 0; i < previous; ++i) stale |= lists.previous[i] == cell;
    for (unsigned left = __ballot_sync(kAllLanes, stale && background); left != 0; left &= left - 1) {
      const int32_t row = __shfl_sync(kAllLanes, cell, __ffs(static_cast<int>(left)) - 1);
      for (int32_t channel = lane; channel < task.channels; channel += kWarp)
        if (channel != 4) format.write(row, channel, 0, false);
    }
  }
  faults.found_inf += lost;
  if (kExtras) {
    if (background) {
      ++extra.stats.background;
      extra.stats.objectness_background += sigmoid(objectness);
      if (gradient) extra.stats.grad_background += square(slope);
      if (!finite(objectness))
        note(task, layer, tile.image, cell, 4, YL_CAUSE_FEATS, objectness, 0, extra.first);
      else if (lost)
        note(task, layer, tile.image, cell, 4, YL_CAUSE_OVERFLOW, objectness, slope, extra.first);
    }
    extra = warp_extra(extra);
    if (lane == 0) warp_extras[warp] = extra;
  }

  if (object_lanes != 0) sum.class_ = warp_sum(sum.class_);
  if (__any_sync(kAllLanes, (faults.non_finite | faults.found_inf) != 0)) {
    faults.non_finite = warp_sum(faults.non_finite);
    faults.found_inf = warp_sum(faults.found_inf);
  }
  if (lane == 0) {
    object_bits[warp] = object_lanes;
    const double sums[] = {sum.xy, sum.wh, sum.confidence_object, sum.confidence_background, sum.class_};
    const int32_t counts[] = {__popc(object_lanes), __popc(ignored_lanes), __popc(ignored_lanes & ~object_lanes),
                              faults.non_finite, faults.found_inf};
#pragma unroll
    for (int32_t field = 0; field < kSums; ++field) {
      warp_sums[warp * kSums + field] = sums[field];
      warp_counts[warp * kSums + field] = counts[field];
    }
  }
  __syncthreads();  // slopes, bits and sums are written; and, over feats, everything of the tile but objects' rows is read
  if (thread < kSums) {
    double total = 0;
    int32_t count = 0;
#pragma unroll 1
    for (int32_t w = 0; w < kTile / kWarp; ++w) {
      total += warp_sums[w * kSums + thread];
      count += warp_counts[w * kSums + thread];
    }
    field_of<double>(task.work.partial_sums[blockIdx.x], thread) = total;
    field_of<int64_t>(task.work.partial_sums[blockIdx.x], kSums + thread) = count;
  }
  if (warp == 0) __syncwarp();
  if (thread == 0) {
    if (kExtras) {
      Extra together = warp_extras[0];
      for (int32_t w = 1; w < kTile / kWarp; ++w) {
        const Extra part = warp_extras[w];
        add(together, part);
      }
      task.work.partial_extras[blockIdx.x] = together;
    }
    last[0] =
        take_ticket(lists.tiles_done, static_cast<unsigned long long>(tile.tiles));  // the other warps go on meanwhile
  }
  if (gradient && task.grad_mode == YL_GRAD_OVERWRITE)
    format.write_background(tile.first, tile.count, slopes, objects > 0, object_bits);
  __syncthreads();
  return last[0];
}

// Four blocks a multiprocessor: 64 registers. With extras two, in double one.
template <class F, bool kGradient, bool kExtras>
__global__ void __launch_bounds__(kTile, !kExtras                          ? 4
                                         : sizeof(typename F::Number) == 4 ? 2
                                                                           : 1)
    cells_kernel(const __grid_constant__ Task task, int32_t blocks_per_image) {
  const Tile tile = tile_of_block(task, blocks_per_image, kTile);
  const bool bad = task.work.control->first_bad != kNoBadRow;
  const bool last = bad ? pass_tile(task, tile) : tile_cells<F, kGradient, kExtras>(task, tile);
  if (last) finish_row<kExtras>(task, tile, bad);
}

// ---- yolo_head -------------------------------------------------------------------------------------------------------

template <class F>
__global__ void __launch_bounds__(kTile)
    decode_kernel(const __grid_constant__ LayerTask layer, const yl_head head, int32_t num_classes, int64_t cells) {
  using T = typename F::Number;
  const int64_t at = int64_t(blockIdx.x) * kTile + threadIdx.x;
  if (at >= cells) return;
  const auto cell = static_cast<int32_t>(at % layer.cells);
  const F format(layer, 5 + num_classes, static_cast<int32_t>(at / layer.cells), false);
  const Cell<T> place = formula_cell<T>(layer, cell);
  const Box<T> box = decode(box_logits(format, cell), place);
  if (head.grid && at < int64_t(layer.height) * layer.width) {
    head.grid[2 * at] = static_cast<float>(at % layer.width);
    head.grid[2 * at + 1] = static_cast<float>(at / layer.width);
  }
  if (head.box_xy) {
    head.box_xy[2 * at] = static_cast<float>(box.x);
    head.box_xy[2 * at + 1] = static_cast<float>(box.y);
  }
  if (head.box_wh) {
    head.box_wh[2 * at] = static_cast<float>(box.w);
    head.box_wh[2 * at + 1] = static_cast<float>(box.h);
  }
  if (head.box_confidence) head.box_confidence[at] = static_cast<float>(sigmoid(format.read(cell, 4)));
  if (!head.box_class_probs) return;
  for (int32_t c = 0; c < num_classes; ++c)
    head.box_class_probs[at * num_classes + c] = static_cast<float>(sigmoid(format.read(cell, 5 + c)));
}

// ---- which kernel ----------------------------------------------------------------------------------------------------

struct Kernels {
  void (*loss)(const Task, int32_t), (*gradient)(const Task, int32_t), (*extras)(const Task, int32_t);
  void (*decode)(const LayerTask, const yl_head, int32_t, int64_t);
};

template <class Value, bool kPlanar> Kernels kernels_in() {
  using F = Format<Value, kPlanar>;
  return {cells_kernel<F, false, false>, cells_kernel<F, true, false>, cells_kernel<F, true, true>, decode_kernel<F>};
}

// Double takes one kernel for all: it is for comparisons, not for speed.
template <bool kPlanar> Kernels kernels_in_double() {
  using F = Format<double, kPlanar>;
  const auto any = cells_kernel<F, true, true>;
  return {any, any, any, decode_kernel<F>};
}

template <bool kPlanar> Kernels kernels_of(int32_t dtype) {
  switch (dtype) {
    case YL_F16: return kernels_in<Half, kPlanar>();
    case YL_BF16: return kernels_in<Bfloat16, kPlanar>();
    case YL_F64: return kernels_in_double<kPlanar>();
    default: return kernels_in<float, kPlanar>();
  }
}

Kernels kernels_of(const Task &task) {
  return task.layout == YL_NCHW ? kernels_of<true>(task.dtype) : kernels_of<false>(task.dtype);
}

}  // namespace cells_kernels

int load_cells(const Task &task) {
  const Kernels kernels = kernels_of(task);
  cudaFuncAttributes attributes;
  for (const auto kernel : {kernels.loss, kernels.gradient, kernels.extras})
    if (const int error = cudaFuncGetAttributes(&attributes, kernel)) return error;
  return cudaSuccess;
}

int launch_cells(const Task &task, void *stream) {
  const auto blocks = static_cast<int32_t>(tiles_per_image(task, kTile));
  const Kernels kernels = kernels_of(task);
  const auto kernel = task.extras ? kernels.extras : task.layers[0].grads ? kernels.gradient : kernels.loss;
  return launch(kernel, int64_t(task.batch) * blocks, kTile, stream, task, blocks);
}

int launch_yolo_head(const Task &task, const yl_head &head, void *stream) {
  LayerTask layer = task.layers[head.layer];
  layer.feats = head.feats;
  layer.grads = nullptr;
  const int64_t cells = int64_t(head.batch) * layer.cells;
  return launch(kernels_of(task).decode, (cells - 1) / kTile + 1, kTile, stream, layer, head, task.channels - 5, cells);
}

}  // namespace yl
