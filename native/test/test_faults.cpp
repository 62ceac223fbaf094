// Values that are wrong, planted in a large batch of healthy ones: each is counted, and found at its address.
#include <functional>

#include "compare.h"
#include "large_batch.h"

namespace {

// Runs the body for types and orders on every device. The ways to a CUDA device run the same kernels, so that each
// takes one type and one order.
void on_every_device(const std::vector<int32_t> &dtypes, const std::function<void(const Options &)> &body) {
  for (const Device &device : devices()) {
    if (repeats_another(device)) continue;
    for (const int32_t layout : {YL_NHWC, YL_NCHW})
      for (const int32_t dtype : dtypes) {
        if (device.kind == YL_DEVICE_CUDA) {
          const int32_t share = device.way == Way::kHost ? YL_F32 : device.way == Way::kAsync ? YL_F64 : YL_F16;
          if (dtype != share || layout != (device.way == Way::kHost ? YL_NCHW : YL_NHWC)) continue;
        }
        Options options;
        options.device = device;
        options.layout = layout;
        options.dtype = dtype;
        options.statistics = true;
        body(options);
      }
  }
}
const std::vector<int32_t> kTypes = {YL_F32, YL_F16, YL_F64};

std::string text(const yl_offender &o) {
  return "cause " + std::to_string(o.cause) + " at image " + std::to_string(o.image) + ", layer " +
         std::to_string(o.layer) + ", row " + std::to_string(o.row) + ", column " + std::to_string(o.column) +
         ", anchor " + std::to_string(o.anchor) + ", channel " + std::to_string(o.channel) + ", value " +
         number(o.value) + ", gradient " + number(o.gradient);
}

void check_offender(const yl_offender &got, int32_t cause, const Address &at, const std::string &given) {
  const std::string where = given + ": " + text(got);
  CHECK_EQUAL(got.cause, cause, where);
  CHECK_EQUAL(got.image, at.image, where);
  CHECK_EQUAL(got.layer, at.layer, where);
  CHECK_EQUAL(got.row, at.row, where);
  CHECK_EQUAL(got.column, at.column, where);
  CHECK_EQUAL(got.anchor, at.anchor, where);
  CHECK_EQUAL(got.channel, at.channel, where);
  CHECK_EQUAL(got.reserved, 0, where);
}

// Checks that all inf and NaN of the gradient are counted.
void check_found_inf(const Output &out, const std::string &where) {
  int64_t found = 0;
  for (const auto &layer : out.grads)
    for (const double value : layer) found += !std::isfinite(value);
  CHECK_EQUAL(out.summary.found_inf, found, where + ", found_inf");
}

// Returns the first element of the last object of layer 1, so that many come before it.
size_t last_object(const Case &c) { return c.last_object(1) * c.channels(); }

}  // namespace

TEST(faults, a_healthy_batch_has_no_offender) {
  const Case c = large_batch();
  on_every_device(kTypes, [&](const Options &options) {
    const Output fine = run(c, options);
    CHECK_OK(fine.status, named(c, options));
    CHECK_EQUAL(fine.offender.cause, YL_CAUSE_NONE, named(c, options));
    CHECK_EQUAL(fine.summary.non_finite, 0, named(c, options));
  });
}

// The objectness counts always, the other channels only when everything is scanned.
TEST_LABELLED(faults, a_logit_of_background_is_found_where_it_is_read, kLong | kFull) {
  const Case healthy = large_batch();
  on_every_device(kTypes, [&](Options options) {
    for (const double value : {double(NAN), double(INFINITY), -double(INFINITY)})
      for (const int32_t channel : {0, 3, 4, 8}) {
        const Address at{4, 2, 19, 30, 1, channel};
        Case c = healthy;
        const size_t element = element_at(c, at);
        c.layers[2].feats[element] = value;
        CHECK(!c.is_object(2, element / c.channels()));
        for (const int32_t scan : {YL_SCAN_USED, YL_SCAN_ALL}) {
          options.scan = scan;
          const Output out = run(c, options);
          const bool seen = channel == 4 || scan == YL_SCAN_ALL;
          const std::string where = named(c, options) + ", channel " + std::to_string(channel);
          CHECK_EQUAL(out.summary.non_finite, seen ? 1 : 0, where);
          if (seen) {
            check_offender(out.offender, YL_CAUSE_FEATS, at, where);
            CHECK_IDENTICAL(out.offender.value, value, where);
            CHECK_EQUAL(out.offender.gradient, 0, where);
          } else {
            CHECK_EQUAL(out.offender.cause, YL_CAUSE_NONE, where);
          }
          CHECK_EQUAL(std::isfinite(out.summary.total), channel != 4, where);
          check_found_inf(out, where);
        }
      }
  });
}

TEST_LABELLED(faults, a_logit_of_an_object_is_found, kLong | kFull) {
  const Case healthy = large_batch();
  const size_t first = last_object(healthy);
  on_every_device(kTypes, [&](const Options &options) {
    for (size_t channel = 0; channel < healthy.channels(); ++channel) {
      Case c = healthy;
      c.layers[1].feats[first + channel] = NAN;
      const Output out = run(c, options);
      check_offender(out.offender, YL_CAUSE_FEATS, address_of(c, 1, first + channel), named(c, options));
      CHECK_EQUAL(out.summary.non_finite, 1, named(c, options));
      CHECK(std::isnan(out.summary.total), named(c, options));
      check_found_inf(out, named(c, options));
    }
  });
}

TEST_LABELLED(faults, a_truth_that_is_not_finite_is_found, kLong | kFull) {
  const Case healthy = large_batch();
  const size_t first = last_object(healthy);
  on_every_device(kTypes, [&](const Options &options) {
    for (size_t channel = 0; channel < healthy.channels(); ++channel) {
      Case c = healthy;
      c.layers[1].y_true[first + channel] = channel % 2 ? INFINITY : NAN;
      const Output out = run(c, options);
      check_offender(out.offender, YL_CAUSE_TRUTH, address_of(c, 1, first + channel), named(c, options));
      CHECK_EQUAL(out.summary.non_finite, 1, named(c, options));
      CHECK(!std::isfinite(out.offender.value), text(out.offender));
      check_found_inf(out, named(c, options));
    }
  });
}

// keras-yolo3's certain NaN.
TEST(faults, a_truth_of_no_height_is_found) {
  const Case healthy = large_batch();
  const size_t first = last_object(healthy);
  on_every_device(kTypes, [&](const Options &options) {
    for (const float side : {0.0f, -0.5f}) {
      Case c = healthy;
      c.layers[1].y_true[first + 3] = side;
      const Output out = run(c, options);
      check_offender(out.offender, YL_CAUSE_TRUTH, address_of(c, 1, first + 3), named(c, options));
      CHECK_EQUAL(out.offender.value, side, named(c, options));
      CHECK(!std::isfinite(out.summary.total), named(c, options));
      check_found_inf(out, named(c, options));
    }
  });
}

TEST(faults, an_overflow_of_the_loss_is_found) {
  const Case healthy = large_batch();
  const size_t first = last_object(healthy);
  on_every_device({YL_F32}, [&](const Options &options) {
    if (options.device.kind == YL_DEVICE_REFERENCE) return;  // its square of 1e20 is finite
    Case c = healthy;
    c.layers[1].feats[first + 2] = 1e20;
    const Output out = run(c, options);
    check_offender(out.offender, YL_CAUSE_OVERFLOW, address_of(c, 1, first + 2), named(c, options));
    CHECK_EQUAL(out.summary.non_finite, 0, named(c, options));
    CHECK(std::isinf(out.summary.total), number(out.summary.total));
    CHECK_EQUAL(out.offender.value, double(1e20f), named(c, options));
    check_found_inf(out, named(c, options));
  });
}

TEST(faults, of_several_offenders_the_first_in_order_is_reported) {
  Case c = large_batch();  // in the order of image, layer, row, column, anchor, channel
  const Address early{1, 2, 3, 4, 2, 4}, later{1, 2, 3, 5, 0, 4}, last{5, 0, 0, 0, 0, 4};
  for (const Address &at : {last, later, early})
    c.layers[static_cast<size_t>(at.layer)].feats[element_at(c, at)] = INFINITY;
  on_every_device(kTypes, [&](const Options &options) {
    const Output out = run(c, options);
    check_offender(out.offender, YL_CAUSE_FEATS, early, named(c, options));
    CHECK_EQUAL(out.summary.non_finite, 3, named(c, options));
  });
}

// ---- Mixed precision ------------------------------------------------------------------------------------------------

namespace {

// Returns the layer and element of the first infinity of the gradient, image by image.
std::pair<size_t, size_t> first_infinity(const Case &c, const Output &out) {
  for (size_t image = 0; image < c.images(); ++image)
    for (size_t l = 0; l < out.grads.size(); ++l) {
      const size_t size = out.grads[l].size() / c.images();
      for (size_t i = image * size; i < (image + 1) * size; ++i)
        if (!std::isfinite(out.grads[l][i])) return {l, i};
    }
  return {0, 0};
}

void with_halves(const std::function<void(const Case &, Options)> &body) {
  const Case c = large_batch().rounded_to(YL_F16);
  on_every_device({YL_F16}, [&](Options options) {
    options.normaliser = YL_NORMALISER_NONE;
    body(c, options);
  });
}

}  // namespace

// A loss scaler lowers the scale until the gradient of float16 feats no longer overflows.
TEST_LABELLED(faults, an_overflow_of_the_float16_gradient_is_counted_and_found, kLong) {
  with_halves([](const Case &c, Options options) {
    int32_t lowered = 0;
    bool overflowed = false;
    for (options.grad_scale = 1 << 17; options.grad_scale >= 1; options.grad_scale /= 4, ++lowered) {
      const Output out = run(c, options);
      const std::string where = named(c, options) + ", scale " + number(options.grad_scale);
      check_found_inf(out, where);
      CHECK_EQUAL(out.summary.non_finite, 0, where);
      CHECK(std::isfinite(out.summary.total), where);
      if (out.summary.found_inf == 0) {
        CHECK_EQUAL(out.offender.cause, YL_CAUSE_NONE, where);
        break;
      }
      overflowed = true;
      const auto [l, i] = first_infinity(c, out);
      check_offender(out.offender, YL_CAUSE_OVERFLOW, address_of(c, l, i), where);
      CHECK(std::fabs(out.offender.gradient) >= 65520, where + ": " + text(out.offender));
      CHECK_EQUAL(out.offender.value, c.layers[l].feats[i], where);
      Options wide = options;
      wide.grad_dtype = YL_GRAD_F32;  // does not overflow
      const Output kept = run(c, wide);
      CHECK_EQUAL(kept.summary.found_inf, 0, where);
      CHECK_EQUAL(kept.offender.cause, YL_CAUSE_NONE, where);
      CHECK_NEAR(kept.grads[l][i], out.offender.gradient, {1e-4, 0}, where);
    }
    CHECK(overflowed, named(c, options));
    CHECK(lowered > 0, named(c, options));
    CHECK(options.grad_scale >= 1, named(c, options));
  });
}

TEST(faults, an_overflow_of_an_accumulated_gradient_is_found) {
  with_halves([](const Case &c, Options options) {
    options.grad_mode = YL_GRAD_ACCUMULATE;
    options.gradient_before = 65504;  // the sum overflows, the gradient itself does not
    options.grad_scale = 64;
    const Output sum = run(c, options);
    check_found_inf(sum, named(c, options));
    CHECK(sum.summary.found_inf > 0, named(c, options));
    CHECK_EQUAL(sum.offender.cause, YL_CAUSE_OVERFLOW, named(c, options));
  });
}
