// Any config: a plan that works, or a status with its sentence and no plan.
#include <cfloat>

#include "fuzz.h"

namespace {

// Whether a plan of this config can be tried here: it is small, or so large that it cannot be addressed and must be
// refused.
bool is_affordable(const yl_config &config, const std::vector<yl_layer> &layers) {
  double cells = 0;
  for (const yl_layer &layer : layers)
    cells += double(std::max(layer.grid_height, 1)) * std::max(layer.grid_width, 1) * std::max(layer.anchor_count, 1);
  const double values = cells * std::max(config.max_batch, 1) * (5.0 + std::max(config.num_classes, 1));
  return values < 2e6 || values > 1e19;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  FuzzedDataProvider input(data, size);
  const auto anchor_count = input.ConsumeIntegralInRange<int32_t>(0, 12);
  std::vector<float> anchors;
  for (int32_t i = 0; i < 2 * anchor_count; ++i) anchors.push_back(float_from(input, 1, 400));
  const auto layer_count = input.ConsumeIntegralInRange<int32_t>(0, 18);
  std::vector<std::vector<int32_t>> masks;
  std::vector<yl_layer> layers;
  for (int32_t l = 0; l < layer_count; ++l) {
    const auto count = input.ConsumeIntegralInRange<int32_t>(0, 4);
    masks.emplace_back();
    for (int32_t a = 0; a < count; ++a) masks.back().push_back(number_from(input, 0, std::max(0, anchor_count - 1)));
    masks.back().shrink_to_fit();
  }
  for (int32_t l = 0; l < layer_count; ++l) {
    yl_layer layer{number_from(input, 1, 8), number_from(input, 1, 8), masks[l].data(),
                   static_cast<int32_t>(masks[l].size()), 0};
    if (input.ConsumeIntegral<uint8_t>() < 8) layer.anchor_mask = nullptr;
    if (input.ConsumeIntegral<uint8_t>() < 8) layer.reserved = 1;
    layers.push_back(layer);
  }
  yl_config config = YL_CONFIG_INIT;
  config.layers = input.ConsumeIntegral<uint8_t>() < 8 ? nullptr : layers.data();
  config.anchors = input.ConsumeIntegral<uint8_t>() < 8 ? nullptr : anchors.data();
  config.layer_count = layer_count;
  config.anchor_count = anchor_count;
  config.input_height = number_from(input, 1, 640);
  config.input_width = number_from(input, 1, 640);
  config.num_classes = number_from(input, 1, 40);
  config.ignore_thresh = float_from(input, 0, 1);
  config.max_batch = number_from(input, 1, 4);
  config.device = number_from(input, 0, 2);
  config.device_index = number_from(input, 0, 0);
  config.memory = number_from(input, 0, 0);
  config.dtype = number_from(input, 0, 3);
  config.layout = number_from(input, 0, 1);
  config.threads = number_from(input, 1, 3);
  if (config.threads > 3 && config.threads <= 1024) config.threads = 0;  // a thousand threads take too long here
  config.grad_dtype = number_from(input, 0, 1);
  yl_rules rules = YL_RULES_INIT;
  std::vector<float> class_weights, threshes;
  if (input.ConsumeBool()) {
    config.rules = &rules;
    for (float *weight : {&rules.weight_xy, &rules.weight_wh, &rules.weight_object, &rules.weight_background,
                          &rules.weight_class, &rules.label_smoothing})
      *weight = float_from(input, 0, 1);
    rules.ignore_scope = number_from(input, 0, 1);
    rules.reserved = number_from(input, 0, 0);
    if (input.ConsumeBool() && config.num_classes > 0 && config.num_classes <= 40) {
      for (int32_t c = 0; c < config.num_classes; ++c) class_weights.push_back(float_from(input, 0, 2));
      rules.class_weights = class_weights.data();
    }
    if (input.ConsumeBool()) {
      for (int32_t l = 0; l < layer_count; ++l) threshes.push_back(float_from(input, 0, 1));
      if (layer_count > 0) rules.ignore_threshes = threshes.data();
    }
    if (input.ConsumeIntegral<uint8_t>() < 8) rules.struct_size = input.ConsumeIntegral<uint16_t>();
  }
  const auto sized = input.ConsumeIntegral<uint8_t>();
  if (sized < 4) config.struct_size = input.ConsumeIntegral<uint16_t>();
  if (sized == 4) config.struct_size = offsetof(yl_config, rules);
  if (!is_affordable(config, layers)) return 0;

  yl_plan *plan = reinterpret_cast<yl_plan *>(1);
  const yl_status status = yl_plan_create(input.ConsumeIntegral<uint8_t>() < 2 ? nullptr : &config, &plan);
  if (status != YL_OK) {
    require_sentence(status);
    REQUIRE(plan == nullptr);
    return 0;
  }
  REQUIRE(plan && *yl_device_name(plan) && *yl_device_why(plan));

  // The plan works: no boxes, and zeros for logits.
  const auto value = static_cast<size_t>(size_of(config.dtype));
  const size_t grad_value = config.grad_dtype == YL_GRAD_F32 ? 4 : value;
  std::vector<std::unique_ptr<Exact>> memory;
  std::vector<const void *> feats;
  std::vector<void *> grads;
  for (const yl_layer &layer : layers) {
    const size_t values = size_t(config.max_batch) * layer.grid_height * layer.grid_width * layer.anchor_count *
                          (5 + size_t(config.num_classes));
    memory.push_back(std::make_unique<Exact>(values * value, 0));
    feats.push_back(memory.back()->data());
    memory.push_back(std::make_unique<Exact>(values * grad_value));
    grads.push_back(memory.back()->data());
  }
  const yl_boxes none = YL_BOXES_INIT;
  yl_call call = YL_CALL_INIT;
  call.feats = feats.data();
  call.boxes = &none;
  call.grads = grads.data();
  call.batch = config.max_batch;
  yl_summary summary;
  yl_result result = YL_RESULT_INIT;
  result.summary = &summary;
  REQUIRE(yl_loss(plan, &call, &result) == YL_OK);
  REQUIRE(summary.objects == 0 && summary.non_finite == 0 && summary.normaliser == config.max_batch);
  REQUIRE(std::isfinite(summary.total) && summary.total >= 0);
  yl_plan_destroy(plan);
  return 0;
}
