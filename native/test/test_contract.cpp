// The rules of yololoss.h that the golden cases do not show: refused input and its sentence, normalisers, values that
// are not finite, several callers.
#include <algorithm>
#include <cstddef>
#include <functional>
#include <thread>

#include "plan.h"
#include "test.h"
#include "yololoss_binding.h"

// ---- yl_plan_create -------------------------------------------------------------------------------------------------

namespace {

// Creates a plan of the small case after a change of its config.
yl_status create_with(const std::function<void(Config &)> &change) {
  Config c;
  change(c);
  const yl_status status = c.create();
  CHECK_EQUAL(status == YL_OK, c.plan != nullptr);
  return status;
}

yl_status create_with_rules(const std::function<void(yl_rules &)> &change) {
  yl_rules rules = YL_RULES_INIT;
  change(rules);
  return create_with([&](Config &c) { c.config.rules = &rules; });
}

}  // namespace

TEST(contract, a_config_that_is_missing_or_of_another_size_is_refused) {
  CHECK_OK(create_with([](Config &) {}));
  CHECK_REFUSED(yl_plan_create(nullptr, nullptr), YL_INVALID_ARGUMENT, "plan is NULL");
  yl_plan *plan = nullptr;
  CHECK_REFUSED(yl_plan_create(nullptr, &plan), YL_INVALID_ARGUMENT, "config is NULL");
  CHECK_REFUSED(create_with([](Config &c) { c.config.struct_size = 8; }), YL_INVALID_ARGUMENT, "struct_size is 8");
  CHECK_REFUSED(create_with([](Config &c) { c.config.struct_size += 8; }), YL_UNSUPPORTED,
                "use the header of the library");
  yl_plan_destroy(nullptr);
}

TEST(contract, numbers_of_a_config_that_are_out_of_range_are_refused) {
  const auto refused = [](const std::function<void(yl_config &)> &change, const char *words) {
    CHECK_REFUSED(create_with([&](Config &c) { change(c.config); }), YL_INVALID_ARGUMENT, words);
  };
  refused([](yl_config &c) { c.layers = nullptr; }, "layers is NULL");
  refused([](yl_config &c) { c.anchors = nullptr; }, "anchors is NULL");
  refused([](yl_config &c) { c.layer_count = 0; }, "layer_count is 0");
  refused([](yl_config &c) { c.anchor_count = -1; }, "anchor_count is -1");
  refused([](yl_config &c) { c.input_height = 0; }, "input_height is 0");
  refused([](yl_config &c) { c.input_width = -5; }, "input_width is -5");
  refused([](yl_config &c) { c.num_classes = 0; }, "num_classes is 0");
  refused([](yl_config &c) { c.num_classes = INT32_MAX; }, "num_classes");
  refused([](yl_config &c) { c.ignore_thresh = NAN; }, "ignore_thresh is nan");
  refused([](yl_config &c) { c.max_batch = 0; }, "max_batch is 0");
  refused([](yl_config &c) { c.threads = 5000; }, "threads is 5000, expected 0..1024");
  refused([](yl_config &c) { c.grad_dtype = 2; }, "grad_dtype is 2, expected 0..1");
  refused([](yl_config &c) { c.device = 9; }, "device is 9");
  refused([](yl_config &c) { c.device_index = 1; }, "device_index is 1");
  refused([](yl_config &c) { c.memory = 2; }, "memory is 2");
  refused([](yl_config &c) { c.device = YL_DEVICE_CPU, c.memory = YL_MEMORY_DEVICE; }, "only a cuda device can reach");
  refused([](yl_config &c) { c.dtype = 77; }, "dtype is 77");
  refused([](yl_config &c) { c.layout = 2; }, "layout is 2");
}

TEST(contract, layers_and_anchors_that_are_wrong_are_refused) {
  const auto refused = [](const std::function<void(Config &)> &change, const char *words) {
    CHECK_REFUSED(create_with(change), YL_INVALID_ARGUMENT, words);
  };
  refused([](Config &c) { c.anchors[3] = 0; }, "height of anchor 1 is 0");
  refused([](Config &c) { c.anchors[4] = INFINITY; }, "width of anchor 2 is inf");
  refused([](Config &c) { c.masks[0][2] = 3; }, "layers[0].anchor_mask entry is 3, expected 0..2");
  refused([](Config &c) { c.layers[0].reserved = 1; }, "layers[0].reserved is 1");
  refused([](Config &c) { c.layers[0].grid_width = 0; }, "layers[0].grid_width is 0");
  refused([](Config &c) { c.layers[0].anchor_count = 0; }, "layers[0].anchor_count is 0");
  refused([](Config &c) { c.layers[0].anchor_mask = nullptr; }, "anchor_mask is NULL");
  refused([](Config &c) { c.layers[0].grid_width = c.layers[0].grid_height = 1 << 20; }, "cells");
  refused(
      [](Config &c) {
        c.config.max_batch = INT32_MAX, c.layers[0].grid_width = 1 << 25, c.config.num_classes = 1 << 24;
      },
      "too large");
}

TEST(contract, rules_that_are_wrong_are_refused) {
  const auto refused = [](const std::function<void(yl_rules &)> &change, const char *words) {
    CHECK_REFUSED(create_with_rules(change), YL_INVALID_ARGUMENT, words);
  };
  static const float weights[] = {1, -1}, threshes[] = {NAN};
  CHECK_OK(create_with_rules([](yl_rules &) {}));
  refused([](yl_rules &r) { r.struct_size = 3; }, "rules.struct_size is 3");
  refused([](yl_rules &r) { r.weight_wh = -1; }, "rules.weight_wh is -1");
  refused([](yl_rules &r) { r.weight_background = NAN; }, "rules.weight_background");
  refused([](yl_rules &r) { r.label_smoothing = 1.5f; }, "expected 0..1");
  refused([](yl_rules &r) { r.ignore_scope = 2; }, "rules.ignore_scope is 2");
  refused([](yl_rules &r) { r.reserved = 2; }, "rules.reserved is 2");
  refused([](yl_rules &r) { r.class_weights = weights; }, "class_weights entry is -1");
  refused([](yl_rules &r) { r.ignore_threshes = threshes; }, "ignore_threshes[0] is nan");
}

TEST_LABELLED(contract, a_plan_that_no_memory_holds_is_refused, kLong | kFull | kNotSanitized) {
  CHECK_REFUSED(create_with([](Config &c) { c.config.max_batch = 1 << 22, c.layers[0].grid_width = 1 << 24; }),
                YL_OUT_OF_MEMORY, "out of memory");
}

TEST(contract, a_plan_says_its_device_and_why) {
  Config c;
  CHECK_OK(c.create());
  CHECK_EQUAL(yl_device_name(c.plan), "cpu");
  CHECK(std::strstr(yl_device_why(c.plan), "auto: "), yl_device_why(c.plan));
  CHECK_EQUAL(yl_device_name(nullptr), "");
  CHECK_EQUAL(yl_device_why(nullptr), "");
}

// ---- Kinds of devices -----------------------------------------------------------------------------------------------

TEST(contract, a_device_that_is_not_there_is_refused) {
  CHECK_OK(yl_device_check(YL_DEVICE_CPU, 0));
  CHECK_OK(yl_device_check(YL_DEVICE_AUTO, 0));
  CHECK_REFUSED(create_with([](Config &c) { c.config.device = YL_DEVICE_CUDA, c.config.device_index = 77; }),
                YL_NO_DEVICE, "cuda:77");
  if (has_cuda()) return;
  CHECK_REFUSED(create_with([](Config &c) { c.config.device = YL_DEVICE_CUDA; }), YL_NO_DEVICE,
                "cuda:0 cannot be used");
  CHECK_REFUSED(create_with([](Config &c) { c.config.memory = YL_MEMORY_DEVICE; }), YL_NO_DEVICE,
                "cuda:0 cannot be used");
  CHECK_REFUSED(yl_device_check(YL_DEVICE_CUDA, 1), YL_NO_DEVICE, "cuda:1");
}

namespace {

// Calls every function of memory and streams with a kind of device, and expects the same refusal of all.
void memory_is_refused(int32_t kind, yl_status status, const char *words) {
  const std::string where = "kind " + std::to_string(kind);
  char host[8] = {}, other[8] = {};
  int32_t count = -1;
  yl_device_properties properties = YL_DEVICE_PROPERTIES_INIT;
  CHECK_REFUSED(yl_device_count(kind, &count), status, words, where);
  CHECK_EQUAL(count, 0, where);
  CHECK_REFUSED(yl_device_get_properties(kind, 0, &properties), status, words, where);
  CHECK_EQUAL(properties.total_memory, 0, where);
  void *memory = host, *pinned = host, *stream = host;
  CHECK_REFUSED(yl_device_malloc(kind, 0, 8, &memory), status, words, where);
  CHECK(memory == nullptr, where);
  CHECK_REFUSED(yl_device_malloc_host(kind, 8, &pinned), status, words, where);
  CHECK(pinned == nullptr, where);
  CHECK_REFUSED(yl_device_free(kind, host), status, words, where);
  CHECK_REFUSED(yl_device_free_host(kind, host), status, words, where);
  CHECK_REFUSED(yl_device_copy(kind, 0, host, other, 8), status, words, where);
  CHECK_REFUSED(yl_device_copy_async(kind, 0, host, other, 8, nullptr), status, words, where);
  CHECK_REFUSED(yl_stream_create(kind, 0, &stream), status, words, where);
  CHECK(stream == nullptr, where);
  CHECK_REFUSED(yl_stream_synchronize(kind, 0, nullptr), status, words, where);
  CHECK_REFUSED(yl_stream_destroy(kind, 0, nullptr), status, words, where);
}

}  // namespace

TEST(contract, devices_that_work_on_host_memory_have_no_memory_of_their_own) {
  for (const int32_t kind : {YL_DEVICE_CPU, YL_DEVICE_REFERENCE})
    memory_is_refused(kind, YL_UNSUPPORTED, "host memory");
}

TEST(contract, memory_of_an_unknown_kind_of_device_is_refused) {
  for (const int32_t kind : {static_cast<int32_t>(YL_DEVICE_AUTO), -1, 4, 77})
    memory_is_refused(kind, YL_INVALID_ARGUMENT, ("device is " + std::to_string(kind)).c_str());
}

// ---- yl_loss --------------------------------------------------------------------------------------------------------

namespace {

// Calls with one thing wrong: refused, and nothing is written.
class RefusedCalls {
 public:
  explicit RefusedCalls(const Device &device) : p(golden("a_small_3scale"), device) { CHECK_OK(p.run(Truths::kYTrue)); }

  template <class Field, class Value> void with(Field &field, const Value &value, const char *words) {
    const Field kept = field;
    field = static_cast<Field>(value);
    p.summary.total = -7;
    for (auto &layer : p.gradient) std::fill(layer.begin(), layer.end(), -7.0f);
    const std::string where = p.device.name + ", " + words;
    CHECK_REFUSED(yl_loss(p.plan, &p.call, &p.result), YL_INVALID_ARGUMENT, words, where);
    CHECK_EQUAL(p.summary.total, -7, where);
    for (const auto &layer : p.gradient) CHECK_ALL_EQUAL(layer, -7, where);
    field = kept;
  }

  Plan p;
};

void on_host_devices(const std::function<void(RefusedCalls &)> &body) {
  for (const Device &device : devices()) {
    if (device.in_device_memory()) continue;
    RefusedCalls refused(device);
    body(refused);
    CHECK_OK(refused.p.run(Truths::kYTrue), device.name);  // the plan goes on
  }
}

const char *behind(const void *array, int bytes) { return static_cast<const char *>(array) + bytes; }

}  // namespace

TEST(contract, numbers_of_a_call_that_are_out_of_range_are_refused) {
  on_host_devices([](RefusedCalls &refused) {
    yl_call &call = refused.p.call;
    refused.with(call.batch, 0, "batch is 0, this plan takes 1..2");
    refused.with(call.batch, 3, "batch is 3");
    refused.with(call.struct_size, 0u, "call.struct_size is 0");
    refused.with(call.struct_size, sizeof call - 3, "a multiple of 8");
    refused.with(call.grad_mode, 3, "grad_mode is 3");
    refused.with(call.normaliser, 4, "normaliser is 4");
    refused.with(call.normaliser_value, 0.0, "normaliser_value is 0");
    refused.with(call.normaliser_value, NAN, "normaliser_value is nan");
    refused.with(call.grad_scale, INFINITY, "grad_scale is inf");
    refused.with(call.scan, 2, "scan is 2");
    refused.with(refused.p.result.struct_size, 4u, "result.struct_size is 4");
    refused.with(refused.p.result.struct_size, sizeof(yl_result) - 4, "a multiple of 8");  // half a pointer
  });
}

TEST(contract, arrays_that_are_missing_or_not_aligned_are_refused) {
  on_host_devices([](RefusedCalls &refused) {
    Plan &p = refused.p;
    refused.with(p.call.feats, nullptr, "feats is NULL");
    refused.with(p.feats[1], nullptr, "feats[1] is NULL");
    refused.with(p.y_true[2], nullptr, "y_true[2] is NULL");
    refused.with(p.grads[0], nullptr, "grads[0] is NULL");
    refused.with(p.feats[0], behind(p.feats[0], 1), "not aligned to 4");
    refused.with(p.call.y_true, nullptr, "neither y_true nor boxes");
    refused.with(p.call.boxes, &p.boxes, "both y_true and boxes");
    CHECK_REFUSED(yl_loss(nullptr, &p.call, &p.result), YL_INVALID_ARGUMENT, "plan is NULL");
    CHECK_REFUSED(yl_loss(p.plan, nullptr, &p.result), YL_INVALID_ARGUMENT, "call is NULL");
  });
}

TEST(contract, arrays_that_overlap_are_refused) {
  on_host_devices([](RefusedCalls &refused) {
    Plan &p = refused.p;
    refused.with(p.grads[1], p.grads[0], "overlap");
    refused.with(p.grads[1], const_cast<void *>(p.feats[0]), "overlap");
    refused.with(p.grads[1], const_cast<float *>(p.y_true[1]), "grads[1] and y_true[1] overlap");
    refused.with(p.grads[1], const_cast<char *>(behind(p.feats[1], 4)), "overlap");
    refused.with(p.result.rows, reinterpret_cast<yl_parts *>(p.grads[2]), "overlap");
  });
}

TEST(contract, outputs_on_request_that_are_missing_or_overlap_are_refused) {
  on_host_devices([](RefusedCalls &refused) {
    Plan &p = refused.p;
    std::vector<float> map(p.feats.size() * p.gradient.back().size());
    std::vector<float *> maps(p.feats.size(), map.data());
    refused.with(p.result.best_iou, maps.data(), "result.best_iou[1] and result.best_iou[0] overlap");
    maps[1] = nullptr;
    refused.with(p.result.cell_loss, maps.data(), "result.cell_loss[1] is NULL");
    for (size_t l = 0; l < maps.size(); ++l) maps[l] = map.data() + l * p.gradient.back().size();
    maps[0] = const_cast<float *>(p.y_true[0]);
    refused.with(p.result.ignore_mask, maps.data(), "result.ignore_mask[0] and y_true[0] overlap");
    refused.with(p.result.stats, reinterpret_cast<yl_stats *>(p.grads[0]), "overlap");
    refused.with(p.result.offender, reinterpret_cast<yl_offender *>(p.grads[0]), "overlap");
  });
}

TEST(contract, what_only_a_cuda_plan_takes_is_refused) {
  on_host_devices([](RefusedCalls &refused) {
    Plan &p = refused.p;
    CHECK_REFUSED(yl_loss_async(p.plan, &p.call, nullptr, &p.result), YL_UNSUPPORTED, "needs a cuda plan",
                  p.device.name);
    yl_completion completion;
    refused.with(p.result.completion, &completion, "for yl_loss_async");
    if (p.device.kind != YL_DEVICE_CPU) return;
    const float one = 1;
    refused.with(p.call.normaliser_at, &one, "normaliser_at is given, which only a cuda plan reads");
    refused.with(p.call.grad_scale_at, &one, "grad_scale_at is given, which only a cuda plan reads");
  });
}

TEST(contract, each_result_is_optional) {
  on_host_devices([](RefusedCalls &refused) {
    Plan &p = refused.p;
    CHECK_OK(yl_loss(p.plan, &p.call, nullptr), p.device.name);
    CHECK_OK(p.run(Truths::kYTrue), p.device.name);
    const double total = p.summary.total;
    p.result.layers = nullptr;
    p.result.rows = nullptr;
    CHECK_OK(p.run(Truths::kYTrue), p.device.name);
    CHECK_EQUAL(p.summary.total, total, p.device.name);
  });
}

// The library does not read what is behind the first version of a struct.
TEST(contract, callers_of_the_first_version_of_the_structs_are_served) {
  on_host_devices([](RefusedCalls &refused) {
    Plan &p = refused.p;
    p.call.struct_size = offsetof(yl_call, normaliser_at);
    p.call.normaliser_at = reinterpret_cast<const float *>(1);
    p.result.struct_size = offsetof(yl_result, completion);
    p.result.completion = reinterpret_cast<yl_completion *>(1);
    CHECK_OK(p.run(Truths::kYTrue), p.device.name);
    p.call.struct_size = sizeof p.call;
    p.call.normaliser_at = nullptr;
    p.result.struct_size = sizeof p.result;
    p.result.completion = nullptr;
  });
}

// ---- Normalisers, and values that are not finite --------------------------------------------------------------------

TEST(contract, normalisers_and_scale_divide_and_multiply) {
  const Case c = golden("a_small_3scale");
  for (const Device &device : devices()) {
    Plan p(c, device);
    CHECK_OK(p.run(Truths::kYTrue), device.name);
    const double raw = p.summary.total * p.summary.normaliser;
    const auto gradient = p.gradient;
    const auto expect = [&](int32_t normaliser, double value, double scale) {
      const std::string where = device.name + ", normaliser " + std::to_string(normaliser);
      p.call.normaliser = normaliser;
      p.call.normaliser_value = normaliser == YL_NORMALISER_VALUE ? value : 1;
      p.call.grad_scale = scale;
      CHECK_OK(p.run(Truths::kYTrue), where);
      CHECK_EQUAL(p.summary.normaliser, value, where);
      CHECK_NEAR(p.summary.total, raw / value, {0, 1e-12 * raw}, where);
      const double factor = scale * c.batch / value;
      for (size_t l = 0; l < gradient.size(); ++l) {
        std::vector<double> want(gradient[l].begin(), gradient[l].end());
        for (double &g : want) g *= factor;
        CHECK_ALL_NEAR(p.gradient[l], want, {3e-7, 0}, where);
      }
    };
    expect(YL_NORMALISER_BATCH, c.batch, 1);
    expect(YL_NORMALISER_NONE, 1, 0.5);
    expect(YL_NORMALISER_OBJECTS, static_cast<double>(p.summary.objects), -2);
    expect(YL_NORMALISER_VALUE, 12.5, 65536);
  }
}

namespace {

// A plan whose layer 0 has values planted, one at a time.
struct Planted {
  Plan p;
  std::vector<float> y_true;
  yl_summary healthy;
  size_t channels, object, background;  // the last of each: the element of its first channel

  explicit Planted(const Case &c, const Device &device)
      : p(c, device), y_true(c.layers[0].y_true), channels(c.channels()), object(c.last_object(0) * channels) {
    p.y_true[0] = y_true.data();
    CHECK_OK(p.run(Truths::kYTrue), device.name);
    CHECK_EQUAL(p.summary.non_finite, 0, device.name);
    healthy = p.summary;
    size_t cell = c.cells(0) - 1;
    while (c.is_object(0, cell)) --cell;
    background = cell * channels;
  }
  // Runs with the value, and returns the summary.
  const yl_summary &with(std::vector<float> &array, size_t element, float value) {
    const float kept = array[element];
    array[element] = value;
    CHECK_OK(p.run(Truths::kYTrue), p.device.name);
    array[element] = kept;
    return p.summary;
  }
};

void with_each_value(const std::function<void(Planted &, float, const std::string &)> &body) {
  const Case c = golden("a_small_3scale");
  for (const Device &device : devices()) {
    Planted planted(c, device);
    for (const float value : {NAN, INFINITY, -INFINITY}) body(planted, value, device.name + ", " + number(value));
  }
}

}  // namespace

TEST(contract, of_background_only_an_objectness_that_is_not_finite_counts) {
  with_each_value([](Planted &t, float value, const std::string &where) {
    CHECK_EQUAL(t.with(t.p.logits[0], t.background + 4, value).non_finite, 1, where);
    for (size_t channel = 5; channel < t.channels; ++channel) {  // never read
      const yl_summary &summary = t.with(t.p.logits[0], t.background + channel, value);
      CHECK_EQUAL(summary.non_finite, 0, where);
      CHECK_EQUAL(summary.total, t.healthy.total, where);
      CHECK_EQUAL(t.p.gradient[0][t.background + channel], 0, where);
    }
    for (size_t channel = 0; channel < 4; ++channel) {  // read for the IoU
      CHECK(std::isfinite(t.with(t.p.logits[0], t.background + channel, value).total), where);
      CHECK_EQUAL(t.p.gradient[0][t.background + channel], 0, where);
    }
  });
}

TEST(contract, of_an_object_every_value_that_is_not_finite_counts) {
  with_each_value([](Planted &t, float value, const std::string &where) {
    for (size_t channel = 0; channel < t.channels; ++channel) {
      if (channel == 4) continue;
      const yl_summary &summary = t.with(t.p.logits[0], t.object + channel, value);
      CHECK_EQUAL(summary.non_finite, 1, where);
      CHECK(!std::isfinite(summary.total), where);
      if (channel < 4) CHECK_EQUAL(t.with(t.y_true, t.object + channel, value).non_finite, 1, where);
    }
  });
}

TEST(contract, a_mask_that_is_not_zero_is_an_object) {
  with_each_value([](Planted &t, float value, const std::string &where) {
    const yl_summary &summary = t.with(t.y_true, t.background + 4, value);
    CHECK_EQUAL(summary.non_finite, 1, where);
    CHECK_EQUAL(summary.objects, t.healthy.objects + 1, where);
  });
}

TEST(contract, a_prediction_that_is_not_a_number_has_no_iou) {
  const Case c = golden("a_small_3scale");
  Case all = c;
  all.thresh = 0;  // reached by every IoU
  for (const Device &device : devices()) {
    Plan p(c, device), every(all, device);
    for (size_t cell = 0; cell < c.cells(0); ++cell)
      if (!c.is_object(0, cell)) p.logits[0][cell * c.channels()] = NAN;
    CHECK_OK(p.run(Truths::kYTrue), device.name);
    CHECK_EQUAL(p.layers[0].ignored_background, 0, device.name);
    CHECK(std::isfinite(p.summary.total), device.name);
    every.feats[0] = p.logits[0].data();
    CHECK_OK(every.run(Truths::kYTrue), device.name);
    CHECK_EQUAL(every.layers[0].ignored, every.layers[0].objects, device.name);
    CHECK(c.layers[1].expected.objects > 0);
    CHECK_EQUAL(every.layers[1].ignored, c.cells(1), device.name);
  }
}

// ---- Several callers ------------------------------------------------------------------------------------------------

// One plan called from several threads, and a plan for each: always the bits of a single caller.
TEST_LABELLED(contract, several_callers_have_the_bits_of_one, kLong) {
  const Case c = golden("a_small_3scale");
  for (const Device &device : devices()) {
    if (device.way == Way::kAsync) continue;  // serves one stream at a time
    Plan shared(c, device), want(c, device);
    CHECK_OK(want.run(Truths::kYTrue), device.name);
    std::vector<int> wrong(4, 0);
    std::vector<std::thread> callers;
    for (size_t t = 0; t < wrong.size(); ++t)
      callers.emplace_back([&, t] {
        Plan own(c, device);
        yl_plan *const own_plan = own.plan;
        for (int i = 0; i < (device.kind == YL_DEVICE_CPU ? 200 : 20); ++i) {
          own.plan = i % 2 ? own_plan : shared.plan;
          const Truths truths = i % 3 == 0 && c.has_boxes() ? Truths::kBoxes : Truths::kYTrue;
          const bool same = own.run(truths) == YL_OK &&
                            std::memcmp(own.rows.data(), want.rows.data(), want.rows.size() * sizeof(yl_parts)) == 0 &&
                            std::memcmp(own.gradient.back().data(), want.gradient.back().data(),
                                        want.gradient.back().size() * sizeof(float)) == 0;
          wrong[t] += !same;
          own.call.batch = 99;  // the sentence of one thread is not that of another
          wrong[t] += own.run(Truths::kYTrue) != YL_INVALID_ARGUMENT || !says("batch is 99");
          own.call.batch = c.batch;
        }
      });
    for (std::thread &caller : callers) caller.join();
    for (const int w : wrong) CHECK_EQUAL(w, 0, device.name);
  }
}

// ---- Names ----------------------------------------------------------------------------------------------------------

TEST(contract, statuses_and_versions_have_names) {
  CHECK_EQUAL(yl_status_name(YL_OK), "YL_OK");
  CHECK_EQUAL(yl_status_name(-3), "unknown status");
  CHECK_EQUAL(yl_status_name(YL_INTERNAL), "YL_INTERNAL");
  CHECK_EQUAL(yl_abi_version(), YL_ABI_VERSION);
  CHECK_EQUAL(std::string(yl_version_string()), std::to_string(YL_VERSION_MAJOR) + "." +
                                                    std::to_string(YL_VERSION_MINOR) + "." +
                                                    std::to_string(YL_VERSION_PATCH));
}

TEST(contract, offsets_are_those_of_the_structs) {
  CHECK_EQUAL(yl_offset_of("yl_call", nullptr), sizeof(yl_call));
  CHECK_EQUAL(yl_offset_of("yl_call", "grads"), offsetof(yl_call, grads));
  CHECK_EQUAL(yl_offset_of("yl_call", "grad"), -1);
  CHECK_EQUAL(yl_offset_of("call", nullptr), -1);
  CHECK_EQUAL(yl_offset_of(nullptr, "x"), -1);
}
