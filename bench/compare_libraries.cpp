// compare_libraries bits|times BEFORE.so AFTER.so [WORDS]: shows that a refactoring keeps bits and speed.
//
// bits   runs the same calls through both libraries, each in a process of its own: golden cases and random ones over
//        every device, instruction set, type, order, kind of truths, gradient mode and option. Every output must be
//        equal to the last bit; only the reference device, an oracle and not an engine, may differ by 1e-12.
// times  loads both libraries into one process and times them call by call in turn, so that both see the same machine.
//        Prints the median of each, and the median of the ratios of calls that follow each other.
//
// WORDS selects the lines whose name contains it. Both libraries must have this header's ABI (library.h).
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

#include "case.h"
#include "library.h"
#include "values.h"
#include "yololoss.h"

namespace {

// A case with boxes that have weights; dense truths come from the boxes where the case has none.
Case with_boxes(Case c, int32_t per_image) {
  if (per_image > 0) add_random_boxes(c, per_image, 8, 0.7 * std::min(c.input_height, c.input_width));
  c.box_weights.clear();
  for (int32_t i = 0; i < c.batch * c.boxes_per_image; ++i) c.box_weights.push_back(0.25f + 0.125f * float(i % 13));
  return c;
}

// How a case is computed.
struct Way {
  std::string name;
  int32_t device;
  std::string isa;
  int32_t dtype, layout, grad_dtype;
  bool rules;
};

struct Plan {
  const Library &library;
  const Case &c;
  const Way way;
  yl_plan *plan = nullptr;
  std::vector<std::vector<char>> feats, grads;
  std::vector<std::vector<float>> maps[3];
  std::vector<const void *> feats_at;
  std::vector<const float *> y_true_at;
  std::vector<void *> grads_at;
  std::vector<float *> maps_at[3];
  std::vector<yl_parts> rows, layers;
  std::vector<yl_stats> stats;
  yl_summary summary{};
  yl_offender offender{};
  yl_boxes boxes = YL_BOXES_INIT;

  Plan(const Library &lib, const Case &of, const Way &w, int32_t threads = 2) : library(lib), c(of), way(w) {
    setenv("YOLOLOSS_ISA", w.isa.c_str(), 1);
    const size_t count = c.layers.size();
    std::vector<yl_layer> given;
    for (const Layer &layer : c.layers)
      given.push_back({int32_t(layer.height), int32_t(layer.width), layer.mask.data(), int32_t(layer.anchors()), 0});
    yl_rules rules = YL_RULES_INIT;
    std::vector<float> class_weights, threshes;
    for (int32_t i = 0; i < c.classes; ++i) class_weights.push_back(0.5f + 0.25f * float(i % 5));
    for (size_t l = 0; l < count; ++l) threshes.push_back(0.4f + 0.1f * float(l));
    rules.class_weights = class_weights.data();
    rules.ignore_threshes = threshes.data();
    rules.weight_xy = 1.5f, rules.weight_wh = 0.75f, rules.weight_object = 2, rules.weight_background = 0.3f;
    rules.weight_class = 1.25f, rules.label_smoothing = 0.1f, rules.ignore_scope = YL_SCOPE_IMAGE;
    yl_config config = YL_CONFIG_INIT;
    config.layers = given.data();
    config.anchors = c.anchors.data();
    config.layer_count = static_cast<int32_t>(count);
    config.anchor_count = static_cast<int32_t>(c.anchors.size() / 2);
    config.input_height = c.input_height;
    config.input_width = c.input_width;
    config.num_classes = c.classes;
    config.ignore_thresh = c.thresh;
    config.max_batch = c.batch;
    config.device = w.device;
    config.threads = threads;
    config.dtype = w.dtype;
    config.layout = w.layout;
    config.grad_dtype = w.grad_dtype;
    if (w.rules) config.rules = &rules;
    if (library.plan_create(&config, &plan)) die(w.name + ": " + library.last_error());
    const int64_t size = size_of(w.dtype), grad_size = w.grad_dtype == YL_GRAD_F32 ? 4 : size;
    for (size_t l = 0; l < count; ++l) {
      const auto elements = static_cast<int64_t>(c.elements(l));
      feats.emplace_back(elements * size);
      for (int64_t i = 0; i < elements; ++i) {
        const int64_t to =
            index_in(w.layout, i, int64_t(c.layers[l].cells()), int64_t(c.layers[l].anchors()), int64_t(c.channels()));
        put(w.dtype, &feats[l][to * size], c.layers[l].feats[i]);
      }
      grads.emplace_back(elements * grad_size, '\0');
      for (auto &map : maps) map.emplace_back(c.cells(l));
    }
    for (size_t l = 0; l < count; ++l) {
      feats_at.push_back(feats[l].data());
      grads_at.push_back(grads[l].data());
      y_true_at.push_back(c.layers[l].y_true.data());
      for (int m = 0; m < 3; ++m) maps_at[m].push_back(maps[m][l].data());
    }
    rows.resize(count * c.images());
    layers.resize(count);
    stats.resize(count);
    boxes.data = c.boxes.data();
    boxes.per_image = c.boxes_per_image;
    boxes.policy = YL_BOXES_CLAMP;
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

  void calls(const Library &library, const Case &c, const Way &way) {
    Plan p(library, c, way);
    const int32_t modes[] = {-1, YL_GRAD_OVERWRITE, YL_GRAD_REFRESH, YL_GRAD_ACCUMULATE};
    for (const int truths : {0, 1, 2}) {  // dense, boxes, boxes with weights
      if (truths && !c.has_boxes()) continue;
      for (const int extras : {0, 1, 2}) {  // none, all, all with every value scanned
        for (const int32_t mode : modes) {
          const std::string name = c.name + ", " + way.name + ", truths " + std::to_string(truths) + ", extras " +
                                   std::to_string(extras) + ", mode " + std::to_string(mode);
          p.boxes.weights = truths == 2 ? c.box_weights.data() : nullptr;
          yl_call call = YL_CALL_INIT;
          call.feats = p.feats_at.data();
          call.y_true = truths ? nullptr : p.y_true_at.data();
          call.boxes = truths ? &p.boxes : nullptr;
          call.grads = mode < 0 ? nullptr : p.grads_at.data();
          call.batch = c.batch;
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
    std::vector<std::vector<float>> y_true;
    std::vector<float *> y_true_at;
    for (size_t l = 0; l < c.layers.size(); ++l) y_true.emplace_back(c.elements(l));
    for (auto &layer : y_true) y_true_at.push_back(layer.data());
    yl_box_counts counts{};
    p.boxes.weights = nullptr;
    if (library.build_y_true(p.plan, c.batch, &p.boxes, y_true_at.data(), &counts)) die(library.last_error());
    for (size_t l = 0; l < c.layers.size(); ++l) {
      const std::string name = c.name + ", " + way.name + ", layer " + std::to_string(l);
      const size_t cells = c.cells(l);
      std::vector<float> grid(cells * 2), xy(cells * 2), wh(cells * 2), confidence(cells), probs(cells * c.classes);
      yl_head head = YL_HEAD_INIT;
      head.feats = p.feats_at[l];
      head.grid = grid.data(), head.box_xy = xy.data(), head.box_wh = wh.data();
      head.box_confidence = confidence.data(), head.box_class_probs = probs.data();
      head.layer = static_cast<int32_t>(l);
      head.batch = c.batch;
      if (library.yolo_head(p.plan, &head)) die(library.last_error());
      for (const auto *out : {&grid, &xy, &wh, &confidence, &probs})
        if (way.device != YL_DEVICE_REFERENCE) put_map(name + " head", *out);
      put_map(name + " y_true", y_true[l]);
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

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string &name : golden_names()) all.push_back(with_boxes(golden(name), 0));
  const auto random = [&](uint32_t seed, int32_t batch, int32_t classes, std::vector<RandomCase::Grid> grids,
                          int32_t boxes) {
    RandomCase wanted;
    wanted.seed = seed, wanted.batch = batch, wanted.classes = classes, wanted.grids = std::move(grids);
    wanted.logits = 6;
    all.push_back(with_boxes(random_case(wanted), boxes));
  };
  random(1, 3, 1, {{5, 7, 3}, {10, 14, 3}}, 9);
  random(2, 2, 37, {{4, 4, 3}, {8, 8, 3}, {16, 16, 3}}, 30);
  random(3, 1, 80, {{13, 13, 5}}, 20);
  random(4, 2, 3, {{9, 11, 1}}, 4);
  random(5, 2, 6, {{6, 6, 2}, {12, 12, 2}}, 12);
  Random dice(99);
  all.back().name = "faults";
  for (Layer &layer : all.back().layers)
    for (double &value : layer.feats)
      if (dice.one_in(100))
        value = dice.one_in(3) ? NAN : dice.one_in(2) ? INFINITY : dice.one_in(2) ? -INFINITY : 3e38;
  return all;
}

int dump(const char *library_path, const char *out, const char *words) {
  const Library library(library_path);
  Dump dump{std::fopen(out, "w"), words};
  for (const Case &c : cases())
    for (const Way &way : ways(library)) {
      const bool slow = way.device == YL_DEVICE_CUDA && c.layers[0].cells() > 400;
      if (slow && (way.rules || way.grad_dtype)) continue;
      if ((c.name + ", " + way.name).find(words) == std::string::npos && std::strstr(words, "truths") == nullptr)
        continue;
      dump.calls(library, c, way);
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

int bits(const char *self, const char *before, const char *after, const char *words) {
  std::string files[2];
  for (int i = 0; i < 2; ++i) {
    files[i] = "/tmp/compare_libraries." + std::to_string(getpid()) + "." + std::to_string(i);
    if (fork() == 0) {
      execl(self, self, "dump", i ? after : before, files[i].c_str(), words, nullptr);
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
        RandomCase wanted;
        wanted.batch = batch, wanted.classes = classes, wanted.grids = {{13, 13, 3}, {26, 26, 3}, {52, 52, 3}};
        wanted.object_share = 0.002, wanted.logits = 6;
        const Case c = with_boxes(random_case(wanted), 20);
        for (const Way &way : ways(libraries[0])) {
          const bool main_way = way.dtype == YL_F32 && !way.grad_dtype && !way.rules && way.device == YL_DEVICE_CPU &&
                                libraries[0].device_why;
          if (!main_way || way.isa == "baseline") continue;
          std::unique_ptr<Plan> plans[] = {std::make_unique<Plan>(libraries[0], c, way, threads),
                                           std::make_unique<Plan>(libraries[1], c, way, threads)};
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
                for (int i = 0; i < 2; ++i) {  // each always runs after the other, with the caches that it left
                  Plan &p = *plans[0];         // the arrays of both: a call's time depends on where they are
                  yl_call call = YL_CALL_INIT;
                  call.feats = p.feats_at.data();
                  call.y_true = truths ? nullptr : p.y_true_at.data();
                  call.boxes = truths ? &p.boxes : nullptr;
                  call.grads = gradient ? p.grads_at.data() : nullptr;
                  call.batch = batch;
                  yl_result result = YL_RESULT_INIT;
                  result.summary = &p.summary;
                  const auto start = std::chrono::steady_clock::now();
                  if (libraries[i].loss(plans[i]->plan, &call, &result)) die(libraries[i].last_error());
                  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
                  seconds[i].push_back(took);
                  spent += took;
                }
              std::vector<double> ratios;  // each of two calls in a row, which the machine treats the same
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
  if (mode == "dump" && count == 5) return dump(words[2], words[3], words[4]);
  if (mode == "bits" && count >= 4) return bits(words[0], words[2], words[3], count > 4 ? words[4] : "");
  if (mode == "times" && count >= 4) return times(words[2], words[3], count > 4 ? words[4] : "");
  std::fprintf(stderr, "compare_libraries bits|times BEFORE.so AFTER.so [WORDS]\n");
  return 2;
}
