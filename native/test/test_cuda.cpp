// What is the cuda device's own: devices, memory and streams; pointers that it cannot reach; boxes that it refuses itself;
// normaliser and scale in its memory; chunks of host memory; shapes and alignments of every kind against the cpu device.
#include <algorithm>
#include <cstdlib>
#include <random>
#include <thread>

#include "plan.h"
#if defined(WITH_CUDA_RUNTIME)
#include <cuda_runtime.h>
#endif

namespace {

// Random layers, classes, batch, logits and truths, some of them soft.
Golden random_case(uint32_t seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random() % static_cast<uint32_t>(high - low + 1));
  };
  const auto uniform = [&](double low, double high) {
    return static_cast<float>(low + (high - low) * (random() % 1000000) / 1e6);
  };
  Golden g{};
  g.name = "random case " + std::to_string(seed);
  g.batch = pick(1, 4);
  g.classes = pick(1, seed % 3 ? 9 : 90);
  g.layers = pick(1, 4);
  g.anchors_per_layer = pick(1, 4);
  g.input_height = 32 * pick(1, 5);
  g.input_width = 32 * pick(1, 5);
  g.thresh = seed % 7 == 0 ? 0.0f : uniform(0.05, 0.95);
  for (int32_t n = 0; n < g.anchors_per_layer * g.layers; ++n) {
    g.anchors.insert(g.anchors.end(), {uniform(5, 100), uniform(5, 100)});
    g.masks.push_back(n);
  }
  const int64_t channels = 5 + g.classes;
  for (int32_t l = 0; l < g.layers; ++l) {
    const int64_t height = pick(1, 13), width = pick(1, 13), cells = g.batch * height * width * g.anchors_per_layer;
    Array feats{{g.batch, height, width, g.anchors_per_layer * channels}, {}}, y_true = feats;
    for (int64_t i = 0; i < cells * channels; ++i) feats.data.push_back(uniform(-3, 3));
    y_true.data.resize(static_cast<size_t>(cells * channels));
    for (int64_t cell = pick(0, 20); cell < cells; cell += pick(1, seed % 5 ? 60 : 3)) {
      float *y = &y_true.data[static_cast<size_t>(cell * channels)],
            *t = &feats.data[static_cast<size_t>(cell * channels)];
      const int64_t place = cell / g.anchors_per_layer;
      y[0] = (static_cast<float>(place % width) + uniform(0, 1)) / static_cast<float>(width);
      y[1] = (static_cast<float>(place / width % height) + uniform(0, 1)) / static_cast<float>(height);
      const size_t n = static_cast<size_t>(g.anchors_per_layer * l + cell % g.anchors_per_layer);
      y[2] = g.anchors[2 * n] / static_cast<float>(g.input_width) * std::exp(t[2]) * uniform(0.5, 2);
      y[3] = g.anchors[2 * n + 1] / static_cast<float>(g.input_height) * std::exp(t[3]) * uniform(0.5, 2);
      y[4] = random() % 3 ? 1.0f : uniform(0.1, 0.9);
      for (int32_t c = 0; c < g.classes; ++c) y[5 + c] = uniform(0, 1);
    }
    g.feats.push_back(feats);
    g.y_true.push_back(y_true);
  }
  return g;
}

bool near(double got, double want) { return std::fabs(got - want) <= 2e-5 * std::fabs(want) + 1e-5; }

void random_cases() {
  int64_t ignored = 0, objects = 0;
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    const Golden g = random_case(seed);
    Plan want(g, YL_DEVICE_CPU, 2), got(g, YL_DEVICE_CUDA, 0, g.batch + static_cast<int32_t>(seed % 2), Way::kDevice);
    for (size_t i = 0; i < got.mirrors.size(); ++i) got.mirrors[i].shift = 4 * static_cast<int64_t>((seed + i) % 4);
    CHECK(want.run(true) == YL_OK && got.run(true) == YL_OK, g.name + ": " + yl_last_error());
    CHECK(near(got.summary.total, want.summary.total) && got.summary.objects == want.summary.objects, g.name);
    CHECK(got.summary.ignored == want.summary.ignored, g.name);
    ignored += want.summary.ignored_background;
    objects += want.summary.objects;
    for (size_t row = 0; row < want.rows.size(); ++row) {
      const yl_parts &a = got.rows[row], &b = want.rows[row];
      CHECK(near(a.xy, b.xy) && near(a.wh, b.wh) && near(a.class_, b.class_) &&
                near(a.confidence_object, b.confidence_object) &&
                near(a.confidence_background, b.confidence_background) &&
                a.ignored_background == b.ignored_background && a.non_finite == 0,
            g.name);
    }
    for (size_t l = 0; l < want.grad_data.size(); ++l)
      for (size_t i = 0; i < want.grad_data[l].size(); ++i)
        if (!near(got.grad_data[l][i], want.grad_data[l][i]))
          CHECK(false, g.name + ", layer " + std::to_string(l) + ", element " + std::to_string(i) + ": " +
                           number(got.grad_data[l][i]) + " for " + number(want.grad_data[l][i]));

    // The same bits again, and by the other ways.
    for (const Way way : {Way::kDevice, Way::kAsync, Way::kHost}) {
      Plan again(g, YL_DEVICE_CUDA, 2, 0, way);
      CHECK(again.run(true) == YL_OK && same_bits(again.layers_out, got.layers_out), g.name);
      for (size_t l = 0; l < want.grad_data.size(); ++l) CHECK(same_bits(again.grad_data[l], got.grad_data[l]), g.name);
    }
  }
  CHECK(ignored > 1000 && objects > 1000,
        std::to_string(ignored) + " ignored, " + std::to_string(objects) + " objects");
}

// A batch of more bytes than a chunk: from pageable and pinned memory the bits of device memory, for every normaliser.
void chunks() {
  Golden g = random_case(2);
  const Golden one = read_golden("b_one_class_416");
  g.batch = 5, g.classes = 80, g.layers = 3, g.anchors_per_layer = 3, g.input_height = g.input_width = 416,
  g.thresh = 0.5f;
  g.anchors = one.anchors, g.masks = one.masks;
  g.feats.clear(), g.y_true.clear();
  for (const int64_t side : {13, 26, 52}) {
    Array feats{{5, side, side, 255}, {}};
    const auto size = static_cast<size_t>(5 * side * side * 255);
    for (size_t i = 0; i < size; ++i) feats.data.push_back(static_cast<float>(i * 7919 % 1000) / 250 - 2);
    Array y_true{feats.shape, std::vector<float>(size)};
    for (size_t cell = 11; cell * 85 < size; cell += 601 - static_cast<size_t>(side)) {
      float *y = &y_true.data[cell * 85];
      y[0] = y[1] = 0.5f, y[2] = 0.2f, y[3] = 0.3f, y[4] = 1, y[5 + cell % 80] = 1;
    }
    g.feats.push_back(feats);
    g.y_true.push_back(y_true);
  }
  Plan device(g, YL_DEVICE_CUDA, 0, 0, Way::kDevice), host(g, YL_DEVICE_CUDA, 3);
  for (const int32_t normaliser : {YL_NORMALISER_BATCH, YL_NORMALISER_NONE, YL_NORMALISER_OBJECTS}) {
    device.call.normaliser = host.call.normaliser = normaliser;
    CHECK(device.run(true) == YL_OK && host.run(true) == YL_OK, yl_last_error());
    CHECK(std::memcmp(&host.summary, &device.summary, sizeof host.summary) == 0 && same_bits(host.rows, device.rows));
    for (size_t l = 0; l < 3; ++l) CHECK(same_bits(host.grad_data[l], device.grad_data[l]), std::to_string(normaliser));
  }
  CHECK(host.summary.objects > 50 && host.summary.normaliser == double(host.summary.objects));
  for (size_t l = 0; l < 3; ++l) {  // feats and gradient pinned, over one another
    void *pinned = nullptr;
    const auto bytes = static_cast<int64_t>(g.feats[l].data.size() * sizeof(float));
    CHECK(yl_device_malloc_host(YL_DEVICE_CUDA, bytes, &pinned) == YL_OK, yl_last_error());
    std::memcpy(pinned, g.feats[l].data.data(), static_cast<size_t>(bytes));
    host.feats[l] = host.grads[l] = pinned;
  }
  CHECK(host.run(true) == YL_OK && same_bits(host.rows, device.rows), yl_last_error());
  for (size_t l = 0; l < 3; ++l) {
    CHECK(std::memcmp(host.grads[l], device.grad_data[l].data(), device.grad_data[l].size() * sizeof(float)) == 0);
    CHECK(yl_device_free_host(YL_DEVICE_CUDA, host.grads[l]) == YL_OK);
  }
}

void devices_and_memory() {
  int32_t count = -1;
  CHECK(yl_device_count(YL_DEVICE_CUDA, &count) == YL_OK && count >= 1);
  REFUSED(yl_device_count(YL_DEVICE_CUDA, nullptr), YL_INVALID_ARGUMENT, "count is NULL");
  for (int32_t i = 0; i < count; ++i) {
    yl_device_properties info = YL_DEVICE_PROPERTIES_INIT;
    CHECK(yl_device_get_properties(YL_DEVICE_CUDA, i, &info) == YL_OK && info.name[0] && info.free_memory > 0 && info.multiprocessors > 0);
    CHECK(info.free_memory <= info.total_memory && info.struct_size == sizeof info);
  }
  yl_device_properties info = YL_DEVICE_PROPERTIES_INIT;
  REFUSED(yl_device_get_properties(YL_DEVICE_CUDA, count, &info), YL_NO_DEVICE, "numbered from 0");
  REFUSED(yl_device_get_properties(YL_DEVICE_CUDA, -1, &info), YL_NO_DEVICE, "cuda:-1 cannot be used");
  REFUSED(yl_device_get_properties(YL_DEVICE_CUDA, 0, nullptr), YL_INVALID_ARGUMENT, "properties is NULL");

  void *device = &info, *pinned = &info, *stream = &info;
  REFUSED(yl_device_malloc(YL_DEVICE_CUDA, 0, 0, &device), YL_INVALID_ARGUMENT, "bytes is 0");
  CHECK(device == nullptr);
  REFUSED(yl_device_malloc(YL_DEVICE_CUDA, 0, int64_t(1) << 60, &device), YL_OUT_OF_MEMORY, "out of memory");
  REFUSED(yl_device_malloc(YL_DEVICE_CUDA, 0, 8, nullptr), YL_INVALID_ARGUMENT, "memory is NULL");
  REFUSED(yl_device_malloc_host(YL_DEVICE_CUDA, -1, &pinned), YL_INVALID_ARGUMENT, "bytes is -1");
  CHECK(yl_device_malloc(YL_DEVICE_CUDA, 0, 1000, &device) == YL_OK && yl_device_malloc_host(YL_DEVICE_CUDA, 1000, &pinned) == YL_OK);
  CHECK(reinterpret_cast<uintptr_t>(device) % 256 == 0);
  std::vector<char> out(1000, 1), back(1000, 0);
  CHECK(yl_device_copy(YL_DEVICE_CUDA, 0, device, out.data(), 1000) == YL_OK && yl_stream_create(YL_DEVICE_CUDA, 0, &stream) == YL_OK);
  CHECK(yl_device_copy_async(YL_DEVICE_CUDA, 0, pinned, device, 1000, stream) == YL_OK && yl_stream_synchronize(YL_DEVICE_CUDA, 0, stream) == YL_OK);
  CHECK(yl_device_copy(YL_DEVICE_CUDA, 0, back.data(), pinned, 1000) == YL_OK && back == out);
  REFUSED(yl_device_copy(YL_DEVICE_CUDA, 0, nullptr, device, 8), YL_INVALID_ARGUMENT, "to is NULL");
  REFUSED(yl_device_copy(YL_DEVICE_CUDA, 0, device, nullptr, 8), YL_INVALID_ARGUMENT, "from is NULL");
  REFUSED(yl_device_copy(YL_DEVICE_CUDA, 0, device, pinned, 0), YL_INVALID_ARGUMENT, "bytes is 0");
  CHECK(yl_stream_destroy(YL_DEVICE_CUDA, 0, stream) == YL_OK);
  REFUSED(yl_stream_create(YL_DEVICE_CUDA, 99, &stream), YL_NO_DEVICE, "cuda:99");
  CHECK(stream == nullptr && yl_stream_destroy(YL_DEVICE_CUDA, 0, nullptr) == YL_OK &&
        yl_stream_synchronize(YL_DEVICE_CUDA, 0, nullptr) == YL_OK);
  CHECK(yl_device_free(YL_DEVICE_CUDA, device) == YL_OK && yl_device_free_host(YL_DEVICE_CUDA, pinned) == YL_OK);
  REFUSED(yl_device_free(YL_DEVICE_CUDA, out.data()), YL_INVALID_ARGUMENT, "is not memory of CUDA's");
  REFUSED(yl_device_free_host(YL_DEVICE_CUDA, out.data()), YL_INVALID_ARGUMENT, "is not memory of CUDA's");
  CHECK(yl_device_free(YL_DEVICE_CUDA, nullptr) == YL_OK && yl_device_free_host(YL_DEVICE_CUDA, nullptr) == YL_OK);
}

// Boxes in device memory are looked at by the device: nothing is written, the row is named, the plan goes on.
void refused_boxes(const Golden &g) {
  for (const Way way : {Way::kDevice, Way::kAsync}) {
    Plan p(g, YL_DEVICE_CUDA, 0, 0, way);
    CHECK(p.run(false) == YL_OK, yl_last_error());
    const std::vector<yl_parts> rows = p.rows;
    const auto gradient = p.grad_data;
    std::vector<float> boxes = g.boxes.data;
    const size_t bad = boxes.size() - 5;  // the last row of the last image
    const std::vector<float> row{10, 20, 10, 50, 1};
    std::copy(row.begin(), row.end(), boxes.begin() + static_cast<int64_t>(bad));
    p.boxes.data = boxes.data();
    p.summary.total = -7;
    for (auto &grad : p.grad_data) std::fill(grad.begin(), grad.end(), -7.0f);
    const yl_status status = p.run(false);
    CHECK(status == YL_INVALID_BOXES && p.summary.total == -7, yl_last_error());
    if (way == Way::kDevice) {
      const std::string place =
          "image " + std::to_string(g.batch - 1) + ", row " + std::to_string(g.boxes_per_image - 1);
      CHECK(says((place + " [10, 20, 10, 50, 1] has no area").c_str()), yl_last_error());
    }
    for (size_t l = 0; l < p.grad_data.size(); ++l) {
      p.mirrors[3 * l + 2].download(p.grad_data[l].data(), p.bytes_of(l));
      CHECK(std::all_of(p.grad_data[l].begin(), p.grad_data[l].end(), [](float v) { return v == -7; }));
    }
    std::vector<std::vector<float>> y_true;
    std::vector<float *> out;
    for (const Array &y : g.y_true) y_true.emplace_back(y.data.size(), -7.0f);
    for (auto &y : y_true) out.push_back(y.data());
    yl_box_counts counts;
    REFUSED(p.build_y_true(out.data(), &counts), YL_INVALID_BOXES, "has no area");

    p.boxes.policy = YL_BOXES_SKIP;
    CHECK(p.run(false) == YL_OK && same_bits(p.rows, rows) && p.summary.boxes.skipped == 1, yl_last_error());
    for (size_t l = 0; l < gradient.size(); ++l) CHECK(same_bits(p.grad_data[l], gradient[l]));
    CHECK(p.build_y_true(out.data(), &counts) == YL_OK && counts.skipped == 1, yl_last_error());
    for (size_t l = 0; l < y_true.size(); ++l) CHECK(same_bits(y_true[l], g.y_true[l].data));

    p.boxes.policy = YL_BOXES_ERROR;
    p.boxes.per_image = 0;
    p.boxes.data = nullptr;
    CHECK(p.run(false) == YL_OK && p.summary.objects == 0 && p.summary.boxes.used == 0, yl_last_error());
  }
}

void unreachable_pointers(const Golden &g) {
  Plan p(g, YL_DEVICE_CUDA, 0, 0, Way::kDevice);
  CHECK(p.run(true) == YL_OK);
  p.call.y_true = p.y_true.data();
  REFUSED(yl_loss(p.plan, &p.call, &p.result), YL_INVALID_ARGUMENT, "feats[0] at");
  CHECK(says("is host memory, which cuda:0 cannot reach"), yl_last_error());
  yl_result on_host = p.result;
  std::vector<const void *> feats;
  std::vector<const float *> y_true;
  std::vector<void *> grads;
  for (size_t l = 0; l < p.feats.size(); ++l) {
    feats.push_back(p.mirrors[3 * l].upload(p.feats[l], p.bytes_of(l)));
    y_true.push_back(static_cast<const float *>(p.mirrors[3 * l + 1].upload(p.y_true[l], p.bytes_of(l))));
    grads.push_back(p.mirrors[3 * l + 2].upload(p.grads[l], p.bytes_of(l)));
  }
  p.call.feats = feats.data(), p.call.y_true = y_true.data(), p.call.grads = grads.data();
  CHECK(yl_loss(p.plan, &p.call, &p.result) == YL_OK, yl_last_error());
  REFUSED(yl_loss_async(p.plan, &p.call, nullptr, &on_host), YL_INVALID_ARGUMENT, "result.summary at");
  const float on_stack = 1;
  p.call.grad_scale_at = &on_stack;
  REFUSED(yl_loss(p.plan, &p.call, &p.result), YL_INVALID_ARGUMENT, "grad_scale_at at");
  p.call.grad_scale_at = nullptr;
  int32_t count = 0;
  CHECK(yl_device_count(YL_DEVICE_CUDA, &count) == YL_OK);
  if (count < 2) return;
  void *elsewhere = nullptr;
  CHECK(yl_device_malloc(YL_DEVICE_CUDA, 1, p.bytes_of(0), &elsewhere) == YL_OK, yl_last_error());
  feats[0] = elsewhere;
  REFUSED(yl_loss(p.plan, &p.call, &p.result), YL_INVALID_ARGUMENT, "is memory of cuda:1, this plan is on cuda:0");
  CHECK(yl_device_free(YL_DEVICE_CUDA, elsewhere) == YL_OK);
}

// Normaliser and scale that the device reads when it runs.
void values_on_the_device(const Golden &g) {
  void *memory = nullptr;
  CHECK(yl_device_malloc(YL_DEVICE_CUDA, 0, 8, &memory) == YL_OK, yl_last_error());
  const auto *values = static_cast<const float *>(memory);
  for (const Way way : {Way::kHost, Way::kDevice, Way::kAsync}) {
    Plan want(g, YL_DEVICE_CUDA, 1, 0, way), got(g, YL_DEVICE_CUDA, 1, 0, way);
    for (const float value : {2.5f, 7.0f}) {
      const float host[] = {value, -3 * value};
      CHECK(yl_device_copy(YL_DEVICE_CUDA, 0, memory, host, sizeof host) == YL_OK);
      want.call.normaliser = got.call.normaliser = YL_NORMALISER_VALUE;
      want.call.normaliser_value = value;
      want.call.grad_scale = -3 * value;
      got.call.normaliser_at = values;
      got.call.grad_scale_at = values + 1;
      CHECK(want.run(true) == YL_OK && got.run(true) == YL_OK, yl_last_error());
      CHECK(got.summary.normaliser == value && std::memcmp(&got.summary, &want.summary, sizeof got.summary) == 0);
      for (size_t l = 0; l < want.grad_data.size(); ++l) CHECK(same_bits(got.grad_data[l], want.grad_data[l]));
    }
    got.call.normaliser = YL_NORMALISER_BATCH;
    REFUSED(got.run(true), YL_INVALID_ARGUMENT, "normaliser_at is given and normaliser is 0");
  }
  CHECK(yl_device_free(YL_DEVICE_CUDA, memory) == YL_OK);
}

// Plans and streams of several threads, and a plan on every device, side by side.
void side_by_side(const Golden &g) {
  Plan want(g, YL_DEVICE_CUDA, 0, 0, Way::kDevice);
  CHECK(want.run(true) == YL_OK);
  std::vector<std::thread> threads;
  std::vector<int> wrong(3, 0);
  for (size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      const Way ways[] = {Way::kAsync, Way::kDevice, Way::kHost};
      Plan own(g, YL_DEVICE_CUDA, 1, 0, ways[t]);
      for (int i = 0; i < 10; ++i)
        wrong[t] += own.run(i % 2 || !g.has_boxes()) != YL_OK || !same_bits(own.rows, want.rows) ||
                    !same_bits(own.grad_data[0], want.grad_data[0]);
    });
  for (std::thread &thread : threads) thread.join();
  for (const int w : wrong) CHECK(w == 0);
  int32_t count = 0;
  CHECK(yl_device_count(YL_DEVICE_CUDA, &count) == YL_OK);
  double first = 0;
  for (int32_t i = 0; i < count; ++i) {
    Config c;
    c.config.device = YL_DEVICE_CUDA;
    c.config.device_index = i;
    CHECK(c.create() == YL_OK && yl_device_name(c.plan) == "cuda:" + std::to_string(i), yl_last_error());
    const std::vector<float> feats(2 * 4 * 4 * 3 * 7, 0.5f), box{10, 20, 70, 80, 1, 0, 0, 0, 0, 0};
    const void *feats_at[] = {feats.data()};
    yl_boxes boxes = YL_BOXES_INIT;
    boxes.data = box.data();
    boxes.per_image = 1;
    yl_call call = YL_CALL_INIT;
    call.batch = 2;
    call.feats = feats_at;
    call.boxes = &boxes;
    yl_summary summary{};
    yl_result result = YL_RESULT_INIT;
    result.summary = &summary;
    CHECK(yl_loss(c.plan, &call, &result) == YL_OK && summary.objects == 1, yl_last_error());
    if (i == 0) first = summary.total;
    CHECK(summary.total > 0 && std::fabs(summary.total / first - 1) < 1e-6, number(summary.total));
  }
}

// Calls in a CUDA graph, dense with a gradient and boxes without: nothing is done while they are captured, and each replay
// computes what the buffers hold then.
void captured_calls([[maybe_unused]] const Golden &g) {
#if defined(WITH_CUDA_RUNTIME)
  Plan want(g, YL_DEVICE_CUDA, 0, 0, Way::kDevice), memory(g, YL_DEVICE_CUDA, 0, 0, Way::kDevice);
  CHECK(want.run(true) == YL_OK, yl_last_error());
  std::vector<const void *> feats;
  std::vector<const float *> y_true;
  std::vector<void *> grads;
  std::vector<float> other;
  for (size_t l = 0; l < g.feats.size(); ++l) {
    other.assign(g.feats[l].data.size(), 0.25f);
    feats.push_back(memory.mirrors[3 * l].upload(other.data(), memory.bytes_of(l)));
    y_true.push_back(
        static_cast<const float *>(memory.mirrors[3 * l + 1].upload(memory.y_true[l], memory.bytes_of(l))));
    grads.push_back(memory.mirrors[3 * l + 2].upload(memory.grads[l], memory.bytes_of(l)));
  }
  yl_boxes boxes = memory.boxes;
  boxes.data = static_cast<const float *>(
      memory.mirrors.back().upload(g.boxes.data.data(), static_cast<int64_t>(4 * g.boxes.data.size())));
  yl_call dense = YL_CALL_INIT, sparse = YL_CALL_INIT;
  dense.batch = sparse.batch = g.batch;
  dense.feats = sparse.feats = feats.data();
  dense.y_true = y_true.data();
  dense.grads = grads.data();
  sparse.boxes = &boxes;
  void *pinned = nullptr;
  CHECK(yl_device_malloc_host(YL_DEVICE_CUDA, 2 * sizeof(yl_summary), &pinned) == YL_OK);
  auto *summaries = static_cast<yl_summary *>(pinned);
  summaries[0].total = summaries[1].total = -7;
  yl_result results[] = {YL_RESULT_INIT, YL_RESULT_INIT};
  results[0].summary = &summaries[0];
  results[1].summary = &summaries[1];

  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK(yl_loss_async(memory.plan, &dense, stream, &results[0]) == YL_OK, yl_last_error());
  CHECK(yl_loss_async(memory.plan, &sparse, stream, &results[1]) == YL_OK, yl_last_error());
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(cudaGraphInstantiate(&replay, graph, 0) == cudaSuccess);
  CHECK(summaries[0].total == -7, "a captured call has run");
  double first = 0;
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(cudaGraphLaunch(replay, stream) == cudaSuccess && cudaStreamSynchronize(stream) == cudaSuccess);
    CHECK(summaries[0].total == summaries[1].total && summaries[0].objects == want.summary.objects);
    if (turn == 0) first = summaries[0].total;
    for (size_t l = 0; l < g.feats.size() && turn == 0; ++l)  // the real ones, under the graph
      memory.mirrors[3 * l].upload(g.feats[l].data.data(), memory.bytes_of(l));
  }
  CHECK(first > 0 && first != want.summary.total && summaries[0].total == want.summary.total, number(first));
  for (size_t l = 0; l < g.feats.size(); ++l) {
    memory.mirrors[3 * l + 2].download(memory.grad_data[l].data(), memory.bytes_of(l));
    CHECK(same_bits(memory.grad_data[l], want.grad_data[l]));
  }
  CHECK(cudaGraphExecDestroy(replay) == cudaSuccess && cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess && yl_device_free_host(YL_DEVICE_CUDA, pinned) == YL_OK);
#endif
}

// A kernel that cannot be started or a buffer that cannot be had is a status, and the plan goes on as if the call had not been.
void failures_of_the_device(const Golden &g) {
  yl_device_properties info = YL_DEVICE_PROPERTIES_INIT;
  CHECK(yl_device_get_properties(YL_DEVICE_CUDA, 0, &info) == YL_OK);
  if (!std::strstr(info.name, "SIMT")) return;  // a GPU does not fail when asked to
  {  // boxes that no buffer can hold: in pinned memory first and then on the device
    Plan p(g, YL_DEVICE_CUDA, 1);
    CHECK(p.run(false) == YL_OK, yl_last_error());
    const auto rows = p.rows;
    const std::vector<float> many(static_cast<size_t>(g.batch) * 5 << 20);
    for (const char *allocation : {"0", "1"}) {
      setenv("SIMT_FAIL_ALLOCATION", allocation, 1);
      p.boxes.data = many.data();
      p.boxes.per_image = 1 << 20;
      p.boxes.policy = YL_BOXES_SKIP;
      REFUSED(p.run(false), YL_OUT_OF_MEMORY, "out of memory");
      unsetenv("SIMT_FAIL_ALLOCATION");
      p.boxes.data = g.boxes.data.data();
      p.boxes.per_image = g.boxes_per_image;
      CHECK(p.run(false) == YL_OK && same_bits(p.rows, rows), yl_last_error());
    }
  }
  for (const Way way : {Way::kHost, Way::kDevice, Way::kAsync})
    for (const char *launch : {"0", "1"}) {
      Plan p(g, YL_DEVICE_CUDA, 1, 0, way);
      CHECK(p.run(false) == YL_OK, yl_last_error());
      const auto rows = p.rows;
      const yl_summary summary = p.summary;
      setenv("SIMT_FAIL_LAUNCH", launch, 1);
      REFUSED(p.run(false), YL_DEVICE_FAILED, "CUDA failed while starting a kernel");
      unsetenv("SIMT_FAIL_LAUNCH");
      p.call.grad_mode = YL_GRAD_REFRESH;
      REFUSED(p.run(false), YL_INVALID_ARGUMENT, "grad_mode is refresh");
      p.call.grad_mode = YL_GRAD_OVERWRITE;
      CHECK(p.run(false) == YL_OK && same_bits(p.rows, rows), yl_last_error());
      CHECK(std::memcmp(&p.summary, &summary, sizeof summary) == 0, number(double(p.summary.boxes.used)));
      CHECK(p.run(true) == YL_OK && same_bits(p.rows, rows), yl_last_error());
    }
}

// Each call of the runtime fails once, in yl_plan_create and in yl_loss; then it and all that follow, as after a fault in a
// kernel: a status with a sentence, no memory lost, and the process goes on, at last with the CPU.
void each_call_fails(const Golden &g) {
  yl_device_properties info = YL_DEVICE_PROPERTIES_INIT;
  CHECK(yl_device_get_properties(YL_DEVICE_CUDA, 0, &info) == YL_OK);
  if (!std::strstr(info.name, "SIMT")) return;
  const int64_t free_memory = info.free_memory;
  const auto fail = [](const char *variable, int call, bool sticky) {
    setenv(variable, std::to_string(call).c_str(), 1);
    if (sticky) setenv("SIMT_STICKY", "1", 1);
  };
  const auto mend = [] {
    for (const char *variable : {"SIMT_FAIL_CALL", "SIMT_FAIL_ALLOCATION", "SIMT_STICKY"}) unsetenv(variable);
    void *memory = nullptr;  // what succeeds is counted from 0 again
    CHECK(yl_device_malloc(YL_DEVICE_CUDA, 0, 1, &memory) == YL_OK && yl_device_free(YL_DEVICE_CUDA, memory) == YL_OK, yl_last_error());
  };
  int failed = 0;
  for (const char *variable : {"SIMT_FAIL_CALL", "SIMT_FAIL_ALLOCATION"})
    for (const int32_t memory : {YL_MEMORY_HOST, YL_MEMORY_DEVICE})
      for (int call = 0; call < 1000; ++call) {
        Config c;
        c.config.device = YL_DEVICE_CUDA;
        c.config.memory = memory;
        c.config.threads = 2;
        fail(variable, call, false);
        const yl_status status = c.create();
        mend();
        if (status == YL_OK) {
          CHECK(call >= 2, variable);
          break;
        }
        ++failed;
        CHECK(!c.plan && (status == YL_OUT_OF_MEMORY || status == YL_DEVICE_FAILED) && says("while"), yl_last_error());
        CHECK(yl_device_get_properties(YL_DEVICE_CUDA, 0, &info) == YL_OK && info.free_memory == free_memory,
              std::to_string(free_memory - info.free_memory) + " bytes of device memory are lost");
      }
  Plan on_cpu(g, YL_DEVICE_CPU, 2);
  CHECK(on_cpu.run(true) == YL_OK);
  const auto cpu_rows = on_cpu.rows;
  for (const bool sticky : {false, true})
    for (int call = 0; call < 1000; ++call) {
      Plan p(g, YL_DEVICE_CUDA, 1);
      CHECK(p.run(false) == YL_OK, yl_last_error());
      const auto rows = p.rows;
      fail("SIMT_FAIL_CALL", call, sticky);
      const yl_status status = p.run(false);
      if (status == YL_OK) {
        mend();
        CHECK(same_bits(p.rows, rows) && call > 3);
        break;
      }
      ++failed;
      CHECK(status == YL_DEVICE_FAILED && says("CUDA failed while"), yl_last_error());
      if (sticky) {
        REFUSED(p.run(false), YL_DEVICE_FAILED, "CUDA failed while");
        yl_plan *other = nullptr;
        std::vector<yl_layer> layers;
        const yl_config config = config_of(g, {"", YL_DEVICE_CUDA, 1}, layers);
        CHECK(yl_plan_create(&config, &other) == YL_DEVICE_FAILED && !other, yl_last_error());
        CHECK(on_cpu.run(true) == YL_OK && same_bits(on_cpu.rows, cpu_rows), yl_last_error());
      } else {
        mend();
        CHECK(p.run(false) == YL_OK && same_bits(p.rows, rows),
              "call " + std::to_string(call) + ": " + yl_last_error());
      }
      if (sticky && call % 2 == 0) mend();  // else the plan is destroyed while the device is broken
      if (!sticky || call % 2 == 0) continue;
      yl_plan_destroy(p.plan);
      p.plan = nullptr;
      mend();
    }
  CHECK(yl_device_get_properties(YL_DEVICE_CUDA, 0, &info) == YL_OK && info.free_memory == free_memory, "device memory is lost");
  std::printf("guarantee: %d failures of the device, each a status; no memory lost; the process goes on\n", failed);
}

void refused_plans() {
  Config c;
  c.config.device = YL_DEVICE_CUDA;
  const std::vector<yl_layer> layers(17, c.layer);
  c.config.layers = layers.data();
  c.config.layer_count = 17;
  REFUSED(c.create(), YL_UNSUPPORTED, "layer_count is 17, the cuda device takes 1..16");
  c.config.layer_count = 16;
  CHECK(c.create() == YL_OK && !std::strcmp(yl_device_name(c.plan), "cuda:0"), yl_last_error());
  c.config.device = YL_DEVICE_AUTO;
  c.config.memory = YL_MEMORY_DEVICE;
  CHECK(c.create() == YL_OK && std::strstr(yl_device_why(c.plan), "auto: device memory"), yl_last_error());
}

}  // namespace

int main() {
  if (!has_cuda()) return 77;  // which CTest shows as skipped
  devices_and_memory();
  refused_plans();
  random_cases();
  chunks();
  const Golden crowded = read_golden("e_empty_and_crowded"), small = read_golden("a_small_3scale");
  refused_boxes(crowded);
  unreachable_pointers(small);
  values_on_the_device(small);
  side_by_side(small);
  captured_calls(crowded);
  failures_of_the_device(small);
  each_call_fails(small);
  return report("cuda");
}
