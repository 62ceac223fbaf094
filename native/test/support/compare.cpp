// Output against output, a field at a time. See compare.h.
#include "compare.h"

#include <algorithm>

#include "abi.h"

double arithmetic_error(const Options &options) { return options.is_double() ? 1e-12 : 1.5e-5; }

double rounding_error(const Options &options) {
  if (options.grad_dtype == YL_GRAD_F32 || options.dtype == YL_F32) return 6e-8;
  return options.dtype == YL_F64 ? 1e-15 : options.dtype == YL_F16 ? 4.9e-4 : 3.91e-3;
}

namespace {

// The lists of abi.h have every field of the header, a new one too.
void compare_parts(const yl_parts &got, const yl_parts &want, const Tolerance &tolerance, const std::string &where) {
#define COMPARE_SUM(owner, type, field, offset) CHECK_NEAR(got.field, want.field, tolerance, where);
#define COMPARE_COUNT(owner, type, field, offset) CHECK_EQUAL(got.field, want.field, where);
  YL_SUMS_OF_yl_parts(COMPARE_SUM)
  YL_COUNTS_OF_yl_parts(COMPARE_COUNT)
#undef COMPARE_SUM
}

void compare_stats(const yl_stats &got, const yl_stats &want, double error, const std::string &where) {
  const auto tolerance = [&](const std::string &field) {  // gradients are squared
    return Tolerance{field.rfind("grad_", 0) == 0 ? 3 * error : error, error};
  };
#define COMPARE_SUM(owner, type, field, offset) CHECK_NEAR(got.field, want.field, tolerance(#field), where);
  YL_SUMS_OF_yl_stats(COMPARE_SUM)
  YL_COUNTS_OF_yl_stats(COMPARE_COUNT)
#undef COMPARE_SUM
#undef COMPARE_COUNT
}

}  // namespace

void compare(const Case &c, const Options &options, const Output &got, const Output &want) {
  const std::string where = named(c, options);
  const double error = arithmetic_error(options);
  if (!CHECK_EQUAL(want.status, YL_OK, where) || !CHECK_OK(got.status, where)) return;
  CHECK_NEAR(got.summary.total, want.summary.total, {error, error}, where);
  CHECK_EQUAL(got.summary.found_inf, 0, where);
  CHECK_EQUAL(got.summary.objects, want.summary.objects, where);
  CHECK_EQUAL(got.summary.normaliser, want.summary.normaliser, where);
  for (size_t i = 0; i < want.rows.size(); ++i)
    compare_parts(got.rows[i], want.rows[i], {error, error}, where + ", row " + std::to_string(i));
  for (size_t l = 0; l < want.grads.size(); ++l) {
    double largest = 0;
    for (const double w : want.grads[l]) largest = std::fmax(largest, std::fabs(w));
    CHECK_ALL_NEAR(got.grads[l], want.grads[l], {rounding_error(options), 3e-8 + error * largest},
                   where + ", gradient of layer " + std::to_string(l));
  }
  if (!options.statistics) return;
  CHECK_EQUAL(got.offender.cause, YL_CAUSE_NONE, where);
  CHECK_EQUAL(got.offender.value, 0, where);
  const Tolerance of_maps{error + 6e-8, 2 * error};
  for (size_t l = 0; l < want.stats.size(); ++l) {
    const std::string layer = where + ", layer " + std::to_string(l);
    compare_stats(got.stats[l], want.stats[l], error, layer);
    CHECK_ALL_NEAR(got.ignore_mask[l], want.ignore_mask[l], of_maps, layer);
    CHECK_ALL_NEAR(got.best_iou[l], want.best_iou[l], of_maps, layer);
    CHECK_ALL_NEAR(got.cell_loss[l], want.cell_loss[l], of_maps, layer);
  }
}

void compare_with_golden(const Case &c, const yl_summary &summary, const std::vector<yl_parts> &layers,
                         const Tolerance &tolerance, const std::string &where) {
  CHECK_NEAR(summary.total, c.expected_total, tolerance, where);
  for (size_t l = 0; l < layers.size(); ++l) {
    const yl_parts &got = layers[l];
    const auto &want = c.layers[l].expected;
    const std::string layer = where + ", layer " + std::to_string(l);
    CHECK_NEAR(got.xy, want.xy, tolerance, layer);
    CHECK_NEAR(got.wh, want.wh, tolerance, layer);
    CHECK_NEAR(got.confidence_object + got.confidence_background, want.confidence, tolerance, layer);
    CHECK_NEAR(got.class_, want.class_, tolerance, layer);
    CHECK_EQUAL(got.objects, want.objects, layer);
    CHECK_EQUAL(got.ignored, want.ignored, layer);
    CHECK_EQUAL(got.ignored_background, want.ignored_background, layer);
    CHECK_EQUAL(got.non_finite, 0, layer);
  }
}
