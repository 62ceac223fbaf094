// Stage 2, cells: each cell once; and the kernel of stages 2 and 3. And yolo_head.
//
// A block has a tile, a thread for each cell: compare_with_objects finds the ignore factor, the thread computes the
// confidence of a background cell, the warp that has an object computes its row (object.cuh), and the block writes the
// gradient of the background as a whole (feats.cuh). Then the block adds its sums, and the last one goes on with
// sum.cuh.
#include "cuda/object.cuh"
#include "cuda/sum.cuh"
#include "head.h"

namespace yl {
inline namespace cells_kernels {  // not an anonymous namespace: its mangled name would change from build to build

// Counts a tile of a call that is refused, whose blocks do nothing else. Returns whether it is the last of its row.
__device__ inline bool pass_tile(const Task &task, const Tile &tile) {
  YL_SHARED(bool, last, 1);
  if (threadIdx.x == 0)
    last[0] = take_ticket(Lists(task, tile.image, tile.layer).tiles_done, static_cast<unsigned long long>(tile.tiles));
  __syncthreads();
  return last[0];
}

// What the objects mean to a cell.
struct Comparison {
  bool ignored;    // k = 0
  int32_t object;  // its place in the list if the cell is an object, else -1
};

// Compares the cell of each thread with the objects of its layer, or of all layers (YL_SCOPE_IMAGE). The objects come
// through shared memory, some at a time, with the zone in which each can be reached: a cell is decoded only inside one.
// All threads of the block take part; those outside of the tile only copy.
template <class F, bool kExtras>
__device__ inline Comparison compare_with_objects(const View<F> &view, const Tile &tile, int32_t cell, bool inside,
                                                  int32_t objects, int64_t at) {
  using T = typename F::Number;
  constexpr int32_t kList = 64;  // objects in shared memory at a time
  YL_SHARED(Box<float>, truths, kList);
  YL_SHARED(Zone<T>, zones, kList);
  YL_SHARED(int32_t, cells, kList);
  const Task &task = view.task;
  const LayerTask &layer = view.layer;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const bool every_iou = kExtras && layer.best_iou;
  const bool whole_image = kExtras && task.rules.image_scope;
  Comparison result{false, -1};
  bool decoded = false;
  Cell<T> place{};
  Box<T> box{};
  T best = 0;
  if (objects > 0 || whole_image) place = view.formula_cell(cell);
  for (int32_t l = whole_image ? 0 : tile.layer; l <= (whole_image ? task.layer_count - 1 : tile.layer); ++l) {
    const Lists there = kExtras ? Lists(task, tile.image, l) : view.lists;
    const int32_t listed = kExtras ? *there.count : objects;
    for (int32_t first = 0; first < listed; first += kList) {
      const int32_t count = listed - first < kList ? listed - first : kList;
      if (first > 0 || whole_image) __syncthreads();  // all threads are done with the objects before
      if (thread < count) {
        const Box<float> truth = there.truths[first + thread];
        truths[thread] = truth;
        zones[thread] = zone_of(as<T>(truth), T(layer.ignore_thresh), place.grid_width, place.grid_height);
        cells[thread] = l == tile.layer ? there.cells[first + thread] : -1;
      }
      __syncthreads();
      for (int32_t i = 0; i < count && inside; ++i) {
        if (cells[i] == cell) result.object = first + i;
        const Zone<T> zone = zones[i];
        if (!every_iou && (result.ignored || !in_zone(zone, place.column, place.row))) continue;
        if (!decoded) box = decode(view.feats.box_logits(cell), place);
        decoded = true;
        const Box<float> truth = truths[i];
        result.ignored |= reaches(box, as<T>(truth), T(layer.ignore_thresh));
        if (kExtras) best = larger(iou(box, as<T>(truth)), best);
      }
    }
  }
  if (every_iou && inside) layer.best_iou[at] = static_cast<float>(best);
  return result;
}

// Writes the gradient of a background cell where it is not overwritten as a whole: its objectness, and with
// YL_GRAD_REFRESH the rows that the previous gradient left as objects'. Returns whether the objectness is not finite as
// it is stored.
template <class F>
__device__ inline bool write_sparse(const View<F> &view, int32_t cell, bool background, typename F::Number slope) {
  const Task &task = view.task;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarp;
  bool lost = false;
  if (background) lost = !view.feats.write(cell, kObjectness, slope, task.grad_mode == YL_GRAD_ACCUMULATE);
  bool stale = false;
  const int32_t previous = task.grad_mode == YL_GRAD_REFRESH ? *view.lists.previous_count : 0;
  for (int32_t i = 0; i < previous; ++i) stale |= view.lists.previous[i] == cell;
  for (unsigned left = __ballot_sync(kAllLanes, stale && background); left != 0; left &= left - 1) {
    const int32_t row = __shfl_sync(kAllLanes, cell, __ffs(static_cast<int>(left)) - 1);
    for (int32_t channel = lane; channel < task.channels; channel += kWarp)
      if (channel != kObjectness) view.feats.write(row, channel, 0, false);
  }
  return lost;
}

// Adds a background cell to the statistics, and keeps it if it is the first offender.
template <class F>
__device__ inline void add_background_extra(const View<F> &view, int32_t cell, typename F::Number objectness,
                                            typename F::Number slope, bool lost, Extra &extra) {
  add_background(extra.stats, objectness, slope);
  if (!finite(objectness))
    note(view, cell, kObjectness, YL_CAUSE_FEATS, objectness, 0, extra.first);
  else if (lost)
    note(view, cell, kObjectness, YL_CAUSE_OVERFLOW, objectness, slope, extra.first);
}

// The sums of the warps of a block, which the block adds. Each slot is added by one thread.
constexpr int32_t kWarps = kTile / kWarp;
constexpr int32_t kSlots = kSums > kCounts ? kSums : kCounts;

// Stores the sums of a warp, by its first lane. class_ and the faults are added over the lanes here; the other sums are
// the same in every lane.
template <class Sums, class Counts>
__device__ inline void store_warp(yl_parts sum, Faults faults, unsigned object_lanes, unsigned ignored_lanes,
                                  Sums &warp_sums, Counts &warp_counts) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t lane = thread % kWarp, warp = thread / kWarp;
  if (object_lanes != 0) sum.class_ = warp_sum(sum.class_);
  if (__any_sync(kAllLanes, (faults.non_finite | faults.found_inf) != 0)) {
    faults.non_finite = warp_sum(faults.non_finite);
    faults.found_inf = warp_sum(faults.found_inf);
  }
  if (lane != 0) return;
#define YL_SUM(owner, type, field, offset) sum.field,
  const double sums[] = {YL_SUMS_OF_yl_parts(YL_SUM)};
#undef YL_SUM
  const int32_t counts[] = {__popc(object_lanes), __popc(ignored_lanes), __popc(ignored_lanes & ~object_lanes),
                            faults.non_finite, faults.found_inf};
  static_assert(sizeof counts == kCounts * sizeof(int32_t), "the counts of yl_parts, in their order");
#pragma unroll
  for (int32_t slot = 0; slot < kSlots; ++slot) {
    warp_sums[warp * kSlots + slot] = slot < kSums ? sums[slot] : 0;
    warp_counts[warp * kSlots + slot] = slot < kCounts ? counts[slot] : 0;
  }
}

// Adds the warps of the block into its partial sum: the first threads, a slot each.
template <class Sums, class Counts>
__device__ inline void add_warps(const Task &task, const Sums &warp_sums, const Counts &warp_counts) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  if (thread >= kSlots) return;
  double total = 0;
  int32_t count = 0;
#pragma unroll 1
  for (int32_t w = 0; w < kWarps; ++w) {
    total += warp_sums[w * kSlots + thread];
    count += warp_counts[w * kSlots + thread];
  }
  yl_parts &partial = task.work.partial_sums[blockIdx.x];
  if (kSums == kSlots || thread < kSums) field_of<double>(partial, thread) = total;
  if (kCounts == kSlots || thread < kCounts) field_of<int64_t>(partial, kSums + thread) = count;
}

// Computes a tile: its ignore factors, its background, its objects, its gradient and its sums. Returns whether the
// block is the last of its (image, layer).
template <class F, bool kGradient, bool kExtras>
__device__ inline bool compute_tile(const Task &task, const Tile &tile) {
  using T = typename F::Number;
  YL_SHARED(T, slopes, kTile);
  YL_SHARED(uint32_t, object_bits, kWarps);
  YL_SHARED(double, warp_sums, kWarps *kSlots);
  YL_SHARED(int32_t, warp_counts, kWarps *kSlots);
  YL_SHARED(Extra, warp_extras, kExtras ? kWarps : 1);
  YL_SHARED(bool, last, 1);
  const View<F> view(task, tile.image, tile.layer);
  const LayerTask &layer = view.layer;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t lane = thread % kWarp, warp = thread / kWarp;
  const bool inside = thread < tile.count;
  const int32_t cell = view.feats.cell_of(tile.first + (inside ? thread : 0));
  const T objectness = inside ? view.feats.read(cell, kObjectness) : T(0);
  const int32_t objects = *view.lists.count;
  const bool gradient = kExtras ? layer.grads != nullptr : kGradient;
  const bool overwrite = task.grad_mode == YL_GRAD_OVERWRITE;
  const int64_t at = int64_t(tile.image) * layer.cells + tile.first + thread;  // among the cells of the batch

  const auto [ignored, object] = compare_with_objects<F, kExtras>(view, tile, cell, inside, objects, at);

  // The background: its confidence.
  const T factor = gradient ? static_cast<T>(gradient_factor(task)) : T(0);
  const bool background = inside && object < 0;
  Term<T> confidence{0, 0};
  if (background) confidence = background_term<kExtras>(task.rules, ignored ? T(0) : T(1), objectness);
  const T slope = confidence.slope * factor;
  if (gradient) slopes[thread] = slope;
  yl_parts sum{};
  Extra extra = YL_NO_EXTRA;
  sum.confidence_background = warp_sum(static_cast<double>(confidence.loss));
  Faults faults{background && !finite(objectness), 0};
  bool lost = gradient && background && overwrite && !view.feats.fits(slope);  // not finite as it is stored
  if (kExtras) {
    if (task.scan_all) faults.non_finite = inside ? scan(view, cell, extra.first) : 0;
    if (background) put_maps(layer, at, ignored, confidence.loss);
  }

  // Objects, each by the warp that has its cell.
  const unsigned object_lanes = __ballot_sync(kAllLanes, object >= 0);
  const unsigned ignored_lanes = __ballot_sync(kAllLanes, ignored);
  for (unsigned left = object_lanes; left != 0; left &= left - 1) {
    const int32_t source = __ffs(static_cast<int>(left)) - 1;
    add_object_row<F, kGradient, kExtras>(view, __shfl_sync(kAllLanes, cell, source),
                                          __shfl_sync(kAllLanes, object, source), ignored_lanes >> source & 1,
                                          at - lane + source, factor, sum, faults, kExtras ? &extra : nullptr);
  }

  if (gradient && !overwrite) lost = write_sparse(view, cell, background, slope);
  faults.found_inf += lost;
  if (kExtras) {
    if (background) add_background_extra(view, cell, objectness, gradient ? slope : T(0), lost, extra);
    extra = warp_extra(extra);
    if (lane == 0) warp_extras[warp] = extra;
  }
  store_warp(sum, faults, object_lanes, ignored_lanes, warp_sums, warp_counts);
  if (lane == 0) object_bits[warp] = object_lanes;
  __syncthreads();  // slopes, bits and sums are written; and, over feats, everything of the tile but objects' rows is
                    // read
  add_warps(task, warp_sums, warp_counts);
  if (warp == 0) __syncwarp();
  if (thread == 0) {
    if (kExtras) {
      Extra together = warp_extras[0];
      for (int32_t w = 1; w < kWarps; ++w) {
        const Extra part = warp_extras[w];
        add(together, part);
      }
      task.work.partial_extras[blockIdx.x] = together;
    }
    // The other warps go on meanwhile.
    last[0] = take_ticket(view.lists.tiles_done, static_cast<unsigned long long>(tile.tiles));
  }
  if (gradient && overwrite) view.feats.write_background(tile.first, tile.count, slopes, objects > 0, object_bits);
  __syncthreads();
  return last[0];
}

// Four blocks share a multiprocessor, which leaves 64 registers for a thread. With extras two do, in double one.
template <class F, bool kGradient, bool kExtras>
__global__ void __launch_bounds__(kTile, !kExtras                          ? 4
                                         : sizeof(typename F::Number) == 4 ? 2
                                                                           : 1)
    cells_kernel(const __grid_constant__ Task task, int32_t blocks_per_image) {
  const Tile tile = tile_of_block(task, blocks_per_image, kTile);
  const bool bad = task.work.control->first_bad != kNoBadRow;
  const bool last = bad ? pass_tile(task, tile) : compute_tile<F, kGradient, kExtras>(task, tile);
  if (last) finish_row<kExtras>(task, tile, bad);
}

// ---- yolo_head ------------------------------------------------------------------------------------------------------

template <class F>
__global__ void __launch_bounds__(kTile)
    decode_kernel(const __grid_constant__ LayerTask layer, const yl_head head, int32_t num_classes, int64_t cells) {
  using T = typename F::Number;
  const int64_t at = int64_t(blockIdx.x) * kTile + threadIdx.x;
  if (at >= cells) return;
  const auto cell = static_cast<int32_t>(at % layer.cells);
  const F feats(layer, kFirstClass + num_classes, static_cast<int32_t>(at / layer.cells), false);
  const Cell<T> place = cell_at<T>(layer, static_cast<const T *>(layer.anchor_sizes), cell);
  if (head.grid && at < int64_t(layer.height) * layer.width) write_square(head, at, layer.width);
  write_head(head, at, num_classes, place, [&](int32_t channel) { return feats.read(cell, channel); });
}

// ---- which kernel ---------------------------------------------------------------------------------------------------

struct Kernels {
  void (*loss)(const Task, int32_t), (*gradient)(const Task, int32_t), (*extras)(const Task, int32_t);
  void (*decode)(const LayerTask, const yl_head, int32_t, int64_t);
};

template <class Value, bool kPlanar> Kernels kernels_in() {
  using F = Feats<Value, kPlanar>;
  return {cells_kernel<F, false, false>, cells_kernel<F, true, false>, cells_kernel<F, true, true>, decode_kernel<F>};
}

// In double one kernel serves for all: it is for comparisons, not for speed.
template <bool kPlanar> Kernels kernels_in_double() {
  using F = Feats<double, kPlanar>;
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
  return launch(kernels_of(task).decode, (cells - 1) / kTile + 1, kTile, stream, layer, head,
                task.channels - kFirstClass, cells);
}

}  // namespace yl
