// Stage cells: the row of an object, computed by the warp that has its cell.
//
// Contract: all lanes of the warp call add_object_row with the same arguments. Lanes go over the channels. The parts
// xy, wh and confidence come back the same in every lane; those of the classes, and the counts of values that are not
// finite, are to be added over the lanes (store_warp of cells.cu does so). Every logit that a lane needs is read before
// the gradient is written, which may be stored over feats. formula.h has the formulas; cpu/object.h does the same on
// the CPU.
#pragma once

#include "cuda/statistics.cuh"

namespace yl {

// Holds the numbers of values that are not finite which one thread has counted: among the input, and among the gradient
// that it wrote. The names are those of yl_parts.
struct Faults {
  int32_t non_finite, found_inf;
};

// Holds what the lanes of a warp share about an object. Every lane has the same values.
template <class T> struct ObjectRow {
  int32_t cell;
  Box<float> y;  // of y_true
  T m, v;        // mask and box weight
  Box<T> logits;
  T objectness;
  bool sound;  // the input is finite and its logarithms exist; only with kExtras
};

// Returns how many values of the box and of the confidence are not finite: the truth, the mask and five logits. Called
// by one lane; the classes are counted by the lanes that compute them.
template <class T> __device__ inline int32_t count_non_finite(const ObjectRow<T> &row) {
  const Box<T> &t = row.logits;
  const Box<float> &y = row.y;
  return !finite(t.x) + !finite(t.y) + !finite(t.w) + !finite(t.h) + !finite(row.objectness) + !finite(y.x) +
         !finite(y.y) + !finite(y.w) + !finite(y.h) + !finite(row.m);
}

// Returns whether every value of the row is sound, in all lanes, and keeps the first value that is not. Only with
// kExtras. If the input is not sound, it is the offender, and the loss that follows from it is not reported as an
// overflow.
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

// Writes an element of the gradient, if there is a gradient, and counts it if it is not finite as it is stored. Returns
// the square of the element for the statistics, 0 without kExtras. lost: the loss of the channel is not finite. If the
// input of the row is sound, such a channel is noted as an overflow.
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

// Adds the row of an object: its parts to sum, its gradient to grads. listed: its index in the list of objects; at: its
// index among the cells of the batch; factor: grad_scale / normaliser, 0 without a gradient; extra: NULL without
// kExtras, so that the compiler need not keep one.
//
// All lanes compute the box and the confidence, which costs the warp no more time than one lane would need; then lanes
// 0 to 4 each write one channel, and the lanes go over the classes, 32 at a time. Their parts are added in every lane
// (sum) and are stored by the first lane only.
template <class F, bool kExtras>
__device__ inline void add_object_row(const View<F> &view, int32_t cell, int32_t listed, bool ignored, int64_t at,
                                      bool gradient, typename F::Number factor, yl_parts &sum, Faults &faults,
                                      Extra *extra) {
  using T = typename F::Number;
  const Task &task = view.task;
  const auto lane = static_cast<int32_t>(threadIdx.x) % kWarp;
  // A compiler barrier: without it nvcc hoists loads out of the loop over objects, for which there are no registers.
  asm volatile("" ::: "memory");
  ObjectRow<T> row{cell,
                   view.lists.truths[listed],
                   view.target(cell, kObjectness),
                   kExtras ? T(view.lists.weights[listed]) : T(1),
                   view.feats.box_logits(cell),
                   view.feats.read(cell, kObjectness),
                   true};
  // Counted before the terms are computed, so that the logits and truths need not stay in registers behind them.
  if (lane == 0 && !(kExtras && task.scan_all)) faults.non_finite += count_non_finite(row);
  const Cell<T> place = view.formula_cell(cell);
  const Box<T> truth = as<T>(row.y);
  // The formulas, the same for every backend. To change a term, change object_terms or box_loss in formula.h.
  const ObjectTerms<T> terms =
      object_terms<kExtras>(task.rules, truth, row.m, row.v, ignored ? T(0) : T(1), row.logits, row.objectness, place);
  const BoxLoss<T> &box = terms.box;
  if (kExtras && lane == 0) add_object(extra->stats, iou(decode(row.logits, place), truth), row.objectness);
  sum.xy += box.xy;
  sum.wh += box.wh;
  sum.confidence_object += terms.confidence.loss;
  if (kExtras) row.sound = inspect(view, row, extra->first);

  // The gradient may be stored over feats: lanes 0 to 4 overwrite the logits of the box and the objectness, which every
  // lane reads above. __syncwarp orders those reads before the writes. The class logits that other lanes have read
  // (inspect) were read before it too; from here on each is read and written by the same lane.
  __syncwarp();
  if (lane <= kObjectness) {
    const T slope = lane == kObjectness ? terms.confidence.slope : channel_of(box.slope, lane);
    const T logit = lane == kObjectness ? row.objectness : channel_of(row.logits, lane);
    const bool lost = kExtras && (lane == overflow_channel(box, row.logits) ||
                                  (lane == kObjectness && !finite(terms.confidence.loss)));
    const double squared = give<F, kExtras>(view, row, lane, logit, slope * factor, lost, gradient, faults, extra);
    if (kExtras) {
      extra->stats.grad_xy += lane == kX || lane == kY ? squared : 0;
      extra->stats.grad_wh += lane == kW || lane == kH ? squared : 0;
      extra->stats.grad_object += lane == kObjectness ? squared : 0;
    }
  }
  // The classes: lane i has the classes i, i + 32, ... The logits and targets of up to kPasses of them are loaded
  // before any is used. The loop around them stays rolled, since few networks have more classes.
  constexpr int32_t kPasses = F::kIsPlanar ? 2 : 3;  // planes need a register more for each address
  double loss = 0;
#pragma unroll 1
  for (int32_t first = kFirstClass + lane; first < task.channels; first += kPasses * kWarp) {
    float targets[kPasses];
    T logits[kPasses];
#pragma unroll
    for (int32_t i = 0; i < kPasses; ++i) {
      const int32_t channel = first + i * kWarp;
      if (channel >= task.channels) break;
      targets[i] = view.target(cell, channel);
      logits[i] = view.feats.read(cell, channel);
    }
#pragma unroll
    for (int32_t i = 0; i < kPasses; ++i) {
      const int32_t channel = first + i * kWarp;
      if (channel >= task.channels) break;
      const float target = targets[i];
      const T logit = logits[i];
      // A function instead of a value: without kExtras it is never called, and class_weights is never read.
      const auto class_weight = [&] { return T(task.rules.class_weights[channel - kFirstClass]); };
      const Term<T> term = class_term<kExtras>(task.rules, row.m, T(target), row.v, class_weight, logit);
      sum.class_ += term.loss;
      loss += term.loss;
      if (!(kExtras && task.scan_all)) faults.non_finite += !finite(logit) + !finite(target);
      const double squared =
          give<F, kExtras>(view, row, channel, logit, term.slope * factor, !finite(term.loss), gradient, faults, extra);
      if (kExtras) extra->stats.grad_class += squared;
    }
  }
  if (!kExtras) return;
  // The map cell_loss needs the whole loss of the cell: the classes of all lanes and the parts that every lane has.
  loss = warp_sum(loss) + double(box.xy) + double(box.wh) + double(terms.confidence.loss);
  if (lane == 0) put_maps(view.layer, at, ignored, loss);
}

}  // namespace yl
