// Stage 2, the row of an object, computed by the warp that has its cell.
//
// Contract: all lanes of the warp call add_object_row with the same arguments. Lanes go over the channels. The parts
// xy, wh and confidence come back the same in every lane; those of the classes, and the counts of values that are not
// finite, are to be added over the lanes. Every logit that a lane needs is read before the gradient is written, which
// may lie over feats.
#pragma once

#include "cuda/statistics.cuh"

namespace yl {

// What a thread has counted: values that are not finite, among the input and among its gradient.
struct Faults {
  int32_t non_finite, found_inf;
};

// An object as the lanes of a warp have it.
template <class T> struct ObjectRow {
  int32_t cell;
  Box<float> y;  // of y_true
  T m, v;        // mask and box weight
  Box<T> logits;
  T objectness;
  bool sound;  // the input is finite and its logarithms exist; only with kExtras
};

// Counts the values of the box and the confidence that are not finite.
template <class T> __device__ inline int32_t count_non_finite(const ObjectRow<T> &row) {
  const Box<T> &t = row.logits;
  const Box<float> &y = row.y;
  return !finite(t.x) + !finite(t.y) + !finite(t.w) + !finite(t.h) + !finite(row.objectness) + !finite(y.x) +
         !finite(y.y) + !finite(y.w) + !finite(y.h) + !finite(row.m);
}

// Returns whether no value of the row poisons its loss, and keeps the first one that does.
template <class F>
__device__ inline bool inspect(const View<F> &view, const ObjectRow<typename F::Number> &row, Offence &first) {
  bool sound = true;
  for (auto channel = static_cast<int32_t>(threadIdx.x) % kWarp; channel < view.task.channels; channel += kWarp) {
    const auto logit = view.feats.read(row.cell, channel);
    const float target = channel < kBoxChannels ? channel_of(row.y, channel) : view.target(row.cell, channel);
    if (!finite(logit)) note(view, row.cell, channel, YL_CAUSE_FEATS, logit, 0, first);
    if (poisons(channel, target)) note(view, row.cell, channel, YL_CAUSE_TRUTH, target, 0, first);
    sound &= finite(logit) && !poisons(channel, target);
  }
  return !__any_sync(kAllLanes, !sound);
}

// Writes an element of the gradient; returns its square, for the statistics. lost: the loss of the channel is not
// finite.
template <class F, bool kExtras>
__device__ inline double give(const View<F> &view, const ObjectRow<typename F::Number> &row, int32_t channel,
                              typename F::Number logit, typename F::Number element, bool lost, bool gradient,
                              Faults &faults, Extra *extra) {
  if (gradient && !view.feats.write(row.cell, channel, element, view.task.grad_mode == YL_GRAD_ACCUMULATE)) {
    ++faults.found_inf;
    lost = true;
  }
  if (!kExtras) return 0;
  if (!gradient) element = 0;
  if (row.sound && lost) note(view, row.cell, channel, YL_CAUSE_OVERFLOW, logit, element, extra->first);
  return square(element);
}

// Adds the row of an object: its parts into sum, its gradient among grads. listed: its place in the list of objects;
// at: its index among the cells of the batch; extra: NULL without kExtras, so that the compiler need not keep one.
template <class F, bool kGradient, bool kExtras>
__device__ inline void add_object_row(const View<F> &view, int32_t cell, int32_t listed, bool ignored, int64_t at,
                                      typename F::Number factor, yl_parts &sum, Faults &faults, Extra *extra) {
  using T = typename F::Number;
  const Task &task = view.task;
  const auto lane = static_cast<int32_t>(threadIdx.x) % kWarp;
  const bool gradient = kExtras ? view.layer.grads != nullptr : kGradient;
  ObjectRow<T> row{cell,
                   view.lists.truths[listed],
                   view.target(cell, kObjectness),
                   kExtras ? T(view.lists.weights[listed]) : T(1),
                   view.feats.box_logits(cell),
                   view.feats.read(cell, kObjectness),
                   true};
  const Cell<T> place = view.formula_cell(cell);
  const Box<T> truth = as<T>(row.y);
  const ObjectTerms<T> terms =
      object_terms<kExtras>(task.rules, truth, row.m, row.v, ignored ? T(0) : T(1), row.logits, row.objectness, place);
  const BoxLoss<T> &box = terms.box;
  if (kExtras && lane == 0) add_object(extra->stats, iou(decode(row.logits, place), truth), row.objectness);
  sum.xy += box.xy;
  sum.wh += box.wh;
  sum.confidence_object += terms.confidence.loss;
  if (lane == 0 && !(kExtras && task.scan_all)) faults.non_finite += count_non_finite(row);
  if (kExtras) row.sound = inspect(view, row, extra->first);

  __syncwarp();  // all lanes have read what the next lines write
  if (lane <= kObjectness) {
    const bool is_box = lane < kBoxChannels;
    const T slope = is_box ? channel_of(box.slope, lane) : terms.confidence.slope;
    const T logit = is_box ? channel_of(row.logits, lane) : row.objectness;
    const bool lost = kExtras && (lane == overflow_channel(box, row.logits) ||
                                  (lane == kObjectness && !finite(terms.confidence.loss)));
    const double squared = give<F, kExtras>(view, row, lane, logit, slope * factor, lost, gradient, faults, extra);
    if (kExtras) {
      extra->stats.grad_xy += lane == kX || lane == kY ? squared : 0;
      extra->stats.grad_wh += lane == kW || lane == kH ? squared : 0;
      extra->stats.grad_object += lane == kObjectness ? squared : 0;
    }
  }
  double loss = 0;
#pragma unroll 1  // there are few passes, and no registers for several at once
  for (int32_t channel = kFirstClass + lane; channel < task.channels; channel += kWarp) {
    const float target = view.target(cell, channel);
    const T logit = view.feats.read(cell, channel);
    const auto class_weight = [&] { return T(task.rules.class_weights[channel - kFirstClass]); };
    const Term<T> term = class_term<kExtras>(task.rules, row.m, T(target), row.v, class_weight, logit);
    sum.class_ += term.loss;
    loss += term.loss;
    if (!(kExtras && task.scan_all)) faults.non_finite += !finite(logit) + !finite(target);
    const double squared =
        give<F, kExtras>(view, row, channel, logit, term.slope * factor, !finite(term.loss), gradient, faults, extra);
    if (kExtras) extra->stats.grad_class += squared;
  }
  if (!kExtras) return;
  loss = warp_sum(loss) + double(box.xy) + double(box.wh) + double(terms.confidence.loss);
  if (lane == 0) put_maps(view.layer, at, ignored, loss);
}

}  // namespace yl
