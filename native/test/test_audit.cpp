// Labels that are wrong, planted in a large batch of healthy ones: yl_audit names each with its reason, its place and
// what a call would do, and the call does that.
#include <algorithm>
#include <functional>

#include "compare.h"
#include "large_batch.h"

namespace {

struct Audited {
  std::vector<yl_finding> findings = std::vector<yl_finding>(64);
  std::vector<int64_t> counts = std::vector<int64_t>(YL_REASON_COUNT), use;
  std::vector<float> best;
};

struct AuditOptions {
  Truths truths = Truths::kBoxes;
  int32_t policy = YL_BOXES_ERROR;
  float poor_iou = 0;
  int64_t capacity = 64;
};

Audited audit(const Case &c, const Device &device, const AuditOptions &options = {}) {
  Audited out;
  Plan p(c, device);
  const bool on_device = device.in_device_memory();
  out.use.assign(c.anchors.size() / 2 * c.layers.size(), -1);
  out.best.assign(static_cast<size_t>(c.batch * c.boxes_per_image), -1);
  yl_audit_result result = YL_AUDIT_RESULT_INIT;
  result.findings = out.findings.data();
  result.capacity = options.capacity;
  result.counts = out.counts.data();
  result.anchor_use = out.use.data();
  result.best_iou = out.best.data();
  CallMemory rows(on_device, c.boxes.data(), static_cast<int64_t>(4 * c.boxes.size())),
      weights(on_device, c.box_weights.data(), static_cast<int64_t>(4 * c.box_weights.size()));
  yl_boxes boxes = YL_BOXES_INIT;
  boxes.per_image = c.boxes_per_image;
  boxes.policy = options.policy;
  boxes.data = static_cast<const float *>(rows.upload());
  if (!c.box_weights.empty()) boxes.weights = static_cast<const float *>(weights.upload());
  std::vector<std::unique_ptr<CallMemory>> memory;
  std::vector<const float *> y_true;
  for (const Layer &layer : c.layers) {
    memory.push_back(
        std::make_unique<CallMemory>(on_device, layer.y_true.data(), static_cast<int64_t>(4 * layer.y_true.size())));
    y_true.push_back(static_cast<const float *>(memory.back()->upload()));
  }
  const bool dense = options.truths == Truths::kYTrue;
  CHECK_OK(
      yl_audit(p.plan, c.batch, dense ? y_true.data() : nullptr, dense ? nullptr : &boxes, options.poor_iou, &result),
      device.name);
  int64_t found = 0;
  for (const int64_t n : out.counts) found += n;
  out.findings.resize(static_cast<size_t>(std::min(found, options.capacity)));
  return out;
}

void on_every_device(const std::function<void(const Device &)> &body) {
  for (const Device &device : devices())
    if (!repeats_another(device)) body(device);
}

constexpr int32_t kPlantedImage = 4, kPlantedRow = 5;
float *planted_row(Case &c) {
  return &c.boxes[5 * static_cast<size_t>(kPlantedImage * c.boxes_per_image + kPlantedRow)];
}

}  // namespace

TEST(audit, healthy_labels_have_no_finding_and_each_box_its_best_anchor) {
  const Case c = large_batch();
  on_every_device([&](const Device &device) {
    const Audited fine = audit(c, device);
    CHECK_EQUAL(fine.findings.size(), size_t(0), device.name);
    int64_t used = 0;
    for (const int64_t n : fine.use) used += n;
    CHECK_EQUAL(used, 42, device.name);
    std::vector<double> want;  // the best possible IoU, at a common centre
    for (size_t i = 0; i < fine.best.size(); ++i) {
      const float *row = &c.boxes[5 * i];
      const double w = double(row[2] - row[0]), h = double(row[3] - row[1]);
      double best = 0;
      for (size_t n = 0; n < c.anchors.size(); n += 2) {
        const double aw = c.anchors[n], ah = c.anchors[n + 1], both = std::min(w, aw) * std::min(h, ah);
        best = std::max(best, both / (w * h + aw * ah - both));
      }
      want.push_back(best);
    }
    CHECK_ALL_NEAR(fine.best, want, {0, 1e-6}, device.name);
    CHECK_EQUAL(audit(c, device, {Truths::kYTrue}).findings.size(), size_t(0), device.name + ", y_true");
  });
}

// ---- Rows of boxes --------------------------------------------------------------------------------------------------

namespace {

struct BadRow {
  std::vector<float> row;
  int32_t reason;
  float value;
  int32_t clamp_action;
};

// Plants each row in turn. The audit reports it under every policy, and a call does what the audit says.
void bad_rows(const std::vector<BadRow> &rows) {
  const Case healthy = large_batch();
  on_every_device([&](const Device &device) {
    for (const BadRow &bad : rows) {
      Case c = healthy;
      std::copy(bad.row.begin(), bad.row.end(), planted_row(c));
      for (const int32_t policy : {YL_BOXES_ERROR, YL_BOXES_SKIP, YL_BOXES_CLAMP}) {
        const int32_t action = policy == YL_BOXES_ERROR  ? YL_ACTION_REFUSED
                               : policy == YL_BOXES_SKIP ? YL_ACTION_SKIPPED
                                                         : bad.clamp_action;
        const std::string where = device.name + ", row [" + number(bad.row[0]) + ", " + number(bad.row[1]) + ", " +
                                  number(bad.row[2]) + ", " + number(bad.row[3]) + ", " + number(bad.row[4]) +
                                  "], policy " + std::to_string(policy);
        AuditOptions with_policy;
        with_policy.policy = policy;
        const Audited got = audit(c, device, with_policy);
        if (!CHECK(!got.findings.empty(), where)) continue;
        const yl_finding &f = got.findings[0];
        CHECK_EQUAL(f.reason, bad.reason, where);
        CHECK_EQUAL(f.action, action, where);
        CHECK_EQUAL(f.image, kPlantedImage, where);
        CHECK_EQUAL(f.row, kPlantedRow, where);
        CHECK_EQUAL(f.other, -1, where);
        CHECK_EQUAL(f.layer, -1, where);
        CHECK_EQUAL(number(f.value), number(bad.value), where);  // as text: NaN is NaN
        CHECK_EQUAL(got.counts[static_cast<size_t>(bad.reason)], 1, where);

        Options options;
        options.device = device;
        options.truths = Truths::kBoxes;
        options.policy = policy;
        const Output out = run(c, options);
        const yl_box_counts &n = out.summary.boxes;
        if (policy == YL_BOXES_ERROR) {
          CHECK_EQUAL(out.status, YL_INVALID_BOXES, where);
          continue;
        }
        const bool clamped = action == YL_ACTION_CLAMPED;
        CHECK_OK(out.status, where);
        CHECK_EQUAL(n.used, clamped ? 42 : 41, where);
        CHECK_EQUAL(n.skipped, clamped ? 0 : 1, where);
        CHECK_EQUAL(n.clamped, clamped ? 1 : 0, where);
        CHECK(std::isfinite(out.summary.total), where);
        if (!clamped) continue;
        Case cut = c;  // the row cut beforehand
        float *const row = planted_row(cut);
        for (int i = 0; i < 4; ++i) row[i] = std::min(std::max(row[i], 0.0f), i % 2 ? 192.0f : 256.0f);
        options.policy = YL_BOXES_ERROR;
        const Output same = run(cut, options);
        CHECK_OK(same.status, where);
        CHECK_SAME_BITS(same.rows, out.rows, where);
      }
    }
  });
}

}  // namespace

TEST(audit, rows_without_an_area_are_named) {
  bad_rows({{{10, 20, 10, 60, 1}, YL_REASON_NO_AREA, 0, YL_ACTION_SKIPPED},
            {{10, 60, 50, 20, 1}, YL_REASON_NO_AREA, -40, YL_ACTION_SKIPPED}});
}

TEST(audit, rows_that_are_not_finite_or_too_large_are_named) {
  bad_rows({{{10, NAN, 50, 60, 1}, YL_REASON_NOT_FINITE, NAN, YL_ACTION_SKIPPED},
            {{10, 20, 50, 60, INFINITY}, YL_REASON_NOT_FINITE, INFINITY, YL_ACTION_SKIPPED},
            {{-3e38f, 20, 3e38f, 60, 1}, YL_REASON_TOO_LARGE, INFINITY, YL_ACTION_CLAMPED}});
}

TEST(audit, rows_without_a_class_are_named) {
  bad_rows({{{10, 20, 50, 60, 4}, YL_REASON_CLASS, 4, YL_ACTION_SKIPPED},
            {{10, 20, 50, 60, -1}, YL_REASON_CLASS, -1, YL_ACTION_SKIPPED},
            {{10, 20, 50, 60, 1.5f}, YL_REASON_CLASS, 1.5f, YL_ACTION_SKIPPED}});
}

TEST(audit, rows_whose_centre_is_outside_are_named) {
  bad_rows({{{250, 20, 270, 60, 1}, YL_REASON_OUTSIDE, 260, YL_ACTION_CLAMPED},
            {{10, -50, 50, 20, 1}, YL_REASON_OUTSIDE, -15, YL_ACTION_CLAMPED},
            {{300, 20, 340, 60, 1}, YL_REASON_OUTSIDE, 320, YL_ACTION_SKIPPED},
            {{-40, -40, 0, 0, 1}, YL_REASON_OUTSIDE, -20, YL_ACTION_SKIPPED}});
}

// Of boxes that are fractions of the input the first used row of each image is reported, whatever the policy. An image
// whose boxes are pixels is not.
TEST(audit, boxes_that_look_normalised_are_named_once_for_an_image) {
  Case c = large_batch();
  for (size_t i = 0; i < c.boxes.size(); ++i) {
    if (i % 5 == 4) continue;
    const bool last_image = i / 5 >= size_t(c.batch - 1) * c.boxes_per_image;
    c.boxes[i] = i < 5 ? 0 : last_image ? c.boxes[i] : c.boxes[i] / (i % 5 % 2 ? 192 : 256);
  }
  on_every_device([&](const Device &device) {
    for (const int32_t policy : {YL_BOXES_ERROR, YL_BOXES_SKIP, YL_BOXES_CLAMP}) {
      AuditOptions options;
      options.policy = policy;
      const Audited got = audit(c, device, options);
      const std::string where = device.name + ", policy " + std::to_string(policy);
      CHECK_EQUAL(got.counts[YL_REASON_NORMALISED], c.batch - 1, where);
      if (!CHECK(!got.findings.empty(), where)) continue;
      const yl_finding &f = got.findings[0];
      const bool refused = policy == YL_BOXES_ERROR && !device.in_device_memory();
      CHECK_EQUAL(f.reason, YL_REASON_NORMALISED, where);
      CHECK_EQUAL(f.action, refused ? YL_ACTION_REFUSED : YL_ACTION_KEPT, where);
      CHECK_EQUAL(f.image, 0, where);
      CHECK_EQUAL(f.row, 1, where);
      CHECK_EQUAL(f.value, c.boxes[5], where);
    }
  });
}

TEST(audit, a_bad_weight_is_named) {
  Case c = large_batch();
  c.box_weights.assign(42, 1.0f);
  c.box_weights[9] = -2;
  on_every_device([&](const Device &device) {
    AuditOptions options;
    options.policy = YL_BOXES_CLAMP;
    const Audited got = audit(c, device, options);
    if (!CHECK_EQUAL(got.findings.size(), size_t(1), device.name)) return;
    const yl_finding &f = got.findings[0];
    CHECK_EQUAL(f.reason, YL_REASON_NOT_FINITE, device.name);
    CHECK_EQUAL(f.image, 1, device.name);
    CHECK_EQUAL(f.row, 2, device.name);
    CHECK_EQUAL(f.value, -2, device.name);
    CHECK_EQUAL(f.action, YL_ACTION_SKIPPED, device.name);
  });
}

TEST(audit, two_boxes_of_a_cell_are_a_collision) {
  Case c = large_batch();
  std::copy_n(&c.boxes[5 * (3 * 7 + 1)], 5, &c.boxes[5 * (3 * 7 + 6)]);
  on_every_device([&](const Device &device) {
    const Audited got = audit(c, device);
    CHECK_EQUAL(got.counts[YL_REASON_COLLISION], 1, device.name);
    if (!CHECK_EQUAL(got.findings.size(), size_t(1), device.name)) return;
    const yl_finding &f = got.findings[0];
    const float *row = &c.boxes[5 * (3 * 7 + 1)];
    const Layer &layer = c.layers[static_cast<size_t>(f.layer)];
    CHECK_EQUAL(f.reason, YL_REASON_COLLISION, device.name);
    CHECK_EQUAL(f.action, YL_ACTION_KEPT, device.name);
    CHECK_EQUAL(f.image, 3, device.name);
    CHECK_EQUAL(f.row, 6, device.name);
    CHECK_EQUAL(f.other, 1, device.name);
    CHECK_EQUAL(f.grid_column, int(std::floor((row[0] + row[2]) / 2) / 256 * float(layer.width)), device.name);
    CHECK_EQUAL(f.grid_row, int(std::floor((row[1] + row[3]) / 2) / 192 * float(layer.height)), device.name);
  });
}

// The masks of tiny YOLO have anchor 0 in no layer and anchor 3 in two.
TEST(audit, anchors_of_no_layer_of_two_and_poor_ones_are_named) {
  const Case c = golden("c_tiny_2scale");
  on_every_device([&](const Device &device) {
    const std::string &where = device.name;
    AuditOptions options;
    options.poor_iou = 0.6f;
    const Audited got = audit(c, device, options);
    CHECK_EQUAL(got.counts[YL_REASON_NO_LAYER], 1, where);
    CHECK(got.counts[YL_REASON_TWO_LAYERS] >= 1, where);
    for (const yl_finding &f : got.findings) {
      if (f.reason == YL_REASON_NO_LAYER) {
        CHECK_EQUAL(f.anchor, 0, where);
        CHECK_EQUAL(f.action, YL_ACTION_DROPPED, where);
        CHECK_EQUAL(f.layer, -1, where);
      }
      if (f.reason == YL_REASON_TWO_LAYERS) {
        CHECK_EQUAL(f.anchor, 3, where);
        CHECK_EQUAL(f.value, 2, where);
        CHECK_EQUAL(f.action, YL_ACTION_KEPT, where);
      }
      if (f.reason == YL_REASON_POOR_ANCHOR) {
        CHECK(f.value < 0.6f, where + ": " + number(f.value));
        CHECK_EQUAL(f.value, got.best[static_cast<size_t>(f.image * c.boxes_per_image + f.row)], where);
      }
    }
    int64_t poor = 0;
    for (const float iou : got.best) poor += iou > 0 && iou < 0.6f;
    CHECK_EQUAL(poor, got.counts[YL_REASON_POOR_ANCHOR], where);
    CHECK(poor > 0, where);
    CHECK_EQUAL(got.use[0], 0, where);
    CHECK_EQUAL(got.use[6], 0, where);
    CHECK_EQUAL(got.use[3], got.use[6 + 3], where);
    CHECK(got.use[3] > 0, where);
    int64_t first_layer = 0;
    for (size_t n = 0; n < 6; ++n) first_layer += got.use[n];
    CHECK(first_layer >= c.layers[0].expected.objects, where + ": " + std::to_string(first_layer));
  });
}

TEST(audit, a_list_that_is_too_short_keeps_the_first_and_counts_all) {
  const Case c = golden("c_tiny_2scale");
  on_every_device([&](const Device &device) {
    AuditOptions options;
    options.poor_iou = 0.6f;
    const Audited all = audit(c, device, options);
    options.capacity = 2;
    const Audited few = audit(c, device, options);
    if (!CHECK_EQUAL(few.findings.size(), size_t(2), device.name)) return;
    CHECK_SAME_BITS(few.counts, all.counts, device.name);
    for (size_t i = 0; i < 2; ++i)
      CHECK(std::memcmp(&few.findings[i], &all.findings[i], sizeof(yl_finding)) == 0,
            device.name + ", finding " + std::to_string(i));
  });
}

// ---- y_true ---------------------------------------------------------------------------------------------------------

TEST(audit, truths_that_are_wrong_are_named) {
  struct BadTruth {
    size_t channel;
    float value;
    int32_t reason;
  };
  const std::vector<BadTruth> all = {
      {0, 0.999f, YL_REASON_CENTRE}, {1, -0.5f, YL_REASON_CENTRE},  {0, NAN, YL_REASON_CENTRE}, {2, 0, YL_REASON_SIZE},
      {3, -1, YL_REASON_SIZE},       {3, INFINITY, YL_REASON_SIZE}, {4, 1.5f, YL_REASON_MASK},  {4, -1, YL_REASON_MASK},
      {4, NAN, YL_REASON_MASK},      {7, NAN, YL_REASON_TARGET}};
  const Case healthy = large_batch();
  const size_t first = healthy.last_object(2) * healthy.channels();
  on_every_device([&](const Device &device) {
    for (const BadTruth &bad : all) {
      Case c = healthy;
      c.layers[2].y_true[first + bad.channel] = bad.value;
      const Audited got = audit(c, device, {Truths::kYTrue});
      const std::string where = device.name + ", channel " + std::to_string(bad.channel) + " is " + number(bad.value);
      if (!CHECK_EQUAL(got.findings.size(), size_t(1), where)) continue;
      const Address at = address_of(c, 2, first);
      const yl_finding &f = got.findings[0];
      CHECK_EQUAL(f.reason, bad.reason, where);
      CHECK_EQUAL(f.action, YL_ACTION_KEPT, where);
      CHECK_EQUAL(f.image, at.image, where);
      CHECK_EQUAL(f.row, -1, where);
      CHECK_EQUAL(f.layer, 2, where);
      CHECK_EQUAL(f.grid_row, at.row, where);
      CHECK_EQUAL(f.grid_column, at.column, where);
      CHECK_EQUAL(f.anchor, at.anchor, where);
      CHECK_EQUAL(number(f.value), number(bad.value), where);
      CHECK_EQUAL(got.counts[static_cast<size_t>(bad.reason)], 1, where);
    }
  });
}

TEST(audit, arguments_that_are_wrong_are_refused) {
  Plan p(large_batch(), devices().size() > 1 ? devices()[1] : devices()[0]);
  yl_boxes boxes = YL_BOXES_INIT;
  yl_audit_result result = YL_AUDIT_RESULT_INIT;
  CHECK_REFUSED(yl_audit(nullptr, 1, nullptr, &boxes, 0, &result), YL_INVALID_ARGUMENT, "plan is NULL");
  CHECK_REFUSED(yl_audit(p.plan, 1, nullptr, nullptr, 0, &result), YL_INVALID_ARGUMENT, "neither y_true nor boxes");
  CHECK_REFUSED(yl_audit(p.plan, 99, nullptr, &boxes, 0, &result), YL_INVALID_ARGUMENT, "batch is 99");
  CHECK_REFUSED(yl_audit(p.plan, 1, nullptr, &boxes, 2, &result), YL_INVALID_ARGUMENT, "poor_iou is 2");
  CHECK_REFUSED(yl_audit(p.plan, 1, nullptr, &boxes, 0, nullptr), YL_INVALID_ARGUMENT, "result is NULL");
  result.capacity = 3;
  CHECK_REFUSED(yl_audit(p.plan, 1, nullptr, &boxes, 0, &result), YL_INVALID_ARGUMENT,
                "capacity is 3 and findings is NULL");
  result.capacity = -1;
  CHECK_REFUSED(yl_audit(p.plan, 1, nullptr, &boxes, 0, &result), YL_INVALID_ARGUMENT, "capacity is -1");
  result.capacity = 0;
  CHECK_OK(yl_audit(p.plan, 1, nullptr, &boxes, 0, &result));
}
