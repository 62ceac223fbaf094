// Stage 2, cells, on the host: a run of cells of one (image, layer), each visited once: its parts of the loss, its
// ignore factor against the objects, its row of the gradient. T is the type of the arithmetic; sums are double.
#pragma once

#include <algorithm>
#include <cmath>

#include "sums.h"
#include "truths.h"

namespace yl {

template <class T> Cell<T> cell_at(const Layer &layer, int64_t cell) {
  const int64_t anchor = cell % layer.anchors, place = cell / layer.anchors;
  return {T(place % layer.width),
          T(place / layer.width),
          T(layer.width),
          T(layer.height),
          T(layer.anchor_sizes[2 * anchor]),
          T(layer.anchor_sizes[2 * anchor + 1])};
}

template <class T> Box<T> box_logits(const float *feats) {
  return {T(feats[0]), T(feats[1]), T(feats[2]), T(feats[3])};
}

template <class T> class Cells {
 public:
  Cells(const Shape &shape, const Truths &truths, const Call &call, double gradient_factor)
      : shape_(shape), truths_(truths), call_(call), factor_(static_cast<T>(gradient_factor)) {}

  // Cells [first, last) of an image and layer; scratch holds 5 + C values.
  yl_parts visit(int32_t image, int32_t l, int64_t first, int64_t last, float *scratch) const {
    const Layer &layer = shape_.layers[l];
    const int64_t start = image * layer.cells;
    const Object *const objects = truths_.begin(image, l), *const objects_end = truths_.end(image, l);
    const float *y_true = call_.dense() ? call_.y_true[l] + start * shape_.channels : nullptr;
    const Object *next = std::lower_bound(objects, objects_end, first,
                                          [](const Object &object, int64_t cell) { return object.cell < cell; });
    if (call_.grads && call_.refresh) clear_previous(image, l, first, last);
    yl_parts sum{};
    for (int64_t cell = first; cell < last; ++cell) {
      const float *feats = call_.feats[l] + (start + cell) * shape_.channels;
      float *grad = call_.grads ? call_.grads[l] + (start + cell) * shape_.channels : nullptr;
      const T k = ignored(layer, cell, feats, objects, objects_end) ? T(0) : T(1);
      sum.ignored += k == T(0);
      if (next != objects_end && next->cell == cell) {
        object(layer, cell, k, feats, truths_.row(*next++, image, l, y_true, scratch), grad, sum);
      } else {
        background(k, feats, grad, sum);
      }
    }
    return sum;
  }

 private:
  void clear_previous(int32_t image, int32_t l, int64_t first, int64_t last) const {
    float *grads = call_.grads[l] + image * shape_.layers[l].cells * shape_.channels;
    const int32_t *end = truths_.previous_end(image, l);
    for (const int32_t *cell = std::lower_bound(truths_.previous_begin(image, l), end, first);
         cell != end && *cell < last; ++cell)
      std::fill_n(grads + int64_t(*cell) * shape_.channels, shape_.channels, 0.0f);
  }

  bool ignored(const Layer &layer, int64_t cell, const float *feats, const Object *objects, const Object *end) const {
    if (objects == end) return false;
    const Box<T> box = decode(box_logits<T>(feats), cell_at<T>(layer, cell));
    for (const Object *o = objects; o != end; ++o) {
      const Box<T> truth{T(o->truth.x), T(o->truth.y), T(o->truth.w), T(o->truth.h)};
      if (iou(box, truth) >= T(shape_.ignore_thresh)) return true;
    }
    return false;
  }

  // grad may be feats: every logit is read before its place is written.
  void background(T k, const float *feats, float *grad, yl_parts &sum) const {
    const float logit = feats[4];
    const Term<T> confidence = confidence_loss(T(0), k, T(logit));
    sum.confidence_background += confidence.loss;
    sum.ignored_background += k == T(0);
    sum.non_finite += !std::isfinite(logit);
    if (!grad) return;
    if (!call_.refresh) std::fill(grad, grad + shape_.channels, 0.0f);
    grad[4] = static_cast<float>(confidence.slope * factor_);
  }

  void object(const Layer &layer, int64_t cell, T k, const float *feats, const float *y, float *grad,
              yl_parts &sum) const {
    for (int32_t i = 0; i < shape_.channels; ++i) sum.non_finite += !std::isfinite(feats[i]) + !std::isfinite(y[i]);
    const T m = y[4];
    const BoxLoss<T> box = box_loss(box_logits<T>(y), m, box_logits<T>(feats), cell_at<T>(layer, cell));
    const Term<T> confidence = confidence_loss(m, k, T(feats[4]));
    sum.xy += box.xy;
    sum.wh += box.wh;
    sum.confidence_object += confidence.loss;
    ++sum.objects;
    if (grad) {
      grad[0] = static_cast<float>(box.slope.x * factor_);
      grad[1] = static_cast<float>(box.slope.y * factor_);
      grad[2] = static_cast<float>(box.slope.w * factor_);
      grad[3] = static_cast<float>(box.slope.h * factor_);
      grad[4] = static_cast<float>(confidence.slope * factor_);
    }
    for (int32_t i = 5; i < shape_.channels; ++i) {
      const Term<T> term = class_loss(m, T(y[i]), T(feats[i]));
      sum.class_ += term.loss;
      if (grad) grad[i] = static_cast<float>(term.slope * factor_);
    }
  }

  const Shape &shape_;
  const Truths &truths_;
  const Call &call_;
  const T factor_;  // of the gradient: grad_scale / normaliser
};

// yolo_head of cells [first, last) of an image. Outputs as in yl_head, each NULL or of the whole layer.
template <class T>
void head_cells(const Shape &shape, const yl_head &head, int32_t image, int64_t first, int64_t last) {
  const Layer &layer = shape.layers[head.layer];
  for (int64_t cell = first; cell < last; ++cell) {
    const int64_t at = image * layer.cells + cell;
    const float *feats = static_cast<const float *>(head.feats) + at * shape.channels;
    if (head.box_xy || head.box_wh) {
      const Box<T> box = decode(box_logits<T>(feats), cell_at<T>(layer, cell));
      if (head.box_xy) {
        head.box_xy[2 * at] = static_cast<float>(box.x);
        head.box_xy[2 * at + 1] = static_cast<float>(box.y);
      }
      if (head.box_wh) {
        head.box_wh[2 * at] = static_cast<float>(box.w);
        head.box_wh[2 * at + 1] = static_cast<float>(box.h);
      }
    }
    if (head.box_confidence) head.box_confidence[at] = static_cast<float>(sigmoid(T(feats[4])));
    if (!head.box_class_probs) continue;
    for (int32_t c = 0; c < shape.num_classes; ++c)
      head.box_class_probs[at * shape.num_classes + c] = static_cast<float>(sigmoid(T(feats[5 + c])));
  }
}

inline void head_grid(const Shape &shape, const yl_head &head) {
  const Layer &layer = shape.layers[head.layer];
  if (!head.grid) return;
  for (int32_t row = 0; row < layer.height; ++row)
    for (int32_t column = 0; column < layer.width; ++column) {
      float *out = head.grid + 2 * (int64_t(row) * layer.width + column);
      out[0] = static_cast<float>(column);
      out[1] = static_cast<float>(row);
    }
}

// The dense truths of an image and layer, written whole.
inline void write_y_true(const Shape &shape, const Truths &truths, int32_t image, int32_t l, float *y_true) {
  float *out = y_true + image * shape.layers[l].cells * shape.channels;
  std::fill(out, out + shape.layers[l].cells * shape.channels, 0.0f);
  for (const Object *o = truths.begin(image, l); o != truths.end(image, l); ++o)
    truths.row(*o, image, l, nullptr, out + int64_t(o->cell) * shape.channels);
}

}  // namespace yl
