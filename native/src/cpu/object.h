// The row of an object: its parts of the loss, its gradient, and what is requested besides. Used by cells_scalar.h and
// by cells_simd.h, which differ in how they go through the classes: one by one, or side by side.
#pragma once

#include "cpu/view.h"

namespace yl {
inline namespace YL_ISA {

template <class T, class F, bool kExtras> class ObjectRow {
 public:
  using ViewOf = View<T, F, kExtras>;
  using Grad = typename F::Grad;

  // y: the row of y_true. collected: where to write the gradient, NULL for its place among grads.
  ObjectRow(const ViewOf &view, int64_t cell, T k, const Object &own, const float *y, Grad *collected)
      : view_(view), cell_(cell), k_(k), v_(T(own.weight)), y_(y), logits_(view.logits(cell)), collected_(collected) {}

  T logit(int32_t channel) const { return logits_[channel]; }
  T mask() const { return y_[kObjectness]; }
  T weight() const { return v_; }
  float target(int32_t channel) const { return y_[channel]; }
  float class_weight(int32_t channel) const { return view_.rules.class_weights[channel - kFirstClass]; }

  // Counts those of the first channels whose logit or truth is not finite. To be called first: what it finds decides
  // whether a loss that is not finite is an overflow.
  void inspect(int32_t channels, yl_parts &sum, Extra &extra) {
    for (int32_t i = 0; i < channels; ++i) {
      const T u = logit(i);
      if (!(kExtras && view_.call.scan_all)) sum.non_finite += !yl::finite(u) + !yl::finite(y_[i]);
      if (!kExtras || (yl::finite(u) && !poisons(i, y_[i]))) continue;
      sound_ = false;
      if (!yl::finite(u)) view_.note(cell_, i, YL_CAUSE_FEATS, u, 0, extra);
      if (poisons(i, y_[i])) view_.note(cell_, i, YL_CAUSE_TRUTH, y_[i], 0, extra);
    }
  }

  // Adds the parts xy, wh and confidence, and writes the gradient of their channels. Returns their sum.
  double box_and_confidence(yl_parts &sum, Extra &extra) const {
    const Box<T> truth{T(y_[kX]), T(y_[kY]), T(y_[kW]), T(y_[kH])}, t = logits_.box();
    const T objectness = logit(kObjectness);
    const Cell<T> cell = view_.formula_cell(cell_);
    const auto [box, confidence] = object_terms<kExtras>(view_.rules, truth, mask(), v_, k_, t, objectness, cell);
    if (kExtras) add_object(extra.stats, iou(decode(t, cell), truth), objectness);
    sum.xy += box.xy;
    sum.wh += box.wh;
    sum.confidence_object += confidence.loss;
    ++sum.objects;
    const T logits[] = {t.x, t.y, t.w, t.h, objectness};
    const T slopes[] = {box.slope.x, box.slope.y, box.slope.w, box.slope.h, confidence.slope};
    yl_stats &stats = extra.stats;
    double *const squares[] = {&stats.grad_xy, &stats.grad_xy, &stats.grad_wh, &stats.grad_wh, &stats.grad_object};
    const int32_t overflow = kExtras ? overflow_channel(box, t) : -1;
    for (int32_t i = 0; i <= kObjectness; ++i) {
      const bool lost = kExtras && (i == overflow || (i == kObjectness && !yl::finite(confidence.loss)));
      give(i, logits[i], slopes[i], lost, *squares[i], sum, extra);
    }
    return double(box.xy) + double(box.wh) + double(confidence.loss);
  }

  // Writes an element of the gradient and adds its square. lost: the loss of the channel is not finite.
  void give(int32_t channel, T u, T slope, bool lost, double &squares, yl_parts &sum, Extra &extra) const {
    const T element = slope * view_.factor;
    if (view_.grads) lost |= !yl::finite(load(view_.write(place(channel), element, sum)));
    if (!kExtras) return;
    if (view_.grads) squares += square(element);
    if (sound_ && lost) view_.note(cell_, channel, YL_CAUSE_OVERFLOW, u, view_.grads ? element : T(0), extra);
  }

  // Writes the maps, given the sum of all parts.
  void finish(double loss) const {
    if (kExtras) view_.put_maps(cell_, k_, loss);
  }

 private:
  Grad &place(int32_t channel) const {
    return F::kPlanar && collected_ ? collected_[channel] : view_.grad(cell_, channel);
  }

  const ViewOf &view_;
  const int64_t cell_;
  const T k_, v_;
  const float *const y_;
  const typename ViewOf::Logits logits_;
  Grad *const collected_;
  bool sound_ = true;  // the input is finite and its logarithms exist
};

}  // namespace YL_ISA
}  // namespace yl
