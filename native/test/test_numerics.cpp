// The error bounds that yololoss.h states: of each cell and gradient element, on every path and for logits up to the ends of
// their types; of sums of 10^8 cells; and thresholds met exactly.
#include <fcntl.h>
#include <sys/mman.h>

#include <cfloat>
#include <map>
#include <random>

#include "run.h"

namespace {

using Real = long double;

// Bounds of yololoss.h, in units of 2^-24 (2^-53 for float64) of the sum of the magnitudes of what is added up.
constexpr double kLossBound = 4, kGradientBound = 4;

Real magnitude_of_ce(Real z, Real u) { return std::max(u, Real(0)) + std::fabs(u * z) + log1pl(expl(-std::fabs(u))); }
Real ce(Real z, Real u) { return std::max(u, Real(0)) - u * z + log1pl(expl(-std::fabs(u))); }
Real sigmoid(Real u) { return u < 0 ? expl(u) / (1 + expl(u)) : 1 / (1 + expl(-u)); }

// One layer of 16x16, three anchors, four classes; a quarter of the cells are objects. Logits of all sizes up to most, and the
// ends of a type, of either sign.
Case case_of(double most, const std::vector<double> &ends, uint32_t seed) {
  std::mt19937 random(seed);
  const auto uniform = [&](double low, double high) { return low + (high - low) * random() / 4294967295.0; };
  Golden g;
  g.name = "logits to " + number(most);
  g.batch = 2, g.classes = 4, g.input_height = 512, g.input_width = 512, g.layers = 1, g.anchors_per_layer = 3;
  g.thresh = 0.5f;
  g.anchors = {30, 60, 100, 90, 300, 200};
  g.masks = {0, 1, 2};
  const int64_t side = 16, cells = g.batch * side * side * 3, channels = 9;
  Array feats{{g.batch, side, side, 27}, {}}, y{{g.batch, side, side, 3, 9}, {}};
  y.data.assign(static_cast<size_t>(cells * channels), 0.0f);
  feats.data.assign(y.data.size(), 0.0f);
  for (int64_t cell = 0; cell < cells; ++cell) {
    if (random() % 4) continue;
    float *const row = &y.data[static_cast<size_t>(cell * channels)];
    const int64_t place = cell / 3;
    row[0] = static_cast<float>((double(place % side) + uniform(0, 0.999)) / double(side));
    row[1] = static_cast<float>((double(place / side % side) + uniform(0, 0.999)) / double(side));
    row[2] = static_cast<float>(std::pow(10, uniform(-3, 0)));
    row[3] = static_cast<float>(std::pow(10, uniform(-3, 0)));
    row[4] = 1;
    row[5 + random() % 4] = 1;
    row[5] = static_cast<float>(uniform(0, 1));  // a soft target
  }
  g.feats.push_back(feats);
  g.y_true.push_back(y);
  Case c(g);
  for (size_t i = 0; i < c.feats[0].size(); ++i) {
    const bool size = i % 9 == 2 || i % 9 == 3;  // their square must not overflow
    double value = std::pow(10, uniform(-6, std::log10(most)));
    if (random() % 4 == 0) value = ends[random() % ends.size()];
    if (size) value = std::min(value, 1e4);
    c.feats[0][i] = random() % 2 ? value : -value;
  }
  return c;
}

struct Worst {
  double loss = 0, gradient = 0;
};

// The largest errors of a run, in units of what its arithmetic can tell apart.
Worst errors_of(const Case &c, const Setup &s, const Output &got) {
  const Golden &g = c.g;
  const bool wide = s.dtype == YL_F64 || s.device.device == YL_DEVICE_REFERENCE;
  const Real unit = wide ? 0x1p-53L : 0x1p-24L, map_unit = 0x1p-24L;  // maps are float32
  const auto channels = static_cast<size_t>(c.channels());
  const int64_t height = g.feats[0].shape[1], width = g.feats[0].shape[2];
  const Real least = wide ? 0x1p-960L : 0x1p-100L;  // smaller numbers underflow
  const Real factor = Real(s.grad_scale) / g.batch;
  Worst worst;
  for (size_t cell = 0; cell < got.maps[0][0].size(); ++cell) {
    const auto place = static_cast<int64_t>(cell) / 3, column = place % width, row = place / width % height;
    const float *y = &g.y_true[0].data[cell * channels];
    const double *t = &c.feats[0][cell * channels];
    const double *d = &got.grads[0][cell * channels];
    const float *const anchor = &g.anchors[2 * (cell % 3)];
    const Real m = y[4], k = got.maps[0][0][cell];
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
        const Real size = logl(Real(y[2 + i]) * (i ? g.input_height : g.input_width) / anchor[i]),
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
    const Real error = std::fabs(Real(got.maps[2][0][cell]) - loss) - rounding;
    if (error > 0) worst.loss = std::max(worst.loss, double(error / (unit * std::max(loss_magnitude, least))));
  }
  return worst;
}

void cells_and_gradients() {
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
      Case c = case_of(kind.most, kind.ends, seed);
      for (double &value : c.feats[0]) value = rounded(kind.dtype, value);
      for (const DeviceCase &device : kDevices) {
        if (device.device == YL_DEVICE_CPU && device.threads != kThreads[0]) continue;
        Setup s;
        s.device = device;
        s.dtype = kind.dtype;
        s.layout = seed % 2 ? YL_NCHW : YL_NHWC;
        s.grad_dtype = kind.dtype == YL_F64 ? YL_GRAD_LIKE_FEATS : YL_GRAD_F32;  // before it is rounded to 16 bits
        s.extras = true;
        const Output got = run(c, s);
        if (!CHECK(got.status == YL_OK && got.summary.non_finite == 0 && got.summary.found_inf == 0, named(c, s)))
          continue;
        const Worst w = errors_of(c, s, got);
        const bool float32_result =
            device.device == YL_DEVICE_REFERENCE && kind.dtype != YL_F64;  // of double arithmetic
        CHECK(w.loss <= kLossBound, named(c, s) + ": loss off by " + number(w.loss) + " units");
        CHECK(float32_result || w.gradient <= kGradientBound,
              named(c, s) + ": gradient off by " + number(w.gradient) + " units");
        if (float32_result) continue;
        Worst &path = worst[std::string(kind.dtype == YL_F64 ? "float64 " : "float32 ") +
                            (device.isa && kind.dtype != YL_F64     ? device.isa
                             : device.device == YL_DEVICE_CUDA      ? "kernels"
                             : device.device == YL_DEVICE_REFERENCE ? "reference"
                                                                    : "cpu")];
        path.loss = std::max(path.loss, w.loss);
        path.gradient = std::max(path.gradient, w.gradient);
        if (kind.dtype == YL_F32 || kind.dtype == YL_F64) continue;
        // The 16-bit gradient is that of float32, rounded to nearest even.
        s.grad_dtype = YL_GRAD_LIKE_FEATS;
        const Output narrow = run(c, s);
        size_t off = 0;
        for (size_t i = 0; i < got.grads[0].size(); ++i)
          off += narrow.grads[0][i] != rounded(kind.dtype, got.grads[0][i]);
        CHECK(off == 0, named(c, s) + ": " + std::to_string(off) + " elements are not rounded to nearest even");
      }
    }
  for (const auto &[path, w] : worst)
    std::printf("guarantee: %s: loss of a cell within %.1f, gradient within %.1f units (bounds %g and %g)\n",
                path.c_str(), w.loss, w.gradient, kLossBound, kGradientBound);
}

// A prediction whose IoU with the truth is exactly a threshold is ignored; below the next float it is not.
void equality() {
  int met = 0;
  for (const DeviceCase &device : kDevices)
    for (const int32_t dtype : {YL_F32, YL_F16, YL_BF16, YL_F64})
      for (const int32_t layout : {YL_NHWC, YL_NCHW})
        for (const float iou : {1.0f, 0.5f, 0.25f, 0.125f}) {
          if (device.device == YL_DEVICE_CPU && device.threads != kThreads[0]) continue;
          // Logits of zero: a centre in the middle of the cell, the size of the anchor. The truth is in the same cell, of
          // another anchor, and 1/iou as high: all exact in binary.
          Golden g;
          g.name = "IoU " + number(iou);
          g.batch = 1, g.classes = 1, g.input_height = g.input_width = 256, g.layers = 1, g.anchors_per_layer = 2;
          g.anchors = {16, 16, 16, 16 / iou};
          g.masks = {0, 1};
          Array feats{{1, 4, 4, 12}, std::vector<float>(192)}, y{{1, 4, 4, 2, 6}, std::vector<float>(192)};
          const size_t cell = 2 * 5 + 1;  // row 1, column 1, anchor 1
          const float truth[] = {1.5f / 4, 1.5f / 4, 16.0f / 256, 16 / iou / 256, 1, 1};
          std::copy(std::begin(truth), std::end(truth), y.data.begin() + 6 * cell);
          g.feats.push_back(feats);
          g.y_true.push_back(y);
          for (const bool equal : {true, false}) {
            g.thresh = equal ? iou : std::nextafter(iou, 2.0f);
            const Case c(g);
            Setup s;
            s.device = device;
            s.dtype = dtype;
            s.layout = layout;
            s.extras = true;
            const Output got = run(c, s);
            CHECK(got.maps[1][0][cell - 1] == iou, named(c, s) + ": " + number(got.maps[1][0][cell - 1]));
            CHECK(got.maps[0][0][cell - 1] == (equal ? 0 : 1), named(c, s));
            ++met;
          }
        }
  std::printf("guarantee: a threshold met exactly is ignored, the next float above it is not: %d cases\n", met);
}

// Memory of count times the same bytes, which exist once.
class Repeated {
 public:
  Repeated(int64_t bytes, int count) : bytes_(static_cast<size_t>(bytes)), size_(bytes_ * static_cast<size_t>(count)) {
    const int file = memfd_create("feats", 0);
    void *const at = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (file < 0 || ftruncate(file, bytes) != 0 || at == MAP_FAILED) std::abort();
    start_ = static_cast<char *>(at);
    for (int i = 0; i < count; ++i)
      if (mmap(start_ + bytes_ * static_cast<size_t>(i), bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
               0) == MAP_FAILED)
        std::abort();
    close(file);
  }
  ~Repeated() { munmap(start_, size_); }
  Repeated(const Repeated &) = delete;
  float *floats() { return reinterpret_cast<float *>(start_); }

 private:
  const size_t bytes_, size_;
  char *start_;
};

// 608x608 and 4,608 images: 1.05 * 10^8 cells of background, whose losses are known exactly.
void sums() {
  constexpr int kImages = 512, kTimes = 9, kBatch = kImages * kTimes;
  const int64_t sides[] = {19, 38, 76};
  Config c;
  std::vector<yl_layer> layers;
  std::vector<std::unique_ptr<Repeated>> memory;
  std::vector<const void *> feats;
  int64_t cells = 0;
  for (const int64_t side : sides) {
    layers.push_back({static_cast<int32_t>(side), static_cast<int32_t>(side), c.mask.data(), 3, 0});
    memory.push_back(std::make_unique<Repeated>(kImages * side * side * 3 * 6 * 4, kTimes));
    feats.push_back(memory.back()->floats());
    cells += side * side * 3;
  }
  c.config.layers = layers.data();
  c.config.layer_count = 3;
  c.config.input_height = c.config.input_width = 608;
  c.config.num_classes = 1;
  c.config.max_batch = kBatch;
  c.config.device = YL_DEVICE_CPU;
  // From 20 on the loss of background is the logit itself, in float32. All are multiples of 2^-19, so that whole numbers add
  // up to the exact sum; in double it does not fit.
  std::mt19937 random(608);
  Real exact[3];
  for (int l = 0; l < 3; ++l) {
    int64_t sum = 0;  // up to 5e17
    for (int64_t i = 0; i < kImages * sides[l] * sides[l] * 3; ++i) {
      const auto logit = static_cast<float>(20 + 9980 * (random() / 4294967296.0));
      memory[static_cast<size_t>(l)]->floats()[6 * i + 4] = logit;
      sum += static_cast<int64_t>(double(logit) * 0x1p19);
    }
    exact[l] = static_cast<Real>(sum * kTimes) * 0x1p-19L;
  }
  for (const char *isa : kIsas) {
    set_environment("YOLOLOSS_ISA", isa);
    if (!CHECK(c.create() == YL_OK, yl_last_error())) continue;
    const yl_boxes none = YL_BOXES_INIT;
    yl_call call = YL_CALL_INIT;
    call.feats = feats.data();
    call.boxes = &none;
    call.batch = kBatch;
    call.normaliser = YL_NORMALISER_NONE;
    yl_summary summary;
    yl_parts parts[3];
    yl_result result = YL_RESULT_INIT;
    result.summary = &summary;
    result.layers = parts;
    CHECK(yl_loss(c.plan, &call, &result) == YL_OK, yl_last_error());
    const Real all = exact[0] + exact[1] + exact[2];
    auto worst = static_cast<double>(std::fabs(summary.total - all) / all);
    for (int l = 0; l < 3; ++l)
      worst = std::max(worst, static_cast<double>(std::fabs(parts[l].confidence_background - exact[l]) / exact[l]));
    CHECK(worst <= double(cells) * kBatch * 0x1p-53, number(worst));
    CHECK(worst <= 1e-12, number(worst));
    std::printf("guarantee: sum of %lld cells (%s): relative error %.2g, bound %.2g\n",
                static_cast<long long>(cells) * kBatch, isa, worst, double(cells) * kBatch * 0x1p-53);
  }
  set_environment("YOLOLOSS_ISA", nullptr);
}

}  // namespace

int main() {
  equality();
  cells_and_gradients();
#if defined(__SANITIZE_THREAD__)  // whose shadow of this memory takes 10 GB
#elif defined(__SANITIZE_ADDRESS__)
  if (!has_cuda()) sums();  // slow, and the same beside the kernels
#else
  sums();
#endif
  return report("numerics");
}
