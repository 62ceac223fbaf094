// One call with everything around it. See run.h.
#include "run.h"

#include <algorithm>
#include <cstring>

#include "test.h"
#include "values.h"

std::unique_ptr<Config> config_of(const Case &c, const Options &options) {
  auto made = std::make_unique<Config>(c, options.device);
  made->config.dtype = options.dtype;
  made->config.layout = options.layout;
  made->config.grad_dtype = options.grad_dtype;
  if (options.has_rules) made->config.rules = &options.rules;
  return made;
}

void store_feats(const Case &c, size_t layer, const Options &options, char *at) {
  const Layer &l = c.layers[layer];
  const auto cells = static_cast<int64_t>(l.cells()), anchors = static_cast<int64_t>(l.anchors()),
             channels = static_cast<int64_t>(c.channels()), size = size_of(options.dtype);
  for (size_t i = 0; i < l.feats.size(); ++i)
    put(options.dtype, at + size * index_in(options.layout, static_cast<int64_t>(i), cells, anchors, channels),
        l.feats[i]);
}

namespace {

constexpr unsigned char kUnwritten = 0x7f;  // fills memory that a call writes

// The arrays of one call.
class Arrays {
 public:
  Arrays(const Case &c, const Options &options) : c_(c), options_(options) {
    for (size_t l = 0; l < c.layers.size(); ++l) add_layer(l);
    boxes_.per_image = c.boxes_per_image;
    boxes_.policy = options.policy;
    if (options.truths == Truths::kYTrue) return;
    boxes_.data = static_cast<const float *>(add(c.boxes.data(), 4 * c.boxes.size()).upload());
    if (!c.box_weights.empty())
      boxes_.weights = static_cast<const float *>(add(c.box_weights.data(), 4 * c.box_weights.size()).upload());
  }

  yl_call call() const {
    yl_call call = YL_CALL_INIT;
    call.feats = feats_.data();
    if (options_.truths == Truths::kYTrue)
      call.y_true = y_true_.data();
    else
      call.boxes = &boxes_;
    if (options_.gradient) call.grads = grads_.data();
    call.batch = c_.batch;
    call.grad_mode = options_.grad_mode;
    call.normaliser = options_.normaliser;
    call.scan = options_.scan;
    call.grad_scale = options_.grad_scale;
    return call;
  }

  // Returns the same call with each object one cell later: what a plan computes before a refresh.
  yl_call call_before_refresh() const {
    yl_call before = call();
    before.grad_mode = YL_GRAD_OVERWRITE;
    if (options_.truths == Truths::kYTrue) before.y_true = moved_y_true_.data();
    return before;
  }

  void request_maps(yl_result &result) const {
    result.ignore_mask = maps_[0].data();
    result.best_iou = maps_[1].data();
    result.cell_loss = maps_[2].data();
  }

  void fetch(Output &out) {
    std::vector<std::vector<float>> *const maps[] = {&out.ignore_mask, &out.best_iou, &out.cell_loss};
    for (size_t l = 0; l < c_.layers.size(); ++l) {
      const Layer &layer = c_.layers[l];
      const auto cells = static_cast<int64_t>(layer.cells()), anchors = static_cast<int64_t>(layer.anchors());
      const int64_t channels = static_cast<int64_t>(c_.channels()), size = size_of(grad_dtype());
      grad_memory_[l]->download();
      std::vector<double> grad(layer.feats.size());
      for (size_t i = 0; i < grad.size(); ++i)
        grad[i] = get(grad_dtype(), grad_memory_[l]->host() + size * index_in(options_.layout, static_cast<int64_t>(i),
                                                                              cells, anchors, channels));
      out.grads.push_back(std::move(grad));
      for (int m = 0; m < 3 && options_.statistics; ++m) {
        map_memory_[m][l]->download();
        const auto *values = reinterpret_cast<const float *>(map_memory_[m][l]->host());
        std::vector<float> map(c_.cells(l));
        for (size_t i = 0; i < map.size(); ++i)
          map[i] = values[index_in(options_.layout, static_cast<int64_t>(i), cells, anchors, 1)];
        maps[m]->push_back(std::move(map));
      }
    }
  }

 private:
  int32_t grad_dtype() const {
    return options_.grad_dtype == YL_GRAD_F32 ? static_cast<int32_t>(YL_F32) : options_.dtype;
  }
  CallMemory &add(size_t bytes) {
    memory_.push_back(std::make_unique<CallMemory>(options_.device.in_device_memory(), static_cast<int64_t>(bytes)));
    return *memory_.back();
  }
  CallMemory &add(const void *values, size_t bytes) {
    CallMemory &memory = add(bytes);
    if (bytes) std::memcpy(memory.host(), values, bytes);
    return memory;
  }

  void add_layer(size_t l) {
    const Layer &layer = c_.layers[l];
    const size_t elements = layer.feats.size();
    CallMemory &feats = add(elements * static_cast<size_t>(size_of(options_.dtype)));
    store_feats(c_, l, options_, feats.host());
    feats_.push_back(feats.upload());
    if (options_.truths == Truths::kYTrue) {
      y_true_.push_back(static_cast<const float *>(add(layer.y_true.data(), 4 * elements).upload()));
      if (options_.grad_mode == YL_GRAD_REFRESH) {
        std::vector<float> moved(c_.channels(), 0.0f);
        moved.insert(moved.end(), layer.y_true.begin(), layer.y_true.end() - static_cast<int64_t>(c_.channels()));
        moved_y_true_.push_back(static_cast<const float *>(add(moved.data(), 4 * elements).upload()));
      }
    }
    if (options_.gradient_over_feats) {
      grad_memory_.push_back(&feats);
      grads_.push_back(const_cast<void *>(feats_.back()));
    } else {
      const int64_t size = size_of(grad_dtype());
      CallMemory &grads = add(elements * static_cast<size_t>(size));
      for (size_t i = 0; i < elements; ++i)
        put(grad_dtype(), grads.host() + size * static_cast<int64_t>(i), options_.gradient_before);
      grad_memory_.push_back(&grads);
      grads_.push_back(grads.upload());
    }
    for (int m = 0; m < 3; ++m) {
      CallMemory &map = add(4 * c_.cells(l));
      std::memset(map.host(), kUnwritten, 4 * c_.cells(l));
      map_memory_[m].push_back(&map);
      maps_[m].push_back(static_cast<float *>(map.upload()));
    }
  }

  const Case &c_;
  const Options &options_;
  std::vector<std::unique_ptr<CallMemory>> memory_;
  std::vector<const void *> feats_;
  std::vector<const float *> y_true_, moved_y_true_;
  std::vector<void *> grads_;
  std::vector<float *> maps_[3];
  std::vector<CallMemory *> grad_memory_, map_memory_[3];
  yl_boxes boxes_ = YL_BOXES_INIT;
};

// The results of one call, each in memory of its own; pinned where a device writes them itself.
class Results {
 public:
  Results(const Case &c, const Options &options) : options_(options), layers_(c.layers.size()), images_(c.images()) {
    result.summary = add<yl_summary>(1);
    result.layers = add<yl_parts>(layers_);
    result.rows = add<yl_parts>(layers_ * images_);
    completion = add<yl_completion>(1);
    auto *const stats = add<yl_stats>(layers_);
    auto *const offender = add<yl_offender>(1);
    if (options.statistics) result.stats = stats, result.offender = offender;
  }

  void fetch(Output &out) const {
    out.summary = *result.summary;
    out.layers.assign(result.layers, result.layers + layers_);
    out.rows.assign(result.rows, result.rows + layers_ * images_);
    if (!options_.statistics) return;
    out.stats.assign(result.stats, result.stats + layers_);
    out.offender = *result.offender;
  }

  yl_result result = YL_RESULT_INIT;
  yl_completion *completion;

 private:
  template <class T> T *add(size_t count) {
    const auto bytes = static_cast<int64_t>(count * sizeof(T));
    void *at;
    if (options_.device.way == Way::kAsync) {
      pinned_.push_back(std::make_unique<Pinned>(bytes));
      at = pinned_.back()->as();
    } else {
      guarded_.push_back(std::make_unique<Guarded>(bytes));
      at = guarded_.back()->data();
    }
    std::memset(at, kUnwritten, static_cast<size_t>(bytes));
    return static_cast<T *>(at);
  }

  const Options &options_;
  const size_t layers_, images_;
  std::vector<std::unique_ptr<Pinned>> pinned_;
  std::vector<std::unique_ptr<Guarded>> guarded_;
};

}  // namespace

Output run(const Case &c, const Options &options) {
  Output out;
  const std::unique_ptr<Config> made = config_of(c, options);
  if (!CHECK_OK(made->create(), named(c, options))) return out;
  Arrays arrays(c, options);
  Results results(c, options);
  if (options.statistics) arrays.request_maps(results.result);
  if (options.grad_mode == YL_GRAD_REFRESH) {
    const yl_call before = arrays.call_before_refresh();
    CHECK_OK(yl_loss(made->plan, &before, nullptr), named(c, options));
  }
  const yl_call call = arrays.call();
  if (options.device.way == Way::kAsync) {
    const Stream stream;
    results.result.completion = results.completion;
    out.status = yl_loss_async(made->plan, &call, stream.get(), &results.result);
    stream.synchronize();
    if (out.status == YL_OK) out.status = static_cast<yl_status>(results.completion->status);
  } else {
    out.status = yl_loss(made->plan, &call, &results.result);
  }
  if (out.status == YL_OK) {
    results.fetch(out);
    arrays.fetch(out);
  }
  return out;
}

Output run_on_reference(const Case &c, Options options) {
  options.device = reference_device();
  options.dtype = YL_F64;
  options.layout = YL_NHWC;
  options.grad_dtype = YL_GRAD_LIKE_FEATS;
  return run(c, options);
}

std::string named(const Case &c, const Options &o) {
  const char *const dtypes[] = {"f32", "f16", "bf16", "f64"}, *const modes[] = {"overwrite", "refresh", "accumulate"};
  return c.name + ", " + o.device.name + ", " + dtypes[o.dtype] + (o.grad_dtype ? " with f32 gradient" : "") +
         (o.layout ? ", NCHW" : ", NHWC") + (o.truths == Truths::kBoxes ? ", boxes" : ", y_true") +
         (o.has_rules ? ", rules" : "") + (o.statistics ? ", statistics" : "") +
         (o.gradient ? std::string(", ") + modes[o.grad_mode] : ", loss only") +
         (o.gradient_over_feats ? " over feats" : "");
}
