// Times builds of the library on a CUDA device, through the C interface; bench/gpu-check runs it. It loads each build
// from a file (library.h) and calls them in turn on the same arrays. Prints one JSON object a line, at once, so that a
// run that is cut off leaves what it has measured. Every figure is of the problem that Problem describes.
//
//   cuda_bench MODE [CLASSES:BATCH]... LIBRARY...
//
//   machine   what the device gives: empty launches, a device copy and a fill that are larger than the L2
//   calls     every kind of call, all libraries: graph_us (a call within a CUDA graph of many: the kernels alone),
//             stream_us (a call of yl_loss_async among many), blocking_us (yl_loss, percentiles 50, 90 and 99 of the
//             host's clock) and async_us (yl_loss_async and waiting for the stream, likewise)
//   cold      graph_us of calls that rotate over arrays larger than the L2 together, all libraries
//   apart     the kernels of a call one by one, by event nodes between those of a graph; first library
//   fetch     graph_us under each granularity of L2 fetches, first library
//   forms     stream_us in other types and orders, and with statistics, first library
//   host      yl_loss of a plan with host memory, pageable and pinned, first library
//   large     a layer of more than 2^31 values: loss and gradient of a batch of repeated images, first library
//   once      two calls of each kind, for a profiler; first library
//   load      the first call of a process, step by step, first library
//
// A result that is not as expected is reported as {"wrong": ...}, the run goes on, and the exit status is 1 at the end.
// An error of CUDA or of the library ends the run with 2.
//
// Compiled as C++ with the host SIMT runner's cuda_runtime.h (YL_SIMT) the same program rehearses all this without a
// GPU, but for what the runner does not have; with REHEARSE set it repeats as little as possible.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "library.h"

namespace {

using Clock = std::chrono::steady_clock;

const bool kRehearsal = std::getenv("REHEARSE") != nullptr;
const int kTurns = kRehearsal ? 1 : 15;
const int kWarmUps = kRehearsal ? 0 : 3;
const int kCalls = kRehearsal ? 2 : 20;  // calls that a graph holds, or that are enqueued together
bool is_wrong = false;

void ok(cudaError_t error, int line) {
  if (error != cudaSuccess) die("cuda_bench: line " + std::to_string(line) + ": " + cudaGetErrorString(error));
}
#define OK(call) ok(call, __LINE__)

void ok(const Library &library, yl_status status, int line) {
  if (status != YL_OK)
    die("cuda_bench: line " + std::to_string(line) + ": " + library.path + ": " + library.last_error());
}
#define OK_OF(library, call) ok(library, (library).call, __LINE__)

void wrong(const std::string &sentence) {
  std::printf("{\"wrong\": \"%s\"}\n", sentence.c_str());
  std::fflush(stdout);
  is_wrong = true;
}

// ---- Clocks ---------------------------------------------------------------------------------------------------------

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Returns percentiles 50, 90 and 99 as JSON.
std::string percentiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
  };
  char text[80];
  std::snprintf(text, sizeof text, "[%.2f, %.2f, %.2f]", at(0.5), at(0.9), at(0.99));
  return text;
}

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// Returns the microseconds that the device takes for what enqueue puts on the stream.
double device_time(cudaStream_t stream, const std::function<void()> &enqueue) {
#if defined(YL_SIMT)
  const auto start = Clock::now();
  enqueue();
  OK(cudaStreamSynchronize(stream));
  return microseconds_since(start);
#else
  static const auto events = [] {
    std::pair<cudaEvent_t, cudaEvent_t> made;
    OK(cudaEventCreate(&made.first));
    OK(cudaEventCreate(&made.second));
    return made;
  }();
  OK(cudaEventRecord(events.first, stream));
  enqueue();
  OK(cudaEventRecord(events.second, stream));
  OK(cudaEventSynchronize(events.second));
  float milliseconds;
  OK(cudaEventElapsedTime(&milliseconds, events.first, events.second));
  return 1e3 * milliseconds;
#endif
}

// Returns the samples of several bodies that are measured in turn, so that all see the same clocks of the device: one
// sample of each in every turn, after a warm-up.
using Samples = std::vector<std::vector<double>>;
Samples in_turn(size_t bodies, const std::function<double(size_t body)> &measure) {
  Samples samples(bodies);
  for (int turn = 0; turn < kTurns + kWarmUps; ++turn)
    for (size_t i = 0; i < bodies; ++i) {
      const double sample = measure(i);
      if (turn >= kWarmUps) samples[i].push_back(sample);
    }
  return samples;
}

// The same for single calls by the host's clock: blocks of calls in turn, without the first calls of each block.
Samples single_calls(size_t bodies, const std::function<void(size_t body)> &call) {
  const int block = kRehearsal ? 1 : 40, skipped = kRehearsal ? 0 : 5;
  Samples samples(bodies);
  for (int turn = 0; turn < kTurns; ++turn)
    for (size_t i = 0; i < bodies; ++i)
      for (int n = 0; n < block + skipped; ++n) {
        const auto start = Clock::now();
        call(i);
        if (n >= skipped) samples[i].push_back(microseconds_since(start));
      }
  return samples;
}

// ---- The problem ----------------------------------------------------------------------------------------------------

struct Memory {
  void *at = nullptr;
  explicit Memory(size_t bytes) { OK(cudaMalloc(&at, bytes)); }
  ~Memory() { cudaFree(at); }
  Memory(const Memory &) = delete;
};
using Memories = std::vector<std::unique_ptr<Memory>>;

void copy(void *to, const void *from, size_t bytes) {
  OK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, nullptr));
  OK(cudaStreamSynchronize(nullptr));
}

constexpr size_t kLayers = 3;

// Returns random logits of a type, uniform in -3..3. They serve any order of channels.
std::vector<char> logits(size_t count, int32_t dtype, uint32_t seed) {
  std::mt19937 bits(seed);
  const size_t size = dtype == YL_F32 ? 4 : 2;
  std::vector<char> values(count * size);
  for (size_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(bits()) / 4294967296.0f * 6 - 3;
    uint32_t f32;
    std::memcpy(&f32, &value, 4);
    // The upper half of a float32 is a bfloat16. A float16 has five bits of exponent; what is too small for them is 0.
    const uint32_t exponent = f32 >> 23 & 0xff;
    const uint32_t f16 = exponent > 112 ? (f32 >> 16 & 0x8000) | (exponent - 112) << 10 | (f32 >> 13 & 0x3ff) : 0;
    const uint32_t stored = dtype == YL_F32 ? f32 : dtype == YL_BF16 ? f32 >> 16 : f16;
    std::memcpy(&values[i * size], &stored, size);
  }
  return values;
}

// YOLOv3 for 416x416 with eight boxes an image, as many as in the problems of PyTorch (../shared/peers/make_inputs.py).
struct Problem {
  static constexpr int32_t kSides[kLayers] = {13, 26, 52}, kBoxes = 8, kInput = 416;

  const int32_t classes, batch;
  const int32_t dtype = YL_F32, layout = YL_NHWC;
  std::vector<char> feats[kLayers];
  std::vector<float> boxes;

  Problem(int32_t c, int32_t b, int32_t type = YL_F32, int32_t order = YL_NHWC)
      : classes(c), batch(b), dtype(type), layout(order) {
    for (size_t l = 0; l < kLayers; ++l) feats[l] = logits(values(l), dtype, static_cast<uint32_t>(l));
    std::mt19937 bits(9);
    const auto pick = [&](uint32_t low, uint32_t high) { return static_cast<float>(low + bits() % (high - low + 1)); };
    for (int32_t i = 0; i < batch * kBoxes; ++i) {
      const float w = pick(20, 200), h = pick(20, 200), x = pick(0, 200), y = pick(0, 200);
      const float kind = pick(0, static_cast<uint32_t>(classes - 1));
      boxes.insert(boxes.end(), {x, y, x + w, y + h, kind});
    }
  }

  size_t channels() const { return static_cast<size_t>(5 + classes); }
  size_t cells(size_t l) const { return static_cast<size_t>(batch) * static_cast<size_t>(kSides[l] * kSides[l] * 3); }
  size_t values(size_t l) const { return cells(l) * channels(); }
  std::string name() const {
    return "\"classes\": " + std::to_string(classes) + ", \"batch\": " + std::to_string(batch);
  }

  yl_plan *plan(const Library &library, int32_t device, int32_t memory, int32_t max_batch) const {
    static const float anchors[] = {10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326};
    static const int32_t masks[kLayers][3] = {{6, 7, 8}, {3, 4, 5}, {0, 1, 2}};
    yl_layer layers[kLayers];
    for (size_t l = 0; l < kLayers; ++l) layers[l] = {kSides[l], kSides[l], masks[l], 3, 0};
    yl_config config = YL_CONFIG_INIT;
    config.layers = layers, config.layer_count = kLayers;
    config.anchors = anchors, config.anchor_count = 9;
    config.input_height = config.input_width = kInput;
    config.num_classes = classes, config.max_batch = max_batch;
    config.device = device, config.memory = memory, config.dtype = dtype, config.layout = layout;
    yl_plan *made;
    OK_OF(library, plan_create(&config, &made));
    return made;
  }
  // A plan for calls on device memory.
  yl_plan *plan(const Library &library) const { return plan(library, YL_DEVICE_CUDA, YL_MEMORY_DEVICE, batch); }

  // Returns the loss and the number of objects by the cpu device.
  yl_summary expected(const Library &library) const {
    const void *at[kLayers];
    for (size_t l = 0; l < kLayers; ++l) at[l] = feats[l].data();
    yl_boxes rows = YL_BOXES_INIT;
    rows.data = boxes.data(), rows.per_image = kBoxes;
    yl_call call = YL_CALL_INIT;
    call.batch = batch, call.feats = at, call.boxes = &rows;
    yl_summary summary{};
    yl_result result = YL_RESULT_INIT;
    result.summary = &summary;
    yl_plan *const cpu = plan(library, YL_DEVICE_CPU, YL_MEMORY_HOST, batch);
    OK_OF(library, loss(cpu, &call, &result));
    library.plan_destroy(cpu);
    return summary;
  }
};
constexpr int32_t Problem::kSides[kLayers];

struct Variant {
  bool dense, gradient, refresh;
  std::string name() const {
    return std::string("\"mode\": \"") + (gradient ? "grad" : "fwd") + "\", \"targets\": \"" +
           (dense ? "dense" : "boxes") + "\", \"refresh\": " + (refresh ? "true" : "false");
  }
};
// Lists what is timed; what a training needs comes first.
const Variant kVariants[] = {
    {true, true, false}, {true, false, false}, {false, true, false}, {false, false, false}, {false, true, true}};

// A problem on the device, and its calls. copies repeats its images; their logits and boxes are copied on the device.
class Arrays {
 public:
  Arrays(const Library &library, const Problem &problem, size_t copies = 1, bool dense = true) {
    const auto make = [&](size_t bytes, const void *from) {
      memories_.push_back(std::make_unique<Memory>(bytes * copies));
      char *const at = static_cast<char *>(memories_.back()->at);
      if (from) copy(at, from, bytes);
      for (size_t i = 1; from && i < copies; ++i)
        OK(cudaMemcpyAsync(at + i * bytes, at, bytes, cudaMemcpyDefault, nullptr));
      return at;
    };
    for (size_t l = 0; l < kLayers; ++l) {
      feats[l] = make(problem.feats[l].size(), problem.feats[l].data());
      grads[l] = make(problem.feats[l].size(), nullptr);
      if (dense) y_true[l] = reinterpret_cast<float *>(make(4 * problem.values(l), nullptr));
    }
    rows.data = reinterpret_cast<const float *>(make(4 * problem.boxes.size(), problem.boxes.data()));
    rows.per_image = Problem::kBoxes;
    OK(cudaStreamSynchronize(nullptr));
    batch = problem.batch * static_cast<int32_t>(copies);
    if (!dense) return;
    yl_plan *const plan = problem.plan(library, YL_DEVICE_CUDA, YL_MEMORY_DEVICE, batch);
    OK_OF(library, build_y_true(plan, batch, &rows, y_true, nullptr));
    library.plan_destroy(plan);
  }

  yl_call call(const Variant &variant) const {
    yl_call made = YL_CALL_INIT;
    made.batch = batch, made.feats = feats;
    if (variant.dense) made.y_true = y_true;
    if (!variant.dense) made.boxes = &rows;
    if (variant.gradient) made.grads = grads;
    if (variant.refresh) made.grad_mode = YL_GRAD_REFRESH;
    return made;
  }

  int32_t batch;
  const void *feats[kLayers];
  float *y_true[kLayers];
  void *grads[kLayers];
  yl_boxes rows = YL_BOXES_INIT;

 private:
  Memories memories_;
};

// Returns the bytes of the sectors (32 bytes) that hold the channels [first, last) of any row of float32.
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

// Returns the bytes that a call must move: sectors that hold one of the five first channels of a cell, or a mask; the
// rows of objects; the gradient once.
int64_t needed_bytes(const Problem &p, int64_t objects, const Variant &variant) {
  const auto channels = static_cast<int64_t>(p.channels());
  int64_t bytes = variant.dense ? 0 : static_cast<int64_t>(4 * p.boxes.size());
  for (size_t l = 0; l < kLayers; ++l) {
    const auto rows = static_cast<int64_t>(p.cells(l));
    bytes += sector_bytes(rows, channels, 0, 5) + (variant.dense ? sector_bytes(rows, channels, 4, 5) : 0);
    if (variant.gradient) bytes += rows * channels * 4;
  }
  return bytes + objects * channels * 4 * (variant.dense ? 2 : 1);
}

// ---- Calls of a library ---------------------------------------------------------------------------------------------

struct Size {
  int32_t classes, batch;
};

// A plan of a library, and a result in pinned memory for its enqueued calls.
class Caller {
 public:
  Caller(const Library &library, const Problem &problem, cudaStream_t stream, bool with_stats = false)
      : library_(library), stream_(stream), plan_(problem.plan(library)) {
    OK(cudaHostAlloc(&pinned_, sizeof(yl_summary) + kLayers * sizeof(yl_stats), cudaHostAllocPortable));
    result_.summary = static_cast<yl_summary *>(pinned_);
    if (with_stats) result_.stats = reinterpret_cast<yl_stats *>(result_.summary + 1);
  }
  ~Caller() {
    library_.plan_destroy(plan_);
    cudaFreeHost(pinned_);
  }
  Caller(const Caller &) = delete;

  void enqueue(const yl_call &call) const { OK_OF(library_, loss_async(plan_, &call, stream_, &result_)); }
  void enqueue_and_wait(const yl_call &call) const {
    enqueue(call);
    OK(cudaStreamSynchronize(stream_));
  }
  // Computes a call by yl_loss, and returns its summary.
  yl_summary block(const yl_call &call) const {
    yl_summary summary{};
    yl_result result = YL_RESULT_INIT;
    result.summary = &summary;
    OK_OF(library_, loss(plan_, &call, &result));
    return summary;
  }
  const yl_summary &summary() const { return *result_.summary; }

  // Returns a graph of calls.
  cudaGraph_t capture(const std::vector<yl_call> &calls) const {
    cudaGraph_t graph;
    OK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    for (const yl_call &call : calls) enqueue(call);
    OK(cudaStreamEndCapture(stream_, &graph));
    return graph;
  }

 private:
  const Library &library_;
  const cudaStream_t stream_;
  yl_plan *const plan_;
  void *pinned_;
  yl_result result_ = YL_RESULT_INIT;
};

// A graph of calls that can be replayed.
class Replay {
 public:
  Replay(const Caller &caller, const std::vector<yl_call> &calls) : count_(static_cast<double>(calls.size())) {
    cudaGraph_t graph = caller.capture(calls);
    OK(cudaGraphInstantiate(&replay_, graph, 0));
    OK(cudaGraphDestroy(graph));
  }
  ~Replay() { cudaGraphExecDestroy(replay_); }
  Replay(const Replay &) = delete;

  // Returns the microseconds of one of the calls.
  double time(cudaStream_t stream) const {
    return device_time(stream, [&] { OK(cudaGraphLaunch(replay_, stream)); }) / count_;
  }

 private:
  const double count_;
  cudaGraphExec_t replay_;
};

// Returns the folder of a library, which is its name in the pack: default, pdl.
std::string label(const Library &library) {
  const size_t slash = library.path.rfind('/');
  const std::string folder = library.path.substr(0, slash == std::string::npos ? 0 : slash);
  return "\"library\": \"" + folder.substr(folder.rfind('/') + 1) + "\"";
}

void check_loss(const Library &library, const Problem &p, const Variant &variant, const yl_summary &got,
                const yl_summary &want) {
  if (std::fabs(got.total / want.total - 1) <= 1e-5 && got.objects == want.objects) return;
  char text[300];
  std::snprintf(text, sizeof text, "%s C=%d B=%d %s %s: loss %.9g and %lld objects, expected %.9g and %lld",
                library.path.c_str(), p.classes, p.batch, variant.dense ? "dense" : "boxes",
                variant.gradient ? "grad" : "fwd", got.total, static_cast<long long>(got.objects), want.total,
                static_cast<long long>(want.objects));
  wrong(text);
}

// Returns the median of the ratios of samples of one turn: of library i to the first.
double ratio(const Samples &samples, size_t i) {
  std::vector<double> ratios;
  for (size_t turn = 0; turn < samples[i].size(); ++turn) ratios.push_back(samples[i][turn] / samples[0][turn]);
  return median(ratios);
}

using Libraries = std::vector<Library>;
using Callers = std::vector<std::unique_ptr<Caller>>;
using Replays = std::vector<std::unique_ptr<Replay>>;

Callers callers_of(const Libraries &libraries, const Problem &problem, cudaStream_t stream) {
  Callers callers;
  for (const Library &library : libraries) callers.push_back(std::make_unique<Caller>(library, problem, stream));
  return callers;
}

// ---- Modes ----------------------------------------------------------------------------------------------------------

#if !defined(YL_SIMT)
__global__ void nothing() {}
#endif

void launch_nothing(cudaStream_t stream) {
#if defined(YL_SIMT)
  static_cast<void>(stream);
#else
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = dim3(1);
  config.stream = stream;
  OK(cudaLaunchKernelEx(&config, nothing));
#endif
}

void machine(const Library &library, cudaStream_t stream) {
  const Samples empty = single_calls(2, [&](size_t more) {
    for (size_t i = 0; i <= more; ++i) launch_nothing(stream);
    OK(cudaStreamSynchronize(stream));
  });
  const size_t bytes = kRehearsal ? 1 << 20 : size_t(2) << 30;
  const Memory from(bytes), to(bytes);
  OK(cudaMemsetAsync(from.at, 1, bytes, stream));
  const Samples moved = in_turn(2, [&](size_t fill) {
    return device_time(stream, [&] {
      if (fill)
        OK(cudaMemsetAsync(to.at, 0, bytes, stream));
      else
        OK(cudaMemcpyAsync(to.at, from.at, bytes, cudaMemcpyDefault, stream));
    });
  });
  yl_device_properties info = YL_DEVICE_PROPERTIES_INIT;
  OK_OF(library, device_get_properties(YL_DEVICE_CUDA, 0, &info));
  std::printf(
      "{\"device\": \"%s\", \"compute_capability\": %d, \"multiprocessors\": %d, \"empty_launch_us\": %s, "
      "\"two_empty_launches_us\": %s, \"copy_gb_s\": %.1f, \"fill_gb_s\": %.1f}\n",
      info.name, info.compute_capability, info.multiprocessors, percentiles(empty[0]).c_str(),
      percentiles(empty[1]).c_str(), 2e-3 * static_cast<double>(bytes) / median(moved[0]),
      1e-3 * static_cast<double>(bytes) / median(moved[1]));
}

void calls(const Problem &p, const Libraries &libraries, cudaStream_t stream) {
  const Arrays arrays(libraries[0], p);
  const Callers callers = callers_of(libraries, p, stream);
  const yl_summary want = p.expected(libraries[0]);
  for (const Variant &variant : kVariants) {
    const yl_call call = arrays.call(variant), first = arrays.call({variant.dense, variant.gradient, false});
    Replays replays;
    for (size_t i = 0; i < libraries.size(); ++i) {
      callers[i]->block(first);  // the gradient that the refresh is valid for
      check_loss(libraries[i], p, variant, callers[i]->block(call), want);
      callers[i]->enqueue_and_wait(first);
      replays.push_back(std::make_unique<Replay>(*callers[i], std::vector<yl_call>(static_cast<size_t>(kCalls), call)));
    }
    const Samples graph = in_turn(libraries.size(), [&](size_t i) { return replays[i]->time(stream); });
    for (size_t i = 0; i < libraries.size(); ++i) check_loss(libraries[i], p, variant, callers[i]->summary(), want);
    const Samples streamed = in_turn(libraries.size(), [&](size_t i) {
      return device_time(stream,
                         [&] {
                           for (int n = 0; n < kCalls; ++n) callers[i]->enqueue(call);
                         }) /
             kCalls;
    });
    const Samples blocking = single_calls(libraries.size(), [&](size_t i) { callers[i]->block(call); });
    const Samples async = single_calls(libraries.size(), [&](size_t i) { callers[i]->enqueue_and_wait(call); });
    for (size_t i = 0; i < libraries.size(); ++i) {
      std::printf(
          "{\"kind\": \"calls\", %s, %s, %s, \"graph_us\": %.2f, \"ratio\": %.3f, \"stream_us\": %.2f, "
          "\"blocking_us\": %s, \"async_us\": %s, \"bytes\": %lld, \"loss\": %.9g}\n",
          label(libraries[i]).c_str(), p.name().c_str(), variant.name().c_str(), median(graph[i]), ratio(graph, i),
          median(streamed[i]), percentiles(blocking[i]).c_str(), percentiles(async[i]).c_str(),
          static_cast<long long>(needed_bytes(p, want.objects, variant)), want.total);
      std::fflush(stdout);
    }
  }
}

size_t l2_bytes() {
#if defined(YL_SIMT)
  return 0;
#else
  cudaDeviceProp properties;
  OK(cudaGetDeviceProperties(&properties, 0));
  return static_cast<size_t>(properties.l2CacheSize);
#endif
}

void cold(const Problem &p, const Libraries &libraries, cudaStream_t stream) {
  const Callers callers = callers_of(libraries, p, stream);
  // The call that moves the fewest bytes decides how many arrays hold three times the L2.
  const size_t moved = static_cast<size_t>(needed_bytes(p, 0, {false, false, false}));
  const size_t sets = std::min<size_t>(300, std::max<size_t>(2, 3 * l2_bytes() / moved));
  std::vector<std::unique_ptr<Arrays>> arrays;
  for (size_t i = 0; i < sets; ++i) arrays.push_back(std::make_unique<Arrays>(libraries[0], p));
  for (const Variant &variant : kVariants) {
    if (variant.refresh) continue;  // it is valid only for the arrays of the plan's call before
    std::vector<yl_call> rotating;
    for (const auto &set : arrays) rotating.push_back(set->call(variant));
    Replays replays;
    for (const auto &caller : callers) {
      caller->enqueue_and_wait(rotating[0]);
      replays.push_back(std::make_unique<Replay>(*caller, rotating));
    }
    const Samples graph = in_turn(libraries.size(), [&](size_t i) { return replays[i]->time(stream); });
    for (size_t i = 0; i < libraries.size(); ++i) {
      std::printf("{\"kind\": \"cold\", %s, %s, %s, \"arrays\": %zu, \"graph_us\": %.2f, \"ratio\": %.3f}\n",
                  label(libraries[i]).c_str(), p.name().c_str(), variant.name().c_str(), sets, median(graph[i]),
                  ratio(graph, i));
      std::fflush(stdout);
    }
  }
}

// Calls each kind twice, so that a profiler sees every kernel without and with warm caches.
void once(const Problem &p, const Libraries &libraries, cudaStream_t stream) {
  const Arrays arrays(libraries[0], p);
  const Caller caller(libraries[0], p, stream);
  for (const Variant &variant : kVariants)
    for (int i = 0; i < 2; ++i) caller.enqueue_and_wait(arrays.call(variant));
  std::printf("{\"kind\": \"once\", %s, %s, \"loss\": %.9g}\n", label(libraries[0]).c_str(), p.name().c_str(),
              caller.summary().total);
}

#if !defined(YL_SIMT)
// Puts an event before, between and after the kernels of a captured call, which must be a chain, and times them.
void apart(const Problem &p, const Libraries &libraries, cudaStream_t stream) {
  const Arrays arrays(libraries[0], p);
  const Caller caller(libraries[0], p, stream);
  for (const Variant &variant : kVariants) {
    const yl_call call = arrays.call(variant);
    caller.enqueue_and_wait(arrays.call({variant.dense, variant.gradient, false}));
    cudaGraph_t graph = caller.capture({call});
    size_t count = 0, edges = 0;
    OK(cudaGraphGetNodes(graph, nullptr, &count));
    std::vector<cudaGraphNode_t> nodes(count);  // a chain, in the order of capture
    OK(cudaGraphGetNodes(graph, nodes.data(), &count));
    OK(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
    if (edges + 1 != count) {
      wrong("the kernels of a call are not a chain: " + std::to_string(count) + " nodes, " + std::to_string(edges) +
            " edges");
      OK(cudaGraphDestroy(graph));
      continue;
    }
    std::vector<cudaEvent_t> events(count + 1);
    for (cudaEvent_t &event : events) OK(cudaEventCreate(&event));
    cudaGraphNode_t mark;
    OK(cudaGraphAddEventRecordNode(&mark, graph, nullptr, 0, events[0]));
    OK(cudaGraphAddDependencies(graph, &mark, &nodes[0], nullptr, 1));
    for (size_t i = 0; i < count; ++i) {
      OK(cudaGraphAddEventRecordNode(&mark, graph, &nodes[i], 1, events[i + 1]));
      if (i + 1 < count) OK(cudaGraphAddDependencies(graph, &mark, &nodes[i + 1], nullptr, 1));
    }
    cudaGraphExec_t replay;
    OK(cudaGraphInstantiate(&replay, graph, 0));
    Samples times(count);
    for (int turn = 0; turn < 20 * kTurns; ++turn) {
      OK(cudaGraphLaunch(replay, stream));
      OK(cudaStreamSynchronize(stream));
      for (size_t i = 0; i < count; ++i) {
        float milliseconds;
        OK(cudaEventElapsedTime(&milliseconds, events[i], events[i + 1]));
        times[i].push_back(1e3 * milliseconds);
      }
    }
    std::string list;
    for (const auto &samples : times) list += (list.empty() ? "" : ", ") + std::to_string(median(samples));
    std::printf("{\"kind\": \"apart\", %s, %s, %s, \"kernels_us\": [%s]}\n", label(libraries[0]).c_str(),
                p.name().c_str(), variant.name().c_str(), list.c_str());
    std::fflush(stdout);
    OK(cudaGraphExecDestroy(replay));
    OK(cudaGraphDestroy(graph));
    for (const cudaEvent_t event : events) OK(cudaEventDestroy(event));
  }
}

// The limit is a hint; what the device made of it is printed.
void fetch(const Problem &p, const Libraries &libraries, cudaStream_t stream) {
  const Arrays arrays(libraries[0], p);
  const Caller caller(libraries[0], p, stream);
  size_t before;
  OK(cudaDeviceGetLimit(&before, cudaLimitMaxL2FetchGranularity));
  for (const size_t wanted : {before, size_t(32), size_t(64), size_t(128)}) {
    OK(cudaDeviceSetLimit(cudaLimitMaxL2FetchGranularity, wanted));
    size_t got;
    OK(cudaDeviceGetLimit(&got, cudaLimitMaxL2FetchGranularity));
    for (const Variant &variant : kVariants) {
      if (variant.refresh) continue;
      const yl_call call = arrays.call(variant);
      caller.enqueue_and_wait(call);
      const Replay replay(caller, std::vector<yl_call>(static_cast<size_t>(kCalls), call));
      std::printf("{\"kind\": \"fetch\", %s, %s, \"wanted\": %zu, \"granularity\": %zu, \"graph_us\": %.2f}\n",
                  p.name().c_str(), variant.name().c_str(), wanted, got,
                  median(in_turn(1, [&](size_t) { return replay.time(stream); })[0]));
      std::fflush(stdout);
    }
  }
  OK(cudaDeviceSetLimit(cudaLimitMaxL2FetchGranularity, before));
}
#endif

void forms(const Size &size, const Libraries &libraries, cudaStream_t stream) {
  for (const int32_t dtype : {YL_F32, YL_F16, YL_BF16})
    for (const int32_t layout : {YL_NHWC, YL_NCHW}) {
      const Problem p(size.classes, size.batch, dtype, layout);
      const Arrays arrays(libraries[0], p);
      const yl_summary want = p.expected(libraries[0]);
      for (const bool stats : {false, true}) {
        const Caller caller(libraries[0], p, stream, stats);
        const Variant variant{true, true, false};
        const yl_call call = arrays.call(variant);
        const double us = median(in_turn(1, [&](size_t) {
          return device_time(stream, [&] {
            for (int i = 0; i < kCalls; ++i) caller.enqueue(call);
          });
        })[0]);
        check_loss(libraries[0], p, variant, caller.summary(), want);
        std::printf("{\"kind\": \"forms\", \"form\": \"%s %s%s\", %s, \"stream_us\": %.2f}\n",
                    dtype == YL_F32   ? "f32"
                    : dtype == YL_F16 ? "f16"
                                      : "bf16",
                    layout == YL_NCHW ? "NCHW" : "NHWC", stats ? " with statistics" : "", p.name().c_str(),
                    us / kCalls);
        std::fflush(stdout);
      }
    }
}

void host(const Problem &p, const Libraries &libraries) {
  const Library &library = libraries[0];
  yl_plan *const plan = p.plan(library, YL_DEVICE_CUDA, YL_MEMORY_HOST, p.batch);
  const yl_summary want = p.expected(library);
  for (const bool pinned : {false, true}) {
    std::vector<void *> memories;
    const auto make = [&](size_t bytes) {
      void *made;
      if (pinned)
        OK(cudaHostAlloc(&made, bytes, cudaHostAllocPortable));
      else
        made = std::calloc(bytes, 1);
      if (!made) die("cuda_bench: no memory");
      memories.push_back(made);
      return made;
    };
    const void *feats[kLayers];
    void *grads[kLayers];
    for (size_t l = 0; l < kLayers; ++l) {
      feats[l] = std::memcpy(make(p.feats[l].size()), p.feats[l].data(), p.feats[l].size());
      grads[l] = make(p.feats[l].size());
    }
    yl_boxes rows = YL_BOXES_INIT;
    rows.data = p.boxes.data(), rows.per_image = Problem::kBoxes;
    yl_call call = YL_CALL_INIT;
    call.batch = p.batch, call.feats = feats, call.boxes = &rows;
    for (const bool gradient : {false, true}) {
      call.grads = gradient ? grads : nullptr;
      yl_summary summary{};
      yl_result result = YL_RESULT_INIT;
      result.summary = &summary;
      std::vector<double> times;
      for (int i = 0; i < kWarmUps + kTurns; ++i) {
        const auto start = Clock::now();
        OK_OF(library, loss(plan, &call, &result));
        if (i >= kWarmUps) times.push_back(microseconds_since(start));
      }
      const Variant variant{false, gradient, false};
      check_loss(library, p, variant, summary, want);
      std::printf("{\"kind\": \"host\", \"memory\": \"%s\", %s, %s, \"blocking_us\": %.1f}\n",
                  pinned ? "pinned" : "pageable", p.name().c_str(), variant.name().c_str(), median(times));
      std::fflush(stdout);
    }
    for (void *memory : memories) {
      if (pinned)
        OK(cudaFreeHost(memory));
      else
        std::free(memory);
    }
  }
  library.plan_destroy(plan);
}

// Computes a batch that repeats eight images until its last layer alone holds more than 2^31 float16 values, and
// compares it with those images: with the same normaliser the loss is a multiple of theirs, and the gradients of the
// first, the middle and the last copy have the same bits as theirs.
void large(const Libraries &libraries) {
  const Library &library = libraries[0];
  const Problem p(80, kRehearsal ? 1 : 8, YL_F16);
  size_t values = 0, free_bytes = 0, total_bytes = 0;
  for (size_t l = 0; l < kLayers; ++l) values += p.values(l);
  const size_t copies = kRehearsal ? 3 : (size_t(1) << 31) / p.values(kLayers - 1) + 2;
  for (const bool dense : {false, true}) {
    const size_t bytes = copies * values * (dense ? 8 : 4) + (size_t(4) << 30);  // and the plan's
    OK(cudaMemGetInfo(&free_bytes, &total_bytes));
    if (!kRehearsal && bytes > free_bytes) {
      std::printf("{\"kind\": \"large\", \"skipped\": \"%zu MB are needed, %zu are free\"}\n", bytes >> 20,
                  free_bytes >> 20);
      continue;
    }
    const Variant variant{dense, true, false};
    const Arrays few(library, p), many(library, p, copies, dense);
    yl_plan *const plan = p.plan(library, YL_DEVICE_CUDA, YL_MEMORY_DEVICE, many.batch);
    yl_summary summaries[2] = {};
    for (const Arrays *arrays : {&few, &many}) {
      yl_call call = arrays->call(variant);
      call.normaliser = YL_NORMALISER_VALUE, call.normaliser_value = 8;
      yl_result result = YL_RESULT_INIT;
      result.summary = &summaries[arrays == &many];
      OK_OF(library, loss(plan, &call, &result));
    }
    const double want = summaries[0].total * static_cast<double>(copies);
    if (std::fabs(summaries[1].total / want - 1) > 1e-9 ||
        summaries[1].objects != summaries[0].objects * static_cast<int64_t>(copies))
      wrong("the loss of a layer of 2^31 values is " + std::to_string(summaries[1].total) + ", expected " +
            std::to_string(want));
    for (size_t l = 0; l < kLayers; ++l) {
      const size_t size = p.feats[l].size();
      std::vector<char> expected(size), got(size);
      copy(expected.data(), few.grads[l], size);
      for (const size_t at : {size_t(0), copies / 2, copies - 1}) {
        copy(got.data(), static_cast<const char *>(many.grads[l]) + at * size, size);
        if (got != expected)
          wrong("the gradient of copy " + std::to_string(at) + " of layer " + std::to_string(l) +
                " differs from that of the images alone");
      }
    }
    library.plan_destroy(plan);
    std::printf("{\"kind\": \"large\", %s, \"batch\": %d, \"values\": %zu, \"loss\": %.9g}\n", variant.name().c_str(),
                many.batch, copies * values, summaries[1].total);
    std::fflush(stdout);
  }
}

// Measures what the first use of a library in a process costs. The context is made before it is loaded, since a program
// that uses CUDA has one.
void load(const char *path) {
  const auto start = Clock::now();
  OK(cudaFree(nullptr));
  const double context = microseconds_since(start);
  const auto opening = Clock::now();
  const Library library(path);
  const double opened = microseconds_since(opening);
  const Problem p(80, 1);
  const auto planning = Clock::now();
  yl_plan *const plan = p.plan(library);
  const double planned = microseconds_since(planning);
  const Arrays arrays(library, p);
  const yl_call call = arrays.call(kVariants[0]);
  yl_summary summary{};
  yl_result result = YL_RESULT_INIT;
  result.summary = &summary;
  const auto calling = Clock::now();
  OK_OF(library, loss(plan, &call, &result));
  const double called = microseconds_since(calling);
  library.plan_destroy(plan);
  std::printf(
      "{\"kind\": \"load\", %s, \"context_ms\": %.1f, \"open_ms\": %.2f, \"plan_ms\": %.2f, \"call_ms\": %.2f}\n",
      label(library).c_str(), 1e-3 * context, 1e-3 * opened, 1e-3 * planned, 1e-3 * called);
}

int usage() {
  std::fprintf(stderr,
               "cuda_bench MODE [CLASSES:BATCH]... LIBRARY...    (the head of cuda_bench.cu says what modes do)\n");
  return 2;
}

}  // namespace

int main(int count, char **arguments) {
  if (count < 3) return usage();
  const std::string mode = arguments[1];
  std::vector<Size> sizes;
  std::vector<const char *> paths;
  for (int i = 2; i < count; ++i) {
    Size size;
    if (std::sscanf(arguments[i], "%d:%d", &size.classes, &size.batch) == 2)
      sizes.push_back(size);
    else
      paths.push_back(arguments[i]);
  }
  if (paths.empty()) return usage();
  if (mode == "load") {
    load(paths[0]);
    return 0;
  }
  Libraries libraries;
  for (const char *path : paths) libraries.emplace_back(path);
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  if (mode == "machine") {
    machine(libraries[0], stream);
    return 0;
  }
  if (mode == "large") {
    large(libraries);
    return is_wrong;
  }
  for (const Size &size : sizes) {
    if (mode == "forms") {
      forms(size, libraries, stream);
      continue;
    }
    const Problem problem(size.classes, size.batch);
    if (mode == "calls") {
      calls(problem, libraries, stream);
    } else if (mode == "cold") {
      cold(problem, libraries, stream);
    } else if (mode == "once") {
      once(problem, libraries, stream);
    } else if (mode == "host") {
      host(problem, libraries);
#if !defined(YL_SIMT)
    } else if (mode == "apart") {
      apart(problem, libraries, stream);
    } else if (mode == "fetch") {
      fetch(problem, libraries, stream);
#endif
    } else {
      return usage();
    }
  }
  return is_wrong;
}
