// The loss of a cell and its derivative, once, for every backend: plain functions over a number type T (float or
// double; a vector type with the same operators, exp, fma, log, log1p, fabs and select can be added). Compiles as C++
// and as CUDA. Names and formulas as in yololoss.h at yl_loss.
//
// Formatted by hand: a loss and its derivative stand on adjacent lines, so that a reader can check one by the other.
// clang-format off
#pragma once

#include <cmath>

#if defined(__CUDACC__)
#define YL_HOST_DEVICE __host__ __device__
#else  // never a symbol of its own: the cpu backend compiles these for several instruction sets
#define YL_HOST_DEVICE __attribute__((always_inline))
#endif

namespace yl {

using std::exp;
using std::fabs;
using std::fma;
using std::log;
using std::log1p;

template <class T> YL_HOST_DEVICE inline T select(bool condition, T yes, T no) { return condition ? yes : no; }
template <class T> YL_HOST_DEVICE inline T smaller(T a, T b) { return select(a < b, a, b); }  // b if unordered
template <class T> YL_HOST_DEVICE inline T larger(T a, T b) { return select(a > b, a, b); }   // b if unordered
template <class T> YL_HOST_DEVICE inline bool finite(T a) { return a - a == T(0); }

// A part of the loss and its derivative with respect to the logit.
template <class T> struct Term {
  T loss, slope;
};

// Centre and size as fractions of the input.
template <class T> struct Box {
  T x, y, w, h;
};

// Where a cell is.
template <class T> struct Cell {
  T column, row;
  T grid_width, grid_height;
  T anchor_width, anchor_height;  // as fractions of the input
};

// Of u, with e = e^-|u|: that lies in (0, 1], so nothing overflows.
template <class T> YL_HOST_DEVICE inline T sigmoid(T u, T e) { return select(u >= T(0), T(1), e) / (T(1) + e); }
template <class T> YL_HOST_DEVICE inline T sigmoid(T u) { return sigmoid(u, exp(-fabs(u))); }

template <class T> YL_HOST_DEVICE inline Term<T> cross_entropy(T z, T u, T e) {
  return {larger(u, T(0)) - u * z + log1p(e),
          sigmoid(u, e) - z};
}
template <class T> YL_HOST_DEVICE inline Term<T> cross_entropy(T z, T u) { return cross_entropy(z, u, exp(-fabs(u))); }

template <class T> YL_HOST_DEVICE inline Term<T> half_square(T goal, T u) {
  return {(u - goal) * (u - goal) / T(2),
          u - goal};
}

// yolo_head of the four box logits.
template <class T> YL_HOST_DEVICE inline Box<T> decode(const Box<T> &t, const Cell<T> &c) {
  return {(sigmoid(t.x) + c.column) / c.grid_width,
          (sigmoid(t.y) + c.row) / c.grid_height,
          c.anchor_width * exp(t.w),
          c.anchor_height * exp(t.h)};
}

// Length of the overlap of two intervals given by centre and length; NaN if any of the four is NaN.
template <class T> YL_HOST_DEVICE inline T overlap(T centre_a, T length_a, T centre_b, T length_b) {
  const T reach = (length_a + length_b) / T(2) - fabs(centre_a - centre_b);
  return larger(T(0), smaller(smaller(length_a, length_b), reach));
}

// NaN if any value is NaN.
template <class T> YL_HOST_DEVICE inline T iou(const Box<T> &a, const Box<T> &b) {
  const T both = overlap(a.x, a.w, b.x, b.w) * overlap(a.y, a.h, b.y, b.h);
  return both / (a.w * a.h + b.w * b.h - both);
}

// iou(a, b) >= thresh, without the division. A box with NaN reaches no threshold, nor do two without area.
template <class T> YL_HOST_DEVICE inline auto reaches(const Box<T> &a, const Box<T> &b, T thresh) {
  const T both = overlap(a.x, a.w, b.x, b.w) * overlap(a.y, a.h, b.y, b.h);
  const T all = a.w * a.h + b.w * b.h - both;
  return (all > T(0)) & (both >= thresh * all);
}

// The grid squares, in columns and rows, from which a prediction can reach an IoU of thresh with a truth. With the centres
// d apart, the IoU of two intervals is at most length/(length + 2d), whatever the prediction's length, and that of two boxes
// at most the smaller of both dimensions. So for thresh > 0 the centre lies within length * (1-thresh)/(2*thresh) of the
// truth's, and it lies in its own square. Widened against rounding. A thresh of 0 or less is reached from everywhere.
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

// xy and wh of an object: truth y, logits t, mask m.
template <class T> struct BoxLoss {
  T xy, wh;
  Box<T> slope;
};

// raw_true_xy by fma: the rounding of the product would be magnified by the difference.
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

// A weight of 0 means 0, whatever the logit: an ignored background cell with an infinite logit is no NaN.
template <class T> YL_HOST_DEVICE inline Term<T> confidence_loss(T m, T k, T logit) {
  const T weight = m + (T(1) - m) * k;
  const Term<T> ce = cross_entropy(m, logit);
  return {select(weight == T(0), T(0), weight * ce.loss),
          select(weight == T(0), T(0), weight * ce.slope)};
}

// The rules of yl_rules: a weight of 0 means 0 here too, also of what is not finite.
template <class T> YL_HOST_DEVICE inline T weighted(T value, T weight) { return select(weight == T(0), T(0), value * weight); }
template <class T> YL_HOST_DEVICE inline Term<T> weighted(const Term<T> &term, T weight) {
  return {weighted(term.loss, weight),
          weighted(term.slope, weight)};
}
template <class T> YL_HOST_DEVICE inline BoxLoss<T> weighted(const BoxLoss<T> &box, T xy, T wh) {
  return {weighted(box.xy, xy),
          weighted(box.wh, wh),
          {weighted(box.slope.x, xy), weighted(box.slope.y, xy), weighted(box.slope.w, wh), weighted(box.slope.h, wh)}};
}
template <class T> YL_HOST_DEVICE inline T smoothed(T y, T smoothing) { return y * (T(1) - smoothing) + smoothing / T(2); }

template <class T> YL_HOST_DEVICE inline Term<T> class_loss(T m, T y, T logit) {
  const Term<T> ce = cross_entropy(y, logit);
  return {m * ce.loss,
          m * ce.slope};
}

}  // namespace yl
