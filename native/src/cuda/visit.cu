// Stages 2 and 3, cells and sums. And yolo_head.
#include "cuda/format.h"
#include "sums.h"

namespace yl {
namespace {

template <class T> __device__ inline Cell<T> cell_at(const LayerTask &layer, int32_t cell) {
  const int32_t anchor = cell % layer.anchors, place = cell / layer.anchors;
  const T *sizes = static_cast<const T *>(layer.anchor_sizes) + 2 * anchor;
  return {static_cast<T>(place % layer.width),
          static_cast<T>(place / layer.width),
          static_cast<T>(layer.width),
          static_cast<T>(layer.height),
          sizes[0],
          sizes[1]};
}

template <class F> __device__ inline Box<typename F::Number> box_logits(const F &format, int32_t cell) {
  return {format.read(cell, 0), format.read(cell, 1), format.read(cell, 2), format.read(cell, 3)};
}

template <class T> __device__ inline Box<T> as(const Box<float> &box) {
  return {static_cast<T>(box.x), static_cast<T>(box.y), static_cast<T>(box.w), static_cast<T>(box.h)};
}

__device__ inline double gradient_factor(const Task &task) {
  const double value = task.normaliser_at ? *task.normaliser_at : task.normaliser_value;
  const double scale = task.grad_scale_at ? *task.grad_scale_at : task.grad_scale;
  const auto objects = static_cast<int64_t>(task.work.control->objects);
  return scale / normaliser_of(task.normaliser, value, task.batch, objects);
}

// ---- what is given on request ----------------------------------------------------------------------------------------

__device__ inline void note(const Task &task, const LayerTask &layer, int32_t image, int32_t cell, int32_t channel,
                            int32_t cause, double value, double gradient, Offence &first) {
  const int64_t place = (image * task.cells_per_image + layer.first_cell + cell) * task.channels + channel;
  meet(first, {4 * static_cast<uint64_t>(place) + static_cast<uint64_t>(cause), value, gradient});
}

// The extras of a warp's threads together; every lane gets them.
__device__ inline Extra warp_extra(Extra own) {
  yl_stats &s = own.stats;
  s = {warp_sum(s.objects),
       warp_sum(s.background),
       warp_sum(s.iou),
       warp_sum(s.iou_50),
       warp_sum(s.iou_75),
       warp_sum(s.objectness_object),
       warp_sum(s.objectness_background),
       warp_sum(s.grad_xy),
       warp_sum(s.grad_wh),
       warp_sum(s.grad_object),
       warp_sum(s.grad_background),
       warp_sum(s.grad_class)};
  if (!__any_sync(kAllLanes, own.first.key != kNoOffence)) return own;
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const Offence other{__shfl_xor_sync(kAllLanes, own.first.key, distance),
                        __shfl_xor_sync(kAllLanes, own.first.value, distance),
                        __shfl_xor_sync(kAllLanes, own.first.gradient, distance)};
    meet(own.first, other);
  }
  return own;
}

__device__ inline void export_cell(const LayerTask &layer, int64_t at, bool ignored, double loss) {
  if (layer.ignore_mask) layer.ignore_mask[at] = ignored ? 0.0f : 1.0f;
  if (layer.cell_loss) layer.cell_loss[at] = static_cast<float>(loss);
}

// YL_SCAN_ALL: every value of a cell, by the thread that has it. Returns how many are not finite.
template <class F>
__device__ inline int32_t scan(const Task &task, const LayerTask &layer, const F &format, int32_t image, int32_t cell,
                               Offence &first) {
  int32_t found = 0;
  for (int32_t channel = 0; channel < task.channels; ++channel) {
    const auto logit = format.read(cell, channel);
    const float y = layer.y_true ? layer.y_true[(int64_t(image) * layer.cells + cell) * task.channels + channel] : 0.0f;
    found += !finite(logit) + !finite(y);
    if (!finite(logit)) note(task, layer, image, cell, channel, YL_CAUSE_FEATS, logit, 0, first);
    if (!finite(y)) note(task, layer, image, cell, channel, YL_CAUSE_TRUTH, y, 0, first);
  }
  return found;
}

// What a thread has counted: values that are not finite, of the input and of its gradient.
struct Faults {
  int32_t non_finite, found_inf;
};

// The row of an object, by a warp, lanes over channels: its parts into sum (those of classes, and the faults, lane by lane,
// the others in every lane alike), its gradient. at: its place in arrays that are given on request;
// extra is NULL without kExtras, so that the compiler need not keep one.
template <class F, bool kGradient, bool kExtras>
__device__ inline void visit_object(const Task &task, const LayerTask &layer, const Lists &lists, const F &format,
                                    int32_t image, int32_t cell, int32_t listed, bool ignored, int64_t at,
                                    typename F::Number factor, yl_parts &sum, Faults &faults, Extra *extra) {
  using T = typename F::Number;
  const auto lane = static_cast<int32_t>(threadIdx.x) % kWarp;
  const bool gradient = kExtras ? layer.grads != nullptr : kGradient, accumulate = task.grad_mode == YL_GRAD_ACCUMULATE;
  const Box<float> y = lists.truths[listed];
  const Box<T> truth = as<T>(y), logits = box_logits(format, cell);
  const T m = target_of(task, layer, lists, image, cell, 4), objectness = format.read(cell, 4);
  BoxLoss<T> box = box_loss(truth, m, logits, cell_at<T>(layer, cell));
  Term<T> confidence = confidence_loss(m, ignored ? T(0) : T(1), objectness);
  T class_weight = 1;
  if (kExtras) {
    const T v = lists.weights[listed];
    box = weighted(box, T(task.rules.weight_xy) * v, T(task.rules.weight_wh) * v);
    confidence = weighted(confidence, T(task.rules.weight_object) * v);
    class_weight = T(task.rules.weight_class) * v;
    if (lane == 0) add_object(extra->stats, iou(decode(logits, cell_at<T>(layer, cell)), truth), objectness);
  }
  sum.xy += box.xy;
  sum.wh += box.wh;
  sum.confidence_object += confidence.loss;
  if (lane == 0 && !(kExtras && task.scan_all)) {
    faults.non_finite += !finite(logits.x) + !finite(logits.y) + !finite(logits.w) + !finite(logits.h) +
                         !finite(objectness) + !finite(y.x) + !finite(y.y) + !finite(y.w) + !finite(y.h) + !finite(m);
  }
  bool sound = true;  // nothing that is not finite comes from outside
  if (kExtras) {
    for (int32_t channel = lane; channel < task.channels; channel += kWarp) {
      const T logit = format.read(cell, channel);
      const float target = channel == 0   ? y.x
                           : channel == 1 ? y.y
                           : channel == 2 ? y.w
                           : channel == 3 ? y.h
                                          : target_of(task, layer, lists, image, cell, channel);
      if (!finite(logit)) note(task, layer, image, cell, channel, YL_CAUSE_FEATS, logit, 0, extra->first);
      if (poisons(channel, target)) note(task, layer, image, cell, channel, YL_CAUSE_TRUTH, target, 0, extra->first);
      sound &= finite(logit) && !poisons(channel, target);
    }
    sound = !__any_sync(kAllLanes, !sound);
  }
  // An element of the gradient; returns its square. lost: its loss is not finite.
  const auto give = [&](int32_t channel, T logit, T slope, bool lost) {
    if (gradient && !format.write(cell, channel, slope * factor, accumulate)) {
      ++faults.found_inf;
      lost = true;
    }
    if (!kExtras) return 0.0;
    const T element = gradient ? slope * factor : T(0);
    if (sound && lost) note(task, layer, image, cell, channel, YL_CAUSE_OVERFLOW, logit, element, extra->first);
    return square(element);
  };
  __syncwarp();  // the gradient may lie over feats: all lanes have read what the next lines write
  if (lane < 5) {
    const T slope = lane == 0   ? box.slope.x
                    : lane == 1 ? box.slope.y
                    : lane == 2 ? box.slope.w
                    : lane == 3 ? box.slope.h
                                : confidence.slope;
    const T logit = lane == 0   ? logits.x
                    : lane == 1 ? logits.y
                    : lane == 2 ? logits.w
                    : lane == 3 ? logits.h
                                : objectness;
    const bool lost = kExtras && (lane == overflow_channel(box, logits) || (lane == 4 && !finite(confidence.loss)));
    const double squared = give(lane, logit, slope, lost);
    if (kExtras) {
      extra->stats.grad_xy += lane < 2 ? squared : 0;
      extra->stats.grad_wh += lane == 2 || lane == 3 ? squared : 0;
      extra->stats.grad_object += lane == 4 ? squared : 0;
    }
  }
  double loss = 0;
#pragma unroll 1  // few passes, and no registers for several at once
  for (int32_t channel = 5 + lane; channel < task.channels; channel += kWarp) {
    const float target = target_of(task, layer, lists, image, cell, channel);
    const T logit = format.read(cell, channel);
    Term<T> term = class_loss(m, kExtras ? smoothed(T(target), T(task.rules.label_smoothing)) : T(target), logit);
    if (kExtras) term = weighted(term, class_weight * T(task.rules.class_weights[channel - 5]));
    sum.class_ += term.loss;
    loss += term.loss;
    if (!(kExtras && task.scan_all)) faults.non_finite += !finite(logit) + !finite(target);
    const double squared = give(channel, logit, term.slope, !finite(term.loss));
    if (kExtras) extra->stats.grad_class += squared;
  }
  if (!kExtras) return;
  loss = warp_sum(loss) + double(box.xy) + double(box.wh) + double(confidence.loss);
  if (lane == 0) export_cell(layer, at, ignored, loss);
}

// ---- stage 3 ---------------------------------------------------------------------------------------------------------

// The sum of a field of a row's tiles, by a warp, lanes over tiles; into row, and into copy if it is not NULL.
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

// Each thread takes a field, so that none needs registers for all; spread over the warps, so that few sums follow each other: a call of one image waits for this.
__device__ inline void sum_parts(const yl_parts *tiles, int32_t count, yl_parts *row, yl_parts *copy) {
  for (auto field = static_cast<int32_t>(threadIdx.x) / kWarp; field < kFields; field += kTile / kWarp) {
    if (field < kSums)
      sum_tiles<double>(tiles, count, field, row, copy);
    else
      sum_tiles<int64_t>(tiles, count, field, row, copy);
  }
}

// The sum of a field of a layer's rows, in the order of the images, by one thread.
template <class T> __device__ inline void sum_rows(const Task &task, int32_t l, int32_t field) {
  T value = 0;
#pragma unroll 4
  for (int32_t image = 0; image < task.batch; ++image)
    value += field_of<T>(task.work.rows[int64_t(image) * task.layer_count + l], field);
  field_of<T>(task.work.layers[l], field) = value;
}

// By one thread: layers are the raw sums.
__device__ inline void give_result(const Task &task) {
  const Control &control = *task.work.control;
  const double value = task.normaliser_at ? *task.normaliser_at : task.normaliser_value;
  const double normaliser = normaliser_of(task.normaliser, value, task.batch, static_cast<int64_t>(control.objects));
  summarise(task.work.layers, task.layer_count, normaliser, box_counts(control), *task.result.summary);
  if (task.result.layers)
    for (int32_t l = 0; l < task.layer_count; ++l) task.result.layers[l] = task.work.layers[l];
}

// By all threads of the last block: the extras of the rows together.
__device__ inline void give_extras(const Task &task) {
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

// By one thread, for its block: whether it is the last of count that come here. What any thread of a block wrote before a
// barrier that this thread has passed, all threads of the last block see after a barrier that follows.
__device__ inline bool take_ticket(unsigned long long *tickets, unsigned long long count) {
  __threadfence();
  const bool last = atomicAdd(tickets, 1ull) == count - 1;
  __threadfence();
  return last;
}

// By all threads of the last block of an (image, layer): its row; and, of the last block of all, the result.
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
    if (!kExtras) *lists.count = 0;  // else other layers of the image may still look at the list
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
    if (!bad) give_extras(task);
  }
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
template <class F, bool kGradient, bool kExtras> __device__ inline bool visit_tile(const Task &task, const Tile &tile) {
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
  if (objects > 0 || whole_image) place = cell_at<T>(layer, cell);
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
        const T overlap = iou(box, as<T>(truth));
        ignored |= overlap >= T(layer.ignore_thresh);
        if (kExtras) best = larger(overlap, best);
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
    visit_object<F, kGradient, kExtras>(task, layer, lists, format, tile.image, __shfl_sync(kAllLanes, cell, source),
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
    visit_cells(const __grid_constant__ Task task, int32_t blocks_per_image) {
  const Tile tile = tile_of_block(task, blocks_per_image, kTile);
  const bool bad = task.work.control->first_bad != kNoBadRow;
  const bool last = bad ? pass_tile(task, tile) : visit_tile<F, kGradient, kExtras>(task, tile);
  if (last) finish_row<kExtras>(task, tile, bad);
}

// ---- yolo_head -------------------------------------------------------------------------------------------------------

template <class F>
__global__ void __launch_bounds__(kTile)
    decode_cells(const __grid_constant__ LayerTask layer, const yl_head head, int32_t num_classes, int64_t cells) {
  using T = typename F::Number;
  const int64_t at = int64_t(blockIdx.x) * kTile + threadIdx.x;
  if (at >= cells) return;
  const auto cell = static_cast<int32_t>(at % layer.cells);
  const F format(layer, 5 + num_classes, static_cast<int32_t>(at / layer.cells), false);
  const Cell<T> place = cell_at<T>(layer, cell);
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
  return {visit_cells<F, false, false>, visit_cells<F, true, false>, visit_cells<F, true, true>, decode_cells<F>};
}

// Double takes one kernel for all: it is for comparisons, not for speed.
template <bool kPlanar> Kernels kernels_in_double() {
  using F = Format<double, kPlanar>;
  const auto any = visit_cells<F, true, true>;
  return {any, any, any, decode_cells<F>};
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

}  // namespace

int load_visit(const Task &task) {
  const Kernels kernels = kernels_of(task);
  cudaFuncAttributes attributes;
  for (const auto kernel : {kernels.loss, kernels.gradient, kernels.extras})
    if (const int error = cudaFuncGetAttributes(&attributes, kernel)) return error;
  return cudaSuccess;
}

int launch_visit(const Task &task, void *stream) {
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
