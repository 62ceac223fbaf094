// One (image, layer) of a call, as the code of cells sees it: its logits, gradient, objects and maps, by cell and
// channel.
//
// Everything here is compiled once for each instruction set. Each copy is in a namespace of its own (YL_ISA), or the
// linker would take the function of one instruction set for that of another; the test `isa` checks that none escapes.
#pragma once

#include <algorithm>

#include "cpu/cells.h"
#include "dtype.h"
#include "layout.h"

#ifndef YL_ISA
#define YL_ISA plain
#endif

namespace yl {
inline namespace YL_ISA {

// The types of feats and gradient and the order of both.
template <class V, class G, bool kPlanes> struct Format {
  using Value = V;
  using Grad = G;
  static constexpr bool kPlanar = kPlanes;
};

// Calls body with the Format of a plan whose feats are Value.
template <class Value, class Body> void with_format_of(const Shape &shape, const Body &body) {
  const bool planar = shape.layout == YL_NCHW;
  if (planar && shape.f32_grads) return body(Format<Value, float, true>{});
  if (planar) return body(Format<Value, Value, true>{});
  if (shape.f32_grads) return body(Format<Value, float, false>{});
  body(Format<Value, Value, false>{});
}

// T is the type of the arithmetic. With kExtras the view knows the caller's rules and what is requested besides loss
// and gradient; without it none of that costs anything.
template <class T, class F, bool kExtras> struct View {
  using Value = typename F::Value;
  using Grad = typename F::Grad;
  static constexpr bool kPlanar = F::kPlanar;
  static constexpr int32_t kNoGradient = -1;

  View(const CellsCall &c, int32_t image_number, int32_t layer_number)
      : shape(c.shape),
        rules(c.rules),
        truths(c.truths),
        call(c.call),
        factor(static_cast<T>(c.factor)),
        image(image_number),
        l(layer_number),
        layer(shape.layers[l]),
        objects(truths.begin(image, l)),
        objects_end(truths.end(image, l)),
        order(layer.anchors, layer.cells, shape.channels),
        feats(static_cast<const Value *>(call.feats[l]) + image * layer.cells * shape.channels),
        grads(call.grads ? static_cast<Grad *>(call.grads[l]) + image * layer.cells * shape.channels : nullptr),
        y_true(call.dense() ? call.y_true[l] + image * layer.cells * shape.channels : nullptr),
        mode(call.grads ? call.grad_mode : kNoGradient) {}

  // The logits of a cell, as numbers of the arithmetic.
  struct Logits {
    const Value *first;
    int64_t step;
    T operator[](int32_t channel) const { return T(load(first[channel * step])); }
    Box<T> box() const { return {(*this)[kX], (*this)[kY], (*this)[kW], (*this)[kH]}; }
  };
  Logits logits(int64_t cell) const { return {feats + order.start(static_cast<int32_t>(cell)), order.step()}; }
  Grad &grad(int64_t cell, int32_t channel) const {
    return grads[order.start(static_cast<int32_t>(cell)) + channel * order.step()];
  }
  Cell<T> formula_cell(int64_t cell) const {
    return cell_at<T>(layer, layer.anchor_sizes.data(), static_cast<int32_t>(cell));
  }

  // Returns an element as the gradient stores it, and counts it if that is not finite.
  static Grad stored(T slope, yl_parts &sum) {
    const Grad value = Store<Grad>::from(slope);
    sum.found_inf += !yl::finite(load(value));
    return value;
  }
  // Writes an element of the gradient, or adds it; returns it as it is stored.
  Grad write(Grad &to, T slope, yl_parts &sum) const {
    return to = stored(mode == YL_GRAD_ACCUMULATE ? T(load(to)) + slope : slope, sum);
  }
  void clear_gradient(int64_t cell) const {
    for (int32_t channel = 0; channel < shape.channels; ++channel) grad(cell, channel) = Grad{};
  }

  // Returns the element of a map (ignore_mask, best_iou, cell_loss) for a cell.
  float &map_at(float *const *maps, int64_t cell) const {
    return maps[l][image * layer.cells + order.index_of(static_cast<int32_t>(cell))];
  }
  void put_maps(int64_t cell, T k, double loss) const {
    if (call.ignore_mask) map_at(call.ignore_mask, cell) = static_cast<float>(k);
    if (call.cell_loss) map_at(call.cell_loss, cell) = static_cast<float>(loss);
  }

  // YL_SCAN_ALL: counts every value of a cell that is not finite.
  void scan(int64_t cell, yl_parts &sum, Extra &extra) const {
    const Logits u = logits(cell);
    for (int32_t channel = 0; channel < shape.channels; ++channel) {
      const T logit = u[channel];
      const float y = y_true ? y_true[cell * shape.channels + channel] : 0;
      sum.non_finite += !yl::finite(logit) + !yl::finite(y);
      if (!yl::finite(logit)) note(cell, channel, YL_CAUSE_FEATS, logit, 0, extra);
      if (!yl::finite(y)) note(cell, channel, YL_CAUSE_TRUTH, y, 0, extra);
    }
  }

  void note(int64_t cell, int32_t channel, int32_t cause, double value, double gradient, Extra &extra) const {
    const int64_t before = image * truths.cells_per_image() + truths.first_cell(l);
    const auto place = static_cast<uint64_t>((before + cell) * shape.channels + channel);
    meet(extra.first, {4 * place + static_cast<uint64_t>(cause), value, gradient});
  }

  const Shape &shape;
  const CellRules &rules;
  const Truths &truths;
  const Call &call;
  const T factor;
  const int32_t image, l;
  const Layer &layer;
  const Object *const objects, *const objects_end;  // of the layer, in the order of cells
  const Order<kPlanar> order;
  const Value *const feats;   // of the image
  Grad *const grads;          // of the image, or NULL
  const float *const y_true;  // of the image, or NULL: boxes
  const int32_t mode;         // YL_GRAD_..., or kNoGradient
};

template <class T> Box<T> box_of(const Object &object) {
  return {T(object.truth.x), T(object.truth.y), T(object.truth.w), T(object.truth.h)};
}

}  // namespace YL_ISA
}  // namespace yl
