// The devices that the tests run over, and plans on them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "golden.h"
#include "yololoss.h"

// How a call reaches a device: from host memory, or from device memory, blocking or enqueued.
enum class Way { kHost, kDevice, kAsync };

// The devices that every case runs over.
struct DeviceCase {
  std::string name;
  int32_t device, threads;
  Way way = Way::kHost;
  const char *isa = nullptr;  // YOLOLOSS_ISA of its plans
};
// Writes only what changes: other threads may read it at the same time.
inline void set_environment(const char *name, const char *value) {
  const char *const now = std::getenv(name);
  if (value ? now && std::strcmp(now, value) == 0 : !now) return;
  if (value)
    setenv(name, value, 1);
  else
    unsetenv(name);
}
inline bool has_cuda() {
  static const bool usable = [] {
    const bool ok = yl_device_check(YL_DEVICE_CUDA, 0) == YL_OK;
    if (!ok) std::fprintf(stderr, "skipped: no CUDA device: %s\n", yl_last_error());
    return ok;
  }();
  return usable;
}
// The instruction sets of the cpu device that this processor has; where YOLOLOSS_TEST_ISA names one, that alone, and it must
// be there.
inline const char *const kOnlyIsa = std::getenv("YOLOLOSS_TEST_ISA");
inline const std::vector<const char *> kIsas = [] {
  std::vector<const char *> usable, wanted = {"baseline"};
#if defined(__x86_64__)
  wanted = {"avx512", "avx2", "baseline"};
#endif
  if (kOnlyIsa) wanted = {kOnlyIsa};
  for (const char *isa : wanted) {
    const int32_t mask = 0;
    const float anchor[] = {10, 10};
    const yl_layer layer = {1, 1, &mask, 1, 0};
    yl_config config = YL_CONFIG_INIT;
    config.layers = &layer;
    config.anchors = anchor;
    config.layer_count = config.anchor_count = config.num_classes = 1;
    config.input_height = config.input_width = 32;
    config.device = YL_DEVICE_CPU;
    yl_plan *plan = nullptr;
    set_environment("YOLOLOSS_ISA", isa);
    CHECK(yl_plan_create(&config, &plan) == YL_OK, yl_last_error());
    const bool has = std::strstr(yl_device_why(plan), isa);
    if (has)
      usable.push_back(isa);
    else
      std::fprintf(stderr, "skipped: this processor has no %s\n", isa);
    CHECK(has || !kOnlyIsa, yl_device_why(plan));
    yl_plan_destroy(plan);
  }
  set_environment("YOLOLOSS_ISA", nullptr);
  return usable;
}();
// Of the cpu device. The sanitizers are slow: with them one number, and two of the three ways to a cuda device; that the bits
// are the same is tested without.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline const std::vector<int32_t> kThreads = {3};
#else
inline const std::vector<int32_t> kThreads = {1, 2, 3, 8};
#endif
inline const std::vector<DeviceCase> kDevices = [] {
  std::vector<DeviceCase> cases = {{"reference", YL_DEVICE_REFERENCE, 0}};
  for (const char *isa : kIsas)
    for (const int32_t threads : kThreads)
      cases.push_back(
          {std::string("cpu ") + isa + ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads"),
           YL_DEVICE_CPU, threads, Way::kHost, isa});
  if (has_cuda()) {
    cases.push_back({"cuda, host memory", YL_DEVICE_CUDA, 2});
    if (kThreads.size() > 1) cases.push_back({"cuda, device memory", YL_DEVICE_CUDA, 0, Way::kDevice});
    cases.push_back({"cuda, enqueued", YL_DEVICE_CUDA, 0, Way::kAsync});
  }
  return cases;
}();

// Device memory that stands for host memory of a test: uploaded before a call, downloaded after it.
class Mirror {
 public:
  Mirror() = default;
  ~Mirror() { yl_device_free(YL_DEVICE_CUDA, memory_); }
  Mirror(const Mirror &) = delete;
  void *upload(const void *host, int64_t bytes) {
    if (!host || bytes == 0) return nullptr;
    if (bytes > bytes_) {
      CHECK(yl_device_free(YL_DEVICE_CUDA, memory_) == YL_OK && yl_device_malloc(YL_DEVICE_CUDA, 0, bytes + shift, &memory_) == YL_OK, yl_last_error());
      bytes_ = bytes;
    }
    CHECK(yl_device_copy(YL_DEVICE_CUDA, 0, start(), host, bytes) == YL_OK, yl_last_error());
    return start();
  }
  void download(void *host, int64_t bytes) const {
    CHECK(yl_device_copy(YL_DEVICE_CUDA, 0, host, start(), bytes) == YL_OK, yl_last_error());
  }

  int64_t shift = 0;  // bytes from an aligned address

 private:
  char *start() const { return static_cast<char *>(memory_) + shift; }
  void *memory_ = nullptr;
  int64_t bytes_ = 0;
};

// Of the same kind the bits are the same.
inline bool same_kind(const DeviceCase &a, const DeviceCase &b) { return a.device == b.device && a.isa == b.isa; }

// The config of a golden case on a device, to be used at once; layers is what it points to.
inline yl_config config_of(const Golden &g, const DeviceCase &device, std::vector<yl_layer> &layers) {
  for (int32_t l = 0; l < g.layers; ++l)
    layers.push_back({static_cast<int32_t>(g.feats[l].shape[1]), static_cast<int32_t>(g.feats[l].shape[2]),
                      &g.masks[static_cast<size_t>(g.anchors_per_layer * l)], g.anchors_per_layer, 0});
  set_environment("YOLOLOSS_ISA", device.isa);
  yl_config config = YL_CONFIG_INIT;
  config.layers = layers.data();
  config.anchors = g.anchors.data();
  config.layer_count = g.layers;
  config.anchor_count = static_cast<int32_t>(g.anchors.size() / 2);
  config.input_height = g.input_height;
  config.input_width = g.input_width;
  config.num_classes = g.classes;
  config.ignore_thresh = g.thresh;
  config.max_batch = g.batch;
  config.device = device.device;
  config.threads = device.threads;
  config.memory = device.way == Way::kHost ? YL_MEMORY_HOST : YL_MEMORY_DEVICE;
  return config;
}

// A plan for a golden case, and the memory of its calls.
class Plan {
 public:
  Plan(const Golden &g, int32_t device, int32_t threads, int32_t max_batch = 0, Way how = Way::kHost)
      : Plan(g, DeviceCase{"", device, threads, how}, max_batch) {}
  Plan(const Golden &g, const DeviceCase &device, int32_t max_batch = 0)
      : golden(g), way(device.way), mirrors(3 * static_cast<size_t>(g.layers) + 1) {
    std::vector<yl_layer> layers;
    yl_config config = config_of(g, device, layers);
    if (max_batch) config.max_batch = max_batch;
    CHECK(yl_plan_create(&config, &plan) == YL_OK, yl_last_error());
    for (int32_t l = 0; l < g.layers; ++l) {
      feats.push_back(g.feats[l].data.data());
      y_true.push_back(g.y_true[l].data.data());
      grad_data.emplace_back(g.feats[l].data.size(), NAN);
      grads.push_back(grad_data.back().data());
    }
    layers_out.resize(static_cast<size_t>(g.layers));
    rows.resize(static_cast<size_t>(g.layers) * static_cast<size_t>(config.max_batch));
    boxes.data = g.boxes.data.data();
    boxes.per_image = g.boxes_per_image;
    call.batch = g.batch;
    call.feats = feats.data();
    call.grads = grads.data();
    result.summary = &summary;
    result.layers = layers_out.data();
    result.rows = rows.data();
  }
  ~Plan() { yl_plan_destroy(plan); }
  Plan(const Plan &) = delete;

  yl_status run(bool dense) {
    call.y_true = dense ? y_true.data() : nullptr;
    call.boxes = dense ? nullptr : &boxes;
    return way == Way::kHost ? yl_loss(plan, &call, &result) : run_on_device();
  }

  // The same with every array in device memory; the arrays of the test are read before and written after.
  yl_status run_on_device() {
    const auto layers = static_cast<size_t>(golden.layers);
    yl_call on_device = call;
    std::vector<const void *> feats_at(layers);
    std::vector<const float *> y_true_at(layers);
    std::vector<void *> grads_at(layers);
    yl_boxes boxes_at = boxes;
    for (size_t l = 0; l < layers; ++l) {
      const int64_t bytes = bytes_of(l);
      feats_at[l] = mirrors[3 * l].upload(feats[l], bytes);
      if (call.y_true) y_true_at[l] = static_cast<const float *>(mirrors[3 * l + 1].upload(y_true[l], bytes));
      if (!call.grads) continue;
      grads_at[l] = grads[l] == feats[l] ? const_cast<void *>(feats_at[l]) : mirrors[3 * l + 2].upload(grads[l], bytes);
    }
    boxes_at.data = static_cast<const float *>(mirrors.back().upload(
        boxes.data, int64_t(std::min(call.batch, golden.batch)) * boxes.per_image * 5 * int64_t(sizeof(float))));
    on_device.feats = feats_at.data();
    if (call.y_true) on_device.y_true = y_true_at.data();
    if (call.boxes) on_device.boxes = &boxes_at;
    if (call.grads) on_device.grads = grads_at.data();
    const yl_status status = way == Way::kDevice ? yl_loss(plan, &on_device, &result) : enqueue(on_device);
    for (size_t l = 0; call.grads && status == YL_OK && l < layers; ++l)
      mirrors[grads[l] == feats[l] ? 3 * l : 3 * l + 2].download(grads[l], bytes_of(l));
    return status;
  }

  // On a stream, with the result in pinned memory.
  yl_status enqueue(const yl_call &on_device) {
    const auto layers = static_cast<size_t>(golden.layers);
    void *pinned = nullptr, *stream = nullptr;
    const size_t parts = layers + rows.size();
    CHECK(yl_device_malloc_host(YL_DEVICE_CUDA, int64_t(sizeof(yl_summary) + parts * sizeof(yl_parts) + sizeof(yl_completion)),
                              &pinned) == YL_OK,
          yl_last_error());
    CHECK(yl_stream_create(YL_DEVICE_CUDA, 0, &stream) == YL_OK, yl_last_error());
    yl_result at = YL_RESULT_INIT;
    at.summary = static_cast<yl_summary *>(pinned);
    at.layers = reinterpret_cast<yl_parts *>(at.summary + 1);
    at.rows = at.layers + layers;
    at.completion = reinterpret_cast<yl_completion *>(at.rows + rows.size());
    yl_status status = yl_loss_async(plan, &on_device, stream, &at);
    CHECK(yl_stream_synchronize(YL_DEVICE_CUDA, 0, stream) == YL_OK, yl_last_error());
    if (status == YL_OK) status = static_cast<yl_status>(at.completion->status);
    if (status == YL_OK) {
      summary = *at.summary;
      layers_out.assign(at.layers, at.layers + layers);
      std::copy(at.rows, at.rows + static_cast<size_t>(call.batch) * layers, rows.begin());
    }
    CHECK(yl_stream_destroy(YL_DEVICE_CUDA, 0, stream) == YL_OK && yl_device_free_host(YL_DEVICE_CUDA, pinned) == YL_OK, yl_last_error());
    return status;
  }

  // yl_build_y_true into host arrays, and yl_yolo_head of host arrays, by way of device memory where the plan has it.
  yl_status build_y_true(float *const *out, yl_box_counts *counts) {
    if (way == Way::kHost) return yl_build_y_true(plan, call.batch, &boxes, out, counts);
    yl_boxes boxes_at = boxes;
    boxes_at.data = static_cast<const float *>(mirrors.back().upload(
        boxes.data, int64_t(std::min(call.batch, golden.batch)) * boxes.per_image * 5 * int64_t(sizeof(float))));
    std::vector<float *> at;
    for (size_t l = 0; l < feats.size(); ++l)
      at.push_back(static_cast<float *>(mirrors[3 * l + 1].upload(out[l], bytes_of(l))));
    const yl_status status = yl_build_y_true(plan, call.batch, &boxes_at, at.data(), counts);
    for (size_t l = 0; l < feats.size() && status == YL_OK; ++l) mirrors[3 * l + 1].download(out[l], bytes_of(l));
    return status;
  }

  yl_status yolo_head(const yl_head &head) {
    if (way == Way::kHost) return yl_yolo_head(plan, &head);
    const auto l = static_cast<size_t>(head.layer);
    const int64_t bytes = bytes_of(l), cells = bytes / (5 + golden.classes);
    yl_head at = head;
    Mirror grid, xy, wh, confidence, probs;
    const int64_t grid_bytes = 8 * golden.feats[l].shape[1] * golden.feats[l].shape[2];
    at.feats = mirrors[3 * l].upload(head.feats, bytes);
    at.grid = static_cast<float *>(grid.upload(head.grid, grid_bytes));
    at.box_xy = static_cast<float *>(xy.upload(head.box_xy, 2 * cells));
    at.box_wh = static_cast<float *>(wh.upload(head.box_wh, 2 * cells));
    at.box_confidence = static_cast<float *>(confidence.upload(head.box_confidence, cells));
    at.box_class_probs = static_cast<float *>(probs.upload(head.box_class_probs, golden.classes * cells));
    const yl_status status = yl_yolo_head(plan, &at);
    if (status != YL_OK) return status;
    if (head.grid) grid.download(head.grid, grid_bytes);
    if (head.box_xy) xy.download(head.box_xy, 2 * cells);
    if (head.box_wh) wh.download(head.box_wh, 2 * cells);
    if (head.box_confidence) confidence.download(head.box_confidence, cells);
    if (head.box_class_probs) probs.download(head.box_class_probs, golden.classes * cells);
    return status;
  }

  int64_t bytes_of(size_t l) const {
    const int32_t images = std::min(call.batch, golden.batch);  // a test may ask for more, to be refused
    return static_cast<int64_t>(golden.feats[l].data.size() * sizeof(float)) / golden.batch * images;
  }

  const Golden &golden;
  const Way way;
  std::vector<Mirror> mirrors;  // feats, y_true and gradient of each layer, then boxes
  yl_plan *plan = nullptr;
  std::vector<const void *> feats;
  std::vector<const float *> y_true;
  std::vector<std::vector<float>> grad_data;
  std::vector<void *> grads;
  std::vector<yl_parts> layers_out, rows;
  yl_boxes boxes = YL_BOXES_INIT;
  yl_call call = YL_CALL_INIT;
  yl_summary summary{};
  yl_result result = YL_RESULT_INIT;
};

template <class T> bool same_bits(const std::vector<T> &a, const std::vector<T> &b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

inline bool says(const char *words) { return std::strstr(yl_last_error(), words) != nullptr; }
#define REFUSED(call, status, words) CHECK((call) == (status) && says(words), yl_last_error())

// A plan of one layer of 4x4, three anchors and two classes, for 128x128, to be changed before it is made.
struct Config {
  std::vector<float> anchors{10, 10, 30, 30, 50, 60};
  std::vector<int32_t> mask{0, 1, 2};
  yl_layer layer{4, 4, mask.data(), 3, 0};
  yl_config config = YL_CONFIG_INIT;
  yl_plan *plan = nullptr;
  Config() {
    config.layers = &layer;
    config.anchors = anchors.data();
    config.layer_count = 1;
    config.anchor_count = 3;
    config.input_height = config.input_width = 128;
    config.num_classes = 2;
    config.max_batch = 2;
  }
  ~Config() { yl_plan_destroy(plan); }
  yl_status create() {
    yl_plan_destroy(plan);
    return yl_plan_create(&config, &plan);
  }
};
