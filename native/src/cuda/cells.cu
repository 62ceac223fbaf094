// Stage cells on the device: cells_kernel visits each cell once, and its last blocks do stages sum and result as well
// (sum.cuh). decode_kernel is yl_yolo_head.
//
// A block has a tile of 256 cells, one thread for each cell. It clears the gradient of the tile, compare_with_objects
// finds the ignore factor of each cell, the thread computes the confidence of its background cell, and the warp that
// has an object computes its row (object.cuh). Read kernel.cuh first; compute_tile below is the order of these steps.
#include "cuda/object.cuh"
#include "cuda/sum.cuh"
#include "cuda/truths.cuh"
#include "head.h"

namespace yl {
// A named namespace, because the mangled name of an anonymous one changes from build to build; native/test/kernels.txt
// limits the registers of each kernel by its name.
inline namespace cells_kernels {

// The outcome of a tile: whether its block is the last of its image and layer, the same for all threads, and the number
// of objects of image and layer.
struct TileOutcome {
  bool last;
  int32_t objects;
};

// Counts a tile of a call that is refused, whose blocks do nothing else. Returns whether it is the last tile of its
// image and layer. The tickets must be taken even so: the last block resets the counters for the next call. The barrier
// makes last[0] visible to all threads.
__device__ inline bool skip_tile(const Tile &tile, const Lists &lists) {
  YL_SHARED(bool, last, 1);
  __syncthreads();  // all threads have read first_bad, which the last block of all resets
  if (threadIdx.x == 0) last[0] = take_ticket(&lists.counters->tiles_done, static_cast<unsigned long long>(tile.tiles));
  __syncthreads();
  return last[0];
}

// Holds what compare_with_objects finds for the cell of one thread.
struct Comparison {
  bool ignored;    // k = 0
  int32_t object;  // its index in the list if the cell is an object, else -1
};

// The grid squares of a warp's cells, or more.
template <class T> struct Rectangle {
  T left, right, top, bottom;  // columns and rows, ends included
};

// Returns the squares of a warp's cells, whose indices are adjacent. They are a run of squares: a part of one row of
// the grid, or all columns of several. With YL_NCHW the run may end in the plane of one anchor and go on in that of the
// next: then its length is not that of the indices, and it may be anywhere. All lanes must call it; place is the cell
// of the lane, steps the number of indices from the first lane to the last.
template <bool kPlanar, class T> __device__ inline Rectangle<T> squares_of_warp(const Cell<T> &place, int32_t steps) {
  const T first_row = __shfl_sync(kAllLanes, place.row, 0), last_row = __shfl_sync(kAllLanes, place.row, kWarp - 1);
  const T first = __shfl_sync(kAllLanes, place.column, 0), last = __shfl_sync(kAllLanes, place.column, kWarp - 1);
  if (kPlanar && (last_row - first_row) * place.grid_width + (last - first) != T(steps))
    return {T(0), place.grid_width, T(0), place.grid_height};
  const bool one_row = first_row == last_row;
  return {one_row ? first : T(0), one_row ? last : place.grid_width, first_row, last_row};
}

// Returns whether a zone may contain one of the squares. A zone with a NaN contains none.
template <class T> __device__ inline bool touches(const Zone<T> &zone, const Rectangle<T> &squares) {
  return squares.right >= zone.left && squares.left <= zone.right && squares.bottom >= zone.top &&
         squares.top <= zone.bottom;
}

// Compares the cell of each thread with the objects of its layer, or of all layers (YL_SCOPE_IMAGE), and fills the map
// best_iou. All threads of the block must call it; those outside the tile (inside is false) only help. objects is the
// length of the layer's list; at is the cell's index among the cells of the batch.
//
// The block copies up to 64 objects at a time into shared memory: each truth, the zone from which it can be reached,
// and where in the tile its cell is. So a list of any length fits, device memory is read once per block instead of once
// per thread, and the zone is computed once per block. If there are more than a few, each lane of a warp takes two of
// the 64 and finds out whether the warp may have the object's cell, and whether the zone touches the squares of the
// warp. Only those that pass are compared with the cell of each lane. A thread decodes its own box (two sigmoids and
// two exponentials) when it first meets a zone that contains it, and most cells never do; it also stops comparing once
// it is ignored, since k cannot become 1 again. All shortcuts are off when best_iou is requested, which needs every
// IoU.
//
// The zones of truths from other layers are computed in the grid of this layer, because the cell to be tested is in it.
// Their places become those of no thread, so that no cell of this layer takes one of them for its own object.
template <class F, bool kExtras>
__device__ inline Comparison compare_with_objects(const View<F> &view, const Tile &tile, int32_t cell, bool inside,
                                                  int32_t objects, int64_t at) {
  using T = typename F::Number;
  constexpr int32_t kList = 64;  // objects in shared memory at a time
  constexpr int32_t kFew = 8;    // objects that cost less than to find out which of them matter
  YL_SHARED(Box<float>, truths, kList);
  YL_SHARED(Zone<T>, zones, kList);
  YL_SHARED(int32_t, places, kList);
  const Task &task = view.task;
  const LayerTask &layer = view.layer;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t lane = thread % kWarp, warp = thread / kWarp;
  const bool every_iou = kExtras && layer.best_iou;
  const bool whole_image = kExtras && task.rules.image_scope;
  // A thread outside the tile compares nothing, as if it were ignored.
  bool ignored = !inside, decoded = false;
  int32_t object = -1;
  Cell<T> place{};
  Rectangle<T> squares{};
  Box<T> box{};
  T best = 0;
  if (objects > 0 || whole_image) place = view.formula_cell(cell);
  for (int32_t l = whole_image ? 0 : tile.layer; l <= (whole_image ? task.layer_count - 1 : tile.layer); ++l) {
    const Lists there = kExtras ? Lists(task, tile.image, l) : view.lists;
    const int32_t listed = kExtras ? *there.count : objects;
    for (int32_t first = 0; first < listed; first += kList) {
      const int32_t count = listed - first < kList ? listed - first : kList;
      // Orders the reads of the previous 64 objects before the writes of the next ones. The first copy follows no read,
      // so it needs no barrier; with YL_SCOPE_IMAGE the condition errs on the safe side. The condition and both loop
      // bounds are the same in all threads of the block, as every barrier requires: the lists do not change while any
      // block of the call reads them.
      if (first > 0 || whole_image) __syncthreads();
      if (thread < count) {
        const Box<float> truth = there.truths[first + thread];
        truths[thread] = truth;
        zones[thread] = zone_of(as<T>(truth), T(layer.ignore_thresh), place.grid_width, place.grid_height);
        // A place that is no thread's: below 0, or above the tile's last.
        const int32_t index = view.feats.index_of(there.cells[first + thread]) - tile.first;
        places[thread] = l == tile.layer && index < tile.count ? index : -kTile;
      }
      if (count > kFew) {
        const int32_t left = tile.count - 1 - warp * kWarp;
        squares = squares_of_warp<F::kIsPlanar>(place, left < 0 ? 0 : left < kWarp ? left : kWarp - 1);
      }
      // Orders the copies of all threads before the reads below.
      __syncthreads();
      for (int32_t some = 0; some < count; some += kWarp) {
        const int32_t rest = count - some;
        unsigned candidates = rest < kWarp ? (1u << rest) - 1 : kAllLanes;
        if (count > kFew && !every_iou) {
          const int32_t i = some + lane;
          const bool near = i < count && (places[i] / kWarp == warp || touches<T>(zones[i], squares));
          candidates = __ballot_sync(kAllLanes, near);
        }
        for (; candidates != 0; candidates &= candidates - 1) {
          const int32_t i = some + __ffs(static_cast<int>(candidates)) - 1;
          // The object's own cell is searched for before the zone is tested, because an object may lie outside its own
          // zone: dense truths may have a centre in another cell, or a NaN.
          if (places[i] == thread) object = first + i;
          const Zone<T> zone = zones[i];
          if (every_iou ? !inside : ignored || !in_zone(zone, place.column, place.row)) continue;
          if (!decoded) box = decode(view.feats.box_logits(cell), place);
          decoded = true;
          const Box<float> truth = truths[i];
          ignored |= reaches(box, as<T>(truth), T(layer.ignore_thresh));
          if (kExtras) best = larger(iou(box, as<T>(truth)), best);
        }
      }
    }
  }
  if (every_iou && inside) layer.best_iou[at] = static_cast<float>(best);
  return {inside && ignored, object};
}

// Writes the gradient of a background cell in the two modes that do not overwrite all of it (YL_GRAD_REFRESH and
// YL_GRAD_ACCUMULATE): its objectness, and with YL_GRAD_REFRESH zeros into the rows that were objects' in the previous
// gradient and are background now. Returns whether the objectness is not finite as it is stored.
//
// A thread checks its own cell against the list of previous objects, but a row is cleared by the whole warp: the ballot
// collects the lanes whose rows are stale, and for each of them all lanes write adjacent channels. All lanes of the
// warp must therefore call this function, also those of objects and those outside the tile. Rows that are objects again
// are skipped: add_object_row writes all of their channels.
template <class F>
__device__ inline bool write_sparse(const View<F> &view, int32_t cell, bool background, typename F::Number slope) {
  const Task &task = view.task;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarp;
  bool lost = false;
  if (background) lost = !view.feats.write(cell, kObjectness, slope, task.grad_mode == YL_GRAD_ACCUMULATE);
  bool stale = false;
  const int32_t previous = task.grad_mode == YL_GRAD_REFRESH ? view.lists.counters->previous_count : 0;
  for (int32_t i = 0; i < previous; ++i) stale |= view.lists.previous[i] == cell;
  for (unsigned left = __ballot_sync(kAllLanes, stale && background); left != 0; left &= left - 1) {
    const int32_t row = __shfl_sync(kAllLanes, cell, __ffs(static_cast<int>(left)) - 1);
    for (int32_t channel = lane; channel < task.channels; channel += kWarp)
      if (channel != kObjectness) view.feats.write(row, channel, 0, false);
  }
  return lost;
}

// Adds a background cell to the statistics, and keeps it if it is the first offender. lost: its gradient is not finite
// as it is stored.
template <class F>
__device__ inline void add_background_extra(const View<F> &view, int32_t cell, typename F::Number objectness,
                                            typename F::Number slope, bool lost, Extra &extra) {
  add_background(extra.stats, objectness, slope);
  if (!finite(objectness))
    note(view, cell, kObjectness, YL_CAUSE_FEATS, objectness, 0, extra.first);
  else if (lost)
    note(view, cell, kObjectness, YL_CAUSE_OVERFLOW, objectness, slope, extra.first);
}

// Layout of the sums of a block in shared memory: a row of kSums doubles and one of kCounts integers for each warp, in
// the order of the fields of yl_parts.
constexpr int32_t kWarps = kTile / kWarp;

// Stores the sums and counts of a warp in its rows of the shared arrays, by its first lane. All lanes must call it.
// class_ and the faults differ from lane to lane and are added over the lanes here; the other sums are the same in
// every lane already, and the remaining counts are population counts of the two masks. The shuffles are skipped where
// they would only add zeros, which is nearly everywhere: both conditions are the same in all lanes.
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
  const double sums[] = { YL_SUMS_OF_yl_parts(YL_SUM) };
#undef YL_SUM
  const int32_t counts[] = {__popc(object_lanes), __popc(ignored_lanes), __popc(ignored_lanes & ~object_lanes),
                            faults.non_finite, faults.found_inf};
  static_assert(sizeof counts == kCounts * sizeof(int32_t), "the counts of yl_parts, in their order");
#pragma unroll
  for (int32_t i = 0; i < kSums; ++i) warp_sums[warp * kSums + i] = sums[i];
#pragma unroll
  for (int32_t i = 0; i < kCounts; ++i) warp_counts[warp * kCounts + i] = counts[i];
}

// Adds the warps of the block into its partial sum in device memory. Thread i has field i of yl_parts and adds it in
// the order of the warps, so the sum does not depend on timing. The loops stay rolled: unrolled, they would cost the
// kernel more registers than its limit allows.
template <class Sums, class Counts>
__device__ inline void add_warps(const Task &task, const Sums &warp_sums, const Counts &warp_counts) {
  static_assert(kFields <= kWarp, "the fields have threads of the first warp, which takes the ticket");
  const auto field = static_cast<int32_t>(threadIdx.x);
  yl_parts &partial = task.work.partial_sums[blockIdx.x];
  if (field < kSums) {
    double sum = 0;
#pragma unroll 1
    for (int32_t w = 0; w < kWarps; ++w) sum += warp_sums[w * kSums + field];
    field_of<double>(partial, field) = sum;
  } else if (field < kFields) {
    int32_t count = 0;
#pragma unroll 1
    for (int32_t w = 0; w < kWarps; ++w) count += warp_counts[w * kCounts + field - kSums];
    field_of<int64_t>(partial, field) = count;
  }
}

// Clears the gradient of a tile around its objects, whose rows are complete: the runs of indices between them. All
// threads of the block must call it. object_bits has a bit for each index of the tile.
template <class F, class Bits>
__device__ inline void clear_between_objects(const View<F> &view, const Tile &tile, const Bits &object_bits) {
  int32_t first = 0;
  for (int32_t warp = 0; warp < kWarps; ++warp)
    for (unsigned left = object_bits[warp]; left != 0; left &= left - 1) {
      const int32_t object = warp * kWarp + __ffs(static_cast<int>(left)) - 1;
      if (object > first) view.feats.clear(tile.first + first, object - first);
      first = object + 1;
    }
  if (tile.count > first) view.feats.clear(tile.first + first, tile.count - first);
}

// Computes a tile: its zeros, its ignore factors, its background, its objects, its sums.
//
// gradient: whether there is one; a constant in the kernels that must be fast. The cell of a thread outside the tile is
// the last of the tile, so that its address is valid, but inside is false and nothing of it counts.
//
// The zeros of the gradient are stored first: the stores wait for nothing, and memory is busy while the block computes.
// A gradient that is stored over feats must wait until all logits have been read.
template <class F, bool kExtras>
__device__ inline TileOutcome compute_tile(const Task &task, const Tile &tile, const Lists &lists, bool gradient) {
  using T = typename F::Number;
  YL_SHARED(uint32_t, object_bits, kWarps);
  YL_SHARED(double, warp_sums, kWarps *kSums);
  YL_SHARED(int32_t, warp_counts, kWarps *kCounts);
  YL_SHARED(Extra, warp_extras, kExtras ? kWarps : 1);
  YL_SHARED(bool, last, 1);
  const View<F> view(task, tile.image, tile.layer, lists);
  const LayerTask &layer = view.layer;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t lane = thread % kWarp, warp = thread / kWarp;
  const bool inside = thread < tile.count;
  const bool overwrite = gradient && task.grad_mode == YL_GRAD_OVERWRITE, over_feats = layer.grads == layer.feats;
  if (overwrite && !over_feats) view.feats.clear(tile.first, tile.count);
  const int32_t cell = view.feats.cell_of(tile.first + (inside ? thread : tile.count - 1));
  const T objectness = inside ? view.feats.read(cell, kObjectness) : T(0);
  // The block needs the lists of stage truths from here on.
  wait_for_launch_before();
  const int32_t objects = *lists.count;
  const int64_t at = int64_t(tile.image) * layer.cells + tile.first + thread;  // among the cells of the batch

  // Each thread learns whether its cell is ignored and whether it is an object. If there are objects, this has a
  // barrier, which orders the zeros of their rows before their gradient.
  const auto [ignored, object] = compare_with_objects<F, kExtras>(view, tile, cell, inside, objects, at);

  // The background: each thread computes the confidence of its cell.
  const T factor = gradient ? static_cast<T>(gradient_factor(task, *lists.control)) : T(0);
  const bool background = inside && object < 0;
  Term<T> confidence{0, 0};
  if (background) confidence = background_term<kExtras>(task.rules, ignored ? T(0) : T(1), objectness);
  const T slope = confidence.slope * factor;
  yl_parts sum{};
  Extra extra = YL_NO_EXTRA;
  sum.confidence_background = warp_sum(static_cast<double>(confidence.loss));
  Faults faults{background && !finite(objectness), 0};
  bool lost = overwrite && background && !view.feats.fits(slope);  // not finite as it is stored
  if (kExtras) {
    if (task.scan_all) faults.non_finite = inside ? scan(view, cell, extra.first) : 0;
    if (background) put_maps(layer, at, ignored, confidence.loss);
  }

  // Objects: the warp goes through those of its 32 cells one by one, from the lowest lane, and all lanes compute one
  // row together. The row of one object has 5 + C channels and a tile rarely has more than a few objects, so a thread
  // for each row would leave 31 lanes idle.
  const unsigned object_lanes = __ballot_sync(kAllLanes, object >= 0);
  const unsigned ignored_lanes = __ballot_sync(kAllLanes, ignored);
  for (unsigned left = object_lanes; left != 0; left &= left - 1) {
    const int32_t source = __ffs(static_cast<int>(left)) - 1;
    add_object_row<F, kExtras>(view, __shfl_sync(kAllLanes, cell, source), __shfl_sync(kAllLanes, object, source),
                               ignored_lanes >> source & 1, at - lane + source, gradient, factor, sum, faults,
                               kExtras ? &extra : nullptr);
  }

  if (gradient && !overwrite) lost = write_sparse(view, cell, background, slope);
  faults.found_inf += lost;
  if (kExtras) {
    if (background) add_background_extra(view, cell, objectness, gradient ? slope : T(0), lost, extra);
    extra = warp_extra(extra);
    if (lane == 0) warp_extras[warp] = extra;
  }
  store_warp(sum, faults, object_lanes, ignored_lanes, warp_sums, warp_counts);
  if (overwrite && over_feats && lane == 0) object_bits[warp] = object_lanes;
  // This barrier orders three things. The sums in shared memory are written before any thread reads them. The zeros are
  // stored before the objectness of the background is. And if the gradient is stored over feats, every logit of the
  // tile that is needed has been read before it is cleared.
  __syncthreads();
  add_warps(task, warp_sums, warp_counts);
  // The partial sum is written by the first lanes of warp 0. The __syncwarp orders their stores before lane 0
  // takes the ticket; a barrier of the whole block would make the other warps wait.
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
    // Thread 0 takes the block's ticket while the other warps already write the gradient below. From here on the block
    // reads no counter and no list, so the last block of the image and layer may reset them. The gradient may be
    // incomplete when the ticket is taken: nobody reads it before the kernel ends.
    last[0] = take_ticket(&lists.counters->tiles_done, static_cast<unsigned long long>(tile.tiles));
  }
  if (overwrite && over_feats) {
    clear_between_objects(view, tile, object_bits);
    // Orders the zeros before the objectness.
    __syncthreads();
  }
  if (overwrite && background) view.feats.write(cell, kObjectness, slope, false);
  // Makes last[0] of thread 0 visible to all threads, so that all or none go on to finish_row.
  __syncthreads();
  return {last[0], objects};
}

// Places the boxes of the only image, so that the call needs no launch of stage truths (task.places_boxes): the block
// fills a list of its layer in shared memory, counts what became of the boxes there, and lists points to both. Each
// block does the same for its layer, and the class flags of an object are written by the block whose tile has its cell.
// All threads of the block must call it.
template <class F> __device__ inline void place_boxes_of_layer(const Task &task, const Tile &tile, Lists &lists) {
  YL_SHARED_UNCHECKED(int32_t, cells, kBoxRows);
  YL_SHARED_UNCHECKED(Box<float>, truths, kBoxRows);
  YL_SHARED_UNCHECKED(float, weights, kBoxRows);
  YL_SHARED_UNCHECKED(int32_t, count, 1);
  YL_SHARED_UNCHECKED(Control, control, 1);
  lists.cells = cells;
  lists.truths = truths;
  lists.weights = weights;
  lists.count = count;
  lists.capacity = kBoxRows;
  lists.control = control;
  if (threadIdx.x == 0) {
    *count = 0;
    *control = YL_CLEARED_CONTROL;
  }
  // Orders the cleared counters before the counting: list_boxes counts before its first barrier.
  __syncthreads();
  const F order(task.layers[tile.layer], task.channels, tile.image, task.f32_grads);
  list_boxes(task, tile.image, tile.layer, lists, true, [&](int32_t cell) {
    const int32_t index = order.index_of(cell) - tile.first;
    return index >= 0 && index < tile.count;
  });
  // Orders the list, the counts and the class flags before they are read.
  __syncthreads();
}

// Names what an instance of the kernel computes: loss alone; loss and gradient; either, for one image whose boxes it
// places itself (task.places_boxes); everything, that is extras and rules too.
enum class Mode { kLoss, kGradient, kPlaces, kExtras };

// Returns the number of blocks that an instance lets run on a multiprocessor, which has 65,536 registers. Four blocks
// of 256 threads share them if each thread uses at most 64, and with four blocks there are enough loads under way to
// hide most of the latency of memory, by which the kernel is bound. So 64 is the limit of the two fast instances, and
// several loops in this folder stay rolled to keep it. One image has few blocks, and they all run at once: its limit is
// 128. So is that with extras, and in double it is 255: those instances are for diagnosis and comparison, not for
// speed.
template <class F> constexpr int32_t blocks_of(Mode mode) {
  return mode == Mode::kLoss || mode == Mode::kGradient ? 4 : sizeof(typename F::Number) == 4 ? 2 : 1;
}

// The kernel of stages cells, sum and result: one block for each tile of kTile cells, any order of blocks.
//
// A call is refused as a whole: first_bad was written by stage truths, in the launch before, or every block has found
// it from the same boxes. So either all blocks compute or none does, and a refused call writes nothing. The last block
// resets it, when all tickets have been taken.
template <class F, Mode kMode>
__global__ void __launch_bounds__(kTile, blocks_of<F>(kMode))
    cells_kernel(const __grid_constant__ Task task, int32_t blocks_per_image) {
  constexpr bool kExtras = kMode == Mode::kExtras;
  const Tile tile = tile_of_block(task, blocks_per_image, kTile);
  Lists lists(task, tile.image, tile.layer);
  if (kMode == Mode::kPlaces) place_boxes_of_layer<F>(task, tile, lists);
  bool bad = false;
  if (task.refuse_bad_boxes) {
    wait_for_launch_before();
    bad = lists.control->first_bad != kNoBadRow;
  }
  const bool gradient = kMode == Mode::kGradient || (kMode != Mode::kLoss && task.layers[0].grads);
  const TileOutcome outcome =
      bad ? TileOutcome{skip_tile(tile, lists), 0} : compute_tile<F, kExtras>(task, tile, lists, gradient);
  if (outcome.last) finish_row<kExtras>(task, tile, lists, outcome.objects, bad);
}

// ---- yolo_head ------------------------------------------------------------------------------------------------------

// Decodes one cell in each thread, for all B images of a layer, into the outputs of head that are not NULL. cells is
// B*H*W*A; num_classes is C. The first H*W threads also write the grid, which has no images.
template <class F>
__global__ void __launch_bounds__(kTile)
    decode_kernel(const __grid_constant__ LayerTask layer, const yl_head head, int32_t num_classes, int64_t cells) {
  using T = typename F::Number;
  const int64_t at = int64_t(blockIdx.x) * kTile + threadIdx.x;
  if (at >= cells) return;
  const auto cell = static_cast<int32_t>(at % layer.cells);
  const F feats(layer, kFirstClass + num_classes, static_cast<int32_t>(at / layer.cells), false);
  const Cell<T> place = cell_at<T>(layer, static_cast<const T *>(layer.anchor_sizes), cell);
  const Box<T> box = decode(feats.box_logits(cell), place);
  if (head.grid && at < int64_t(layer.height) * layer.width) write_square(head, at, layer.width);
  write_head(head, at, num_classes, box, [&](int32_t channel) { return feats.read(cell, channel); });
}

// ---- which kernel ---------------------------------------------------------------------------------------------------

// The instances of the kernels for one type and layout.
struct Kernels {
  void (*loss)(const Task, int32_t), (*gradient)(const Task, int32_t), (*places)(const Task, int32_t),
      (*extras)(const Task, int32_t);
  void (*decode)(const LayerTask, const yl_head, int32_t, int64_t);
};

// Returns the instances for feats of type Value. The extras serve loss alone as well: they decide at run time whether
// there is a gradient.
template <class Value, bool kPlanar> Kernels kernels_in() {
  using F = Feats<Value, kPlanar>;
  return {cells_kernel<F, Mode::kLoss>, cells_kernel<F, Mode::kGradient>, cells_kernel<F, Mode::kPlaces>,
          cells_kernel<F, Mode::kExtras>, decode_kernel<F>};
}

// Returns the instances for double. One kernel serves for all: it is for comparisons, not for speed, and each instance
// costs compile time and size of the library.
template <bool kPlanar> Kernels kernels_in_double() {
  using F = Feats<double, kPlanar>;
  const auto any = cells_kernel<F, Mode::kExtras>;
  return {any, any, any, any, decode_kernel<F>};
}

// Returns the instances for a type YL_F32 ....
template <bool kPlanar> Kernels kernels_of(int32_t dtype) {
  switch (dtype) {
    case YL_F16: return kernels_in<Half, kPlanar>();
    case YL_BF16: return kernels_in<Bfloat16, kPlanar>();
    case YL_F64: return kernels_in_double<kPlanar>();
    default: return kernels_in<float, kPlanar>();
  }
}

// Returns the instances for the type and layout of a plan.
Kernels kernels_of(const Task &task) {
  return task.layout == YL_NCHW ? kernels_of<true>(task.dtype) : kernels_of<false>(task.dtype);
}

}  // namespace cells_kernels

// Asking for the attributes of a kernel makes the runtime load it now; otherwise its first launch would, which is not
// allowed while a stream is captured. A GPU may be newer than the code for it, which the driver has then compiled from
// PTX of another architecture: what the kernels can do is decided by that one.
int load_cells(Task &task) {
  const Kernels kernels = kernels_of(task);
  cudaFuncAttributes attributes;
  int error = cudaFuncGetAttributes(&attributes, kernels.decode);
  for (const auto kernel : {kernels.loss, kernels.gradient, kernels.places, kernels.extras})
    if (!error) error = cudaFuncGetAttributes(&attributes, kernel);
  task.overlaps = !error && attributes.ptxVersion >= 90;
  return error;
}

int launch_cells(const Task &task, void *stream) {
  const auto blocks = static_cast<int32_t>(tiles_per_image(task, kTile));
  const Kernels kernels = kernels_of(task);
  const auto kernel = task.extras            ? kernels.extras
                      : task.places_boxes    ? kernels.places
                      : task.layers[0].grads ? kernels.gradient
                                             : kernels.loss;
  return launch(kernel, int64_t(task.batch) * blocks, kTile, task.overlaps && launches_truths(task), stream, task,
                blocks);
}

int launch_yolo_head(const Task &task, const yl_head &head, void *stream) {
  LayerTask layer = task.layers[head.layer];
  layer.feats = head.feats;
  layer.grads = nullptr;
  const int64_t cells = int64_t(head.batch) * layer.cells;
  return launch(kernels_of(task).decode, (cells - 1) / kTile + 1, kTile, false, stream, layer, head,
                task.channels - kFirstClass, cells);
}

}  // namespace yl
