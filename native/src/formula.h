// The loss of a cell and its derivative, written once for every backend: plain functions over a number type T, which is
// float, double, or several floats side by side (cpu/simd.h). Compiles as C++ and as CUDA.
//
// First the terms, then their composition: object_terms, class_term and background_term say which weight and which mask
// meets which term. To change the loss, change it here; backends differ only in how they reach these functions. The
// names and formulas are those of section 7 of yololoss.h. Read reference/reference.cpp next: it is the plain loop
// around them.
//
// Formatted by hand: a loss and its derivative are on adjacent lines, so that a reader can check one against the other.
// clang-format off
#pragma once

#include "elementary.h"

namespace yl {

// A part of the loss, and its derivative with respect to the logit (the slope).
template <class T> struct Term {
  T loss, slope;
};

// Centre and size as fractions of the input; also any four values of these channels, such as logits or slopes.
template <class T> struct Box {
  T x, y, w, h;
};

// The position of a cell, the size of its grid, and the size of its anchor.
template <class T> struct Cell {
  T column, row;
  T grid_width, grid_height;
  T anchor_width, anchor_height;  // as fractions of the input
};

// Returns 1 / (1 + e^-u), where e is e^-|u|: e is in (0, 1], so nothing overflows.
template <class T> YL_HOST_DEVICE inline T sigmoid(T u, T e) { return select(u >= T(0), T(1), e) / (T(1) + e); }
template <class T> YL_HOST_DEVICE inline T sigmoid(T u) { return sigmoid(u, exp(-fabs(u))); }

// Returns ce(z, u), the cross entropy of a target and the sigmoid of a logit, where e is e^-|u|. This form never takes
// the logarithm of a sigmoid, which rounds to 0 or 1 for large |u|.
template <class T> YL_HOST_DEVICE inline Term<T> cross_entropy(T z, T u, T e) {
  return {larger(u, T(0)) - u * z + log1p(e),
          sigmoid(u, e) - z};
}
template <class T> YL_HOST_DEVICE inline Term<T> cross_entropy(T z, T u) { return cross_entropy(z, u, exp(-fabs(u))); }

template <class T> YL_HOST_DEVICE inline Term<T> half_square(T goal, T u) {
  return {(u - goal) * (u - goal) / T(2),
          u - goal};
}

// Returns the box that four box logits predict, as keras-yolo3's yolo_head does.
template <class T> YL_HOST_DEVICE inline Box<T> decode(const Box<T> &t, const Cell<T> &c) {
  return {(sigmoid(t.x) + c.column) / c.grid_width,
          (sigmoid(t.y) + c.row) / c.grid_height,
          c.anchor_width * exp(t.w),
          c.anchor_height * exp(t.h)};
}

// Returns the length of the overlap of two intervals given by centre and length; NaN if any of the four is NaN: then
// reach is NaN, and it is b of smaller, which is b of larger.
template <class T> YL_HOST_DEVICE inline T overlap(T centre_a, T length_a, T centre_b, T length_b) {
  const T reach = (length_a + length_b) / T(2) - fabs(centre_a - centre_b);
  return larger(T(0), smaller(smaller(length_a, length_b), reach));
}

// Returns the IoU of two boxes; NaN if any of their values is NaN.
template <class T> YL_HOST_DEVICE inline T iou(const Box<T> &a, const Box<T> &b) {
  const T both = overlap(a.x, a.w, b.x, b.w) * overlap(a.y, a.h, b.y, b.h);
  return both / (a.w * a.h + b.w * b.h - both);
}

// Returns whether iou(a, b) >= thresh, without a division. A box with a NaN reaches no threshold, nor do two boxes
// without area: all is then NaN or 0. & instead of && because a comparison of vectors is a mask.
template <class T> YL_HOST_DEVICE inline auto reaches(const Box<T> &a, const Box<T> &b, T thresh) {
  const T both = overlap(a.x, a.w, b.x, b.w) * overlap(a.y, a.h, b.y, b.h);
  const T all = a.w * a.h + b.w * b.h - both;
  return (all > T(0)) & (both >= thresh * all);
}

// The grid squares, in columns and rows, from which a prediction can reach an IoU of thresh with a truth.
//
// Take two intervals, of length a (truth) and p (prediction), with their centres d apart. They overlap by at most a,
// and by at most (a+p)/2 - d. The first gives IoU <= a/p, which falls as p grows; the second gives IoU <=
// (a+p-2d)/(a+p+2d), which rises. They meet at p = a + 2d, where both are a/(a+2d): so the IoU is at most that,
// whatever p is. And the IoU of two boxes is at most that of either dimension. So for thresh > 0 a centre that reaches
// is within a * (1-thresh) / (2*thresh) of the truth's centre, and it is inside its own square. The zone is widened a
// little, so that rounding cannot exclude a cell. A thresh of 0 or less is reached from everywhere.
template <class T> struct Zone {
  T left, right, top, bottom;
};

template <class T> YL_HOST_DEVICE inline Zone<T> zone_of(const Box<T> &truth, T thresh, T grid_width, T grid_height) {
  if (!(thresh > T(0))) return {T(-1), grid_width, T(-1), grid_height};
  const T factor = larger(T(0), (T(1) - thresh) / (T(2) * thresh)) + T(1e-4);
  const T x = fabs(truth.w) * factor, y = fabs(truth.h) * factor;
  const T x_margin = T(0.01) + T(1e-6) * grid_width, y_margin = T(0.01) + T(1e-6) * grid_height;
  return {(truth.x - x) * grid_width - T(1) - x_margin, (truth.x + x) * grid_width + x_margin,
          (truth.y - y) * grid_height - T(1) - y_margin, (truth.y + y) * grid_height + y_margin};
}

template <class T> YL_HOST_DEVICE inline bool in_zone(const Zone<T> &zone, T column, T row) {
  return column >= zone.left && column <= zone.right && row >= zone.top && row <= zone.bottom;
}

// The xy and wh parts of an object, and their derivatives with respect to the four box logits.
template <class T> struct BoxLoss {
  T xy, wh;
  Box<T> slope;
};

// Returns the box loss of truth y and logits t, with mask m. raw_true_xy is computed by fma: the rounding of the
// product y_x*W would be magnified by the difference, and was most of the error in float32.
template <class T> YL_HOST_DEVICE inline BoxLoss<T> box_loss(const Box<T> &y, T m, const Box<T> &t, const Cell<T> &c) {
  const T weight = m * (T(2) - y.w * y.h);  // m * box_loss_scale
  const Term<T> x_term = cross_entropy(fma(y.x, c.grid_width, -c.column), t.x);
  const Term<T> y_term = cross_entropy(fma(y.y, c.grid_height, -c.row), t.y);
  const Term<T> w_term = half_square(log(y.w / c.anchor_width), t.w);
  const Term<T> h_term = half_square(log(y.h / c.anchor_height), t.h);
  return {weight * (x_term.loss + y_term.loss),
          weight * (w_term.loss + h_term.loss),
          {weight * x_term.slope, weight * y_term.slope, weight * w_term.slope, weight * h_term.slope}};
}

// Returns the confidence term. A weight of 0 yields 0, whatever the logit: the loss of an ignored background cell with
// an infinite logit is not NaN. counted_background_term repeats this for a weight of 1: change both.
template <class T> YL_HOST_DEVICE inline Term<T> confidence_loss(T m, T k, T logit) {
  const T weight = m + (T(1) - m) * k;
  const Term<T> ce = cross_entropy(m, logit);
  return {select(weight == T(0), T(0), weight * ce.loss),
          select(weight == T(0), T(0), weight * ce.slope)};
}

template <class T> YL_HOST_DEVICE inline Term<T> class_loss(T m, T y, T logit) {
  const Term<T> ce = cross_entropy(y, logit);
  return {m * ce.loss,
          m * ce.slope};
}

// ---- composition: which weight and which mask meets which term ------------------------------------------------------

// The choices of yl_rules that enter the loss of a cell.
struct CellRules {
  float weight_xy, weight_wh, weight_object, weight_background, weight_class;
  float label_smoothing;
  const float *class_weights;  // C
  bool image_scope;            // YL_SCOPE_IMAGE
};

// A weight of 0 yields 0 here too, even if the value is not finite.
template <class T> YL_HOST_DEVICE inline T weighted(T value, T weight) {
  return select(weight == T(0), T(0), value * weight);
}
template <class T> YL_HOST_DEVICE inline Term<T> weighted(const Term<T> &term, T weight) {
  return {weighted(term.loss, weight),
          weighted(term.slope, weight)};
}
template <class T> YL_HOST_DEVICE inline BoxLoss<T> weighted(const BoxLoss<T> &box, T xy, T wh) {
  return {weighted(box.xy, xy),
          weighted(box.wh, wh),
          {weighted(box.slope.x, xy), weighted(box.slope.y, xy), weighted(box.slope.w, wh), weighted(box.slope.h, wh)}};
}
// Returns a class target after label smoothing.
template <class T> YL_HOST_DEVICE inline T smoothed(T y, T smoothing) {
  return y * (T(1) - smoothing) + smoothing / T(2);
}

// The terms of an object, except those of its classes.
template <class T> struct ObjectTerms {
  BoxLoss<T> box;
  Term<T> confidence;
};

// Returns the terms of an object with truth y, mask m, box weight v and ignore factor k, and logits t and objectness.
// Without kRules the rules are keras-yolo3's, and v is 1: nothing is multiplied by 1.
template <bool kRules, class T>
YL_HOST_DEVICE inline ObjectTerms<T> object_terms(const CellRules &rules, const Box<T> &y, T m, T v, T k,
                                                  const Box<T> &t, T objectness, const Cell<T> &c) {
  const BoxLoss<T> box = box_loss(y, m, t, c);
  const Term<T> confidence = confidence_loss(m, k, objectness);
  if (!kRules) return {box, confidence};
  return {weighted(box, T(rules.weight_xy) * v, T(rules.weight_wh) * v),
          weighted(confidence, T(rules.weight_object) * v)};
}

// Returns the term of one class of an object with class target y. class_weight() is called with kRules only.
template <bool kRules, class T, class Weight>
YL_HOST_DEVICE inline Term<T> class_term(const CellRules &rules, T m, T y, T v, const Weight &class_weight, T logit) {
  if (!kRules) return class_loss(m, y, logit);
  const Term<T> term = class_loss(m, smoothed(y, T(rules.label_smoothing)), logit);
  return weighted(term, T(rules.weight_class) * v * class_weight());
}

// Returns the confidence term of a background cell.
template <bool kRules, class T>
YL_HOST_DEVICE inline Term<T> background_term(const CellRules &rules, T k, T objectness) {
  const Term<T> confidence = confidence_loss(T(0), k, objectness);
  return kRules ? weighted(confidence, T(rules.weight_background)) : confidence;
}
// Does the same where k is 1 and e is e^-|objectness|: the weight of confidence_loss is 1 there, which multiplies
// nothing. A change of confidence_loss must be made here too; the cpu device takes this one for whole blocks of
// background.
template <bool kRules, class T>
YL_HOST_DEVICE inline Term<T> counted_background_term(const CellRules &rules, T objectness, T e) {
  const Term<T> confidence = cross_entropy(T(0), objectness, e);
  return kRules ? weighted(confidence, T(rules.weight_background)) : confidence;
}

// ---- where a loss that is not finite comes from ---------------------------------------------------------------------

// Returns the channel whose part of an object's box loss is not finite though its logits and truths are, or -1: 2 or 3
// for wh, whose square overflows, 0 or 1 for xy, where a product does.
template <class T> YL_HOST_DEVICE inline int overflow_channel(const BoxLoss<T> &box, const Box<T> &logits) {
  if (!finite(box.xy)) return finite(logits.x * box.slope.x) ? 1 : 0;
  if (!finite(box.wh)) return finite(box.slope.w * box.slope.w) ? 3 : 2;
  return -1;
}

// Returns whether a value of an object's row of y_true poisons its loss: the logarithm of a size that is not positive
// is not finite.
YL_HOST_DEVICE inline bool poisons(int channel, float y) {
  const bool is_size = channel == 2 || channel == 3;
  return !finite(y) || (is_size && y <= 0);
}

}  // namespace yl
