// Times the library through its C header, and the machine's memory, in the serve protocol of the side-by-side runs:
//
//   native_bench --serve [--threads N]      then lines  DIR MODE VARIANT SECONDS  on stdin, a JSON line for each
//   native_bench --dir DIR [--mode fwd|grad] [--variants c-dense,c-boxes] [--seconds S] [--threads N]
//
// DIR holds feats_<l>.npy, y_true_<l>.npy, boxes.npy (x, y, w, h as fractions of the input, class; w = 0: unused) and
// meta.json. MODE: fwd (loss only) or grad. VARIANT: c-dense or c-boxes, then any of -refresh, -nchw, -f16, -bf16; or
// floor: the time of moving the bytes that the dense call must move (bench/results/NOTES.md), measured here and now.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <thread>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "case.h"
#include "values.h"

namespace {

constexpr int64_t kLine = 64;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

[[noreturn]] void stop(const std::string &sentence) { throw std::runtime_error(sentence); }

struct FreeAligned {
  void operator()(char *p) const { ::operator delete(p, std::align_val_t(kLine)); }
};
using Bytes = std::unique_ptr<char, FreeAligned>;
Bytes bytes_of(int64_t count) {
  Bytes bytes(static_cast<char *>(::operator new(static_cast<size_t>(count), std::align_val_t(kLine))));
  std::memset(bytes.get(), 0, static_cast<size_t>(count));
  return bytes;
}

struct Problem {
  int32_t batch = 0, classes = 0, input = 0;
  double loss = 0;
  std::vector<float> anchors, boxes;
  std::vector<Array> feats, y_true;
  int32_t boxes_per_image = 0;

  int64_t channels() const { return 5 + classes; }
  int64_t rows() const {
    int64_t sum = 0;
    for (const Array &f : feats) sum += static_cast<int64_t>(f.data.size()) / channels();
    return sum;
  }
};

Problem read_problem(const std::string &folder) {
  const std::string meta = read_text(folder + "/meta.json");
  if (meta.empty()) stop("no meta.json in " + folder);
  const auto one = [&](const char *key) { return read_numbers(meta, key).at(0); };
  Problem p;
  p.batch = static_cast<int32_t>(one("batch"));
  p.classes = static_cast<int32_t>(one("classes"));
  p.input = static_cast<int32_t>(one("input"));
  p.loss = one("loss_f64");
  for (const double a : read_numbers(meta, "anchors")) p.anchors.push_back(static_cast<float>(a));
  for (int l = 0; l < 3; ++l) {
    const std::string end = "_" + std::to_string(l) + ".npy";
    p.feats.push_back(read_npy(folder + "/feats" + end));
    p.y_true.push_back(read_npy(folder + "/y_true" + end));
    if (p.feats.back().data.empty() || p.y_true.back().data.empty()) stop("no feats or y_true in " + folder);
  }
  const Array given = read_npy(folder + "/boxes.npy");
  if (!given.data.empty()) p.boxes_per_image = static_cast<int32_t>(given.shape.at(1));
  for (size_t i = 0; i < given.data.size(); i += 5) {  // of nearly whole pixels: centre and size
    const auto pixels = [&](size_t k) {
      const float value = given.data[i + k] * static_cast<float>(p.input), whole = std::round(value);
      return std::fabs(value - whole) < 1e-3f ? whole : value;
    };
    const float x = pixels(0), y = pixels(1), w = pixels(2), h = pixels(3);
    const bool used = given.data[i + 2] > 0;
    for (const float v : {x - w / 2, y - h / 2, x + w / 2, y + h / 2, given.data[i + 4]})
      p.boxes.push_back(used ? v : 0);
  }
  return p;
}

// What a variant does when it is called, and what it gave last.
struct Runner {
  std::function<void()> call;
  double loss = 0;
  std::vector<double> digest;  // of the gradient: sum of magnitudes, position-weighted sum
};

bool has(const std::string &variant, const char *word) { return ("-" + variant + "-").find(word) != std::string::npos; }

// Memory and plan of a variant of ours.
struct Ours {
  std::vector<Bytes> memory;
  std::vector<const void *> feats;
  std::vector<const float *> y_true;
  std::vector<void *> grads;
  yl_boxes boxes = YL_BOXES_INIT;
  yl_call call = YL_CALL_INIT;
  yl_summary summary{};
  std::vector<yl_parts> parts, rows;
  yl_result result = YL_RESULT_INIT;
  yl_plan *plan = nullptr;
  ~Ours() { yl_plan_destroy(plan); }
};

void succeed(yl_status status) {
  if (status != YL_OK) stop(yl_last_error());
}

std::shared_ptr<Runner> ours(const Problem &p, const std::string &variant, bool gradient, int32_t threads) {
  auto state = std::make_shared<Ours>();
  Ours &s = *state;
  const int32_t dtype = has(variant, "-f16-") ? YL_F16 : has(variant, "-bf16-") ? YL_BF16 : YL_F32;
  const int32_t layout = has(variant, "-nchw-") ? YL_NCHW : YL_NHWC;
  const int32_t mask[] = {6, 7, 8, 3, 4, 5, 0, 1, 2};
  std::vector<yl_layer> layers;
  for (int l = 0; l < 3; ++l) {
    const int32_t side = static_cast<int32_t>(p.feats[l].shape[1]);
    layers.push_back({side, side, mask + 3 * l, 3, 0});
    const int64_t size = static_cast<int64_t>(p.feats[l].data.size()), item = size_of(dtype);
    Bytes feats = bytes_of(size * item), truths = bytes_of(size * 4), grads = bytes_of(size * item);
    for (int64_t i = 0; i < size; ++i)
      put(dtype, feats.get() + item * index_in(layout, i, int64_t(side) * side * 3, 3, p.channels()),
          p.feats[l].data[i]);
    std::memcpy(truths.get(), p.y_true[l].data.data(), static_cast<size_t>(size) * 4);
    s.feats.push_back(feats.get());
    s.y_true.push_back(reinterpret_cast<float *>(truths.get()));
    s.grads.push_back(grads.get());
    for (Bytes *b : {&feats, &truths, &grads}) s.memory.push_back(std::move(*b));
  }
  yl_config config = YL_CONFIG_INIT;
  config.layers = layers.data();
  config.layer_count = 3;
  config.anchors = p.anchors.data();
  config.anchor_count = static_cast<int32_t>(p.anchors.size() / 2);
  config.input_height = config.input_width = p.input;
  config.num_classes = p.classes;
  config.max_batch = p.batch;
  config.device = YL_DEVICE_CPU;
  config.dtype = dtype;
  config.layout = layout;
  config.threads = threads;
  succeed(yl_plan_create(&config, &s.plan));
  s.boxes.data = p.boxes.data();
  s.boxes.per_image = p.boxes_per_image;
  s.call.feats = s.feats.data();
  if (has(variant, "-boxes-"))
    s.call.boxes = &s.boxes;
  else
    s.call.y_true = s.y_true.data();
  if (gradient) s.call.grads = s.grads.data();
  s.call.batch = p.batch;
  s.parts.resize(layers.size());
  s.rows.resize(layers.size() * static_cast<size_t>(p.batch));
  s.result.summary = &s.summary;  // all that a call from Java asks for
  s.result.layers = s.parts.data();
  s.result.rows = s.rows.data();
  auto runner = std::make_shared<Runner>();
  runner->call = [state, raw = runner.get()] {
    succeed(yl_loss(state->plan, &state->call, &state->result));
    raw->loss = state->summary.total;
  };
  runner->call();
  if (gradient) {
    double sum = 0, weighted = 0;
    for (int l = 0; l < 3; ++l)
      for (int64_t i = 0, size = static_cast<int64_t>(p.feats[l].data.size()), side = p.feats[l].shape[1]; i < size;
           ++i) {
        const double v = get(dtype, static_cast<char *>(s.grads[l]) +
                                        size_of(dtype) * index_in(layout, i, side * side * 3, 3, p.channels()));
        sum += std::fabs(v);
        weighted += v * static_cast<double>(1 + i % 1009);
      }
    runner->digest = {sum, weighted};
    if (has(variant, "-refresh-")) s.call.grad_mode = YL_GRAD_REFRESH;
  }
  return runner;
}

// Moves bytes with threads of its own, which spin so that starting them is no part of the time.
class Mover {
 public:
  explicit Mover(int32_t threads) : threads_(threads) {
    for (int32_t t = 1; t < threads; ++t) workers_.emplace_back([this, t] { serve(t); });
  }
  ~Mover() {
    run([](int32_t) {}, true);
    for (std::thread &t : workers_) t.join();
  }
  void run(const std::function<void(int32_t)> &body, bool last = false) {
    body_ = &body;
    last_ = last;
    busy_ = threads_ - 1;
    ++round_;
    body(0);
    while (busy_ > 0) {
    }
  }
  int32_t threads() const { return threads_; }

 private:
  void serve(int32_t thread) {
    for (int seen = 0;;) {
      for (int i = 0; round_ == seen; ++i)
        if (i > 20000) std::this_thread::sleep_for(std::chrono::microseconds(50));
      ++seen;
      const bool last = last_;
      (*body_)(thread);
      --busy_;
      if (last) return;
    }
  }
  const int32_t threads_;
  const std::function<void(int32_t)> *body_ = nullptr;
  bool last_ = false;
  std::atomic<int> round_{0}, busy_{0};
  std::vector<std::thread> workers_;
};

volatile uint64_t sink;

void read_bytes(const char *from, int64_t count) {
  typedef uint64_t Words __attribute__((vector_size(64)));
  Words sums[4] = {};
  for (int64_t i = 0; i + 256 <= count; i += 256)
    for (int k = 0; k < 4; ++k) sums[k] += *reinterpret_cast<const Words *>(from + i + 64 * k);
  const Words all = sums[0] + sums[1] + sums[2] + sums[3];
  sink = all[0] + all[3] + all[7];
}

void write_bytes(char *to, int64_t count, float value) {
  for (int64_t i = 0; i + 64 <= count; i += 16) {
#if defined(__SSE2__)
    _mm_stream_ps(reinterpret_cast<float *>(to + i), _mm_set1_ps(value));
#else
    std::memcpy(to + i, &value, 4);
#endif
  }
}

// The bytes that a dense call must move, in lines of 64: of feats and y_true those that hold an objectness, all of the
// gradient, of which those with an objectness are not zero. Read and written one after the other in arrays larger than
// the caches where the call's own arrays are; else over and over.
std::shared_ptr<Runner> floor_of(const Problem &p, bool gradient, int32_t threads) {
  const int64_t row = p.channels() * 4, rows = p.rows();
  const int64_t touched = row >= kLine ? rows * kLine : rows * row, all = rows * row;
  const int64_t read = 2 * touched, other = gradient ? touched : 0, zero = gradient ? all - touched : 0;
  const int64_t used = 2 * touched + (gradient ? all : 0);
  const int64_t size = used > (24 << 20) ? int64_t(512) << 20 : read + other + zero + (1 << 20);
  struct State {
    Mover mover;
    Bytes memory;
    int64_t at = 0;
    State(int32_t count, int64_t bytes) : mover(count), memory(bytes_of(bytes)) {}
  };
  auto state = std::make_shared<State>(threads, size);
  auto runner = std::make_shared<Runner>();
  runner->loss = p.loss;
  runner->call = [state, size, read, other, zero] {
    State &s = *state;
    const auto share = [&](int64_t bytes, const auto &body) {
      const int64_t part = bytes / s.mover.threads() / 256 * 256;
      if (s.at + part * s.mover.threads() > size) s.at = 0;
      char *const from = s.memory.get() + s.at;
      s.mover.run([&](int32_t t) { body(from + t * part, part); });
      s.at += part * s.mover.threads();
    };
    if (size < int64_t(512) << 20) s.at = 0;
    share(read, read_bytes);
    if (zero) share(zero, [](char *to, int64_t n) { write_bytes(to, n, 0.0f); });
    if (other) share(other, [](char *to, int64_t n) { write_bytes(to, n, 1.5f); });
  };
  runner->call();
  return runner;
}

struct Server {
  int32_t threads = 2;
  std::string folder;
  Problem problem;
  std::map<std::string, std::shared_ptr<Runner>> runners;

  std::string answer(const std::string &dir, const std::string &mode, const std::string &variant, double seconds) {
    if (mode != "fwd" && mode != "grad") stop("unknown mode " + mode + ", expected fwd or grad");
    if (dir != folder) {
      runners.clear();
      folder.clear();
      problem = read_problem(dir);
      folder = dir;
    }
    std::shared_ptr<Runner> &runner = runners[variant + " " + mode];
    double first = 0;
    if (!runner) {
      const double start = now();
      const bool known = variant == "floor" || variant.rfind("c-dense", 0) == 0 || variant.rfind("c-boxes", 0) == 0;
      if (!known) stop("unknown variant " + variant);
      runner = variant == "floor" ? floor_of(problem, mode == "grad", threads)
                                  : ours(problem, variant, mode == "grad", threads);
      first = now() - start;
      for (int i = 0; i < 3; ++i) runner->call();
    }
    std::vector<double> ms;
    for (const double end = now() + seconds; now() < end || ms.size() < 3;) {
      const double start = now();
      runner->call();
      ms.push_back((now() - start) * 1e3);
    }
    std::sort(ms.begin(), ms.end());
    char text[512], digest[80] = "null";
    if (!runner->digest.empty())
      std::snprintf(digest, sizeof digest, "[%.17g, %.17g]", runner->digest[0], runner->digest[1]);
    std::snprintf(text, sizeof text,
                  "{\"peer\": \"yololoss-c\", \"variant\": \"%s\", \"mode\": \"%s\", \"classes\": %d, \"batch\": %d, "
                  "\"threads\": %d, \"median_ms\": %.6f, \"min_ms\": %.6f, \"p90_ms\": %.6f, \"calls\": %zu, "
                  "\"loss\": %.17g, \"rel_err\": %.3g, \"first_s\": %.2f, \"grad\": %s}",
                  variant.c_str(), mode.c_str(), problem.classes, problem.batch, threads, ms[ms.size() / 2], ms[0],
                  ms[ms.size() * 9 / 10], ms.size(), runner->loss, std::fabs(runner->loss / problem.loss - 1), first,
                  digest);
    return text;
  }
};

}  // namespace

int main(int argc, char **argv) {
  std::map<std::string, std::string> options{{"--mode", "grad"},
                                             {"--variants", "c-dense,c-boxes,c-boxes-refresh,floor"},
                                             {"--seconds", "1"},
                                             {"--threads", "2"}};
  bool serve = false;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--serve")
      serve = true;
    else if (i + 1 < argc)
      options[argv[i]] = argv[i + 1], ++i;
  }
  Server server;
  server.threads = std::atoi(options["--threads"].c_str());
  if (!serve) {
    std::istringstream variants(options["--variants"]);
    for (std::string variant; std::getline(variants, variant, ',');) {
      try {
        std::cout << server.answer(options["--dir"], options["--mode"], variant, std::stod(options["--seconds"]))
                  << "\n";
      } catch (const std::exception &e) {
        std::cerr << e.what() << "\n";
        return 1;
      }
    }
    return 0;
  }
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string dir, mode, variant;
    double seconds = 0;
    words >> dir >> mode >> variant >> seconds;
    try {
      std::cout << server.answer(dir, mode, variant, seconds) << std::endl;
    } catch (const std::exception &e) {
      std::cout << "{\"peer\": \"yololoss-c\", \"variant\": \"" << variant << "\", \"error\": \"" << e.what() << "\"}"
                << std::endl;
    }
  }
}
