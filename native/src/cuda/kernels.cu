// The kernels. A call is two launches:
//
//   gather_dense | gather_boxes   stage 1: the objects of each (image, layer), into its list, in no order
//   visit_cells                   stage 2: each cell once: ignore factor, parts, gradient row, a partial sum per tile;
//                                 stage 3: the last block of an (image, layer) sums its tiles, the last block of all sums
//                                 the layers, writes the result and leaves counters and lists as the next call needs them
//
// A tile is a run of cells of one (image, layer), one thread a cell. Nothing of the size of the input is kept beside it:
// y_true is read for its masks and its objects, feats for the objectness of every cell, for the box logits of cells that a
// truth can reach, and for the rows of objects.
//
// Sums: float terms, added in double along fixed trees (lanes, warps, tiles, images); counters are integers. So the bits
// do not depend on the order in which blocks run.
#include "cuda/format.h"
#include "sums.h"

namespace yl {
namespace {

struct Tile {
  int32_t image, layer;
  int32_t first, count;  // cells
  int32_t tiles;         // of this (image, layer)
};

__host__ __device__ inline int32_t tiles_of(int32_t cells, int32_t size) { return (cells - 1) / size + 1; }

// Blocks are numbered image by image, layer by layer, tile by tile.
__device__ inline Tile tile_of_block(const Task &task, int32_t blocks_per_image, int32_t size) {
  const auto image = static_cast<int32_t>(blockIdx.x) / blocks_per_image;
  int32_t index = static_cast<int32_t>(blockIdx.x) % blocks_per_image;
  int32_t l = 0, tiles = tiles_of(task.layers[0].cells, size);
  while (index >= tiles) {
    index -= tiles;
    tiles = tiles_of(task.layers[++l].cells, size);
  }
  const int32_t first = index * size, left = task.layers[l].cells - first;
  return {image, l, first, left < size ? left : size, tiles};
}

// What a block needs of an (image, layer): its place in the workspace.
struct Lists {
  int32_t *cells;
  Box<float> *truths;
  uint32_t *class_flags;
  int32_t *previous;
  int32_t *count, *previous_count;
  unsigned long long *tiles_done;

  __device__ Lists(const Task &task, int32_t image, int32_t l) {
    const int64_t at = image * task.cells_per_image + task.layers[l].first_cell,
                  row = int64_t(image) * task.layer_count + l;
    const Workspace &work = task.work;
    cells = work.cells + at;
    truths = work.truths + at;
    class_flags = work.class_flags + at * task.flag_words;
    previous = work.previous + at;
    count = work.counts + row;
    previous_count = work.previous_counts + row;
    tiles_done = work.tiles_done + row;
  }

  __device__ void append(const Task &task, int32_t cell, const Box<float> &truth) const {
    const int32_t at = atomicAdd(count, 1);
    cells[at] = cell;
    truths[at] = truth;
    atomicAdd(&task.work.control->objects, 1ull);
  }
};

// ---- stage 1 ---------------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(kTile) gather_dense(const __grid_constant__ Task task, int32_t blocks_per_image) {
  const Tile tile = tile_of_block(task, blocks_per_image, kGatherTile);
  const LayerTask &layer = task.layers[tile.layer];
  const float *y_true = layer.y_true + (int64_t(tile.image) * layer.cells + tile.first) * task.channels;
  constexpr int32_t kCells = kGatherTile / kTile;  // of a thread: its loads are in flight together
  float masks[kCells];
#pragma unroll
  for (int32_t i = 0; i < kCells; ++i) {
    const auto cell = static_cast<int32_t>(threadIdx.x) + i * kTile;
    masks[i] = cell < tile.count ? y_true[int64_t(cell) * task.channels + 4] : 0.0f;
  }
#pragma unroll
  for (int32_t i = 0; i < kCells; ++i) {
    if (masks[i] == 0.0f) continue;  // NaN is not 0 either
    const auto cell = static_cast<int32_t>(threadIdx.x) + i * kTile;
    const float *y = y_true + int64_t(cell) * task.channels;
    Lists(task, tile.image, tile.layer).append(task, tile.first + cell, {y[0], y[1], y[2], y[3]});
  }
}

// A row of boxes, as far as other rows must know it.
struct Placed {
  int32_t anchor;  // -1: no object
  float x, y;
};

__device__ inline Placed place(const Task &task, const float *row) {
  if (kind_of(task.rules, row) != BoxKind::kObject) return {-1, 0, 0};
  const Box<float> truth = truth_of(task.rules, row);
  return {best_anchor(task.rules, row), truth.x, truth.y};
}

__device__ inline int32_t cell_in(const LayerTask &layer, const Placed &placed) {
  if (placed.anchor < 0) return -1;
  return cell_of({placed.x, placed.y, 0, 0}, placed.anchor, layer.height, layer.width, layer.anchor_mask,
                 layer.anchors);
}

// For each row of an image's boxes in turn, by the thread that has the row: start(t, place of the row), then
// other(t, j, place of row j) for every row j in order, then done(t). All rows meet all rows, kBoxRows at a time.
template <class Start, class Other, class Done>
__device__ inline void for_pairs(const Task &task, const float *rows, const Start &start, const Other &other,
                                 const Done &done) {
  YL_SHARED(Placed, staged, kBoxRows);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  for (int32_t base = 0; base < task.boxes_per_image; base += kBoxRows) {
    const int32_t t = base + thread;
    const bool inside = t < task.boxes_per_image;
    const Placed own = inside ? place(task, rows + int64_t(t) * 5) : Placed{-1, 0, 0};
    if (inside) start(t, own);
    for (int32_t first = 0; first < task.boxes_per_image; first += kBoxRows) {
      const int32_t count = task.boxes_per_image - first < kBoxRows ? task.boxes_per_image - first : kBoxRows;
      __syncthreads();
      if (thread < count) staged[thread] = first == base ? own : place(task, rows + (int64_t(first) + thread) * 5);
      __syncthreads();
      if (inside && own.anchor >= 0)
        for (int32_t j = 0; j < count; ++j) other(t, first + j, staged[j]);
    }
    if (inside) done(t);
  }
}

// The list of an (image, layer): the first row of a cell owns it, the last gives the truth, all give their class.
__device__ inline void list_boxes(const Task &task, const float *rows, int32_t image, int32_t l) {
  const LayerTask &layer = task.layers[l];
  const Lists lists(task, image, l);
  int32_t cell = -1, last = 0;
  uint32_t *flags = nullptr;
  for_pairs(
      task, rows,
      [&](int32_t, const Placed &own) {
        cell = cell_in(layer, own);
        flags = lists.class_flags + int64_t(cell < 0 ? 0 : cell) * task.flag_words;
      },
      [&](int32_t t, int32_t j, const Placed &there) {
        if (cell < 0 || cell_in(layer, there) != cell) return;
        if (j < t) {
          cell = -1;  // an earlier row owns it
          return;
        }
        if (j == t)
          for (int32_t word = 0; word < task.flag_words; ++word) flags[word] = 0;
        const auto c = static_cast<int32_t>(rows[int64_t(j) * 5 + 4]);
        flags[c / 32] |= 1u << (c % 32);
        last = j;
      },
      [&](int32_t) {
        if (cell >= 0) lists.append(task, cell, truth_of(task.rules, rows + int64_t(last) * 5));
      });
}

// What became of an image's rows: yl_box_counts, and the first row that the policy refuses.
__device__ inline void count_boxes(const Task &task, const float *rows, int32_t image) {
  Control &control = *task.work.control;
  Placed own{};
  bool collided = false;
  for_pairs(
      task, rows,
      [&](int32_t t, const Placed &placed_row) {
        own = placed_row;
        collided = false;
        if (own.anchor < 0) {
          if (kind_of(task.rules, rows + int64_t(t) * 5) == BoxKind::kUnused) return;
          atomicAdd(&control.skipped, 1ull);
          if (task.refuse_bad_boxes)
            atomicMin(&control.first_bad, static_cast<unsigned long long>(image) * task.boxes_per_image + t);
          return;
        }
        atomicAdd(&control.used, 1ull);
        bool placed = false;
        for (int32_t l = 0; l < task.layer_count; ++l) placed |= cell_in(task.layers[l], own) >= 0;
        if (!placed) atomicAdd(&control.dropped, 1ull);
      },
      [&](int32_t t, int32_t j, const Placed &there) {
        if (j >= t || collided || there.anchor != own.anchor) return;
        for (int32_t l = 0; l < task.layer_count; ++l) {
          const int32_t cell = cell_in(task.layers[l], own);
          collided |= cell >= 0 && cell == cell_in(task.layers[l], there);
        }
      },
      [&](int32_t) {
        if (collided) atomicAdd(&control.collided, 1ull);
      });
}

// Blocks of an image: one for each layer, and one that counts.
__global__ void __launch_bounds__(kBoxRows) gather_boxes(const __grid_constant__ Task task, int32_t blocks_per_image) {
  const auto image = static_cast<int32_t>(blockIdx.x) / blocks_per_image;
  const int32_t l = static_cast<int32_t>(blockIdx.x) % blocks_per_image;
  const float *rows = task.boxes + int64_t(image) * task.boxes_per_image * 5;
  if (l < task.layer_count)
    list_boxes(task, rows, image, l);
  else
    count_boxes(task, rows, image);
}

// ---- stage 2 ---------------------------------------------------------------------------------------------------------

__device__ inline Cell<float> cell_at(const LayerTask &layer, int32_t cell) {
  const int32_t anchor = cell % layer.anchors, place = cell / layer.anchors;
  return {static_cast<float>(place % layer.width), static_cast<float>(place / layer.width),
          static_cast<float>(layer.width),         static_cast<float>(layer.height),
          layer.anchor_sizes[2 * anchor],          layer.anchor_sizes[2 * anchor + 1]};
}

template <class Format> __device__ inline Box<float> box_logits(const Format &format, int32_t cell) {
  return {format.read(cell, 0), format.read(cell, 1), format.read(cell, 2), format.read(cell, 3)};
}

// A target of an object: a channel of its row of y_true, or of the row that its boxes stand for.
__device__ inline float target_of(const Task &task, const LayerTask &layer, const Lists &lists, int32_t image,
                                  int32_t cell, int32_t channel) {
  if (layer.y_true) return layer.y_true[(int64_t(image) * layer.cells + cell) * task.channels + channel];
  if (channel == 4) return 1;
  const int32_t c = channel - 5;
  return static_cast<float>(lists.class_flags[int64_t(cell) * task.flag_words + c / 32] >> (c % 32) & 1);
}

__device__ inline float gradient_factor(const Task &task) {
  const double value = task.normaliser_at ? *task.normaliser_at : task.normaliser_value;
  const double scale = task.grad_scale_at ? *task.grad_scale_at : task.grad_scale;
  const auto objects = static_cast<int64_t>(task.work.control->objects);
  return static_cast<float>(scale / normaliser_of(task.normaliser, value, task.batch, objects));
}

// The row of an object, by a warp, lanes over channels: its parts into sum (those of classes lane by lane, the others in
// every lane alike), its gradient.
template <class Format>
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
  if (task.gradient && lane < 5) {
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
    if (task.gradient) format.write(cell, channel, term.slope * factor);
  }
}

// ---- stage 3 ---------------------------------------------------------------------------------------------------------

// By one warp: a field of the sum of parts, lanes over parts.
template <class T>
__device__ inline void sum_field(const yl_parts *parts, int32_t count, T yl_parts::*field, yl_parts &sum) {
  T value = 0;
  for (auto i = static_cast<int32_t>(threadIdx.x) % kWarp; i < count; i += kWarp) value += parts[i].*field;
  sum.*field = warp_sum(value);
}

__device__ inline void sum_parts(const yl_parts *parts, int32_t count, yl_parts &sum) {
  sum_field(parts, count, &yl_parts::xy, sum);
  sum_field(parts, count, &yl_parts::wh, sum);
  sum_field(parts, count, &yl_parts::confidence_object, sum);
  sum_field(parts, count, &yl_parts::confidence_background, sum);
  sum_field(parts, count, &yl_parts::class_, sum);
  sum_field(parts, count, &yl_parts::objects, sum);
  sum_field(parts, count, &yl_parts::ignored, sum);
  sum_field(parts, count, &yl_parts::ignored_background, sum);
  sum_field(parts, count, &yl_parts::non_finite, sum);
}

__device__ inline yl_box_counts box_counts(const Control &control) {
  return {static_cast<int64_t>(control.used), static_cast<int64_t>(control.skipped),
          static_cast<int64_t>(control.dropped), static_cast<int64_t>(control.collided)};
}

// By one thread when all is done: what became of the call; then the counters are those of the next.
__device__ inline void complete(const Task &task) {
  Control &control = *task.work.control;
  if (task.result.completion) {
    const auto row = static_cast<int64_t>(control.first_bad);
    yl_completion completion{YL_OK, -1, -1, 0};
    if (control.first_bad != kNoBadRow)
      completion = {YL_INVALID_BOXES, static_cast<int32_t>(row / task.boxes_per_image),
                    static_cast<int32_t>(row % task.boxes_per_image), 0};
    *task.result.completion = completion;
  }
  control = YL_CLEARED_CONTROL;
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

// Whether this block is the last of count that come here: then it sees what the others wrote before.
__device__ inline bool is_last(unsigned long long *tickets, unsigned long long count) {
  YL_SHARED(bool, last, 1);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last[0] = atomicAdd(tickets, 1ull) == count - 1;
  __syncthreads();
  __threadfence();
  return last[0];
}

// By all threads, when the tile's partial sum is written: rows and result by those blocks that come last.
__device__ inline void sum_and_finish(const Task &task, const Tile &tile, const Lists &lists, bool bad) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  if (!is_last(lists.tiles_done, static_cast<unsigned long long>(tile.tiles))) return;

  const int64_t row = int64_t(tile.image) * task.layer_count + tile.layer;
  if (!bad && thread < kWarp) {
    yl_parts sum{};
    sum_parts(task.work.partial_sums + (blockIdx.x - tile.first / kTile), tile.tiles, sum);
    if (thread == 0) {
      task.work.rows[row] = sum;
      if (task.result.rows) task.result.rows[row] = sum;
    }
  }
  const int32_t objects = *lists.count;
  if (!bad && task.gradient)
    for (int32_t i = thread; i < objects; i += kTile) lists.previous[i] = lists.cells[i];
  __syncthreads();  // every thread has read the count
  if (thread == 0) {
    if (!bad && task.gradient) *lists.previous_count = objects;
    *lists.count = 0;
    *lists.tiles_done = 0;
  }
  const auto rows = static_cast<unsigned long long>(task.batch) * task.layer_count;
  if (!is_last(&task.work.control->rows_done, rows)) return;

  for (int32_t l = thread; l < task.layer_count && !bad; l += kTile)
    task.work.layers[l] = layer_sum(task.work.rows, task.batch, task.layer_count, l);
  __syncthreads();
  if (thread != 0) return;
  if (!bad) give_result(task);
  complete(task);
}

template <class Format> __device__ inline void visit_tile(const Task &task, const Tile &tile, const Lists &lists) {
  constexpr int32_t kList = 64;  // objects in shared memory at a time
  YL_SHARED(Box<float>, truths, kList);
  YL_SHARED(Zone<float>, zones, kList);
  YL_SHARED(int32_t, cells, kList);
  YL_SHARED(float, slopes, kTile);
  YL_SHARED(uint32_t, object_bits, kTile / kWarp);
  YL_SHARED(yl_parts, warp_sums, kTile / kWarp);

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
  const float factor = task.gradient ? gradient_factor(task) : 0.0f;
  const bool background = inside && object < 0;
  Term<float> confidence{0, 0};
  if (background) confidence = confidence_loss(0.0f, ignored ? 0.0f : 1.0f, objectness);
  const float slope = confidence.slope * factor;
  slopes[thread] = slope;
  yl_parts sum{};
  sum.confidence_background = warp_sum(static_cast<double>(confidence.loss));
  sum.non_finite = background && !finite(objectness);

  // Objects, each by the warp that has its cell.
  const unsigned object_lanes = __ballot_sync(kAllLanes, object >= 0);
  const unsigned ignored_lanes = __ballot_sync(kAllLanes, ignored);
  for (unsigned left = object_lanes; left != 0; left &= left - 1) {
    const int32_t source = __ffs(static_cast<int>(left)) - 1;
    const int32_t at = __shfl_sync(kAllLanes, object, source);
    visit_object(task, layer, lists, format, tile.image, cell - lane + source, lists.truths[at],
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
  if (task.refresh) {
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
  }
  if (task.gradient && !task.refresh) format.write_background(tile.first, tile.count, slopes, objects > 0, object_bits);
}

// Four blocks a multiprocessor: 64 registers, which it takes without spilling.
template <class Format>
__global__ void __launch_bounds__(kTile, 4) visit_cells(const __grid_constant__ Task task, int32_t blocks_per_image) {
  const Tile tile = tile_of_block(task, blocks_per_image, kTile);
  const Lists lists(task, tile.image, tile.layer);
  const bool bad = task.work.control->first_bad != kNoBadRow;
  if (!bad) visit_tile<Format>(task, tile, lists);
  sum_and_finish(task, tile, lists, bad);
}

// ---- truths from boxes, and yolo_head --------------------------------------------------------------------------------

struct Outputs {
  float *y_true[kMaxCudaLayers];
};

// A tile's rows of y_true, written whole.
__global__ void __launch_bounds__(kTile)
    write_y_true(const __grid_constant__ Task task, const __grid_constant__ Outputs outputs, int32_t blocks_per_image) {
  YL_SHARED(int32_t, owners, kTile);  // places in the list, or -1
  const Tile tile = tile_of_block(task, blocks_per_image, kTile);
  const Lists lists(task, tile.image, tile.layer);
  const LayerTask &layer = task.layers[tile.layer];
  if (task.work.control->first_bad != kNoBadRow) return;
  owners[threadIdx.x] = -1;
  __syncthreads();
  for (auto i = static_cast<int32_t>(threadIdx.x); i < *lists.count; i += kTile) {
    const int32_t at = lists.cells[i] - tile.first;
    if (at >= 0 && at < tile.count) owners[at] = i;
  }
  __syncthreads();
  float *out = outputs.y_true[tile.layer] + (int64_t(tile.image) * layer.cells + tile.first) * task.channels;
  for (int64_t i = threadIdx.x; i < int64_t(tile.count) * task.channels; i += kTile) {
    const auto at = static_cast<int32_t>(i / task.channels), channel = static_cast<int32_t>(i % task.channels);
    const int32_t owner = owners[at];
    float value = 0;
    if (owner >= 0) {
      const Box<float> truth = lists.truths[owner];
      value = channel == 0   ? truth.x
              : channel == 1 ? truth.y
              : channel == 2 ? truth.w
              : channel == 3 ? truth.h
                             : target_of(task, layer, lists, tile.image, tile.first + at, channel);
    }
    out[i] = value;
  }
}

// Where stage 2 does not follow: what stage 1 counted; lists and counters as between calls.
__global__ void __launch_bounds__(kTile)
    finish_gather(const __grid_constant__ Task task, yl_box_counts *counts, int64_t *objects) {
  for (int64_t i = threadIdx.x; i < int64_t(task.batch) * task.layer_count; i += kTile) task.work.counts[i] = 0;
  if (threadIdx.x != 0) return;
  *counts = box_counts(*task.work.control);
  *objects = static_cast<int64_t>(task.work.control->objects);
  complete(task);
}

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

// ---- launchers -------------------------------------------------------------------------------------------------------

template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), int64_t blocks, int32_t threads, void *stream,
           const Arguments &...arguments) {
  if (blocks == 0) return cudaSuccess;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = static_cast<cudaStream_t>(stream);
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace

int64_t tiles_per_image(const Task &task, int32_t size) {
  int64_t tiles = 0;
  for (int32_t l = 0; l < task.layer_count; ++l) tiles += tiles_of(task.layers[l].cells, size);
  return tiles;
}

int probe_kernels() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, visit_cells<Nhwc<float>>);
}

int launch_gather(const Task &task, void *stream) {
  if (task.layers[0].y_true) {
    const auto blocks = static_cast<int32_t>(tiles_per_image(task, kGatherTile));
    return launch(gather_dense, int64_t(task.batch) * blocks, kTile, stream, task, blocks);
  }
  const int32_t blocks = task.boxes_per_image > 0 ? task.layer_count + 1 : 0;
  return launch(gather_boxes, int64_t(task.batch) * blocks, kBoxRows, stream, task, blocks);
}

int launch_visit(const Task &task, void *stream) {
  const auto blocks = static_cast<int32_t>(tiles_per_image(task, kTile));
  return launch(visit_cells<Nhwc<float>>, int64_t(task.batch) * blocks, kTile, stream, task, blocks);
}

int launch_write_y_true(const Task &task, float *const *y_true, void *stream) {
  Outputs outputs{};
  for (int32_t l = 0; l < task.layer_count; ++l) outputs.y_true[l] = y_true[l];
  const auto blocks = static_cast<int32_t>(tiles_per_image(task, kTile));
  return launch(write_y_true, int64_t(task.batch) * blocks, kTile, stream, task, outputs, blocks);
}

int launch_finish_gather(const Task &task, yl_box_counts *counts, int64_t *objects, void *stream) {
  return launch(finish_gather, 1, kTile, stream, task, counts, objects);
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
