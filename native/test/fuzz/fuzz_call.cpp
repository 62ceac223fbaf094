// Any call on a small plan, with logits and truths of any bits: a right result, the same on other threads and from
// other memory, or a status with its sentence and nothing written.
#include <cfloat>

#include "fuzz.h"

namespace {

constexpr int32_t kLayers = 2, kClasses = 3, kBatch = 2, kBoxes = 3;
constexpr int32_t kGrids[kLayers][2] = {{2, 3}, {5, 4}};
const int32_t kMasks[kLayers][2] = {{2, 3}, {0, 1}};
const float kAnchors[] = {10, 14, 23, 27, 60, 40, 90, 100};

size_t cells_of(int32_t l, int32_t batch) { return size_t(batch) * kGrids[l][0] * kGrids[l][1] * 2; }
size_t values_of(int32_t l, int32_t batch) { return cells_of(l, batch) * (5 + kClasses); }

struct Kind {
  int32_t device, dtype, layout, grad_dtype, scope, threads;
};

yl_plan *plan_of(const Kind &kind) {
  yl_layer layers[kLayers];
  for (int32_t l = 0; l < kLayers; ++l) layers[l] = {kGrids[l][0], kGrids[l][1], kMasks[l], 2, 0};
  yl_rules rules = YL_RULES_INIT;
  rules.ignore_scope = kind.scope;
  yl_config config = YL_CONFIG_INIT;
  config.layers = layers;
  config.anchors = kAnchors;
  config.layer_count = kLayers;
  config.anchor_count = 4;
  config.input_height = 160;
  config.input_width = 128;
  config.num_classes = kClasses;
  config.max_batch = kBatch;
  config.device = kind.device;
  config.dtype = kind.dtype;
  config.layout = kind.layout;
  config.grad_dtype = kind.grad_dtype;
  config.threads = kind.threads;
  config.rules = &rules;
  yl_plan *plan = nullptr;
  REQUIRE(yl_plan_create(&config, &plan) == YL_OK);
  return plan;
}

// The arrays of a call.
struct Arrays {
  std::vector<std::unique_ptr<Exact>> all;
  std::vector<const void *> feats;
  std::vector<const float *> y_true;
  std::vector<void *> grads;
  std::vector<float *> maps[3];
  std::unique_ptr<Exact> boxes, weights;
  std::vector<Exact *> outputs;  // gradients and maps

  char *add(size_t bytes) {
    all.push_back(std::make_unique<Exact>(bytes));
    return all.back()->data();
  }
  float *add_output(size_t bytes) {
    auto *const at = reinterpret_cast<float *>(add(bytes));
    outputs.push_back(all.back().get());
    return at;
  }
};

size_t size_of_grad(const Kind &kind) {
  return static_cast<size_t>(size_of(kind.grad_dtype == YL_GRAD_F32 ? static_cast<int32_t>(YL_F32) : kind.dtype));
}

void fill(Arrays &a, const Kind &kind, FuzzedDataProvider input) {  // a copy: two calls are given the same
  for (int32_t l = 0; l < kLayers; ++l) {
    const size_t values = values_of(l, kBatch), size = static_cast<size_t>(size_of(kind.dtype));
    char *const feats = a.add(values * size);
    for (size_t i = 0; i < values; ++i) {
      const float value = float_from(input, -6, 6);
      if (kind.dtype == YL_F32)  // with the bits of a NaN, which a conversion could change
        std::memcpy(feats + i * size, &value, size);
      else
        put(kind.dtype, feats + i * size, static_cast<double>(value));
    }
    a.feats.push_back(feats);
    auto *const truth = reinterpret_cast<float *>(a.add(4 * values));
    for (size_t i = 0; i < values; ++i) truth[i] = 0;
    for (size_t cell = 0; cell < cells_of(l, kBatch); ++cell) {
      if (input.ConsumeIntegral<uint8_t>() < 200) continue;
      for (int32_t c = 0; c < 5 + kClasses; ++c)
        truth[cell * (5 + kClasses) + c] = c == 4 ? float_from(input, 1, 1) : float_from(input, 0, 1);
    }
    a.y_true.push_back(truth);
    a.grads.push_back(a.add_output(values * size_of_grad(kind)));
    for (auto &map : a.maps) map.push_back(a.add_output(4 * cells_of(l, kBatch)));
  }
  a.boxes = std::make_unique<Exact>(sizeof(float) * kBatch * kBoxes * 5);
  a.weights = std::make_unique<Exact>(sizeof(float) * kBatch * kBoxes);
  auto *const rows = reinterpret_cast<float *>(a.boxes->data()), *const weights =
                                                                     reinterpret_cast<float *>(a.weights->data());
  for (int32_t i = 0; i < kBatch * kBoxes * 5; ++i)
    rows[i] = i % 5 == 4 ? input.ConsumeIntegralInRange(0, 3) : float_from(input, 0, 160);
  for (int32_t i = 0; i < kBatch * kBoxes; ++i) weights[i] = float_from(input, 0, 1);
}

struct Results {
  yl_summary summary;
  yl_parts layers[kLayers], rows[kLayers * kBatch];
  yl_stats stats[kLayers];
  yl_offender offender;
};

// What stands in the call, pointers that do not fit included. false: the call must be refused.
bool shape_call(FuzzedDataProvider &input, Arrays &a, yl_call &call, yl_boxes &boxes, yl_result &result,
                Results &into) {
  bool allowed = true;
  const auto rarely = [&] { return input.ConsumeIntegral<uint8_t>() < 6; };
  const auto spoilt = [&](auto *&pointer) {  // NULL, or not aligned
    using T = std::remove_reference_t<decltype(pointer)>;
    pointer = input.ConsumeBool() ? nullptr : reinterpret_cast<T>(reinterpret_cast<uintptr_t>(pointer) + 1);
  };
  call.batch = number_from(input, 1, kBatch);
  allowed &= call.batch >= 1 && call.batch <= kBatch;
  call.grad_mode = number_from(input, 0, 2);
  call.normaliser = number_from(input, 0, 3);
  call.scan = number_from(input, 0, 1);
  call.normaliser_value = rarely() ? float_from(input, -1, 1) : 2.5;
  call.grad_scale = rarely() ? float_from(input, -1, 1) : 1;
  boxes.data = reinterpret_cast<const float *>(a.boxes->data());
  boxes.per_image = input.ConsumeIntegralInRange<int32_t>(0, kBoxes);
  boxes.policy = number_from(input, 0, 2);
  if (input.ConsumeBool()) boxes.weights = reinterpret_cast<const float *>(a.weights->data());
  const bool dense = input.ConsumeBool();
  if (dense != rarely()) call.y_true = a.y_true.data();
  if (!call.y_true || rarely()) call.boxes = &boxes;
  allowed &= !call.y_true != !call.boxes;
  call.feats = a.feats.data();
  if (input.ConsumeBool()) call.grads = a.grads.data();
  result.summary = &into.summary;
  result.layers = into.layers;
  result.rows = into.rows;
  if (input.ConsumeBool()) {
    result.stats = into.stats;
    result.offender = &into.offender;
    result.ignore_mask = a.maps[0].data();
    result.best_iou = a.maps[1].data();
    result.cell_loss = a.maps[2].data();
  }
  if (input.ConsumeIntegral<uint8_t>() >= 100) return allowed;
  const auto l = input.ConsumeIntegralInRange<size_t>(0, kLayers - 1);
  const auto refused = [&](bool given) { return allowed &= !given; };
  switch (input.ConsumeIntegralInRange(0, 10)) {
    case 0: return spoilt(a.feats[l]), false;
    case 1: return spoilt(a.y_true[l]), refused(call.y_true);
    case 2: return spoilt(a.grads[l]), refused(call.grads);
    case 3: return spoilt(a.maps[2][l]), refused(result.cell_loss);
    case 4: return a.grads[0] = a.grads[1], refused(call.grads);
    case 5:
      if (!call.y_true) return allowed;  // then it would be memory like any other, of another size
      return a.grads[0] = const_cast<float *>(a.y_true[0]), refused(call.grads);
    case 6: return call.feats = nullptr, false;
    case 7: return call.normaliser_at = a.y_true[0], call.normaliser = YL_NORMALISER_VALUE, false;
    case 8: call.struct_size = input.ConsumeIntegral<uint8_t>(); break;
    case 9: result.struct_size = input.ConsumeIntegral<uint8_t>(); break;
    default: boxes.struct_size = input.ConsumeIntegral<uint8_t>();
  }
  return allowed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  FuzzedDataProvider input(data, size);
  Kind kind{};
  const auto choice = input.ConsumeIntegral<uint16_t>();
  kind.device = choice % 3 == 0 ? YL_DEVICE_REFERENCE : YL_DEVICE_CPU;
  kind.dtype = choice / 3 % 4;
  kind.layout = choice / 12 % 2;
  kind.grad_dtype = choice / 24 % 2;
  kind.scope = choice / 48 % 2;
  kind.threads = 1;
  const char *const isas[] = {"baseline", "avx2", "avx512"};
  setenv("YOLOLOSS_ISA", isas[choice / 96 % 3], 1);
  yl_plan *const plan = plan_of(kind);
  kind.threads = 3;
  yl_plan *const other = plan_of(kind);

  const std::vector<uint8_t> shape_bytes = input.ConsumeBytes<uint8_t>(64);
  const std::vector<uint8_t> values = input.ConsumeRemainingBytes<uint8_t>();
  Results into[2];
  std::memset(into, 0xA5, sizeof into);
  const Results untouched = into[0];
  yl_status statuses[2];
  Arrays arrays[2];
  for (int i = 0; i < 2; ++i) {  // once on each plan
    FuzzedDataProvider shape(shape_bytes.data(), shape_bytes.size());
    Arrays &a = arrays[i];
    fill(a, kind, FuzzedDataProvider(values.data(), values.size()));
    std::vector<Exact> before;
    for (const Exact *output : a.outputs) before.emplace_back(output->size());
    yl_call call = YL_CALL_INIT;
    yl_boxes boxes = YL_BOXES_INIT;
    yl_result result = YL_RESULT_INIT;
    const bool allowed = shape_call(shape, a, call, boxes, result, into[i]);
    statuses[i] = yl_loss(i == 0 ? plan : other, &call, &result);
    if (statuses[i] != YL_OK) {
      require_sentence(statuses[i]);
      REQUIRE(statuses[i] == YL_INVALID_ARGUMENT || statuses[i] == YL_INVALID_BOXES || statuses[i] == YL_UNSUPPORTED);
      REQUIRE(std::memcmp(&into[i], &untouched, sizeof untouched) == 0);
      for (size_t o = 0; o < before.size(); ++o) REQUIRE(a.outputs[o]->same(before[o]));
    } else {
      REQUIRE(allowed);
    }
  }
  REQUIRE(statuses[0] == statuses[1]);
  REQUIRE(std::memcmp(&into[0], &into[1], sizeof(Results)) == 0);
  for (size_t o = 0; o < arrays[0].outputs.size(); ++o) REQUIRE(arrays[0].outputs[o]->same(*arrays[1].outputs[o]));
  yl_plan_destroy(plan);
  yl_plan_destroy(other);
  return 0;
}
