// compare_libraries bits|times BEFORE.so AFTER.so [WORDS]: shows that a refactoring keeps bits and speed.
//
// bits   runs the same calls through both libraries, each in a process of its own: golden cases and random ones over
// every
//        device, instruction set, type, order, kind of truths, gradient mode and option. Every output must be equal to
//        the last bit; only the reference device, which is an oracle and not an engine, may differ by a relative 1e-12.
// times  loads both libraries into one process and times them call by call in turn, so that both see the same machine.
//        Prints the median of each, and the median of the ratios of calls that follow each other.
//
// WORDS selects the lines whose name contains it. Both libraries must have this header's ABI.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "yololoss.h"

namespace {

[[noreturn]] void die(const std::string &sentence) {
  std::fprintf(stderr, "%s\n", sentence.c_str());
  std::exit(2);
}

// The functions of one loaded library.
struct Library {
  decltype(&yl_plan_create) plan_create;
  decltype(&yl_plan_destroy) plan_destroy;
  decltype(&yl_loss) loss;
  decltype(&yl_yolo_head) yolo_head;
  decltype(&yl_build_y_true) build_y_true;
  decltype(&yl_last_error) last_error;
  decltype(&yl_device_why) device_why;
  decltype(&yl_device_check) device_check;

  explicit Library(const char *path) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) die(dlerror());
    const auto find = [&](auto &function, const char *name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, name));
      if (!function) die(std::string(path) + " has no " + name);
    };
    find(plan_create, "yl_plan_create");
    find(plan_destroy, "yl_plan_destroy");
    find(loss, "yl_loss");
    find(yolo_head, "yl_yolo_head");
    find(build_y_true, "yl_build_y_true");
    find(last_error, "yl_last_error");
    find(device_why, "yl_device_why");
    find(device_check, "yl_device_check");
  }
};

// A repeatable source of numbers in [0, 1).
struct Random {
  uint64_t state;
  double next() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return double(state >> 11) * 0x1p-53;
  }
  float in(double low, double high) { return static_cast<float>(low + (high - low) * next()); }
};

uint16_t half_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000, exponent = bits >> 23 & 0xff;
  if (exponent == 0xff) return static_cast<uint16_t>(sign | 0x7c00 | (bits & 0x7fffff ? 0x200 : 0));
  if (exponent < 113) return static_cast<uint16_t>(sign);
  return static_cast<uint16_t>(sign | std::min((bits & 0x7fffffff) - 0x38000000, 0x0f7fe000u) >> 13);
}

int64_t size_of(int32_t dtype) { return dtype == YL_F64 ? 8 : dtype == YL_F32 ? 4 : 2; }

void store(std::vector<char> &to, int64_t i, int32_t dtype, float value) {
  char *at = to.data() + i * size_of(dtype);
  const double wide = value;
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const auto bfloat = static_cast<uint16_t>(bits >> 16);
  const uint16_t half = half_of(value);
  const void *from = dtype == YL_F64   ? static_cast<const void *>(&wide)
                     : dtype == YL_F32 ? static_cast<const void *>(&value)
                     : dtype == YL_F16 ? static_cast<const void *>(&half)
                                       : static_cast<const void *>(&bfloat);
  std::memcpy(at, from, static_cast<size_t>(size_of(dtype)));
}

// A configuration with logits and truths, as numbers that any type can store.
struct Problem {
  std::string name;
  int32_t batch, classes, input_height, input_width, anchors_of_layer, boxes_per_image;
  float thresh = 0.5f;
  std::vector<std::pair<int32_t, int32_t>> grids;
  std::vector<float> anchors;
  std::vector<int32_t> masks;
  std::vector<std::vector<float>> feats;   // NHWC
  std::vector<std::vector<float>> y_true;  // filled by the library from the boxes, or read
  std::vector<float> boxes, weights;

  int64_t cells(size_t l) const { return int64_t(grids[l].first) * grids[l].second * anchors_of_layer; }
  int64_t values(size_t l) const { return batch * cells(l) * (5 + classes); }
};

Problem random_problem(int32_t batch, int32_t classes, std::vector<std::pair<int32_t, int32_t>> grids, int32_t anchors,
                       int32_t boxes, uint64_t seed) {
  Random random{seed * 0x9e3779b97f4a7c15 + 1};
  const int32_t stride = 32;
  Problem p{"random " + std::to_string(seed) + " C=" + std::to_string(classes) + " B=" + std::to_string(batch),
            batch,
            classes,
            grids[0].first * stride,
            grids[0].second * stride,
            anchors,
            boxes};
  p.grids = std::move(grids);
  const auto layers = static_cast<int32_t>(p.grids.size());
  for (int32_t n = 0; n < layers * anchors; ++n) {
    p.anchors.push_back(float(10 + 17 * n));
    p.anchors.push_back(float(14 + 13 * n));
    p.masks.push_back(layers * anchors - 1 - n);
  }
  for (size_t l = 0; l < p.grids.size(); ++l) {
    p.feats.emplace_back(p.values(l));
    for (float &value : p.feats.back()) value = random.in(-6, 6) * random.in(0, 1);
  }
  for (int64_t i = 0; i < int64_t(batch) * boxes; ++i) {
    const float w = random.in(8, p.input_width * 0.7), h = random.in(8, p.input_height * 0.7);
    const float x = random.in(0, p.input_width - w), y = random.in(0, p.input_height - h);
    const bool unused = random.next() < 0.2;
    for (const float value : {x, y, x + w, y + h, std::floor(random.in(0, classes))})
      p.boxes.push_back(unused ? 0 : std::floor(value));
    p.weights.push_back(random.in(0.1, 2));
  }
  return p;
}

std::vector<float> read_npy(const std::string &path, std::vector<int32_t> &shape) {
  std::FILE *file = std::fopen(path.c_str(), "rb");
  if (!file) die("cannot read " + path);
  unsigned char head[10];
  if (std::fread(head, 1, 10, file) != 10) die(path + " is no .npy file");
  std::string text(static_cast<size_t>(head[8] + 256 * head[9]), ' ');
  if (std::fread(text.data(), 1, text.size(), file) != text.size() || text.find("<f4") == std::string::npos)
    die(path + " is no float32 .npy file");
  shape.clear();
  size_t count = 1;
  for (const char *at = text.c_str() + text.find('(') + 1; *at != ')';) {
    char *end;
    const long extent = std::strtol(at, &end, 10);
    if (end != at) shape.push_back(static_cast<int32_t>(extent)), count *= static_cast<size_t>(extent);
    at = end == at ? at + 1 : end;
  }
  std::vector<float> values(count);
  if (std::fread(values.data(), 4, count, file) != count) die(path + " is too short");
  std::fclose(file);
  return values;
}

// The numbers after a name in a JSON file, to the end of its list.
std::vector<double> numbers(const std::string &json, const std::string &name) {
  size_t at = json.find("\"" + name + "\"");
  if (at == std::string::npos) die("no " + name + " in expected.json");
  at = json.find(':', at) + 1;
  std::vector<double> values;
  int depth = 0;
  for (const char *c = json.c_str() + at; *c;) {
    char *end;
    const double value = std::strtod(c, &end);
    if (end != c) {
      values.push_back(value);
      c = end;
      if (depth == 0) break;
      continue;
    }
    depth += (*c == '[') - (*c == ']');
    if (*c++ == ']' && depth == 0) break;
  }
  return values;
}

Problem golden_problem(const std::string &folder, const std::string &name) {
  Problem p{"golden " + name, 0, 0, 0, 0, 0, 0};
  std::FILE *file = std::fopen((folder + "/" + name + "/expected.json").c_str(), "rb");
  if (!file) die("no " + folder + "/" + name);
  std::string json;
  for (int c; (c = std::fgetc(file)) != EOF;) json += static_cast<char>(c);
  std::fclose(file);
  p.classes = static_cast<int32_t>(numbers(json, "num_classes")[0]);
  p.thresh = static_cast<float>(numbers(json, "ignore_thresh")[0]);
  p.input_height = static_cast<int32_t>(numbers(json, "input_shape")[0]);
  p.input_width = static_cast<int32_t>(numbers(json, "input_shape")[1]);
  for (const double value : numbers(json, "anchors")) p.anchors.push_back(static_cast<float>(value));
  for (const double value : numbers(json, "anchor_mask")) p.masks.push_back(static_cast<int32_t>(value));
  std::vector<int32_t> shape;
  for (int l = 0; l < 8; ++l) {
    const std::string base = folder + "/" + name + "/";
    if (access((base + "feats_" + std::to_string(l) + ".npy").c_str(), R_OK) != 0) break;
    p.feats.push_back(read_npy(base + "feats_" + std::to_string(l) + ".npy", shape));
    p.batch = shape[0];
    p.grids.push_back({shape[1], shape[2]});
    p.anchors_of_layer = shape[3] / (5 + p.classes);
    p.y_true.push_back(read_npy(base + "y_true_" + std::to_string(l) + ".npy", shape));
  }
  if (access((folder + "/" + name + "/boxes.npy").c_str(), R_OK) == 0) {
    p.boxes = read_npy(folder + "/" + name + "/boxes.npy", shape);
    p.boxes_per_image = shape[1];
    p.weights.assign(p.boxes.size() / 5, 0.75f);
  }
  return p;
}

// How a problem is computed.
struct Way {
  std::string name;
  int32_t device;
  std::string isa;
  int32_t dtype, layout, grad_dtype;
  bool rules;
};

struct Plan {
  const Library &library;
  const Problem &problem;
  const Way way;
  yl_plan *plan = nullptr;
  std::vector<std::vector<char>> feats, grads;
  std::vector<std::vector<float>> y_true, maps[3];
  std::vector<const void *> feats_at;
  std::vector<const float *> y_true_at;
  std::vector<void *> grads_at;
  std::vector<float *> maps_at[3];
  std::vector<yl_parts> rows, layers;
  std::vector<yl_stats> stats;
  yl_summary summary{};
  yl_offender offender{};
  yl_boxes boxes = YL_BOXES_INIT;

  Plan(const Library &lib, const Problem &p, const Way &w, int32_t threads = 2) : library(lib), problem(p), way(w) {
    setenv("YOLOLOSS_ISA", w.isa.c_str(), 1);
    if (w.isa.empty()) unsetenv("YOLOLOSS_ISA");
    const size_t count = p.grids.size();
    std::vector<yl_layer> given;
    for (size_t l = 0; l < count; ++l)
      given.push_back(
          {p.grids[l].first, p.grids[l].second, &p.masks[l * size_t(p.anchors_of_layer)], p.anchors_of_layer, 0});
    yl_rules rules = YL_RULES_INIT;
    std::vector<float> class_weights, threshes;
    for (int32_t c = 0; c < p.classes; ++c) class_weights.push_back(0.5f + 0.25f * float(c % 5));
    for (size_t l = 0; l < count; ++l) threshes.push_back(0.4f + 0.1f * float(l));
    rules.class_weights = class_weights.data();
    rules.ignore_threshes = threshes.data();
    rules.weight_xy = 1.5f, rules.weight_wh = 0.75f, rules.weight_object = 2, rules.weight_background = 0.3f;
    rules.weight_class = 1.25f, rules.label_smoothing = 0.1f, rules.ignore_scope = YL_SCOPE_IMAGE;
    yl_config config = YL_CONFIG_INIT;
    config.layers = given.data();
    config.anchors = p.anchors.data();
    config.layer_count = static_cast<int32_t>(count);
    config.anchor_count = static_cast<int32_t>(p.anchors.size() / 2);
    config.input_height = p.input_height;
    config.input_width = p.input_width;
    config.num_classes = p.classes;
    config.ignore_thresh = p.thresh;
    config.max_batch = p.batch;
    config.device = w.device;
    config.threads = threads;
    config.dtype = w.dtype;
    config.layout = w.layout;
    config.grad_dtype = w.grad_dtype;
    if (w.rules) config.rules = &rules;
    if (library.plan_create(&config, &plan)) die(w.name + ": " + library.last_error());
    const int64_t grad_size = w.grad_dtype == YL_GRAD_F32 ? 4 : size_of(w.dtype);
    for (size_t l = 0; l < count; ++l) {
      feats.emplace_back(p.values(l) * size_of(w.dtype));
      const int64_t channels = 5 + p.classes, places = int64_t(p.grids[l].first) * p.grids[l].second;
      for (int64_t i = 0; i < p.values(l); ++i) {
        const int64_t channel = i % channels, a = i / channels % p.anchors_of_layer,
                      cell = i / channels / p.anchors_of_layer;
        const int64_t image = cell / places, place = cell % places;
        const int64_t to =
            w.layout == YL_NHWC ? i : ((image * p.anchors_of_layer + a) * channels + channel) * places + place;
        store(feats.back(), to, w.dtype, p.feats[l][i]);
      }
      grads.emplace_back(p.values(l) * grad_size, '\0');
      y_true.emplace_back(p.values(l));
      for (auto &map : maps) map.emplace_back(p.batch * p.cells(l));
    }
    for (size_t l = 0; l < count; ++l) {
      feats_at.push_back(feats[l].data());
      grads_at.push_back(grads[l].data());
      y_true_at.push_back(p.y_true.empty() ? y_true[l].data() : p.y_true[l].data());
      for (int m = 0; m < 3; ++m) maps_at[m].push_back(maps[m][l].data());
    }
    rows.resize(count * size_t(p.batch));
    layers.resize(count);
    stats.resize(count);
    boxes.data = p.boxes.data();
    boxes.per_image = p.boxes_per_image;
    boxes.policy = YL_BOXES_CLAMP;
    if (p.y_true.empty()) {
      std::vector<float *> to;
      for (auto &layer : y_true) to.push_back(layer.data());
      yl_box_counts counts;
      if (library.build_y_true(plan, p.batch, &boxes, to.data(), &counts)) die(w.name + ": " + library.last_error());
    }
  }
  ~Plan() { library.plan_destroy(plan); }
  Plan(const Plan &) = delete;
};

struct Dump {
  std::FILE *file;
  std::string words;

  // Writes the name, the number of bytes and their hash; of the reference also the doubles, to be compared with a
  // tolerance.
  void put(const std::string &name, const void *from, size_t bytes, bool reference) {
    uint64_t hash = 14695981039346656037ull;
    for (size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const unsigned char *>(from)[i]) * 1099511628211ull;
    std::fprintf(file, "%s|%zu|%016llx", name.c_str(), bytes, static_cast<unsigned long long>(hash));
    if (reference)
      for (size_t i = 0; i < bytes / 8; ++i) std::fprintf(file, " %a", static_cast<const double *>(from)[i]);
    std::fputc('\n', file);
  }

  // The same for structs whose fields are of 8 bytes. A NaN is a NaN: its sign and payload are those of whichever
  // operand a compiler put first. A count, read as a double, is a tiny number and never a NaN.
  template <class Struct> void put_sums(const std::string &name, const Struct *from, size_t count, bool reference) {
    std::vector<double> fields(count * sizeof(Struct) / sizeof(double));
    std::memcpy(fields.data(), from, count * sizeof(Struct));
    for (double &field : fields)
      if (std::isnan(field)) field = NAN;
    put(name, fields.data(), count * sizeof(Struct), reference);
  }

  void put_map(const std::string &name, std::vector<float> map) {
    for (float &value : map)
      if (std::isnan(value)) value = NAN;
    put(name, map.data(), 4 * map.size(), false);
  }

  void results(Plan &p, const std::string &name, bool gradient, bool extras) {
    const bool reference = p.way.device == YL_DEVICE_REFERENCE;
    put_sums(name + " rows", p.rows.data(), p.rows.size(), reference);
    put_sums(name + " layers", p.layers.data(), p.layers.size(), reference);
    put_sums(name + " summary", &p.summary, 1, reference);
    for (size_t l = 0; l < p.grads.size(); ++l) {
      const bool wide = reference && p.way.dtype == YL_F64 && p.way.grad_dtype == YL_GRAD_LIKE_FEATS;
      if (gradient && !(reference && !wide))
        put(name + " grads " + std::to_string(l), p.grads[l].data(), p.grads[l].size(), wide);
      for (int m = 0; m < 3 && extras && !reference; ++m)
        put_map(name + " map " + std::to_string(m) + " " + std::to_string(l), p.maps[m][l]);
    }
    if (!extras) return;
    put_sums(name + " stats", p.stats.data(), p.stats.size(), reference);
    if (!reference) put(name + " offender", &p.offender, sizeof p.offender, false);
  }

  void calls(const Library &library, const Problem &problem, const Way &way) {
    Plan p(library, problem, way);
    const int32_t modes[] = {-1, YL_GRAD_OVERWRITE, YL_GRAD_REFRESH, YL_GRAD_ACCUMULATE};
    for (const int truths : {0, 1, 2}) {  // dense, boxes, boxes with weights
      if (truths && problem.boxes.empty()) continue;
      for (const int extras : {0, 1, 2}) {  // none, all, all with every value scanned
        for (const int32_t mode : modes) {
          const std::string name = problem.name + ", " + way.name + ", truths " + std::to_string(truths) + ", extras " +
                                   std::to_string(extras) + ", mode " + std::to_string(mode);
          p.boxes.weights = truths == 2 ? problem.weights.data() : nullptr;
          yl_call call = YL_CALL_INIT;
          call.feats = p.feats_at.data();
          call.y_true = truths ? nullptr : p.y_true_at.data();
          call.boxes = truths ? &p.boxes : nullptr;
          call.grads = mode < 0 ? nullptr : p.grads_at.data();
          call.batch = problem.batch;
          call.grad_mode = std::max(mode, 0);
          call.grad_scale = 3;
          call.scan = extras == 2 ? YL_SCAN_ALL : YL_SCAN_USED;
          call.normaliser = truths == 0   ? YL_NORMALISER_BATCH
                            : truths == 1 ? YL_NORMALISER_OBJECTS
                                          : YL_NORMALISER_VALUE;
          call.normaliser_value = 7;
          yl_result result = YL_RESULT_INIT;
          result.summary = &p.summary;
          result.layers = p.layers.data();
          result.rows = p.rows.data();
          if (extras) {
            result.stats = p.stats.data();
            result.offender = &p.offender;
            result.ignore_mask = p.maps_at[0].data();
            result.best_iou = p.maps_at[1].data();
            result.cell_loss = p.maps_at[2].data();
          }
          if (library.loss(p.plan, &call, &result)) die(name + ": " + library.last_error());
          if (name.find(words) != std::string::npos) results(p, name, mode >= 0, extras > 0);
        }
      }
    }
    for (size_t l = 0; l < p.grads.size(); ++l) {
      const auto cells = static_cast<size_t>(problem.batch * problem.cells(l));
      std::vector<float> grid(cells * 2), xy(cells * 2), wh(cells * 2), confidence(cells),
          probs(cells * size_t(problem.classes));
      yl_head head = YL_HEAD_INIT;
      head.feats = p.feats_at[l];
      head.grid = grid.data(), head.box_xy = xy.data(), head.box_wh = wh.data();
      head.box_confidence = confidence.data(), head.box_class_probs = probs.data();
      head.layer = static_cast<int32_t>(l);
      head.batch = problem.batch;
      if (library.yolo_head(p.plan, &head)) die(library.last_error());
      for (const auto *out : {&grid, &xy, &wh, &confidence, &probs})
        if (way.device != YL_DEVICE_REFERENCE)
          put(problem.name + ", " + way.name + ", head " + std::to_string(l), out->data(), 4 * out->size(), false);
      put(problem.name + ", " + way.name + ", y_true " + std::to_string(l), p.y_true[l].data(), 4 * p.y_true[l].size(),
          false);
    }
  }
};

std::vector<Way> ways(const Library &library) {
  std::vector<Way> result;
  const char *const dtypes[] = {"f32", "f16", "bf16", "f64"};
  for (const char *device : {"reference", "baseline", "avx2", "avx512", "cuda"}) {
    const bool cuda = !std::strcmp(device, "cuda"), reference = !std::strcmp(device, "reference");
    if (cuda && library.device_check(YL_DEVICE_CUDA, 0) != YL_OK) continue;
    for (int32_t dtype = 0; dtype < 4; ++dtype)
      for (int32_t layout = 0; layout < 2; ++layout)
        for (int32_t grad_dtype = 0; grad_dtype < 2; ++grad_dtype)
          for (int rules = 0; rules < 2; ++rules)
            result.push_back({std::string(device) + " " + dtypes[dtype] + (layout ? " nchw" : " nhwc") +
                                  (grad_dtype ? " f32 grads" : "") + (rules ? " rules" : ""),
                              cuda        ? YL_DEVICE_CUDA
                              : reference ? YL_DEVICE_REFERENCE
                                          : YL_DEVICE_CPU,
                              cuda || reference ? "" : device, dtype, layout, grad_dtype, rules == 1});
  }
  return result;
}

std::vector<Problem> problems(const char *golden) {
  std::vector<Problem> all;
  for (const char *name : {"a_small_3scale", "b_one_class_416", "c_tiny_2scale", "d_nonsquare", "e_empty_and_crowded",
                           "e2_all_empty", "f_soft_targets", "g_extreme_logits", "h_builder_edges"})
    all.push_back(golden_problem(golden, name));
  all.push_back(random_problem(3, 1, {{5, 7}, {10, 14}}, 3, 9, 1));
  all.push_back(random_problem(2, 37, {{4, 4}, {8, 8}, {16, 16}}, 3, 30, 2));
  all.push_back(random_problem(1, 80, {{13, 13}}, 5, 20, 3));
  all.push_back(random_problem(2, 3, {{9, 11}}, 1, 4, 4));
  Problem faults = random_problem(2, 6, {{6, 6}, {12, 12}}, 2, 12, 5);
  faults.name = "faults";
  Random random{99};
  for (auto &layer : faults.feats)
    for (float &value : layer) {
      const double dice = random.next();
      if (dice < 0.01) value = dice < 0.003 ? NAN : dice < 0.006 ? INFINITY : dice < 0.008 ? -INFINITY : 3e38f;
    }
  all.push_back(faults);
  return all;
}

int dump(const char *library_path, const char *golden, const char *out, const char *words) {
  const Library library(library_path);
  Dump dump{std::fopen(out, "w"), words};
  for (const Problem &problem : problems(golden))
    for (const Way &way : ways(library)) {
      const bool slow = way.device == YL_DEVICE_CUDA && problem.cells(0) > 400;
      if (slow && (way.rules || way.grad_dtype)) continue;
      if ((problem.name + ", " + way.name).find(words) == std::string::npos && std::strstr(words, "truths") == nullptr)
        continue;
      dump.calls(library, problem, way);
    }
  return std::fclose(dump.file);
}

// The largest relative difference of two lists of doubles; infinite where they are no numbers or counts that differ.
double difference(const char *a, const char *b) {
  double worst = 0;
  for (;;) {
    char *end_a, *end_b;
    const double x = std::strtod(a, &end_a), y = std::strtod(b, &end_b);
    if (end_a == a || end_b == b) return (end_a == a) == (end_b == b) ? worst : INFINITY;
    a = end_a, b = end_b;
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    if (std::fabs(x) < 1e-300) return INFINITY;  // a count
    worst = std::fmax(worst, std::isnan(x - y) ? INFINITY : std::fabs(x - y) / std::fmax(std::fabs(x), 1e-9));
  }
}

int bits(const char *self, const char *before, const char *after, const char *golden, const char *words) {
  std::string files[2];
  for (int i = 0; i < 2; ++i) {
    files[i] = "/tmp/compare_libraries." + std::to_string(getpid()) + "." + std::to_string(i);
    if (fork() == 0) {
      execl(self, self, "dump", i ? after : before, golden, files[i].c_str(), words, nullptr);
      _exit(3);
    }
  }
  for (int i = 0; i < 2; ++i) {
    int status = 0;
    wait(&status);
    if (status) die("a library failed to compute the calls");
  }
  std::FILE *const a = std::fopen(files[0].c_str(), "r"), *const b = std::fopen(files[1].c_str(), "r");
  char *line_a = nullptr, *line_b = nullptr;
  size_t size_a = 0, size_b = 0;
  long compared = 0, different = 0, reference = 0;
  double worst = 0;
  for (;;) {
    const auto got_a = getline(&line_a, &size_a, a), got_b = getline(&line_b, &size_b, b);
    if (got_a < 0 && got_b < 0) break;
    if (got_a < 0 || got_b < 0) die("the two libraries computed different numbers of outputs");
    ++compared;
    if (!std::strcmp(line_a, line_b)) continue;
    const char *const values_a = std::strstr(line_a, " 0x"), *const values_b = std::strstr(line_b, " 0x");
    if (std::strstr(line_a, ", reference") && values_a && values_b) {
      const double off = difference(std::strrchr(line_a, '|') + 17, std::strrchr(line_b, '|') + 17);
      worst = std::fmax(worst, off);
      ++reference;
      if (off <= 1e-12) continue;
      std::printf("%s: ", std::to_string(off).c_str());
    }
    if (++different <= 20) std::printf("DIFFERENT %.*s\n", static_cast<int>(std::strcspn(line_a, "|")), line_a);
  }
  for (const std::string &file : files) std::remove(file.c_str());
  std::printf("%ld outputs compared, %ld different; %ld of the reference differ, by at most a relative %.1e\n",
              compared, different, reference, worst);
  return different || !compared ? 1 : 0;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

int times(const char *before, const char *after, const char *words) {
  const Library libraries[] = {Library(before), Library(after)};
  double worst = 0;
  for (const int32_t threads : {1, 2})
    for (const int32_t classes : {1, 80})
      for (const int32_t batch : {1, 8, 32}) {
        const Problem problem = random_problem(batch, classes, {{13, 13}, {26, 26}, {52, 52}}, 3, 20, 7);
        for (const Way &way : ways(libraries[0])) {
          const bool main_way = way.dtype == YL_F32 && !way.grad_dtype && !way.rules && way.device == YL_DEVICE_CPU &&
                                libraries[0].device_why;
          if (!main_way || way.isa == "baseline") continue;
          std::unique_ptr<Plan> plans[] = {std::make_unique<Plan>(libraries[0], problem, way, threads),
                                           std::make_unique<Plan>(libraries[1], problem, way, threads)};
          if (!std::strstr(libraries[0].device_why(plans[0]->plan), way.isa.c_str())) continue;
          for (const int truths : {0, 1})
            for (const int gradient : {0, 1}) {
              const std::string name = "C=" + std::to_string(classes) + " B=" + std::to_string(batch) + " " + way.name +
                                       (truths ? " boxes" : " dense") + (gradient ? " gradient" : " loss") +
                                       " threads " + std::to_string(threads);
              if (name.find(words) == std::string::npos) continue;
              std::vector<double> seconds[2];
              double spent = 0;
              for (int round = 0; round < 2000 && (spent < 0.4 || round < 30); ++round)
                for (int k = 0; k < 2; ++k) {
                  const int i = (k + round) % 2;
                  Plan &p = *plans[i];
                  yl_call call = YL_CALL_INIT;
                  call.feats = p.feats_at.data();
                  call.y_true = truths ? nullptr : p.y_true_at.data();
                  call.boxes = truths ? &p.boxes : nullptr;
                  call.grads = gradient ? p.grads_at.data() : nullptr;
                  call.batch = batch;
                  yl_result result = YL_RESULT_INIT;
                  result.summary = &p.summary;
                  const auto start = std::chrono::steady_clock::now();
                  if (libraries[i].loss(p.plan, &call, &result)) die(libraries[i].last_error());
                  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
                  seconds[i].push_back(took);
                  spent += took;
                }
              std::vector<double> ratios;  // of calls that follow each other, which the machine treats the same
              for (size_t i = 0; i < seconds[0].size(); ++i) ratios.push_back(seconds[1][i] / seconds[0][i]);
              const double a = median(seconds[0]), b = median(seconds[1]), ratio = median(ratios);
              worst = std::fmax(worst, ratio);
              std::printf("%-60s %9.1f us %9.1f us  ratio %.3f\n", name.c_str(), 1e6 * a, 1e6 * b, ratio);
              std::fflush(stdout);
            }
        }
      }
  std::printf("largest ratio %.3f\n", worst);
  return 0;
}

}  // namespace

int main(int count, char **words) {
  const std::string mode = count > 1 ? words[1] : "";
  if (mode == "dump" && count == 6) return dump(words[2], words[3], words[4], words[5]);
  if (mode == "bits" && count >= 5) return bits(words[0], words[2], words[3], words[4], count > 5 ? words[5] : "");
  if (mode == "times" && count >= 4) return times(words[2], words[3], count > 4 ? words[4] : "");
  std::fprintf(stderr,
               "compare_libraries bits BEFORE.so AFTER.so src/test/resources/golden [WORDS]\n"
               "compare_libraries times BEFORE.so AFTER.so [WORDS]\n");
  return 2;
}
