// Any rows of boxes: the loss, the dense truths and the audit agree on what each row is, and boxes give the bits of the
// dense truths that they stand for.
#include <cfloat>

#include "fuzz.h"

namespace {

constexpr int32_t kLayers = 3, kBatch = 2;
const int32_t kMasks[kLayers][3] = {{3, 4, 5}, {1, 2, 3}, {1, 0, 5}};  // 3 and 5 twice
const float kAnchors[] = {10, 14, 23, 27, 37, 58, 81, 82, 90, 30, 60, 119};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  FuzzedDataProvider input(data, size);
  const auto classes = input.ConsumeIntegralInRange<int32_t>(1, 70);
  const auto scale = input.ConsumeIntegralInRange<int32_t>(1, 3);
  yl_layer layers[kLayers];
  for (int32_t l = 0; l < kLayers; ++l) layers[l] = {scale << l, (scale + 1) << l, kMasks[l], 2 + l % 2, 0};
  yl_config config = YL_CONFIG_INIT;
  config.layers = layers;
  config.anchors = kAnchors;
  config.layer_count = kLayers;
  config.anchor_count = 6;
  config.input_height = 32 * scale;
  config.input_width = 32 * (scale + 1);
  config.num_classes = classes;
  config.max_batch = kBatch;
  config.device = input.ConsumeBool() ? YL_DEVICE_CPU : YL_DEVICE_REFERENCE;
  config.threads = 2;
  yl_plan *plan = nullptr;
  REQUIRE(yl_plan_create(&config, &plan) == YL_OK);

  yl_boxes boxes = YL_BOXES_INIT;
  boxes.policy = input.ConsumeIntegralInRange<int32_t>(0, 2);
  const auto poor_iou = static_cast<float>(input.ConsumeIntegralInRange(0, 10)) / 10;
  std::vector<float> rows;
  while (input.remaining_bytes() > 0 && rows.size() < 5 * 64) {
    if (!rows.empty() && input.ConsumeIntegral<uint8_t>() < 40) {  // a row once more, or near it: cells collide
      const size_t from = input.ConsumeIntegralInRange<size_t>(0, rows.size() / 5 - 1);
      for (size_t i = 0; i < 5; ++i)
        rows.push_back(rows[5 * from + i] + (i < 4 ? static_cast<float>(input.ConsumeIntegralInRange(0, 3)) : 0));
      continue;
    }
    const float x = float_from(input, -20, 150), y = float_from(input, -20, 120);
    rows.push_back(x);
    rows.push_back(y);
    rows.push_back(input.ConsumeBool() ? x + float_from(input, 0, 120) : float_from(input, 0, 150));
    rows.push_back(input.ConsumeBool() ? y + float_from(input, 0, 120) : float_from(input, 0, 120));
    rows.push_back(input.ConsumeIntegral<uint8_t>() < 20
                       ? float_from(input, -2, 90)
                       : static_cast<float>(input.ConsumeIntegralInRange(0, classes - 1)));
  }
  boxes.per_image = static_cast<int32_t>(rows.size() / 5 / kBatch);
  const size_t count = size_t(boxes.per_image) * kBatch;
  Exact exact_rows(count * 5 * sizeof(float));
  if (count) std::memcpy(exact_rows.data(), rows.data(), exact_rows.size());
  boxes.data = reinterpret_cast<const float *>(exact_rows.data());

  std::vector<std::unique_ptr<Exact>> memory;
  const auto add = [&](size_t bytes, unsigned char filled) {
    memory.push_back(std::make_unique<Exact>(bytes, filled));
    return memory.back().get();
  };
  std::vector<const void *> feats;
  std::vector<float *> y_true;
  std::vector<Exact *> truths, sparse_grads, dense_grads;
  std::vector<void *> sparse_at, dense_at;
  for (const yl_layer &layer : layers) {
    const size_t bytes =
        sizeof(float) * kBatch * layer.grid_height * layer.grid_width * layer.anchor_count * (5 + classes);
    Exact *const logits = add(bytes, 0);
    for (size_t i = 0; i < bytes / 4; ++i)
      reinterpret_cast<float *>(logits->data())[i] = static_cast<float>(i % 23) / 4 - 3;
    feats.push_back(logits->data());
    truths.push_back(add(bytes, 0xA5));
    y_true.push_back(reinterpret_cast<float *>(truths.back()->data()));
    sparse_grads.push_back(add(bytes, 0xA5));
    sparse_at.push_back(sparse_grads.back()->data());
    dense_grads.push_back(add(bytes, 0x5A));
    dense_at.push_back(dense_grads.back()->data());
  }
  yl_box_counts counts{};
  const yl_status built = yl_build_y_true(plan, kBatch, &boxes, y_true.data(), &counts);
  yl_call call = YL_CALL_INIT;
  call.feats = feats.data();
  call.boxes = &boxes;
  call.grads = sparse_at.data();
  call.batch = kBatch;
  yl_summary sparse, dense;
  yl_result result = YL_RESULT_INIT;
  result.summary = &sparse;
  REQUIRE(yl_loss(plan, &call, &result) == built);

  // The audit looks at all rows, whatever the policy.
  const auto capacity = static_cast<int64_t>(count / 2);
  std::vector<yl_finding> findings(static_cast<size_t>(capacity));
  int64_t reasons[YL_REASON_COUNT];
  std::vector<int64_t> use(kLayers * 6);
  std::vector<float> best(count);
  yl_audit_result audit = YL_AUDIT_RESULT_INIT;
  audit.findings = findings.data();
  audit.capacity = capacity;
  audit.counts = reasons;
  audit.anchor_use = use.data();
  audit.best_iou = count ? best.data() : nullptr;
  REQUIRE(yl_audit(plan, kBatch, nullptr, &boxes, poor_iou, &audit) == YL_OK);
  int64_t bad = 0;
  for (int reason = YL_REASON_NOT_FINITE; reason <= YL_REASON_OUTSIDE; ++reason) bad += reasons[reason];
  for (const float iou : best) REQUIRE(iou >= 0 && iou <= 1.0001f);

  if (built != YL_OK) {
    require_sentence(built);
    REQUIRE(built == YL_INVALID_BOXES && boxes.policy == YL_BOXES_ERROR && bad + reasons[YL_REASON_NORMALISED] > 0);
    for (size_t l = 0; l < kLayers; ++l) REQUIRE(truths[l]->holds_only(0xA5) && sparse_grads[l]->holds_only(0xA5));
    yl_plan_destroy(plan);
    return 0;
  }
  int64_t given = 0;  // rows that are not all zero
  for (size_t i = 0; i < count; ++i) {
    const float *row = boxes.data + 5 * i;
    given += row[0] != 0 || row[1] != 0 || row[2] != 0 || row[3] != 0;
  }
  REQUIRE(counts.used + counts.skipped == given);
  REQUIRE(boxes.policy != YL_BOXES_ERROR || (counts.skipped == 0 && counts.clamped == 0 && bad == 0));
  REQUIRE(boxes.policy != YL_BOXES_ERROR || reasons[YL_REASON_NORMALISED] == 0);
  REQUIRE(bad == counts.skipped + counts.clamped);
  REQUIRE(counts.dropped == reasons[YL_REASON_NO_LAYER]);
  REQUIRE(std::memcmp(&sparse.boxes, &counts, sizeof counts) == 0);

  std::vector<const float *> dense_truths(y_true.begin(), y_true.end());
  call.boxes = nullptr;
  call.y_true = dense_truths.data();
  call.grads = dense_at.data();
  result.summary = &dense;
  REQUIRE(yl_loss(plan, &call, &result) == YL_OK);
  dense.boxes = sparse.boxes;
  REQUIRE(std::memcmp(&sparse, &dense, sizeof dense) == 0);
  for (size_t l = 0; l < kLayers; ++l) REQUIRE(sparse_grads[l]->same(*dense_grads[l]));
  yl_plan_destroy(plan);
  return 0;
}
