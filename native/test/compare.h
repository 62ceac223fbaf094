// The output of a run against that of the reference device in double, within the tolerance of its types.
#pragma once

#include "run.h"

// The arithmetic of a type (float32 on cpu and cuda, except for float64), and the rounding of the gradient.
struct Tolerance {
  double arithmetic, rounding;
};
inline Tolerance tolerance_of(const Setup &s) {
  const double arithmetic = s.device.device == YL_DEVICE_REFERENCE || s.dtype == YL_F64 ? 1e-12 : 1.5e-5;
  const bool f32_gradient = s.grad_dtype == YL_GRAD_F32 || s.dtype == YL_F32;
  const double rounding = f32_gradient ? 6e-8 : s.dtype == YL_F64 ? 1e-15 : s.dtype == YL_F16 ? 4.9e-4 : 3.91e-3;
  return {arithmetic, rounding};
}

inline bool near(double got, double want, double relative, double absolute) {
  return got == want || std::fabs(got - want) <= relative * std::fabs(want) + absolute;
}

inline void compare(const Case &c, const Setup &s, const Output &got, const Output &want) {
  const std::string where = named(c, s);
  const Tolerance t = tolerance_of(s);
  const double absolute = t.arithmetic;
  if (!CHECK(got.status == YL_OK && want.status == YL_OK, where + ": " + yl_last_error())) return;
  CHECK(near(got.summary.total, want.summary.total, t.arithmetic, absolute),
        where + ": " + number(got.summary.total) + " for " + number(want.summary.total));
  CHECK(got.summary.found_inf == 0 && got.summary.objects == want.summary.objects &&
            got.summary.normaliser == want.summary.normaliser,
        where);
  for (size_t i = 0; i < want.rows.size(); ++i) {
    const yl_parts &a = got.rows[i], &b = want.rows[i];
    CHECK(near(a.xy, b.xy, t.arithmetic, absolute) && near(a.wh, b.wh, t.arithmetic, absolute) &&
              near(a.confidence_object, b.confidence_object, t.arithmetic, absolute) &&
              near(a.confidence_background, b.confidence_background, t.arithmetic, absolute) &&
              near(a.class_, b.class_, t.arithmetic, absolute),
          where + ", row " + std::to_string(i));
    CHECK(a.objects == b.objects && a.ignored == b.ignored && a.ignored_background == b.ignored_background &&
              a.non_finite == b.non_finite,
          where + ", row " + std::to_string(i));
  }
  for (size_t l = 0; l < want.grads.size(); ++l) {
    double largest = 0;
    for (const double w : want.grads[l]) largest = std::fmax(largest, std::fabs(w));
    size_t wrong = 0;
    for (size_t i = 0; i < want.grads[l].size(); ++i)
      wrong += !near(got.grads[l][i], want.grads[l][i], t.rounding, 3e-8 + t.arithmetic * largest);
    CHECK(wrong == 0, where + ", layer " + std::to_string(l) + ": " + std::to_string(wrong) + " elements of " +
                          std::to_string(want.grads[l].size()) + " off");
  }
  if (!s.extras) return;
  CHECK(got.offender.cause == YL_CAUSE_NONE && got.offender.value == 0, where);
  for (size_t l = 0; l < want.stats.size(); ++l) {
    const yl_stats &a = got.stats[l], &b = want.stats[l];
    CHECK(a.objects == b.objects && a.background == b.background && a.iou_50 == b.iou_50 && a.iou_75 == b.iou_75 &&
              near(a.iou, b.iou, t.arithmetic, absolute) &&
              near(a.objectness_object, b.objectness_object, t.arithmetic, absolute) &&
              near(a.objectness_background, b.objectness_background, t.arithmetic, absolute) &&
              near(a.grad_xy, b.grad_xy, 3 * t.arithmetic, absolute) &&
              near(a.grad_wh, b.grad_wh, 3 * t.arithmetic, absolute) &&
              near(a.grad_object, b.grad_object, 3 * t.arithmetic, absolute) &&
              near(a.grad_background, b.grad_background, 3 * t.arithmetic, absolute) &&
              near(a.grad_class, b.grad_class, 3 * t.arithmetic, absolute),
          where + ", statistics of layer " + std::to_string(l));
    for (int m = 0; m < 3; ++m) {
      size_t wrong = 0;
      for (size_t i = 0; i < want.maps[m][l].size(); ++i)
        wrong += !near(got.maps[m][l][i], want.maps[m][l][i], t.arithmetic + 6e-8, 2 * absolute);
      CHECK(wrong == 0, where + ", map " + std::to_string(m) + " of layer " + std::to_string(l) + ": " +
                            std::to_string(wrong) + " cells off");
    }
  }
}
