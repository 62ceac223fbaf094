// The output of a run against that of the reference device in double, within the tolerance of its types.
#pragma once

#include "abi.h"
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
    const std::string row = where + ", row " + std::to_string(i);
#define COMPARE_SUM(owner, type, field, offset) CHECK(near(a.field, b.field, t.arithmetic, absolute), row + ": " #field);
#define COMPARE_COUNT(owner, type, field, offset) CHECK(a.field == b.field, row + ": " #field);
    YL_SUMS_OF_yl_parts(COMPARE_SUM)
    YL_COUNTS_OF_yl_parts(COMPARE_COUNT)
#undef COMPARE_SUM
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
    const std::string row = where + ", statistics of layer " + std::to_string(l);
    const auto tolerance = [&](const std::string &field) {  // gradients are squared
      return field.rfind("grad_", 0) == 0 ? 3 * t.arithmetic : t.arithmetic;
    };
#define COMPARE_SUM(owner, type, field, offset) \
  CHECK(near(a.field, b.field, tolerance(#field), absolute), row + ": " #field);
    YL_SUMS_OF_yl_stats(COMPARE_SUM)
    YL_COUNTS_OF_yl_stats(COMPARE_COUNT)
#undef COMPARE_SUM
#undef COMPARE_COUNT
    for (int m = 0; m < 3; ++m) {
      size_t wrong = 0;
      for (size_t i = 0; i < want.maps[m][l].size(); ++i)
        wrong += !near(got.maps[m][l][i], want.maps[m][l][i], t.arithmetic + 6e-8, 2 * absolute);
      CHECK(wrong == 0, where + ", map " + std::to_string(m) + " of layer " + std::to_string(l) + ": " +
                            std::to_string(wrong) + " cells off");
    }
  }
}
