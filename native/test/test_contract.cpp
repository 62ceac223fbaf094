// The rules of yololoss.h that the golden cases do not show: refused input and its sentence, normalisers, values that are not finite, yolo_head, several callers.
#include <algorithm>
#include <cstddef>
#include <thread>

#include "plan.h"
#include "yololoss_binding.h"

namespace {

void refused_configs() {
  const auto with = [](auto change) {
    Config c;
    change(c);
    const yl_status status = c.create();
    CHECK((status == YL_OK) == (c.plan != nullptr));
    return status;
  };
  CHECK(with([](Config &) {}) == YL_OK);
  REFUSED(yl_plan_create(nullptr, nullptr), YL_INVALID_ARGUMENT, "plan is NULL");
  yl_plan *plan = nullptr;
  REFUSED(yl_plan_create(nullptr, &plan), YL_INVALID_ARGUMENT, "config is NULL");
  REFUSED(with([](Config &c) { c.config.struct_size = 8; }), YL_INVALID_ARGUMENT, "struct_size is 8");
  REFUSED(with([](Config &c) { c.config.struct_size += 8; }), YL_UNSUPPORTED, "use the header of the library");
  REFUSED(with([](Config &c) { c.config.layers = nullptr; }), YL_INVALID_ARGUMENT, "layers is NULL");
  REFUSED(with([](Config &c) { c.config.anchors = nullptr; }), YL_INVALID_ARGUMENT, "anchors is NULL");
  REFUSED(with([](Config &c) { c.config.layer_count = 0; }), YL_INVALID_ARGUMENT, "layer_count is 0");
  REFUSED(with([](Config &c) { c.config.anchor_count = -1; }), YL_INVALID_ARGUMENT, "anchor_count is -1");
  REFUSED(with([](Config &c) { c.config.input_height = 0; }), YL_INVALID_ARGUMENT, "input_height is 0");
  REFUSED(with([](Config &c) { c.config.input_width = -5; }), YL_INVALID_ARGUMENT, "input_width is -5");
  REFUSED(with([](Config &c) { c.config.num_classes = 0; }), YL_INVALID_ARGUMENT, "num_classes is 0");
  REFUSED(with([](Config &c) { c.config.num_classes = INT32_MAX; }), YL_INVALID_ARGUMENT, "num_classes");
  REFUSED(with([](Config &c) { c.config.ignore_thresh = NAN; }), YL_INVALID_ARGUMENT, "ignore_thresh is nan");
  REFUSED(with([](Config &c) { c.config.max_batch = 0; }), YL_INVALID_ARGUMENT, "max_batch is 0");
  REFUSED(with([](Config &c) { c.config.threads = 5000; }), YL_INVALID_ARGUMENT, "threads is 5000, expected 0..1024");
  REFUSED(with([](Config &c) { c.config.grad_dtype = 2; }), YL_INVALID_ARGUMENT, "grad_dtype is 2, expected 0..1");
  REFUSED(with([](Config &c) { c.layer.reserved = 1; }), YL_INVALID_ARGUMENT, "layers[0].reserved is 1");
  const auto with_rules = [](auto change) {
    Config c;
    yl_rules rules = YL_RULES_INIT;
    change(rules);
    c.config.rules = &rules;
    return c.create();
  };
  static const float weights[] = {1, -1}, threshes[] = {NAN};
  CHECK(with_rules([](yl_rules &) {}) == YL_OK, yl_last_error());
  REFUSED(with_rules([](yl_rules &r) { r.struct_size = 3; }), YL_INVALID_ARGUMENT, "rules.struct_size is 3");
  REFUSED(with_rules([](yl_rules &r) { r.weight_wh = -1; }), YL_INVALID_ARGUMENT, "rules.weight_wh is -1");
  REFUSED(with_rules([](yl_rules &r) { r.weight_background = NAN; }), YL_INVALID_ARGUMENT, "rules.weight_background");
  REFUSED(with_rules([](yl_rules &r) { r.label_smoothing = 1.5f; }), YL_INVALID_ARGUMENT, "expected 0..1");
  REFUSED(with_rules([](yl_rules &r) { r.ignore_scope = 2; }), YL_INVALID_ARGUMENT, "rules.ignore_scope is 2");
  REFUSED(with_rules([](yl_rules &r) { r.reserved = 2; }), YL_INVALID_ARGUMENT, "rules.reserved is 2");
  REFUSED(with_rules([](yl_rules &r) { r.class_weights = weights; }), YL_INVALID_ARGUMENT, "class_weights entry is -1");
  REFUSED(with_rules([](yl_rules &r) { r.ignore_threshes = threshes; }), YL_INVALID_ARGUMENT,
          "ignore_threshes[0] is nan");
  REFUSED(with([](Config &c) { c.config.device = 9; }), YL_INVALID_ARGUMENT, "device is 9");
  if (!has_cuda()) {
    REFUSED(with([](Config &c) { c.config.device = YL_DEVICE_CUDA; }), YL_NO_DEVICE, "cuda:0 cannot be used");
    REFUSED(with([](Config &c) { c.config.memory = YL_MEMORY_DEVICE; }), YL_NO_DEVICE, "cuda:0 cannot be used");
    REFUSED(yl_device_check(YL_DEVICE_CUDA, 1), YL_NO_DEVICE, "cuda:1");
  }
  REFUSED(with([](Config &c) { c.config.device = YL_DEVICE_CUDA, c.config.device_index = 77; }), YL_NO_DEVICE,
          "cuda:77");
  REFUSED(with([](Config &c) { c.config.device_index = 1; }), YL_INVALID_ARGUMENT, "device_index is 1");
  REFUSED(with([](Config &c) { c.config.memory = 2; }), YL_INVALID_ARGUMENT, "memory is 2");
  REFUSED(with([](Config &c) { c.config.device = YL_DEVICE_CPU, c.config.memory = YL_MEMORY_DEVICE; }),
          YL_INVALID_ARGUMENT, "only a cuda device can reach");
  REFUSED(with([](Config &c) { c.config.dtype = 77; }), YL_INVALID_ARGUMENT, "dtype is 77");
  REFUSED(with([](Config &c) { c.config.layout = 2; }), YL_INVALID_ARGUMENT, "layout is 2");
  REFUSED(with([](Config &c) { c.anchors[3] = 0; }), YL_INVALID_ARGUMENT, "height of anchor 1 is 0");
  REFUSED(with([](Config &c) { c.anchors[4] = INFINITY; }), YL_INVALID_ARGUMENT, "width of anchor 2 is inf");
  REFUSED(with([](Config &c) { c.mask[2] = 3; }), YL_INVALID_ARGUMENT,
          "layers[0].anchor_mask entry is 3, expected 0..2");
  REFUSED(with([](Config &c) { c.layer.grid_width = 0; }), YL_INVALID_ARGUMENT, "layers[0].grid_width is 0");
  REFUSED(with([](Config &c) { c.layer.anchor_count = 0; }), YL_INVALID_ARGUMENT, "layers[0].anchor_count is 0");
  REFUSED(with([](Config &c) { c.layer.anchor_mask = nullptr; }), YL_INVALID_ARGUMENT, "anchor_mask is NULL");
  REFUSED(with([](Config &c) { c.layer.grid_width = c.layer.grid_height = 1 << 20; }), YL_INVALID_ARGUMENT, "cells");
  REFUSED(with([](Config &c) {
            c.config.max_batch = INT32_MAX, c.layer.grid_width = 1 << 25, c.config.num_classes = 1 << 24;
          }),
          YL_INVALID_ARGUMENT, "too large");
#if !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)  // which stop at a request of this size instead of refusing it
  REFUSED(with([](Config &c) { c.config.max_batch = 1 << 22, c.layer.grid_width = 1 << 24; }), YL_OUT_OF_MEMORY,
          "out of memory");
#endif
  CHECK(yl_device_check(YL_DEVICE_CPU, 0) == YL_OK && yl_device_check(YL_DEVICE_AUTO, 0) == YL_OK);
  Config c;
  CHECK(c.create() == YL_OK && !std::strcmp(yl_device_name(c.plan), "cpu") &&
        std::strstr(yl_device_why(c.plan), "auto: "));
  CHECK(!std::strcmp(yl_device_name(nullptr), "") && !std::strcmp(yl_device_why(nullptr), ""));
  yl_plan_destroy(nullptr);
}

void refused_calls(const Golden &g, const DeviceCase &device) {
  Plan p(g, device);
  CHECK(p.run(true) == YL_OK);
  const auto untouched = [&](yl_status expected, const char *words, auto change, auto restore) {
    p.summary.total = -7;
    for (auto &grad : p.grad_data) std::fill(grad.begin(), grad.end(), -7.0f);
    change();
    const yl_status status = yl_loss(p.plan, &p.call, &p.result);
    CHECK(status == expected && says(words), yl_last_error());
    CHECK(p.summary.total == -7, words);
    for (auto &grad : p.grad_data) CHECK(std::all_of(grad.begin(), grad.end(), [](float v) { return v == -7; }));
    restore();
  };
#define FIELD(field, value, status, words)                             \
  {                                                                    \
    const auto kept = field;                                           \
    untouched(                                                         \
        status, words, [&] { field = value; }, [&] { field = kept; }); \
  }
  FIELD(p.call.batch, 0, YL_INVALID_ARGUMENT, "batch is 0, this plan takes 1..2")
  FIELD(p.call.batch, 3, YL_INVALID_ARGUMENT, "batch is 3")
  FIELD(p.call.struct_size, 0u, YL_INVALID_ARGUMENT, "call.struct_size is 0")
  FIELD(p.call.feats, nullptr, YL_INVALID_ARGUMENT, "feats is NULL")
  FIELD(p.feats[1], nullptr, YL_INVALID_ARGUMENT, "feats[1] is NULL")
  FIELD(p.y_true[2], nullptr, YL_INVALID_ARGUMENT, "y_true[2] is NULL")
  FIELD(p.grads[0], nullptr, YL_INVALID_ARGUMENT, "grads[0] is NULL")
  FIELD(p.feats[0], static_cast<const char *>(p.feats[0]) + 1, YL_INVALID_ARGUMENT, "not aligned to 4")
  FIELD(p.call.y_true, nullptr, YL_INVALID_ARGUMENT, "neither y_true nor boxes")
  FIELD(p.call.boxes, &p.boxes, YL_INVALID_ARGUMENT, "both y_true and boxes")
  FIELD(p.call.grad_mode, 3, YL_INVALID_ARGUMENT, "grad_mode is 3")
  FIELD(p.call.normaliser, 4, YL_INVALID_ARGUMENT, "normaliser is 4")
  FIELD(p.call.normaliser_value, 0.0, YL_INVALID_ARGUMENT, "normaliser_value is 0")
  FIELD(p.call.normaliser_value, double(NAN), YL_INVALID_ARGUMENT, "normaliser_value is nan")
  FIELD(p.call.grad_scale, double(INFINITY), YL_INVALID_ARGUMENT, "grad_scale is inf")
  FIELD(p.call.scan, 2, YL_INVALID_ARGUMENT, "scan is 2")
  FIELD(p.grads[1], p.grads[0], YL_INVALID_ARGUMENT, "overlap")
  FIELD(p.grads[1], const_cast<void *>(p.feats[0]), YL_INVALID_ARGUMENT, "overlap")
  FIELD(p.grads[1], const_cast<float *>(p.y_true[1]), YL_INVALID_ARGUMENT, "grads[1] and y_true[1] overlap")
  FIELD(p.grads[1], (const_cast<char *>(static_cast<const char *>(p.feats[1])) + 4), YL_INVALID_ARGUMENT, "overlap")
  FIELD(p.result.rows, reinterpret_cast<yl_parts *>(p.grads[2]), YL_INVALID_ARGUMENT, "overlap")
  FIELD(p.result.struct_size, 4u, YL_INVALID_ARGUMENT, "result.struct_size is 4")
  FIELD(p.result.struct_size, sizeof p.result - 4, YL_INVALID_ARGUMENT, "a multiple of 8")  // half a pointer
  FIELD(p.call.struct_size, sizeof p.call - 3, YL_INVALID_ARGUMENT, "a multiple of 8")
  REFUSED(yl_loss(nullptr, &p.call, &p.result), YL_INVALID_ARGUMENT, "plan is NULL");
  REFUSED(yl_loss(p.plan, nullptr, &p.result), YL_INVALID_ARGUMENT, "call is NULL");
  REFUSED(yl_loss_async(p.plan, &p.call, nullptr, &p.result), YL_UNSUPPORTED, "needs a cuda plan");
  const float one = 1;
  if (device.device == YL_DEVICE_CPU) {
    FIELD(p.call.normaliser_at, &one, YL_INVALID_ARGUMENT, "normaliser_at is given, which only a cuda plan reads")
    FIELD(p.call.grad_scale_at, &one, YL_INVALID_ARGUMENT, "grad_scale_at is given, which only a cuda plan reads")
  }
  // What is given on request has memory of its own too.
  std::vector<float> map(p.feats.size() * p.grad_data.back().size());
  std::vector<float *> maps(p.feats.size(), map.data());
  FIELD(p.result.best_iou, maps.data(), YL_INVALID_ARGUMENT, "result.best_iou[1] and result.best_iou[0] overlap")
  maps[1] = nullptr;
  FIELD(p.result.cell_loss, maps.data(), YL_INVALID_ARGUMENT, "result.cell_loss[1] is NULL")
  for (size_t l = 0; l < maps.size(); ++l) maps[l] = map.data() + l * p.grad_data.back().size();
  maps[0] = const_cast<float *>(p.y_true[0]);
  FIELD(p.result.ignore_mask, maps.data(), YL_INVALID_ARGUMENT, "result.ignore_mask[0] and y_true[0] overlap")
  FIELD(p.result.stats, reinterpret_cast<yl_stats *>(p.grads[0]), YL_INVALID_ARGUMENT, "overlap")
  FIELD(p.result.offender, reinterpret_cast<yl_offender *>(p.grads[0]), YL_INVALID_ARGUMENT, "overlap")
  yl_completion completion;
  FIELD(p.result.completion, &completion, YL_INVALID_ARGUMENT, "for yl_loss_async")
  CHECK(yl_loss(p.plan, &p.call, nullptr) == YL_OK);
  CHECK(p.run(true) == YL_OK);

  // A caller that knows the structs as they were first; what lies behind them is not looked at.
  p.call.struct_size = offsetof(yl_call, normaliser_at);
  p.call.normaliser_at = reinterpret_cast<const float *>(1);
  p.result.struct_size = offsetof(yl_result, completion);
  p.result.completion = reinterpret_cast<yl_completion *>(1);
  CHECK(p.run(true) == YL_OK, yl_last_error());
  p.call.struct_size = sizeof p.call;
  p.call.normaliser_at = nullptr;
  p.result.struct_size = sizeof p.result;
  p.result.completion = nullptr;

  // Each output is optional, and nothing but the outputs is written.
  const yl_summary summary = p.summary;
  p.result.layers = nullptr;
  p.result.rows = nullptr;
  CHECK(p.run(true) == YL_OK && p.summary.total == summary.total);
}

// Sizes and alignments of the types of feats and gradients.
void types() {
  for (const int32_t dtype : {YL_F16, YL_F64}) {
    Config c;
    c.config.device = YL_DEVICE_CPU;
    c.config.max_batch = 1;
    c.config.dtype = dtype;
    c.config.grad_dtype = YL_GRAD_F32;
    CHECK(c.create() == YL_OK, yl_last_error());
    const size_t size = dtype == YL_F64 ? 8 : 2, count = 4 * 4 * 3 * 7;
    std::vector<double> memory(2 * count + 2);
    char *const start = reinterpret_cast<char *>(memory.data());
    const void *feats[] = {start};
    void *grads[] = {start + size * count};
    yl_boxes boxes = YL_BOXES_INIT;
    yl_call call = YL_CALL_INIT;
    call.batch = 1, call.feats = feats, call.boxes = &boxes, call.grads = grads;
    CHECK(yl_loss(c.plan, &call, nullptr) == YL_OK, yl_last_error());
    grads[0] = start + size * count - 4;
    REFUSED(yl_loss(c.plan, &call, nullptr), YL_INVALID_ARGUMENT, "grads[0] and feats[0] overlap");
    grads[0] = start;  // another type is no gradient over feats
    REFUSED(yl_loss(c.plan, &call, nullptr), YL_INVALID_ARGUMENT, "grads[0] and feats[0] overlap");
    feats[0] = start + size / 2;
    REFUSED(yl_loss(c.plan, &call, nullptr), YL_INVALID_ARGUMENT, dtype == YL_F64 ? "aligned to 8" : "aligned to 2");
  }
}

void normalisers(const Golden &g, const DeviceCase &device) {
  Plan p(g, device);
  CHECK(p.run(true) == YL_OK);
  const double raw = p.summary.total * p.summary.normaliser;
  const auto gradient = p.grad_data;
  const auto expect = [&](int32_t normaliser, double value, double scale) {
    p.call.normaliser = normaliser;
    p.call.normaliser_value = normaliser == YL_NORMALISER_VALUE ? value : 1;
    p.call.grad_scale = scale;
    CHECK(p.run(true) == YL_OK);
    CHECK(p.summary.normaliser == value && std::fabs(p.summary.total - raw / value) <= 1e-12 * raw);
    const double factor = scale * g.batch / value;
    for (size_t l = 0; l < gradient.size(); ++l)
      for (size_t i = 0; i < gradient[l].size(); ++i)
        if (!(std::fabs(p.grad_data[l][i] - factor * gradient[l][i]) <= 3e-7 * std::fabs(factor * gradient[l][i])))
          CHECK(false, "gradient of normaliser " + std::to_string(normaliser));
  };
  expect(YL_NORMALISER_BATCH, g.batch, 1);
  expect(YL_NORMALISER_NONE, 1, 0.5);
  expect(YL_NORMALISER_OBJECTS, static_cast<double>(p.summary.objects), -2);
  expect(YL_NORMALISER_VALUE, 12.5, 65536);
}

void not_finite(const Golden &g, const DeviceCase &device) {
  Plan p(g, device);
  CHECK(p.run(true) == YL_OK && p.summary.non_finite == 0);
  const yl_summary healthy = p.summary;
  const size_t channels = static_cast<size_t>(5 + g.classes);
  std::vector<float> feats = g.feats[0].data, y_true = g.y_true[0].data;
  p.feats[0] = feats.data();
  p.y_true[0] = y_true.data();
  size_t object = 0, background = 0;
  for (size_t cell = 0; cell < y_true.size() / channels; ++cell)
    (y_true[cell * channels + 4] != 0 ? object : background) = cell * channels;
  const auto with = [&](float &place, float value) {
    const float kept = place;
    place = value;
    CHECK(p.run(true) == YL_OK);
    place = kept;
  };
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    with(feats[background + 4], value);  // counts, unless the cell is ignored
    CHECK(p.summary.non_finite == 1, device.name);
    for (size_t c = 5; c < channels; ++c) {
      with(feats[background + c], value);  // never read
      CHECK(p.summary.non_finite == 0 && p.summary.total == healthy.total && p.grad_data[0][background + c] == 0);
      with(feats[object + c], value);
      CHECK(p.summary.non_finite == 1 && !std::isfinite(p.summary.total));
    }
    for (size_t c = 0; c < 4; ++c) {
      with(feats[background + c], value);
      CHECK(std::isfinite(p.summary.total) && p.grad_data[0][background + c] == 0, device.name);
      with(feats[object + c], value);
      CHECK(p.summary.non_finite == 1 && !std::isfinite(p.summary.total));
      with(y_true[object + c], value);
      CHECK(p.summary.non_finite == 1);
    }
    with(y_true[background + 4], value);  // a mask that is not 0 makes an object
    CHECK(p.summary.non_finite == 1 && p.summary.objects == healthy.objects + 1);
  }
  // A NaN in the box of a background cell has no IoU: the cell counts.
  for (size_t cell = 0; cell < y_true.size() / channels; ++cell)
    if (y_true[cell * channels + 4] == 0) feats[cell * channels] = NAN;
  CHECK(p.run(true) == YL_OK && p.layers_out[0].ignored_background == 0 && std::isfinite(p.summary.total));

  // Also where every IoU reaches the threshold: with 0 all cells are ignored but those without an IoU.
  Golden all = g;
  all.thresh = 0;
  Plan every(all, device);
  every.feats[0] = feats.data();
  CHECK(every.run(true) == YL_OK && every.layers_out[0].ignored == every.layers_out[0].objects, device.name);
  const int64_t cells = g.feats[1].shape[0] * g.feats[1].shape[1] * g.feats[1].shape[2] * 3;
  CHECK(g.objects[1] > 0 && every.layers_out[1].ignored == cells, device.name);
}

// yolo_head against its formulas, written here once more with other functions.
void yolo_head(const Golden &g, const DeviceCase &device) {
  Plan p(g, device);
  for (int32_t l = 0; l < g.layers; ++l) {
    const auto height = static_cast<size_t>(g.feats[l].shape[1]), width = static_cast<size_t>(g.feats[l].shape[2]);
    const auto classes = static_cast<size_t>(g.classes), cells = static_cast<size_t>(g.batch) * height * width * 3;
    std::vector<float> grid(2 * height * width, NAN), xy(2 * cells, NAN), wh(2 * cells, NAN), confidence(cells, NAN),
        probs(cells * classes, NAN);
    yl_head head = YL_HEAD_INIT;
    head.feats = g.feats[l].data.data();
    head.layer = l;
    head.batch = g.batch;
    CHECK(p.yolo_head(head) == YL_OK, "no output wanted");
    head.grid = grid.data();
    head.box_xy = xy.data();
    head.box_wh = wh.data();
    head.box_confidence = confidence.data();
    head.box_class_probs = probs.data();
    CHECK(p.yolo_head(head) == YL_OK, yl_last_error());
    const auto close = [&](float got, double want) {
      CHECK(std::fabs(got - want) <= 1e-6 * std::fabs(want) + 1e-30, number(got) + " for " + number(want));
    };
    const auto sigmoid = [](double u) { return 1 / (1 + std::exp(-u)); };
    for (size_t cell = 0; cell < cells; ++cell) {
      const float *t = g.feats[l].data.data() + cell * (5 + classes);
      const size_t anchor = cell % 3, column = cell / 3 % width, line = cell / 3 / width % height;
      const size_t n = static_cast<size_t>(g.masks[3 * static_cast<size_t>(l) + anchor]);
      close(grid[2 * (line * width + column)], double(column));
      close(grid[2 * (line * width + column) + 1], double(line));
      close(xy[2 * cell], (sigmoid(t[0]) + double(column)) / double(width));
      close(xy[2 * cell + 1], (sigmoid(t[1]) + double(line)) / double(height));
      close(wh[2 * cell], std::exp(double(t[2])) * g.anchors[2 * n] / g.input_width);
      close(wh[2 * cell + 1], std::exp(double(t[3])) * g.anchors[2 * n + 1] / g.input_height);
      close(confidence[cell], sigmoid(t[4]));
      for (size_t c = 0; c < classes; ++c) close(probs[cell * classes + c], sigmoid(t[5 + c]));
    }
    head.box_wh = head.box_xy + 1;
    REFUSED(yl_yolo_head(p.plan, &head), YL_INVALID_ARGUMENT, "overlap");
    head.box_wh = nullptr;
    head.layer = g.layers;
    REFUSED(yl_yolo_head(p.plan, &head), YL_INVALID_ARGUMENT, "head.layer is");
    head.layer = 0;
    head.feats = nullptr;
    REFUSED(yl_yolo_head(p.plan, &head), YL_INVALID_ARGUMENT, "head.feats is NULL");
  }
}

// One plan called from several threads, and a plan each: always the bits of a single caller.
void several_callers(const Golden &g, const DeviceCase &device) {
  Plan shared(g, device), want(g, device);
  CHECK(want.run(true) == YL_OK);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> callers;
  for (size_t t = 0; t < wrong.size(); ++t)
    callers.emplace_back([&, t] {
      Plan own(g, device);
      yl_plan *const own_plan = own.plan;
      for (int i = 0; i < (device.device == YL_DEVICE_CPU ? 200 : 20); ++i) {
        own.plan = i % 2 ? own_plan : shared.plan;
        wrong[t] += own.run(i % 3 != 0 || !g.has_boxes()) != YL_OK || !same_bits(own.rows, want.rows) ||
                    !same_bits(own.grad_data.back(), want.grad_data.back());
        own.call.batch = 99;  // the sentence of one thread is not that of another
        wrong[t] += own.run(true) != YL_INVALID_ARGUMENT || !says("batch is 99");
        own.call.batch = g.batch;
      }
      own.plan = own_plan;
    });
  for (std::thread &caller : callers) caller.join();
  for (const int w : wrong) CHECK(w == 0);
}

void names() {
  CHECK(!std::strcmp(yl_status_name(YL_OK), "YL_OK") && !std::strcmp(yl_status_name(-3), "unknown status"));
  CHECK(!std::strcmp(yl_status_name(YL_INTERNAL), "YL_INTERNAL"));
  CHECK(yl_abi_version() == YL_ABI_VERSION);
  CHECK(std::string(yl_version_string()) == std::to_string(YL_VERSION_MAJOR) + "." + std::to_string(YL_VERSION_MINOR) +
                                                "." + std::to_string(YL_VERSION_PATCH));
  CHECK(yl_offset_of("yl_call", nullptr) == sizeof(yl_call));
  CHECK(yl_offset_of("yl_call", "grads") == offsetof(yl_call, grads));
  CHECK(yl_offset_of("yl_call", "grad") == -1 && yl_offset_of("call", nullptr) == -1 &&
        yl_offset_of(nullptr, "x") == -1);
}

}  // namespace

int main() {
  refused_configs();
  types();
  const Golden small = read_golden("a_small_3scale");
  for (const DeviceCase &device : kDevices) {
    if (device.way == Way::kHost) refused_calls(small, device);
    if (device.way != Way::kAsync) several_callers(small, device);  // which serves one stream at a time
    normalisers(small, device);
    not_finite(small, device);
    yolo_head(small, device);
    yolo_head(read_golden("g_extreme_logits"), device);
  }
  names();
  return report("contract");
}
