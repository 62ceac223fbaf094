// The error bounds that yololoss.h states: of each cell and gradient element, on every path and for logits up to the
// ends of their types; and thresholds met exactly. (The bound of a sum is in test_sums.cpp.)
#include <algorithm>
#include <cfloat>
#include <map>

#include "run.h"
#include "test.h"
#include "values.h"

namespace {

using Real = long double;

// Bounds of yololoss.h, in units of 2^-24 (2^-53 for float64) of the sum of the magnitudes of what is added up.
constexpr double kLossBound = 4, kGradientBound = 4;

Real magnitude_of_ce(Real z, Real u) { return std::max(u, Real(0)) + std::fabs(u * z) + log1pl(expl(-std::fabs(u))); }
Real ce(Real z, Real u) { return std::max(u, Real(0)) - u * z + log1pl(expl(-std::fabs(u))); }
Real sigmoid(Real u) { return u < 0 ? expl(u) / (1 + expl(u)) : 1 / (1 + expl(-u)); }

// One layer of 16x16, three anchors, four classes; a quarter of the cells are objects, with one soft target. Logits of
// all magnitudes up to most, and the ends of a type, of either sign.
Case case_of(double most, const std::vector<double> &ends, uint32_t seed) {
  RandomCase wanted;
  wanted.seed = seed;
  wanted.batch = 2;
  wanted.classes = 4;
  wanted.grids = {{16, 16, 3}};
  wanted.thresh = 0.5f;
  wanted.object_share = 0.25;
  wanted.least_size = 1e-3;
  Case c = random_case(wanted);
  c.name = "logits to " + number(most) + ", seed " + std::to_string(seed);
  Random random(seed + 100);
  Layer &layer = c.layers[0];
  for (size_t cell = 0; cell < c.cells(0); ++cell)
    if (c.is_object(0, cell)) layer.y_true[cell * c.channels() + 5] = static_cast<float>(random.uniform(0, 1));
  for (size_t i = 0; i < layer.feats.size(); ++i) {
    const bool size = i % c.channels() == 2 || i % c.channels() == 3;  // their square must not overflow
    double value = std::pow(10, random.uniform(-6, std::log10(most)));
    if (random.one_in(4)) value = ends[random.bits() % ends.size()];
    if (size) value = std::min(value, 1e4);
    layer.feats[i] = random.one_in(2) ? value : -value;
  }
  return c;
}

struct Worst {
  double loss = 0, gradient = 0;
};

// Returns the largest errors of a run, in units of the last digit of its arithmetic.
Worst errors_of(const Case &c, const Options &options, const Output &got) {
  const bool wide = options.is_double();
  const Real unit = wide ? 0x1p-53L : 0x1p-24L, map_unit = 0x1p-24L;  // maps are float32
  const size_t channels = c.channels();
  const Layer &layer = c.layers[0];
  const auto height = static_cast<int64_t>(layer.height), width = static_cast<int64_t>(layer.width);
  const Real least = wide ? 0x1p-960L : 0x1p-100L;  // smaller numbers underflow
  const Real factor = Real(options.grad_scale) / c.batch;
  Worst worst;
  for (size_t cell = 0; cell < c.cells(0); ++cell) {
    const auto place = static_cast<int64_t>(cell) / 3, column = place % width, row = place / width % height;
    const float *y = &layer.y_true[cell * channels];
    const double *t = &layer.feats[cell * channels];
    const double *d = &got.grads[0][cell * channels];
    const float *const anchor = c.anchor_of(0, cell);
    const Real m = y[4], k = got.ignore_mask[0][cell];
    Real loss = 0, loss_magnitude = 0;
    const auto element = [&](size_t channel, Real want, Real magnitude) {
      const auto error = std::fabs(Real(d[channel]) - factor * want);
      if (error == 0) return;
      worst.gradient =
          std::max(worst.gradient, double(error / (unit * std::fabs(factor) * std::max(magnitude, least))));
    };
    if (m != 0) {
      const Real scale = 2 - Real(y[2]) * y[3];
      for (size_t i = 0; i < 2; ++i) {
        const Real at = Real(y[i]) * (i ? height : width), offset = i ? row : column, z = at - offset;
        const Real size = logl(Real(y[2 + i]) * (i ? c.input_height : c.input_width) / anchor[i]),
                   difference = size - t[2 + i];
        loss += scale * (ce(z, t[i]) + difference * difference / 2);
        // gx is a difference of numbers as large as the grid; gw is compared with tw.
        const Real terms = std::fabs(size) + std::fabs(Real(t[2 + i])) + 1;
        loss_magnitude += scale * (magnitude_of_ce(z, t[i]) + std::fabs(Real(t[i])) * (at + offset) + terms * terms);
        element(i, scale * (sigmoid(t[i]) - z), scale * (sigmoid(t[i]) + at + offset));
        element(2 + i, scale * (t[2 + i] - size), scale * terms);
      }
      for (size_t channel = 5; channel < channels; ++channel) {
        loss += ce(y[channel], t[channel]);
        loss_magnitude += magnitude_of_ce(y[channel], t[channel]);
        element(channel, sigmoid(t[channel]) - y[channel], sigmoid(t[channel]) + y[channel]);
      }
    }
    const Real counts = m + (1 - m) * k;
    loss += counts * ce(m, t[4]);
    loss_magnitude += counts * magnitude_of_ce(m, t[4]);
    element(4, counts * (sigmoid(t[4]) - m), sigmoid(t[4]) + m);
    const Real rounding = map_unit * std::fabs(loss) + 0x1p-149L;
    const Real error = std::fabs(Real(got.cell_loss[0][cell]) - loss) - rounding;
    if (error > 0) worst.loss = std::max(worst.loss, double(error / (unit * std::max(loss_magnitude, least))));
  }
  return worst;
}

// Returns the name under which the figures of a path are printed.
std::string path_of(const Options &options) {
  const bool wide = options.dtype == YL_F64;
  const char *const path = options.device.isa && !wide                  ? options.device.isa
                           : options.device.kind == YL_DEVICE_CUDA      ? "kernels"
                           : options.device.kind == YL_DEVICE_REFERENCE ? "reference"
                                                                        : "cpu";
  return std::string(wide ? "float64 " : "float32 ") + path;
}

// Checks that a 16-bit gradient is that of float32, rounded to nearest even.
void check_rounding(const Case &c, Options options, const Output &wide) {
  options.grad_dtype = YL_GRAD_LIKE_FEATS;
  const Output narrow = run(c, options);
  std::vector<double> want = wide.grads[0];
  for (double &value : want) value = rounded(options.dtype, value);
  CHECK_ALL_NEAR(narrow.grads[0], want, {}, named(c, options));
}

}  // namespace

TEST_LABELLED(numerics, cells_and_gradients_are_within_their_bounds, kLong) {
  const struct {
    int32_t dtype;
    double most;
    std::vector<double> ends;
  } kinds[] = {{YL_F32, 1e4, {0, 1e-45, FLT_MIN, 1, 16.6, 88, 89, 104, 1e4}},
               {YL_F64, 1e4, {0, 5e-324, 1e-300, 1, 36.7, 709, 746, 1e4}},
               {YL_F16, 65504, {0, 5.9604645e-8, 6.1035156e-5, 1, 11, 12, 17, 65504}},
               {YL_BF16, 1e4, {0, 9.2e-41, 1.17549435e-38, 1, 16, 88, 104, 1e4, 1e30}}};
  std::map<std::string, Worst> worst;
  for (const auto &kind : kinds)
    for (uint32_t seed = 0; seed < 6; ++seed) {
      const Case c = case_of(kind.most, kind.ends, seed).rounded_to(kind.dtype);
      for (const Device &device : devices()) {
        if (device.kind == YL_DEVICE_CPU && device.threads != thread_counts()[0]) continue;
        Options options;
        options.device = device;
        options.dtype = kind.dtype;
        options.layout = seed % 2 ? YL_NCHW : YL_NHWC;
        options.grad_dtype =
            kind.dtype == YL_F64 ? YL_GRAD_LIKE_FEATS : YL_GRAD_F32;  // before it is rounded to 16 bits
        options.statistics = true;
        const std::string where = named(c, options);
        const Output got = run(c, options);
        if (!CHECK_OK(got.status, where)) continue;
        CHECK_EQUAL(got.summary.non_finite, 0, where);
        CHECK_EQUAL(got.summary.found_inf, 0, where);
        const Worst w = errors_of(c, options, got);
        CHECK_AT_MOST(w.loss, kLossBound, where + ", units of loss");
        if (device.kind == YL_DEVICE_REFERENCE && kind.dtype != YL_F64) continue;  // its gradient is rounded to float32
        CHECK_AT_MOST(w.gradient, kGradientBound, where + ", units of gradient");
        Worst &path = worst[path_of(options)];
        path.loss = std::max(path.loss, w.loss);
        path.gradient = std::max(path.gradient, w.gradient);
        if (kind.dtype == YL_F16 || kind.dtype == YL_BF16) check_rounding(c, options, got);
      }
    }
  for (const auto &[path, w] : worst)
    std::printf("guarantee: %s: loss of a cell within %.1f, gradient within %.1f units (bounds %g and %g)\n",
                path.c_str(), w.loss, w.gradient, kLossBound, kGradientBound);
}

namespace {

// Logits of zero: a centre in the middle of the cell, the size of the anchor. The truth is in the same cell, of another
// anchor, and 1/iou as high: all exact in binary. The cell of the prediction is the one before that of the truth.
constexpr size_t kTruthCell = 2 * 5 + 1;  // row 1, column 1, anchor 1
Case case_of_iou(float iou) {
  RandomCase wanted;
  wanted.grids = {{4, 4, 2}};
  wanted.input_height = wanted.input_width = 256;
  wanted.logits = 0;
  wanted.object_share = 0;
  Case c = random_case(wanted);
  c.name = "IoU " + number(iou);
  c.anchors = {16, 16, 16, 16 / iou};
  const float truth[] = {1.5f / 4, 1.5f / 4, 16.0f / 256, 16 / iou / 256, 1, 1};
  std::copy(std::begin(truth), std::end(truth), c.layers[0].y_true.begin() + 6 * kTruthCell);
  return c;
}

}  // namespace

// A prediction whose IoU with the truth is exactly a threshold is ignored; below the next float it is not.
TEST(numerics, a_threshold_that_is_met_exactly_ignores) {
  int met = 0;
  for (const Device &device : devices()) {
    if (device.kind == YL_DEVICE_CPU && device.threads != thread_counts()[0]) continue;
    for (const int32_t dtype : {YL_F32, YL_F16, YL_BF16, YL_F64})
      for (const int32_t layout : {YL_NHWC, YL_NCHW})
        for (const float iou : {1.0f, 0.5f, 0.25f, 0.125f})
          for (const bool equal : {true, false}) {
            Case c = case_of_iou(iou);
            c.thresh = equal ? iou : std::nextafter(iou, 2.0f);
            Options options;
            options.device = device;
            options.dtype = dtype;
            options.layout = layout;
            options.statistics = true;
            const Output got = run(c, options);
            if (!CHECK_OK(got.status, named(c, options))) continue;
            CHECK_EQUAL(got.best_iou[0][kTruthCell - 1], iou, named(c, options));
            CHECK_EQUAL(got.ignore_mask[0][kTruthCell - 1], equal ? 0 : 1, named(c, options));
            ++met;
          }
  }
  std::printf("guarantee: a threshold met exactly is ignored, the next float above it is not: %d cases\n", met);
}
