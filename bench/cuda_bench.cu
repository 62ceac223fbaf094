// Times the library's C interface on a CUDA device, over problems of ../shared/peers/make_inputs.py; one JSON object a
// line. bench/gpu-check runs it.
//
//   cuda_bench DIR...      each DIR holds meta.json, feats_<l>.npy and y_true_<l>.npy
//
// First what the machine gives: the median of an empty kernel's launch and synchronisation, and the bytes a second
// (read and written) of a device copy larger than the L2. Then for each problem and variant
//   graph_us      a call within a CUDA graph of many, by events: the kernels alone
//   stream_us     a call of yl_loss_async among many, by events
//   blocking_us   yl_loss, host clock, percentiles 50, 90 and 99
//   async_us      yl_loss_async and waiting for the stream, alike
//   host_us       yl_loss of a plan with host memory, from pageable and from pinned memory (median)
//   (of the gradient in other types and orders, and with statistics: stream_us alone, as "form")
//   bytes         that must move: sectors of 32 bytes that hold one of the five first channels of a cell, or a mask;
//                 the rows of objects; the gradient once
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "plan.h"
#include "run.h"
#include "test.h"
#include "values.h"

namespace {

void ok(cudaError_t error, int line) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "cuda_bench: line %d: %s\n", line, cudaGetErrorString(error));
  std::exit(1);
}
#define OK(call) ok(call, __LINE__)

void ok(yl_status status, int line) {
  if (status == YL_OK) return;
  std::fprintf(stderr, "cuda_bench: line %d: %s\n", line, yl_last_error());
  std::exit(1);
}

using Clock = std::chrono::steady_clock;

struct Percentiles {
  double p50, p90, p99;
};

// Of microseconds that body takes, in at least so many turns, after a warm-up.
template <class Body> Percentiles host_clock(double seconds, size_t least, const Body &body) {
  for (size_t i = 0; i < least / 2; ++i) body();
  std::vector<double> times;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < end || times.size() < least) {
    const auto start = Clock::now();
    body();
    times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  const auto at = [&](double share) {
    return times[static_cast<size_t>(share * static_cast<double>(times.size() - 1))];
  };
  return {at(0.5), at(0.9), at(0.99)};
}

// Microseconds of one of count bodies that are enqueued together: the median of several turns.
template <class Body> double device_clock(cudaStream_t stream, int turns, int count, const Body &enqueue_all) {
  cudaEvent_t start, stop;
  OK(cudaEventCreate(&start));
  OK(cudaEventCreate(&stop));
  std::vector<double> times;
  for (int turn = 0; turn < turns + 3; ++turn) {
    OK(cudaEventRecord(start, stream));
    enqueue_all();
    OK(cudaEventRecord(stop, stream));
    OK(cudaEventSynchronize(stop));
    float milliseconds;
    OK(cudaEventElapsedTime(&milliseconds, start, stop));
    if (turn >= 3) times.push_back(1e3 * milliseconds / count);
  }
  OK(cudaEventDestroy(start));
  OK(cudaEventDestroy(stop));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

__global__ void nothing() {}

void launch_nothing(cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = dim3(1);
  config.stream = stream;
  OK(cudaLaunchKernelEx(&config, nothing));
}

void machine(cudaStream_t stream) {
  const Percentiles empty = host_clock(0.5, 2000, [&] {
    launch_nothing(stream);
    OK(cudaStreamSynchronize(stream));
  });
  constexpr size_t kBytes = size_t(2) << 30;
  void *from, *to;
  OK(cudaMalloc(&from, kBytes));
  OK(cudaMalloc(&to, kBytes));
  OK(cudaMemset(from, 1, kBytes));
  const double copy =
      device_clock(stream, 15, 1, [&] { OK(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice, stream)); });
  const double fill = device_clock(stream, 15, 1, [&] { OK(cudaMemsetAsync(to, 0, kBytes, stream)); });
  OK(cudaFree(from));
  OK(cudaFree(to));
  yl_device_properties info = YL_DEVICE_PROPERTIES_INIT;
  ok(yl_device_get_properties(YL_DEVICE_CUDA, 0, &info), __LINE__);
  int driver = 0, runtime = 0;
  OK(cudaDriverGetVersion(&driver));
  OK(cudaRuntimeGetVersion(&runtime));
  std::printf(
      "{\"device\": \"%s\", \"compute_capability\": %d, \"multiprocessors\": %d, \"driver\": %d, \"runtime\": %d, "
      "\"empty_launch_us\": [%.2f, %.2f, %.2f], \"copy_gb_s\": %.1f, \"fill_gb_s\": %.1f}\n",
      info.name, info.compute_capability, info.multiprocessors, driver, runtime, empty.p50, empty.p90, empty.p99,
      2e-3 * kBytes / copy, 1e-3 * kBytes / fill);
  std::fflush(stdout);
}

// Returns a problem as a case of the tests, so that their Plan can hold it.
Case read_problem(const std::string &folder) {
  const std::string json = read_text(folder + "/meta.json");
  Case c;
  c.name = folder;
  c.batch = static_cast<int32_t>(read_numbers(json, "batch").at(0));
  c.classes = static_cast<int32_t>(read_numbers(json, "classes").at(0));
  c.input_height = c.input_width = static_cast<int32_t>(read_numbers(json, "input").at(0));
  c.expected_total = read_numbers(json, "loss_f64").at(0);
  for (const double side : read_numbers(json, "anchors")) c.anchors.push_back(static_cast<float>(side));
  const std::vector<int32_t> masks[] = {{6, 7, 8}, {3, 4, 5}, {0, 1, 2}};
  for (int l = 0; l < 3; ++l) {
    const Array feats = read_npy(folder + "/feats_" + std::to_string(l) + ".npy");
    Layer layer;
    layer.height = static_cast<size_t>(feats.shape.at(1));
    layer.width = static_cast<size_t>(feats.shape.at(2));
    layer.mask = masks[l];
    layer.feats.assign(feats.data.begin(), feats.data.end());
    layer.y_true = read_npy(folder + "/y_true_" + std::to_string(l) + ".npy").data;
    c.layers.push_back(layer);
  }
  // Boxes with the objects of y_true, for the time; whole-pixel centres may move one to the next cell.
  std::vector<std::vector<float>> rows(c.images());
  size_t most = 1;
  for (size_t l = 0; l < c.layers.size(); ++l)
    for (size_t cell = 0; cell < c.cells(l); ++cell) {
      if (!c.is_object(l, cell)) continue;
      const float *t = &c.layers[l].y_true[cell * c.channels()];
      const float x = t[0] * static_cast<float>(c.input_width), w = t[2] * static_cast<float>(c.input_width);
      const float y = t[1] * static_cast<float>(c.input_height), h = t[3] * static_cast<float>(c.input_height);
      const auto kind = static_cast<float>(std::max_element(t + 5, t + c.channels()) - (t + 5));
      auto &image = rows[cell / c.layers[l].cells()];
      image.insert(image.end(), {x - w / 2, y - h / 2, x + w / 2, y + h / 2, kind});
      most = std::max(most, image.size() / 5);
    }
  c.boxes_per_image = static_cast<int32_t>(most);
  for (auto &image : rows) {
    image.resize(5 * most);
    c.boxes.insert(c.boxes.end(), image.begin(), image.end());
  }
  return c;
}

// Returns the bytes of the sectors (32 bytes) that hold the channels [first, last) of any row.
int64_t sector_bytes(int64_t rows, int64_t channels, int64_t first, int64_t last) {
  int64_t sectors = 0, counted = -1;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t from = std::max((row * channels + first) * 4 / 32, counted + 1);
    const int64_t to = ((row * channels + last) * 4 - 1) / 32;
    sectors += std::max<int64_t>(0, to - from + 1);
    counted = std::max(counted, to);
  }
  return 32 * sectors;
}

int64_t needed_bytes(const Case &c, int64_t objects, bool dense, bool gradient) {
  int64_t bytes = dense ? 0 : static_cast<int64_t>(4 * c.boxes.size());
  const auto channels = static_cast<int64_t>(c.channels());
  for (size_t l = 0; l < c.layers.size(); ++l) {
    const auto rows = static_cast<int64_t>(c.cells(l));
    bytes += sector_bytes(rows, channels, 0, 5) + (dense ? sector_bytes(rows, channels, 4, 5) : 0);
    if (gradient) bytes += rows * channels * 4;
  }
  return bytes + objects * channels * 4 * (dense ? 2 : 1);
}

struct Variant {
  bool dense, gradient, refresh;
};

void measure(const Case &c, const Variant &variant, cudaStream_t stream) {
  const Truths truths = variant.dense ? Truths::kYTrue : Truths::kBoxes;
  Plan device(c, cuda_device(Way::kDevice));
  if (!variant.gradient) device.call.grads = nullptr;
  ok(device.run(truths), __LINE__);
  const double total = device.summary.total;
  if (variant.dense && std::fabs(total / c.expected_total - 1) > 1e-5)
    std::fprintf(stderr, "cuda_bench: %s: loss %.9g, expected %.9g\n", c.name.c_str(), total, c.expected_total),
        std::exit(1);
  const std::unique_ptr<Plan::OnDevice> there = device.upload();
  yl_call &call = there->call;
  yl_summary on_host{};
  yl_result host_result = YL_RESULT_INIT, device_result = YL_RESULT_INIT;
  host_result.summary = &on_host;
  void *pinned;
  ok(yl_device_malloc_host(YL_DEVICE_CUDA, sizeof(yl_summary), &pinned), __LINE__);
  device_result.summary = static_cast<yl_summary *>(pinned);
  ok(yl_loss(device.plan, &call, &host_result), __LINE__);
  if (variant.refresh) call.grad_mode = YL_GRAD_REFRESH;

  constexpr int kCalls = 20;
  const auto enqueue = [&] { ok(yl_loss_async(device.plan, &call, stream, &device_result), __LINE__); };
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  enqueue();
  OK(cudaStreamSynchronize(stream));
  OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < kCalls; ++i) enqueue();
  OK(cudaStreamEndCapture(stream, &graph));
  OK(cudaGraphInstantiate(&replay, graph, 0));
  const double graph_us = device_clock(stream, 15, kCalls, [&] { OK(cudaGraphLaunch(replay, stream)); });
  if (device_result.summary->total != on_host.total)
    std::fprintf(stderr, "cuda_bench: %s: a replayed graph gives another loss\n", c.name.c_str()), std::exit(1);
  const double stream_us = device_clock(stream, 15, kCalls, [&] {
    for (int i = 0; i < kCalls; ++i) enqueue();
  });
  OK(cudaGraphExecDestroy(replay));
  OK(cudaGraphDestroy(graph));
  const Percentiles blocking = host_clock(0.3, 200, [&] { ok(yl_loss(device.plan, &call, &host_result), __LINE__); });
  const Percentiles async = host_clock(0.3, 200, [&] {
    enqueue();
    OK(cudaStreamSynchronize(stream));
  });
  ok(yl_device_free_host(YL_DEVICE_CUDA, pinned), __LINE__);

  double pageable_us = 0, pinned_us = 0;
  if (!variant.refresh) {
    Plan host(c, cuda_device(Way::kHost));
    if (!variant.gradient) host.call.grads = nullptr;
    const auto run = [&] { ok(host.run(truths), __LINE__); };
    pageable_us = host_clock(0.2, 6, run).p50;
    std::vector<void *> memories;
    const auto pin = [&](const void *from, size_t l) {
      void *to;
      ok(yl_device_malloc_host(YL_DEVICE_CUDA, host.bytes_of(l), &to), __LINE__);
      std::memcpy(to, from, static_cast<size_t>(host.bytes_of(l)));
      memories.push_back(to);
      return to;
    };
    for (size_t l = 0; l < 3; ++l) {
      host.feats[l] = pin(host.feats[l], l);
      host.y_true[l] = static_cast<const float *>(pin(host.y_true[l], l));
      host.grads[l] = pin(host.grads[l], l);
    }
    pinned_us = host_clock(0.2, 6, run).p50;
    for (void *memory : memories) ok(yl_device_free_host(YL_DEVICE_CUDA, memory), __LINE__);
  }
  const int64_t bytes = needed_bytes(c, device.summary.objects, variant.dense, variant.gradient);
  std::printf(
      "{\"program\": \"c\", \"classes\": %d, \"batch\": %d, \"mode\": \"%s\", \"targets\": \"%s\", \"refresh\": %s, "
      "\"graph_us\": %.2f, \"stream_us\": %.2f, \"blocking_us\": [%.2f, %.2f, %.2f], \"async_us\": [%.2f, %.2f, %.2f], "
      "\"host_us\": [%.1f, %.1f], \"bytes\": %lld, \"loss\": %.9g}\n",
      c.classes, c.batch, variant.gradient ? "grad" : "fwd", variant.dense ? "dense" : "boxes",
      variant.refresh ? "true" : "false", graph_us, stream_us, blocking.p50, blocking.p90, blocking.p99, async.p50,
      async.p90, async.p99, pageable_us, pinned_us, static_cast<long long>(bytes), total);
  std::fflush(stdout);
}

// Other types and orders of the same problem, and statistics on request: calls among many, by events.
void measure_forms(const Case &c, cudaStream_t stream) {
  for (const int32_t dtype : {YL_F32, YL_F16, YL_BF16})
    for (const int32_t layout : {YL_NHWC, YL_NCHW})
      for (const bool stats : {false, true}) {
        Options options;
        options.device = cuda_device(Way::kDevice);
        options.dtype = dtype;
        options.layout = layout;
        const std::unique_ptr<Config> made = config_of(c, options);
        ok(made->create(), __LINE__);
        std::vector<std::unique_ptr<CallMemory>> held;
        std::vector<const void *> feats;
        std::vector<const float *> y_true;
        std::vector<void *> grads;
        for (size_t l = 0; l < 3; ++l) {
          const auto count = static_cast<int64_t>(c.elements(l)), size = size_of(dtype);
          for (const int64_t bytes : {count * size, count * 4, count * size})
            held.push_back(std::make_unique<CallMemory>(true, bytes));
          store_feats(c, l, options, held[3 * l]->host());
          std::memcpy(held[3 * l + 1]->host(), c.layers[l].y_true.data(), static_cast<size_t>(count) * 4);
          feats.push_back(held[3 * l]->upload());
          y_true.push_back(static_cast<const float *>(held[3 * l + 1]->upload()));
          grads.push_back(held[3 * l + 2]->upload());
        }
        void *pinned;
        ok(yl_device_malloc_host(YL_DEVICE_CUDA, sizeof(yl_summary) + 3 * sizeof(yl_stats), &pinned), __LINE__);
        yl_result result = YL_RESULT_INIT;
        result.summary = static_cast<yl_summary *>(pinned);
        if (stats) result.stats = reinterpret_cast<yl_stats *>(result.summary + 1);
        yl_call call = YL_CALL_INIT;
        call.batch = c.batch, call.feats = feats.data(), call.y_true = y_true.data(), call.grads = grads.data();
        const double us = device_clock(stream, 15, 20, [&] {
          for (int i = 0; i < 20; ++i) ok(yl_loss_async(made->plan, &call, stream, &result), __LINE__);
        });
        std::printf(
            "{\"program\": \"c\", \"form\": \"%s %s%s\", \"classes\": %d, \"batch\": %d, \"stream_us\": %.2f, "
            "\"loss\": %.9g}\n",
            dtype == YL_F32   ? "f32"
            : dtype == YL_F16 ? "f16"
                              : "bf16",
            layout == YL_NCHW ? "NCHW" : "NHWC", stats ? " with statistics" : "", c.classes, c.batch, us,
            result.summary->total);
        std::fflush(stdout);
        ok(yl_device_free_host(YL_DEVICE_CUDA, pinned), __LINE__);
      }
}

}  // namespace

int main(int count, char **arguments) {
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  machine(stream);
  for (int i = 1; i < count; ++i) {
    const Case c = read_problem(arguments[i]);
    for (const Variant &variant :
         {Variant{true, false, false}, Variant{true, true, false}, Variant{false, false, false},
          Variant{false, true, false}, Variant{false, true, true}})
      measure(c, variant, stream);
    if (c.classes == 80) measure_forms(c, stream);
  }
  return test::failures ? 1 : 0;
}
