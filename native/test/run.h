// A case in any type and order of feats, on any device, with any rules and extras: what the test matrix runs.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <memory>

#include "plan.h"
#include "dtype.h"

// Layers, truths and logits. Logits are kept as doubles in NHWC and stored as a run asks for.
struct Case {
  Golden g;  // its grids, anchors, masks, truths and boxes
  std::vector<std::vector<double>> feats;
  std::vector<float> box_weights;  // (B, T), or empty

  explicit Case(const Golden &golden) : g(golden) {
    for (const Array &f : g.feats) feats.emplace_back(f.data.begin(), f.data.end());
  }
  int64_t channels() const { return 5 + g.classes; }
  int64_t cells(size_t l) const { return g.feats[l].shape[1] * g.feats[l].shape[2] * g.anchors_per_layer; }
};

struct Setup {
  DeviceCase device;
  int32_t dtype = YL_F32, layout = YL_NHWC, grad_dtype = YL_GRAD_LIKE_FEATS;
  yl_rules rules = YL_RULES_INIT;
  bool with_rules = false;
  bool boxes = false;
  int32_t policy = YL_BOXES_ERROR;
  bool gradient = true;
  int32_t grad_mode = YL_GRAD_OVERWRITE;
  double before = 0;  // what grads hold before the call
  int32_t normaliser = YL_NORMALISER_BATCH, scan = YL_SCAN_USED;
  double grad_scale = 1;
  bool extras = false;  // statistics, offender, maps
  bool in_place = false;
};

struct Output {
  yl_status status = YL_INTERNAL;
  yl_summary summary{};
  std::vector<yl_parts> layers, rows;
  std::vector<std::vector<double>> grads;  // NHWC
  std::vector<yl_stats> stats;
  yl_offender offender{};
  std::vector<std::vector<float>> maps[3];  // ignore mask, best IoU, loss of cells: (B, H, W, A)
};

// Values of a type, to and from doubles.
inline void put(int32_t dtype, char *at, double value) {
  const auto copy = [&](auto stored) { std::memcpy(at, &stored, sizeof stored); };
  switch (dtype) {
    case YL_F16: return copy(yl::Store<yl::Half>::from(value));
    case YL_BF16: return copy(yl::Store<yl::Bfloat16>::from(value));
    case YL_F64: return copy(value);
    default: return copy(static_cast<float>(value));
  }
}
template <class T> double loaded(const char *at) {
  T stored;
  std::memcpy(&stored, at, sizeof stored);
  return yl::load(stored);
}
inline double get(int32_t dtype, const char *at) {
  switch (dtype) {
    case YL_F16: return loaded<yl::Half>(at);
    case YL_BF16: return loaded<yl::Bfloat16>(at);
    case YL_F64: return loaded<double>(at);
    default: return loaded<float>(at);
  }
}
inline double rounded(int32_t dtype, double value) {
  char bytes[8];
  put(dtype, bytes, value);
  return get(dtype, bytes);
}

// Host memory between two pages whose touch ends the program. It lies against the one behind it, or against the one before;
// what is left over up to the other holds a pattern that must still be there at the end.
class Guarded {
 public:
  explicit Guarded(int64_t bytes) : bytes_(static_cast<size_t>(bytes)) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    inner_ = std::max(page, (bytes_ + page - 1) / page * page);
    void *const mapped = mmap(nullptr, inner_ + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) std::abort();
    mapped_ = static_cast<char *>(mapped);
    first_ = mapped_ + page;
    start_ = guard_before ? first_ : first_ + inner_ - bytes_;
    std::memset(first_, kPattern, static_cast<size_t>(start_ - first_));
    std::memset(start_ + bytes_, kPattern, inner_ - bytes_ - static_cast<size_t>(start_ - first_));
    if (mprotect(mapped_, page, PROT_NONE) != 0 || mprotect(first_ + inner_, page, PROT_NONE) != 0) std::abort();
    ++made;
  }
  ~Guarded() {
    const auto is_pattern = [](char c) { return c == kPattern; };
    CHECK(std::all_of(first_, start_, is_pattern) && std::all_of(start_ + bytes_, first_ + inner_, is_pattern),
          "written beside memory of " + std::to_string(bytes_) + " bytes");
    munmap(mapped_, inner_ + 2 * static_cast<size_t>(first_ - mapped_));
  }
  Guarded(const Guarded &) = delete;
  char *data() { return start_; }
  template <class T> T *as() { return reinterpret_cast<T *>(start_); }
  size_t size() const { return bytes_; }

  static inline bool guard_before = false;
  static inline std::atomic<int64_t> made{0};

 private:
  static constexpr char kPattern = 0x5C;
  const size_t bytes_;
  size_t inner_;
  char *mapped_, *first_, *start_;
};

// Memory of a run: on the host, and for a device call its mirror.
class Memory {
 public:
  Memory(bool on_device, int64_t bytes) : host_(bytes), on_device_(on_device) {}
  char *host() { return host_.data(); }
  void *start() { return on_device_ ? mirror_.upload(host_.data(), static_cast<int64_t>(host_.size())) : host_.data(); }
  void fetch() {
    if (on_device_) mirror_.download(host_.data(), static_cast<int64_t>(host_.size()));
  }

 private:
  Guarded host_;
  const bool on_device_;
  Mirror mirror_;
};

// Place of element i of (B, H, W, A, channels) in the order of a layout.
inline int64_t place_of(int32_t layout, int64_t i, int64_t cells, int64_t anchors, int64_t channels) {
  if (layout == YL_NHWC) return i;
  const int64_t channel = i % channels, cell = i / channels % cells, image = i / channels / cells;
  return ((image * anchors + cell % anchors) * channels + channel) * (cells / anchors) + cell / anchors;
}

inline yl_plan *plan_of(const Case &c, const Setup &s) {
  std::vector<yl_layer> layers;
  yl_config config = config_of(c.g, s.device, layers);
  config.dtype = s.dtype;
  config.layout = s.layout;
  config.grad_dtype = s.grad_dtype;
  if (s.with_rules) config.rules = &s.rules;
  yl_plan *plan = nullptr;
  CHECK(yl_plan_create(&config, &plan) == YL_OK, yl_last_error());
  return plan;
}

inline Output run(const Case &c, const Setup &s) {
  const Golden &g = c.g;
  const auto count = static_cast<size_t>(g.layers);
  const bool on_device = s.device.way != Way::kHost;
  const int32_t grad_type = s.grad_dtype == YL_GRAD_F32 ? static_cast<int32_t>(YL_F32) : s.dtype;
  Output out;
  yl_plan *plan = plan_of(c, s);
  if (!plan) return out;

  std::vector<std::unique_ptr<Memory>> held;
  const auto memory = [&](int64_t bytes) -> Memory & {
    held.push_back(std::make_unique<Memory>(on_device, bytes));
    return *held.back();
  };
  std::vector<const void *> feats;
  std::vector<const float *> y_true, moved;  // moved: each object a cell further, for the call before a refresh
  std::vector<void *> grads;
  std::vector<Memory *> grad_memory, map_memory[3];
  std::vector<float *> maps[3];
  for (size_t l = 0; l < count; ++l) {
    const auto size = static_cast<int64_t>(c.feats[l].size()), cells = c.cells(l);
    const int64_t bytes = yl::size_of(s.dtype), grad_bytes = yl::size_of(grad_type);
    Memory &f = memory(size * bytes);
    for (int64_t i = 0; i < size; ++i)
      put(s.dtype, f.host() + bytes * place_of(s.layout, i, cells, g.anchors_per_layer, c.channels()),
          c.feats[l][static_cast<size_t>(i)]);
    feats.push_back(f.start());
    if (!s.boxes) {
      Memory &y = memory(size * 4);
      std::memcpy(y.host(), g.y_true[l].data.data(), static_cast<size_t>(size) * 4);
      y_true.push_back(static_cast<const float *>(y.start()));
      if (s.grad_mode == YL_GRAD_REFRESH) {
        Memory &other = memory(size * 4);
        const int64_t row = c.channels() * 4;
        std::memcpy(other.host() + row, y.host(), static_cast<size_t>(size * 4 - row));
        moved.push_back(static_cast<const float *>(other.start()));
      }
    }
    Memory &d = s.in_place ? f : memory(size * grad_bytes);
    for (int64_t i = 0; i < size && !s.in_place; ++i) put(grad_type, d.host() + i * grad_bytes, s.before);
    grad_memory.push_back(&d);
    grads.push_back(s.in_place ? const_cast<void *>(feats.back()) : d.start());
    for (int m = 0; m < 3; ++m) {
      map_memory[m].push_back(&memory(g.batch * cells * 4));
      std::memset(map_memory[m].back()->host(), 0x7f, static_cast<size_t>(g.batch * cells * 4));
      maps[m].push_back(static_cast<float *>(map_memory[m].back()->start()));
    }
  }
  yl_boxes boxes = YL_BOXES_INIT;
  boxes.per_image = g.boxes_per_image;
  boxes.policy = s.policy;
  if (s.boxes) {
    Memory &b = memory(static_cast<int64_t>(g.boxes.data.size()) * 4);
    std::memcpy(b.host(), g.boxes.data.data(), g.boxes.data.size() * 4);
    boxes.data = static_cast<const float *>(b.start());
    if (!c.box_weights.empty()) {
      Memory &w = memory(static_cast<int64_t>(c.box_weights.size()) * 4);
      std::memcpy(w.host(), c.box_weights.data(), c.box_weights.size() * 4);
      boxes.weights = static_cast<const float *>(w.start());
    }
  }
  out.layers.resize(count);
  out.rows.resize(count * static_cast<size_t>(g.batch));
  yl_call call = YL_CALL_INIT;
  call.feats = feats.data();
  if (s.boxes)
    call.boxes = &boxes;
  else
    call.y_true = y_true.data();
  if (s.gradient) call.grads = grads.data();
  call.batch = g.batch;
  call.grad_mode = s.grad_mode;
  call.normaliser = s.normaliser;
  call.scan = s.scan;
  call.grad_scale = s.grad_scale;

  // Results, each in memory of its own; pinned, where a device writes them itself.
  const bool async = s.device.way == Way::kAsync;
  void *stream = nullptr;
  if (async) CHECK(yl_stream_create(YL_DEVICE_CUDA, 0, &stream) == YL_OK, yl_last_error());
  std::vector<std::unique_ptr<Guarded>> on_host;
  std::vector<void *> pinned;
  const auto place = [&](size_t bytes) {
    void *at = nullptr;
    if (async) {
      CHECK(yl_device_malloc_host(YL_DEVICE_CUDA, static_cast<int64_t>(bytes), &at) == YL_OK, yl_last_error());
      pinned.push_back(at);
    } else {
      on_host.push_back(std::make_unique<Guarded>(static_cast<int64_t>(bytes)));
      at = on_host.back()->data();
    }
    std::memset(at, 0x7f, bytes);
    return at;
  };
  yl_result result = YL_RESULT_INIT;
  result.summary = static_cast<yl_summary *>(place(sizeof(yl_summary)));
  result.layers = static_cast<yl_parts *>(place(count * sizeof(yl_parts)));
  result.rows = static_cast<yl_parts *>(place(out.rows.size() * sizeof(yl_parts)));
  auto *const completion = static_cast<yl_completion *>(place(sizeof(yl_completion)));
  auto *const stats = static_cast<yl_stats *>(place(count * sizeof(yl_stats)));
  auto *const offender = static_cast<yl_offender *>(place(sizeof(yl_offender)));
  if (s.extras) {
    result.stats = stats;
    result.offender = offender;
    result.ignore_mask = maps[0].data();
    result.best_iou = maps[1].data();
    result.cell_loss = maps[2].data();
  }
  if (s.grad_mode == YL_GRAD_REFRESH) {
    call.grad_mode = YL_GRAD_OVERWRITE;
    if (!s.boxes) call.y_true = moved.data();
    CHECK(yl_loss(plan, &call, nullptr) == YL_OK, yl_last_error());
    call.grad_mode = YL_GRAD_REFRESH;
    if (!s.boxes) call.y_true = y_true.data();
  }
  if (async) {
    result.completion = completion;
    out.status = yl_loss_async(plan, &call, stream, &result);
    CHECK(yl_stream_synchronize(YL_DEVICE_CUDA, 0, stream) == YL_OK, yl_last_error());
    if (out.status == YL_OK) out.status = static_cast<yl_status>(completion->status);
  } else {
    out.status = yl_loss(plan, &call, &result);
  }
  if (out.status == YL_OK) {
    out.summary = *result.summary;
    std::copy_n(result.layers, out.layers.size(), out.layers.begin());
    std::copy_n(result.rows, out.rows.size(), out.rows.begin());
    if (s.extras) {
      out.stats.assign(stats, stats + count);
      out.offender = *offender;
    }
    for (size_t l = 0; l < count; ++l) {
      const auto size = static_cast<int64_t>(c.feats[l].size()), cells = c.cells(l);
      grad_memory[l]->fetch();
      out.grads.emplace_back(c.feats[l].size());
      for (int64_t i = 0; i < size; ++i)
        out.grads[l][static_cast<size_t>(i)] = get(
            grad_type, grad_memory[l]->host() +
                           yl::size_of(grad_type) * place_of(s.layout, i, cells, g.anchors_per_layer, c.channels()));
      for (int m = 0; m < 3 && s.extras; ++m) {
        map_memory[m][l]->fetch();
        const auto *values = reinterpret_cast<const float *>(map_memory[m][l]->host());
        out.maps[m].emplace_back(static_cast<size_t>(g.batch * cells));
        for (int64_t i = 0; i < g.batch * cells; ++i)
          out.maps[m][l][static_cast<size_t>(i)] = values[place_of(s.layout, i, cells, g.anchors_per_layer, 1)];
      }
    }
  }
  if (async) CHECK(yl_stream_destroy(YL_DEVICE_CUDA, 0, stream) == YL_OK, yl_last_error());
  for (void *at : pinned) CHECK(yl_device_free_host(YL_DEVICE_CUDA, at) == YL_OK, yl_last_error());
  yl_plan_destroy(plan);
  return out;
}

inline std::string named(const Case &c, const Setup &s) {
  const char *const dtypes[] = {"f32", "f16", "bf16", "f64"}, *const modes[] = {"overwrite", "refresh", "accumulate"};
  return c.g.name + ", " + s.device.name + ", " + dtypes[s.dtype] + (s.grad_dtype ? " with f32 gradient" : "") +
         (s.layout ? ", NCHW" : ", NHWC") + (s.boxes ? ", boxes" : ", dense") + (s.with_rules ? ", rules" : "") +
         (s.extras ? ", extras" : "") + (s.gradient ? std::string(", ") + modes[s.grad_mode] : ", loss only");
}
