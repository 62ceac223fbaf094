// A yl_config and its rules -> Shape, with everything that the rest of the library wants to know computed once: sizes
// of layers, anchors as fractions of the input, the device, the number of threads, the environment variables.
//
// The order of the checks matters in two places: counts are checked before the arrays that they describe, and the
// device before its limits. Nothing here is on the path of a call.
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "check/check.h"
#include "layout.h"
#include "truths.h"

namespace yl {
namespace {

// The limit of threads in yololoss.h.
constexpr int32_t kMaxThreads = 1024;

// Returns the number of processors that this process may use, 1..kMaxThreads. The affinity mask is read first, because
// a container or taskset may allow fewer processors than the machine has. Reading it fails on machines with more
// processors than cpu_set_t has bits (1,024); the standard library's count is used there.
int32_t usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::min(CPU_COUNT(&set), kMaxThreads);
  return std::max(1, std::min<int32_t>(static_cast<int32_t>(std::thread::hardware_concurrency()), kMaxThreads));
}

// Returns the value of YOLOLOSS_THREADS, or one thread for each processor if it is unset or empty. Any other text is an
// error, so that a misspelt value is not ignored silently.
int32_t default_threads(int32_t processors) {
  const char *const given = std::getenv("YOLOLOSS_THREADS");
  if (!given || !*given) return processors;
  char *end;
  const long threads = std::strtol(given, &end, 10);
  if (*end || threads < 1 || threads > kMaxThreads)
    fail(YL_INVALID_ARGUMENT,
         "the environment variable YOLOLOSS_THREADS is \"%.40s\", a whole number 1..%d is expected; unset it for one "
         "thread for each processor",
         given, kMaxThreads);
  return static_cast<int32_t>(threads);
}

// Returns the value of YOLOLOSS_DEBUG.
bool debug_requested() {
  const char *const given = std::getenv("YOLOLOSS_DEBUG");
  if (!given || !*given || std::strcmp(given, "0") == 0) return false;
  if (std::strcmp(given, "1") == 0) return true;
  fail(YL_INVALID_ARGUMENT, "the environment variable YOLOLOSS_DEBUG is \"%.40s\", 0 or 1 is expected", given);
}

// Returns the checked layer l. Anchor sizes become fractions of the input in double; each backend rounds them to its
// arithmetic once.
Layer check_layer(const yl_config &config, int32_t l) {
  const yl_layer &given = config.layers[l];
  char name[96];
  // Names a field for a sentence. One buffer serves all of them, since a sentence names one field.
  const auto named = [&](const char *field) {
    std::snprintf(name, sizeof name, "layers[%d].%s", l, field);
    return name;
  };
  check_at_least_one(named("grid_height"), given.grid_height);
  check_at_least_one(named("grid_width"), given.grid_width);
  check_at_least_one(named("anchor_count"), given.anchor_count);
  check_zero(named("reserved"), given.reserved);
  if (!given.anchor_mask) fail(YL_INVALID_ARGUMENT, "%s is NULL, anchor indices are expected", named("anchor_mask"));
  Layer layer{given.grid_height, given.grid_width, given.anchor_count, 0, {}, {}, config.ignore_thresh};
  layer.cells = product("a layer", {layer.height, layer.width, layer.anchors});
  // Cells are numbered by int32_t in every backend.
  check_between(named("cells (grid_height * grid_width * anchor_count)"), layer.cells, 1, INT32_MAX);
  for (int32_t a = 0; a < layer.anchors; ++a) {
    const int32_t n = given.anchor_mask[a];
    check_between(named("anchor_mask entry"), n, 0, config.anchor_count - 1);
    layer.anchor_mask.push_back(n);
    const float *anchor = config.anchors + 2 * int64_t(n);
    layer.anchor_sizes.push_back(double(anchor[0]) / config.input_width);
    layer.anchor_sizes.push_back(double(anchor[1]) / config.input_height);
  }
  return layer;
}

// Fails unless a weight is finite and >= 0.
void check_weight(const char *name, float value) {
  if (!(value >= 0) || !std::isfinite(value))
    fail(YL_INVALID_ARGUMENT, "rules.%s is %g, a finite number >= 0 is expected", name, value);
}

// Returns the checked rules; NULL means keras-yolo3's. plain becomes true if the rules change nothing, so that a caller
// who passes the defaults gets the fast kernels and the same bits. Thresholds of a layer's own go into the layers; they
// change no kernel, and therefore not plain.
Rules check_rules(const yl_config &config, std::vector<Layer> &layers) {
  // Without rules the defaults take the same path, so that they need no code of their own.
  const yl_rules keras = YL_RULES_INIT;
  const yl_rules given = take_sized<yl_rules>("rules", config.rules ? config.rules : &keras, keras);
  const float *const weights[] = {&given.weight_xy, &given.weight_wh, &given.weight_object, &given.weight_background,
                                  &given.weight_class};
  const char *const names[] = {"weight_xy", "weight_wh", "weight_object", "weight_background", "weight_class"};
  const bool image_scope = given.ignore_scope == YL_SCOPE_IMAGE;
  Rules rules{{given.weight_xy, given.weight_wh, given.weight_object, given.weight_background, given.weight_class,
               given.label_smoothing, nullptr, image_scope},
              {},
              given.label_smoothing == 0 && !image_scope && !given.class_weights};
  for (int i = 0; i < 5; ++i) {
    check_weight(names[i], *weights[i]);
    rules.plain &= *weights[i] == 1;
  }
  if (!(given.label_smoothing >= 0 && given.label_smoothing <= 1))
    fail(YL_INVALID_ARGUMENT, "rules.label_smoothing is %g, expected 0..1", given.label_smoothing);
  check_between("rules.ignore_scope", given.ignore_scope, YL_SCOPE_LAYER, YL_SCOPE_IMAGE);
  check_zero("rules.reserved", given.reserved);
  // Class weights always exist after the check, so backends need not test for NULL.
  for (int32_t c = 0; c < config.num_classes; ++c) {
    rules.class_weights.push_back(given.class_weights ? given.class_weights[c] : 1.0f);
    check_weight("class_weights entry", rules.class_weights.back());
  }
  for (size_t l = 0; l < layers.size() && given.ignore_threshes; ++l) {
    layers[l].ignore_thresh = given.ignore_threshes[l];
    if (!std::isfinite(layers[l].ignore_thresh))
      fail(YL_INVALID_ARGUMENT, "rules.ignore_threshes[%zu] is %g, a finite number is expected", l,
           layers[l].ignore_thresh);
  }
  return rules;
}

}  // namespace

void check_device(int32_t device, int32_t device_index) {
  check_between("device", device, YL_DEVICE_AUTO, YL_DEVICE_CUDA);
  if (device == YL_DEVICE_AUTO) return check_not_numbered(device_index);
  backend_of(device, device_index).check(device_index);
}

Shape check_config(const yl_config &config) {
  check_between("layer_count", config.layer_count, 1, kMostLayers);
  check_at_least_one("anchor_count", config.anchor_count);
  check_at_least_one("input_height", config.input_height);
  check_at_least_one("input_width", config.input_width);
  // A class of boxes is a float32, which represents whole numbers up to 2^24 exactly.
  check_between("num_classes", config.num_classes, 1, 1 << 24);
  check_at_least_one("max_batch", config.max_batch);
  check_between("threads", config.threads, 0, kMaxThreads);
  check_between("grad_dtype", config.grad_dtype, YL_GRAD_LIKE_FEATS, YL_GRAD_F32);
  if (!std::isfinite(config.ignore_thresh))
    fail(YL_INVALID_ARGUMENT, "ignore_thresh is %g, a finite number is expected", config.ignore_thresh);
  if (!config.layers) fail(YL_INVALID_ARGUMENT, "layers is NULL, %d layers are expected", config.layer_count);
  if (!config.anchors) fail(YL_INVALID_ARGUMENT, "anchors is NULL, %d pairs are expected", config.anchor_count);
  check_between("memory", config.memory, YL_MEMORY_HOST, YL_MEMORY_DEVICE);
  const bool device_memory = config.memory == YL_MEMORY_DEVICE;
  // YL_DEVICE_AUTO is resolved here, so that later code never meets it. A device that was requested by name is never
  // replaced.
  int32_t device = config.device;
  if (device == YL_DEVICE_AUTO) device = device_memory ? YL_DEVICE_CUDA : YL_DEVICE_CPU;
  // Fails with the reason if this machine or this build lacks the device; only then is the entry used.
  check_device(device, config.device_index);
  const BackendEntry &backend = backend_of(device, config.device_index);
  if (device_memory && !backend.memory)
    fail(YL_INVALID_ARGUMENT,
         "memory is device memory, which only a cuda device can reach, and device is %s; use YL_DEVICE_AUTO",
         backend.name);
  if (config.layer_count > backend.most_layers)
    fail(YL_UNSUPPORTED, "layer_count is %d, the %s device takes 1..%d; use the cpu device", config.layer_count,
         backend.name, backend.most_layers);
  check_between("dtype", config.dtype, YL_F32, YL_F64);
  check_between("layout", config.layout, YL_NHWC, YL_NCHW);

  // All single values are valid; what follows checks the arrays and the sizes.
  Shape shape{};
  shape.input_height = config.input_height;
  shape.input_width = config.input_width;
  shape.num_classes = config.num_classes;
  shape.channels = kFirstClass + config.num_classes;
  shape.dtype = config.dtype;
  shape.layout = config.layout;
  // float32 feats have float32 gradients in any case, so the flag is set only where the two types differ.
  shape.f32_grads = config.grad_dtype == YL_GRAD_F32 && config.dtype != YL_F32;
  shape.max_batch = config.max_batch;
  shape.processors = usable_processors();
  shape.threads = config.threads ? config.threads : default_threads(shape.processors);
  shape.debug = debug_requested();
  shape.device = device;
  shape.device_index = config.device_index;
  shape.device_memory = device_memory;
  for (int64_t i = 0; i < 2 * int64_t(config.anchor_count); ++i) {
    const float side = config.anchors[i];
    if (!(side > 0) || !std::isfinite(side))
      fail(YL_INVALID_ARGUMENT, "anchors: %s of anchor %lld is %g, a finite number of pixels > 0 is expected",
           i % 2 ? "height" : "width", static_cast<long long>(i / 2), side);
    shape.anchors.push_back(side);
  }
  int64_t cells = 0;
  for (int32_t l = 0; l < config.layer_count; ++l) {
    shape.layers.push_back(check_layer(config, l));
    cells += shape.layers.back().cells;
  }
  shape.rules = check_rules(config, shape.layers);
  // No size in the library can overflow once these products have been formed with the largest element type. The names
  // stand for the largest arrays.
  product("feats", {cells, shape.max_batch, shape.channels, sizeof(double)});
  product("the workspace", {cells, shape.max_batch, sizeof(Object)});
  // Rows are numbered by int32_t.
  check_between("max_batch * layer_count", product("rows", {shape.max_batch, config.layer_count}), 1, INT32_MAX);
  return shape;
}

}  // namespace yl
