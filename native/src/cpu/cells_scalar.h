// Stage 2 for YL_F64: a span of cells in double, one by one. It is for comparisons, not for speed.
#pragma once

#include "cpu/object.h"

namespace yl {
inline namespace YL_ISA {

template <class F, bool kExtras> class ScalarCells {
  using T = double;
  using ViewOf = View<T, F, kExtras>;
  using Grad = typename F::Grad;
  using Logits = typename ViewOf::Logits;
  static constexpr bool kPlanar = F::kPlanar;

 public:
  ScalarCells(const CellsCall &c, int32_t image, const Span &span, Scratch &scratch)
      : view_(c, image, span.layer), first_(span.first), last_(span.last), scratch_(scratch) {}

  void compute(yl_parts &sum, Extra &extra) {
    const Object *next = std::lower_bound(view_.objects, view_.objects_end, first_,
                                          [](const Object &object, int64_t cell) { return object.cell < cell; });
    const bool overwrite = view_.mode == YL_GRAD_OVERWRITE;
    auto *const slopes = reinterpret_cast<Grad *>(scratch_.slopes.data());
    if (view_.mode == YL_GRAD_REFRESH) clear_previous();
    for (int64_t cell = first_; cell < last_; ++cell) {
      const Object *own = next != view_.objects_end && next->cell == cell ? next++ : nullptr;
      const T k = ignored(cell) ? 0 : 1;
      sum.ignored += k == 0;
      if (kExtras && view_.call.scan_all) view_.scan(cell, sum, extra);
      if (kPlanar) scratch_.is_object[cell - first_] = own != nullptr;
      if (own) {
        object(cell, k, *own, sum, extra);
      } else {
        const Grad slope = background(cell, k, sum, extra);
        if (kPlanar && overwrite) slopes[cell - first_] = slope;
      }
    }
    if (kPlanar && overwrite) write_planes(slopes);
  }

 private:
  // Returns whether k is 0.
  bool ignored(int64_t cell) const {
    const bool whole_image = kExtras && view_.rules.image_scope, export_iou = kExtras && view_.call.best_iou;
    if (!whole_image && !export_iou && view_.objects == view_.objects_end) return false;
    const Box<T> box = decode(view_.logits(cell).box(), view_.formula_cell(cell));
    const T thresh = view_.layer.ignore_thresh;
    bool result = false;
    T best = 0;
    for (int32_t l = 0; l < view_.shape.layer_count(); ++l) {
      if (l != view_.l && !whole_image) continue;
      for (const Object *o = view_.truths.begin(view_.image, l); o != view_.truths.end(view_.image, l); ++o) {
        result |= reaches(box, box_of<T>(*o), thresh);
        if (export_iou) best = larger(iou(box, box_of<T>(*o)), best);
      }
    }
    if (export_iou) view_.map_at(view_.call.best_iou, cell) = static_cast<float>(best);
    return result;
  }

  // Returns the slope of the objectness as it is stored. Over rows, the gradient is written at once, while the row is
  // in the cache; every logit is read before its place is written, since the gradient may lie over feats.
  Grad background(int64_t cell, T k, yl_parts &sum, Extra &extra) const {
    const T objectness = view_.logits(cell)[kObjectness];
    const Term<T> confidence = background_term<kExtras>(view_.rules, k, objectness);
    sum.confidence_background += confidence.loss;
    sum.ignored_background += k == 0;
    if (!(kExtras && view_.call.scan_all)) sum.non_finite += !finite(objectness);
    const T slope = confidence.slope * view_.factor;
    Grad stored{};
    if (view_.mode == YL_GRAD_OVERWRITE) {
      stored = view_.stored(slope, sum);
      if (!kPlanar) {
        view_.clear_gradient(cell);
        view_.grad(cell, kObjectness) = stored;
      }
    } else if (view_.grads) {
      stored = view_.write(view_.grad(cell, kObjectness), slope, sum);
    }
    if (!kExtras) return stored;
    add_background(extra.stats, objectness, view_.grads ? slope : T(0));
    if (!finite(objectness))
      view_.note(cell, kObjectness, YL_CAUSE_FEATS, objectness, 0, extra);
    else if (!finite(load(stored)))
      view_.note(cell, kObjectness, YL_CAUSE_OVERFLOW, objectness, slope, extra);
    view_.put_maps(cell, k, confidence.loss);
    return stored;
  }

  void object(int64_t cell, T k, const Object &own, yl_parts &sum, Extra &extra) const {
    const float *y = view_.truths.row(own, view_.image, view_.l, view_.y_true, scratch_.row.data());
    ObjectRow<T, F, kExtras> row(view_, cell, k, own, y, nullptr);
    row.inspect(view_.shape.channels, sum, extra);
    double loss = row.box_and_confidence(sum, extra);
    for (int32_t i = kFirstClass; i < view_.shape.channels; ++i) {
      const T logit = row.logit(i);
      const Term<T> term = class_term<kExtras>(
          view_.rules, row.mask(), T(y[i]), row.weight(), [&] { return T(row.class_weight(i)); }, logit);
      sum.class_ += term.loss;
      loss += term.loss;
      row.give(i, logit, term.slope, !finite(term.loss), extra.stats.grad_class, sum, extra);
    }
    row.finish(loss);
  }

  void clear_previous() const {
    const int32_t *end = view_.truths.previous_end(view_.image, view_.l);
    for (const int32_t *cell = std::lower_bound(view_.truths.previous_begin(view_.image, view_.l), end, first_);
         cell != end && *cell < last_; ++cell)
      view_.clear_gradient(*cell);
  }

  // Writes the gradient of the background in planes, when all of the span has been read. Objects have written theirs.
  void write_planes(const Grad *slopes) const {
    const int32_t anchors = view_.layer.anchors;
    for (int64_t first = first_; first < std::min(first_ + anchors, last_); ++first)  // of each anchor
      for (int32_t channel = 0; channel < view_.shape.channels; ++channel) {
        Grad *to = &view_.grad(first, channel);
        for (int64_t cell = first; cell < last_; cell += anchors, ++to)
          if (!scratch_.is_object[cell - first_]) *to = channel == kObjectness ? slopes[cell - first_] : Grad{};
      }
  }

  const ViewOf view_;
  const int64_t first_, last_;
  Scratch &scratch_;
};

}  // namespace YL_ISA
}  // namespace yl
