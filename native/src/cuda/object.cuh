// Stage 2, the row of an object; and what a call gives on request besides loss and gradient.
#pragma once

#include "cuda/feats.cuh"
#include "statistics.h"
#include "layer_sums.h"

namespace yl {

template <class T> __device__ inline Cell<T> formula_cell(const LayerTask &layer, int32_t cell) {
  return cell_at<T>(layer, static_cast<const T *>(layer.anchor_sizes), cell);
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
__device__ inline void object_cells(const Task &task, const LayerTask &layer, const Lists &lists, const F &format,
                                    int32_t image, int32_t cell, int32_t listed, bool ignored, int64_t at,
                                    typename F::Number factor, yl_parts &sum, Faults &faults, Extra *extra) {
  using T = typename F::Number;
  const auto lane = static_cast<int32_t>(threadIdx.x) % kWarp;
  const bool gradient = kExtras ? layer.grads != nullptr : kGradient, accumulate = task.grad_mode == YL_GRAD_ACCUMULATE;
  const Box<float> y = lists.truths[listed];
  const Box<T> truth = as<T>(y), logits = box_logits(format, cell);
  const T m = target_of(task, layer, lists, image, cell, 4), objectness = format.read(cell, 4);
  BoxLoss<T> box = box_loss(truth, m, logits, formula_cell<T>(layer, cell));
  Term<T> confidence = confidence_loss(m, ignored ? T(0) : T(1), objectness);
  T class_weight = 1;
  if (kExtras) {
    const T v = lists.weights[listed];
    box = weighted(box, T(task.rules.weight_xy) * v, T(task.rules.weight_wh) * v);
    confidence = weighted(confidence, T(task.rules.weight_object) * v);
    class_weight = T(task.rules.weight_class) * v;
    if (lane == 0) add_object(extra->stats, iou(decode(logits, formula_cell<T>(layer, cell)), truth), objectness);
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

}  // namespace yl
