// What each rule and each thing given on request means, shown without the code that computes it: by scaling, by changed
// truths, by plans of other rules, by brute force over decoded boxes.
#include "abi.h"
#include "run.h"

namespace {

bool near(double got, double want, double tolerance) {
  return std::fabs(got - want) <= tolerance * (1 + std::fabs(want));
}

double tolerance_of(const Setup &s) { return s.device.device == YL_DEVICE_REFERENCE ? 1e-12 : 2e-5; }

// Rules that are keras-yolo3's, and extras, change no bit, in any type.
void defaults(const Case &c, Setup s) {
  const std::vector<float> ones(static_cast<size_t>(c.g.classes), 1.0f),
      threshes(static_cast<size_t>(c.g.layers), c.g.thresh);
  for (const int32_t dtype : {YL_F32, YL_F16, YL_BF16, YL_F64}) {
    s.dtype = dtype;
    s.with_rules = s.extras = false;
    const Output plain = run(c, s);
    s.with_rules = s.extras = true;
    s.rules.class_weights = ones.data();
    s.rules.ignore_threshes = threshes.data();
    const Output got = run(c, s);
    CHECK(got.status == YL_OK && same_bits(got.rows, plain.rows) && got.summary.total == plain.summary.total,
          named(c, s));
    for (size_t l = 0; l < plain.grads.size(); ++l) CHECK(same_bits(got.grads[l], plain.grads[l]), named(c, s));
  }
}

// Each part times its weight; a part of weight 0 is exactly 0, gradient too.
void part_weights(const Case &c, Setup s) {
  const Output plain = run(c, s);
  s.with_rules = true;
  float *const weights[] = {&s.rules.weight_xy, &s.rules.weight_wh, &s.rules.weight_object, &s.rules.weight_background,
                            &s.rules.weight_class};
  for (int part = 0; part < 5; ++part)
    for (const float weight : {0.0f, 2.0f}) {
      const Setup kept = s;
      *weights[part] = weight;
      const Output got = run(c, s);
      for (size_t i = 0; i < plain.rows.size(); ++i)
        for (int other = 0; other < 5; ++other) {
          const double factor = other == part ? weight : 1,
                       want = reinterpret_cast<const double *>(&plain.rows[i])[other];
          CHECK(reinterpret_cast<const double *>(&got.rows[i])[other] == factor * want, named(c, s));
        }
      const auto channels = static_cast<size_t>(c.channels());
      for (size_t l = 0; l < plain.grads.size(); ++l)
        for (size_t i = 0; i < plain.grads[l].size(); ++i) {
          const size_t channel = i % channels;
          const bool object = c.g.y_true[l].data[i - channel + 4] != 0;
          const int of = channel < 2 ? 0 : channel < 4 ? 1 : channel > 4 ? 4 : object ? 2 : 3;
          CHECK(got.grads[l][i] == (of == part ? weight : 1) * plain.grads[l][i], named(c, s));
        }
      s = kept;
    }
}

// The class part is the sum of those with one class at a time; a weight scales its class.
void class_weights(const Case &c, Setup s) {
  const Output plain = run(c, s);
  double sum = 0;
  s.with_rules = true;
  for (int32_t n = 0; n < c.g.classes; ++n) {
    std::vector<float> weights(static_cast<size_t>(c.g.classes), 0.0f);
    weights[static_cast<size_t>(n)] = 4;
    s.rules.class_weights = weights.data();
    const Output got = run(c, s);
    for (size_t i = 0; i < got.rows.size(); ++i) {
      sum += got.rows[i].class_ / 4;
      CHECK(got.rows[i].xy == plain.rows[i].xy, named(c, s));
    }
    const auto channels = static_cast<size_t>(c.channels());
    for (size_t l = 0; l < got.grads.size(); ++l)
      for (size_t i = 0; i < got.grads[l].size(); ++i)
        if (i % channels > 4)
          CHECK(got.grads[l][i] == (i % channels == 5 + static_cast<size_t>(n) ? 4 : 0) * plain.grads[l][i],
                named(c, s));
  }
  double want = 0;
  for (const yl_parts &row : plain.rows) want += row.class_;
  CHECK(near(sum, want, tolerance_of(s)) && want > 0, named(c, s));
}

// Smoothing by e is the loss of targets smoothed beforehand (in float32).
void label_smoothing(const Case &c, Setup s) {
  Case smooth = c;
  const auto channels = static_cast<size_t>(c.channels());
  for (Array &y : smooth.g.y_true)
    for (size_t i = 0; i < y.data.size(); ++i)
      if (i % channels > 4 && y.data[i - i % channels + 4] != 0) y.data[i] = y.data[i] * (1 - 0.25f) + 0.125f;
  const Output want = run(smooth, s), plain = run(c, s);
  s.with_rules = true;
  s.rules.label_smoothing = 0.25f;
  const Output got = run(c, s);
  for (size_t i = 0; i < want.rows.size(); ++i)
    CHECK(near(got.rows[i].class_, want.rows[i].class_, 2e-5) &&
              (want.rows[i].objects == 0 || want.rows[i].class_ != plain.rows[i].class_),
          named(c, s));
  for (size_t l = 0; l < want.grads.size(); ++l)
    for (size_t i = 0; i < want.grads[l].size(); ++i) CHECK(near(got.grads[l][i], want.grads[l][i], 2e-5), named(c, s));
}

// Each layer as in a plan with that threshold for all.
void thresholds(const Case &c, Setup s) {
  std::vector<float> own;
  for (int32_t l = 0; l < c.g.layers; ++l) own.push_back(0.2f + 0.25f * static_cast<float>(l));
  Setup with = s;
  with.with_rules = true;
  with.rules.ignore_threshes = own.data();
  const Output got = run(c, with);
  for (size_t l = 0; l < own.size(); ++l) {
    Case all = c;
    all.g.thresh = own[l];
    const Output want = run(all, s);
    for (size_t image = 0; image < static_cast<size_t>(c.g.batch); ++image)
      CHECK(std::memcmp(&got.rows[image * own.size() + l], &want.rows[image * own.size() + l], sizeof(yl_parts)) == 0,
            named(c, with));
    CHECK(same_bits(got.grads[l], want.grads[l]), named(c, with));
  }
}

struct Corners {
  double x0, y0, x1, y1;
};
Corners corners(const double *box) {
  return {box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2};
}
double iou(const double *a, const double *b) {
  const Corners p = corners(a), q = corners(b);
  const double w = std::max(0.0, std::min(p.x1, q.x1) - std::max(p.x0, q.x0)),
               h = std::max(0.0, std::min(p.y1, q.y1) - std::max(p.y0, q.y0));
  return w * h / (a[2] * a[3] + b[2] * b[3] - w * h);
}

// Maps and statistics by brute force: every prediction decoded here and compared with every truth.
void maps_and_statistics(const Case &c, Setup s) {
  s.extras = true;
  s.with_rules = true;
  const Golden &g = c.g;
  const auto channels = static_cast<size_t>(c.channels()), layers = static_cast<size_t>(g.layers);
  for (const int32_t scope : {YL_SCOPE_LAYER, YL_SCOPE_IMAGE}) {
    s.rules.ignore_scope = scope;
    const Output got = run(c, s);
    if (!CHECK(got.status == YL_OK, yl_last_error())) return;
    int64_t suppressed = 0;
    for (size_t l = 0; l < layers; ++l) {
      const int64_t height = g.feats[l].shape[1], width = g.feats[l].shape[2], anchors = g.anchors_per_layer;
      const auto cells = static_cast<size_t>(c.cells(l));
      yl_stats want{};
      double loss = 0;
      for (size_t i = 0; i < g.y_true[l].data.size() / channels; ++i) {
        const size_t image = i / cells, cell = i % cells, anchor = cell % static_cast<size_t>(anchors);
        const auto place = static_cast<int64_t>(cell) / anchors;
        const double *t = &c.feats[l][i * channels];
        const float *size = &g.anchors[2 * static_cast<size_t>(g.masks[static_cast<size_t>(anchors) * l + anchor])];
        const auto sigmoid = [](double u) { return 1 / (1 + std::exp(-u)); };
        const double box[] = {(sigmoid(t[0]) + double(place % width)) / double(width),
                              (sigmoid(t[1]) + double(place / width)) / double(height),
                              size[0] * std::exp(t[2]) / g.input_width, size[1] * std::exp(t[3]) / g.input_height};
        double best = 0;
        for (size_t of = 0; of < layers; ++of) {
          if (scope == YL_SCOPE_LAYER && of != l) continue;
          const auto there = static_cast<size_t>(c.cells(of));
          for (size_t k = image * there; k < (image + 1) * there; ++k) {
            const float *y = &g.y_true[of].data[k * channels];
            const double truth[] = {y[0], y[1], y[2], y[3]};
            if (y[4] != 0) best = std::max(best, iou(box, truth));
          }
        }
        const float *y = &g.y_true[l].data[i * channels];
        CHECK(near(got.maps[1][l][i], best, 1e-5), named(c, s) + ", best IoU");
        if (std::fabs(best - g.thresh) > 1e-4) CHECK(got.maps[0][l][i] == (best < g.thresh ? 1 : 0), named(c, s));
        suppressed += got.maps[0][l][i] == 0;
        loss += got.maps[2][l][i];
        if (y[4] == 0) {
          ++want.background;
          want.objectness_background += sigmoid(t[4]);
          if (got.maps[0][l][i] == 0) CHECK(got.maps[2][l][i] == 0, named(c, s));
        } else {
          const double truth[] = {y[0], y[1], y[2], y[3]}, own = iou(box, truth);
          ++want.objects;
          want.iou += own;
          want.iou_50 += own > 0.5;
          want.iou_75 += own > 0.75;
          want.objectness_object += sigmoid(t[4]);
        }
        double *const squares[] = {&want.grad_xy, &want.grad_wh, y[4] == 0 ? &want.grad_background : &want.grad_object,
                                   &want.grad_class};
        for (size_t k = 0; k < channels; ++k) {
          const double d = got.grads[l][i * channels + k];
          *squares[k < 2 ? 0 : k < 4 ? 1 : k == 4 ? 2 : 3] += d * d;
        }
      }
      const yl_stats &a = got.stats[l];
      CHECK(a.objects == want.objects && a.background == want.background && a.iou_50 == want.iou_50 &&
                a.iou_75 == want.iou_75,
            named(c, s));
      const double pairs[][2] = {{a.iou, want.iou},
                                 {a.objectness_object, want.objectness_object},
                                 {a.objectness_background, want.objectness_background},
                                 {a.grad_xy, want.grad_xy},
                                 {a.grad_wh, want.grad_wh},
                                 {a.grad_object, want.grad_object},
                                 {a.grad_background, want.grad_background},
                                 {a.grad_class, want.grad_class}};
      for (const auto &pair : pairs) CHECK(near(pair[0], pair[1], 2e-5), named(c, s) + ", statistics");
      const yl_parts &p = got.layers[l];
#define PLUS(owner, type, field, offset) +p.field
      CHECK(near(loss, (YL_SUMS_OF_yl_parts(PLUS)) * got.summary.normaliser, 2e-5), named(c, s) + ", loss of cells");
#undef PLUS
    }
    CHECK(suppressed == got.summary.ignored, named(c, s));
  }
}

// A box's weight scales what its object adds, and nothing else.
void box_weights(const Case &c, Setup s) {
  s.boxes = s.extras = true;
  const Output plain = run(c, s);
  const auto channels = static_cast<size_t>(c.channels());
  Case all = c;
  all.box_weights.assign(c.g.boxes.data.size() / 5, 1.0f);
  const Output ones = run(all, s);
  CHECK(same_bits(ones.rows, plain.rows), named(c, s));
  all.box_weights.assign(all.box_weights.size(), 0.5f);
  const Output half = run(all, s);
  for (size_t l = 0; l < plain.grads.size(); ++l) {
    CHECK(same_bits(ones.grads[l], plain.grads[l]), named(c, s));
    for (size_t i = 0; i < plain.grads[l].size(); ++i) {
      const bool object = c.g.y_true[l].data[i - i % channels + 4] != 0;
      CHECK(half.grads[l][i] == (object ? 0.5 : 1) * plain.grads[l][i], named(c, s));
    }
    for (size_t i = 0; i < plain.maps[2][l].size(); ++i)
      CHECK(near(half.maps[2][l][i], (c.g.y_true[l].data[i * channels + 4] != 0 ? 0.5 : 1) * plain.maps[2][l][i], 1e-6),
            named(c, s));
  }
  // Each row its own: image by image, the sum of the weights times the loss of the objects.
  for (size_t i = 0; i < all.box_weights.size(); ++i) all.box_weights[i] = i % 2 ? 0.0f : 3.0f;
  const Output mixed = run(all, s);
  size_t zero = 0, three = 0, other = 0;
  for (size_t l = 0; l < plain.grads.size(); ++l)
    for (size_t i = 0; i < plain.maps[2][l].size(); ++i) {
      if (c.g.y_true[l].data[i * channels + 4] == 0) continue;
      const double got = mixed.maps[2][l][i], want = plain.maps[2][l][i];
      zero += got == 0;
      three += near(got, 3 * want, 1e-5);
      other += got != 0 && !near(got, 3 * want, 1e-5);
    }
  CHECK(zero > 0 && three > 0 && other == 0, named(c, s));
  // A weight that is none is a bad row, named; with skip it is left out.
  for (const float bad : {-1.0f, NAN, INFINITY}) {
    all.box_weights.assign(all.box_weights.size(), 1.0f);
    all.box_weights[0] = bad;
    const Output refused = run(all, s);
    CHECK(refused.status == YL_INVALID_BOXES, named(c, s));
    if (s.device.way != Way::kAsync)
      CHECK(says("image 0, row 0") && says("has a weight that is not a finite number >= 0"), yl_last_error());
    Setup skip = s;
    skip.policy = YL_BOXES_SKIP;
    const Output skipped = run(all, skip);
    CHECK(skipped.status == YL_OK && skipped.summary.boxes.skipped == 1, named(c, skip));
  }
}

// Accumulated over zeros the gradient, over itself twice the gradient; and nothing but what is not zero is touched.
void accumulate(const Case &c, Setup s) {
  const Output plain = run(c, s);
  s.grad_mode = YL_GRAD_ACCUMULATE;
  const Output over_zero = run(c, s);
  s.before = 0.5;
  const Output over_half = run(c, s);
  for (size_t l = 0; l < plain.grads.size(); ++l) {
    for (size_t i = 0; i < plain.grads[l].size(); ++i) {
      CHECK(over_zero.grads[l][i] == plain.grads[l][i], named(c, s));
      CHECK(near(over_half.grads[l][i], 0.5 + plain.grads[l][i], 1e-6), named(c, s));
      if (plain.grads[l][i] == 0) CHECK(over_half.grads[l][i] == 0.5, named(c, s));
    }
  }
  s.in_place = true;
  CHECK(run(c, s).status == YL_INVALID_ARGUMENT && says("grad_mode is accumulate and grads[0] is feats[0]"),
        yl_last_error());
}

}  // namespace

int main() {
  const Golden soft = read_golden("f_soft_targets"), edges = read_golden("h_builder_edges"),
               small = read_golden("a_small_3scale");
  for (const DeviceCase &device : kDevices)
    for (const int32_t layout : {YL_NHWC, YL_NCHW}) {
      Setup s;
      s.device = device;
      s.layout = layout;
      for (const Golden *g : {&soft, &edges, &small}) defaults(Case(*g), s);
      part_weights(Case(soft), s);
      class_weights(Case(soft), s);
      label_smoothing(Case(soft), s);
      thresholds(Case(edges), s);
      maps_and_statistics(Case(edges), s);
      maps_and_statistics(Case(soft), s);
      box_weights(Case(edges), s);
      accumulate(Case(small), s);
    }
  return report("rules");
}
