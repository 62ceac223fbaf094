// Layout x type x device x options against the reference device in double, NHWC, on the same (rounded) logits: rows, counts,
// gradient, statistics, maps. The golden cases as planes and as float64 against their own figures.
#include "compare.h"

namespace {

// What differs between the columns of the matrix.
std::vector<Setup> option_sets(const Case &c, const float *class_weights, const float *threshes) {
  std::vector<Setup> sets(8);
  sets[1].extras = true;
  sets[2].gradient = false;
  sets[3].grad_mode = YL_GRAD_ACCUMULATE;
  sets[3].before = 0.375;
  sets[3].normaliser = YL_NORMALISER_OBJECTS;
  sets[4].grad_mode = YL_GRAD_REFRESH;
  sets[4].grad_scale = 16;
  sets[4].normaliser = YL_NORMALISER_NONE;
  for (size_t i = 5; i < 8; ++i) {
    yl_rules &r = sets[i].rules;
    sets[i].with_rules = true;
    r.class_weights = class_weights;
    r.ignore_threshes = threshes;
    r.weight_xy = 0.5f, r.weight_wh = 2, r.weight_object = 1.5f, r.weight_background = 0.25f, r.weight_class = 3;
    r.label_smoothing = 0.125f;
    r.ignore_scope = i == 5 ? YL_SCOPE_LAYER : YL_SCOPE_IMAGE;
    sets[i].extras = i == 6;
    sets[i].grad_mode = i == 7 ? YL_GRAD_ACCUMULATE : YL_GRAD_OVERWRITE;
    sets[i].scan = i == 6 ? YL_SCAN_ALL : YL_SCAN_USED;
    sets[i].boxes = i > 5 && c.g.has_boxes();
  }
  return sets;
}

void matrix(const Golden &golden) {
  Case given(golden);
  std::vector<float> class_weights, threshes;
  for (int32_t i = 0; i < golden.classes; ++i)
    class_weights.push_back(i % 3 == 1 ? 0.0f : 0.5f + static_cast<float>(i % 5));
  for (int32_t l = 0; l < golden.layers; ++l) threshes.push_back(0.35f + 0.1f * static_cast<float>(l));
  for (size_t i = 0; i < golden.boxes.data.size() / 5; ++i)
    given.box_weights.push_back(i % 4 == 2 ? 0.0f : 0.25f * static_cast<float>(1 + i % 7));
  for (const int32_t dtype : {YL_F32, YL_F16, YL_BF16, YL_F64}) {
    Case c = given;
    for (auto &layer : c.feats)
      for (double &value : layer) value = rounded(dtype, value + (dtype == YL_F64 ? 1e-9 : 0));
    for (const Setup &options : option_sets(c, class_weights.data(), threshes.data())) {
      Setup s = options;
      s.device = {"reference", YL_DEVICE_REFERENCE, 0};
      s.dtype = YL_F64;
      const Output want = run(c, s);
      s.dtype = dtype;
      Output first;
      for (const DeviceCase &device : kDevices) {
        if (device.threads == 2 && device.device == YL_DEVICE_CPU) continue;
        for (const int32_t layout : {YL_NHWC, YL_NCHW})
          for (const int32_t grad_dtype : {YL_GRAD_LIKE_FEATS, YL_GRAD_F32}) {
            s.device = device;
            s.layout = layout;
            s.grad_dtype = grad_dtype;
            const Output got = run(c, s);
            compare(c, s, got, want);
            // Neither the type of the gradient, nor threads, nor the way to a device change the rows; on the host nor the
            // layout. (Tiles of a CUDA device are cells in the order of memory.)
            if (layout == YL_NHWC && grad_dtype == YL_GRAD_LIKE_FEATS &&
                (device.threads <= kThreads[0] || device.way == Way::kHost))
              if (first.rows.empty() || device.device != YL_DEVICE_CPU || device.threads == kThreads[0]) first = got;
            if (layout == YL_NHWC || device.device != YL_DEVICE_CUDA)
              CHECK(same_bits(got.rows, first.rows), named(c, s));
            if (grad_dtype == YL_GRAD_LIKE_FEATS && options.grad_mode == YL_GRAD_OVERWRITE && options.gradient) {
              Setup over = s;
              over.in_place = true;
              const Output same = run(c, over);
              CHECK(same_bits(same.rows, got.rows), named(c, over) + ", in place");
              for (size_t l = 0; l < got.grads.size(); ++l)
                CHECK(same_bits(same.grads[l], got.grads[l]), named(c, over) + ", in place");
            }
          }
      }
    }
  }
}

// The figures of a golden case, from its logits as planes: the tolerances of the golden cases; in float64 tighter.
void golden_in(const Golden &golden) {
  const Case c(golden);
  for (const DeviceCase &device : kDevices)
    for (const int32_t dtype : {YL_F32, YL_F64})
      for (const bool boxes : {false, true}) {
        if (boxes && !golden.has_boxes()) continue;
        Setup s;
        s.device = device;
        s.dtype = dtype;
        s.layout = YL_NCHW;
        s.boxes = boxes;
        const Output got = run(c, s);
        const std::string where = named(c, s);
        const double relative = dtype == YL_F64 ? 1e-12 : 1e-5, absolute = dtype == YL_F64 ? 1e-12 : 1e-6;
        if (!CHECK(got.status == YL_OK, yl_last_error())) continue;
        CHECK(near(got.summary.total, golden.total, relative, absolute), where + ": " + number(got.summary.total));
        for (size_t l = 0; l < got.layers.size(); ++l) {
          const yl_parts &p = got.layers[l];
          CHECK(near(p.xy, golden.xy[l], relative, absolute) && near(p.wh, golden.wh[l], relative, absolute) &&
                    near(p.confidence_object + p.confidence_background, golden.confidence[l], relative, absolute) &&
                    near(p.class_, golden.class_[l], relative, absolute),
                where);
          CHECK(double(p.objects) == golden.objects[l] && double(p.ignored) == golden.ignored[l] &&
                    double(p.ignored_background) == golden.ignored_background[l],
                where);
          float largest = 0;
          for (const float w : golden.grads[l].data) largest = std::fmax(largest, std::fabs(w));
          size_t wrong = 0;
          for (size_t i = 0; i < got.grads[l].size(); ++i)
            wrong += !(std::fabs(got.grads[l][i] - golden.grads[l].data[i]) <= 1e-6 + 1e-5 * largest);
          CHECK(wrong == 0, where + ": " + std::to_string(wrong) + " elements off");
        }
      }
}

// yolo_head of logits in every type and order against its formula.
void heads(const Case &given) {
  const Golden &g = given.g;
  const auto channels = static_cast<size_t>(given.channels());
  for (const DeviceCase &device : kDevices)
    for (const int32_t dtype : {YL_F32, YL_F16, YL_BF16, YL_F64})
      for (const int32_t layout : {YL_NHWC, YL_NCHW}) {
        Case c = given;
        for (auto &layer : c.feats)
          for (double &value : layer) value = rounded(dtype, value);
        Setup s;
        s.device = device;
        s.dtype = dtype;
        s.layout = layout;
        yl_plan *plan = plan_of(c, s);
        const bool on_device = device.way != Way::kHost;
        for (size_t l = 0; plan && l < c.feats.size(); ++l) {
          const int64_t size = yl::size_of(dtype), cells = c.cells(l), all = g.batch * cells;
          Memory feats(on_device, static_cast<int64_t>(c.feats[l].size()) * size), xy(on_device, all * 8),
              wh(on_device, all * 8), confidence(on_device, all * 4), probs(on_device, all * g.classes * 4);
          for (size_t i = 0; i < c.feats[l].size(); ++i)
            put(dtype,
                feats.host() +
                    size * place_of(layout, static_cast<int64_t>(i), cells, g.anchors_per_layer, c.channels()),
                c.feats[l][i]);
          yl_head head = YL_HEAD_INIT;
          head.layer = static_cast<int32_t>(l);
          head.batch = g.batch;
          head.feats = feats.start();
          head.box_xy = static_cast<float *>(xy.start());
          head.box_wh = static_cast<float *>(wh.start());
          head.box_confidence = static_cast<float *>(confidence.start());
          head.box_class_probs = static_cast<float *>(probs.start());
          CHECK(yl_yolo_head(plan, &head) == YL_OK, yl_last_error());
          for (Memory *out : {&xy, &wh, &confidence, &probs}) out->fetch();
          const auto value = [](Memory &memory, size_t i) { return loaded<float>(memory.host() + 4 * i); };
          const auto sigmoid = [](double u) { return 1 / (1 + std::exp(-u)); };
          const auto width = static_cast<size_t>(g.feats[l].shape[2]),
                     height = static_cast<size_t>(g.feats[l].shape[1]);
          for (size_t cell = 0; cell < static_cast<size_t>(all); ++cell) {
            const double *t = &c.feats[l][cell * channels];
            const size_t place = cell % static_cast<size_t>(cells) / 3;
            const float *anchor = &g.anchors[2 * static_cast<size_t>(g.masks[3 * l + cell % 3])];
            const double want[] = {(sigmoid(t[0]) + double(place % width)) / double(width),
                                   (sigmoid(t[1]) + double(place / width)) / double(height),
                                   anchor[0] / double(g.input_width) * std::exp(t[2]),
                                   anchor[1] / double(g.input_height) * std::exp(t[3]), sigmoid(t[4])};
            const double got[] = {value(xy, 2 * cell), value(xy, 2 * cell + 1), value(wh, 2 * cell),
                                  value(wh, 2 * cell + 1), value(confidence, cell)};
            for (int i = 0; i < 5; ++i) CHECK(near(got[i], want[i], 1e-6, 1e-7), named(c, s) + ", yolo_head");
            for (size_t n = 0; n + 5 < channels; ++n)
              CHECK(near(value(probs, cell * (channels - 5) + n), sigmoid(t[5 + n]), 1e-6, 1e-7), named(c, s));
          }
        }
        yl_plan_destroy(plan);
      }
}

// Every half and bfloat16, and rounding to them: nearest, ties to even, overflow from the half step on.
void storage() {
  for (int32_t dtype : {YL_F16, YL_BF16}) {
    const int bits = dtype == YL_F16 ? 10 : 7, bias = dtype == YL_F16 ? 15 : 127;
    double previous = 0;
    for (uint32_t code = 0; code < 0x8000; ++code) {
      const uint32_t exponent = code >> bits, fraction = code & ((1u << bits) - 1);
      const auto stored = static_cast<uint16_t>(code);
      char bytes[8] = {};
      std::memcpy(bytes, &stored, 2);
      const double value = get(dtype, bytes);
      if (exponent == (dtype == YL_F16 ? 31u : 255u)) {
        CHECK(fraction ? std::isnan(value) : std::isinf(value));
        continue;
      }
      const double want = exponent ? std::ldexp(1 + fraction / double(1 << bits), int(exponent) - bias)
                                   : std::ldexp(fraction / double(1 << bits), 1 - bias);
      CHECK(value == want && rounded(dtype, value) == value && rounded(dtype, -value) == -value, number(want));
      const double half = (previous + value) / 2;  // exact in float32, but for subnormals of bfloat16
      if (code > 0 && (dtype == YL_F16 || exponent > 1)) {
        CHECK(rounded(dtype, half) == (code % 2 ? previous : value), number(half));
        CHECK(rounded(dtype, static_cast<double>(std::nextafterf(static_cast<float>(half), 0))) == previous,
              number(half));
        CHECK(rounded(dtype, static_cast<double>(std::nextafterf(static_cast<float>(half), INFINITY))) == value,
              number(half));
      }
      previous = value;
    }
    CHECK(std::isnan(rounded(dtype, NAN)) && std::isinf(rounded(dtype, INFINITY)) &&
          std::isinf(rounded(dtype, 3.4e38)));
  }
  CHECK(rounded(YL_F16, 65519) == 65504 && std::isinf(rounded(YL_F16, 65520)) && rounded(YL_F16, -65520) == -INFINITY);
}

}  // namespace

int main() {
  storage();
  heads(Case(read_golden("a_small_3scale")));
  for (const std::string &name : kGoldenNames) golden_in(read_golden(name));
  for (const char *name : {"a_small_3scale", "f_soft_targets", "h_builder_edges"}) matrix(read_golden(name));
  return report("matrix");
}
