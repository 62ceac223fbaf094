// The gradient against finite differences of the loss, on the reference device (its loss is double, its logits are
// float: they are put on multiples of 2^-10, so that every step of 2^-6 is exact), and the cpu device against it.
#include <random>
#include <string>

#include "plan.h"

namespace {

struct Problem {
  // Two layers, not square, own classes, soft masks, a scale other than 1.
  static constexpr int32_t kBatch = 2, kClasses = 3, kChannels = 5 + kClasses;
  const std::vector<float> anchors{20, 24, 40, 30, 70, 90};
  const std::vector<int32_t> mask0{1, 2}, mask1{0};
  const std::vector<yl_layer> layers{{3, 4, mask0.data(), 2, 0}, {6, 8, mask1.data(), 1, 0}};
  std::vector<std::vector<float>> feats, y_true, grad;
  std::vector<const void *> feats_at;
  std::vector<const float *> y_true_at;
  std::vector<void *> grad_at;
  const std::vector<float> class_weights{0.5f, 2, 0}, threshes{0.25f, 0.4f};
  std::vector<float> rows, row_weights;
  yl_rules rules = YL_RULES_INIT;
  yl_boxes boxes = YL_BOXES_INIT;
  yl_summary summary{};
  yl_plan *plan = nullptr;
  yl_call call = YL_CALL_INIT;

  Problem(int32_t device, uint32_t seed) {
    std::mt19937 random(seed);
    const auto uniform = [&](double low, double high) {
      return static_cast<float>(low + (high - low) * (random() % 100000) / 100000.0);
    };
    for (const yl_layer &layer : layers) {
      const int32_t cells = kBatch * layer.grid_height * layer.grid_width * layer.anchor_count;
      std::vector<float> f, y(static_cast<size_t>(cells * kChannels), 0.0f);
      for (int32_t i = 0; i < cells * kChannels; ++i) f.push_back(std::floor(uniform(-1.5, 1.5) * 1024) / 1024);
      for (int32_t cell = 0; cell < cells; cell += 1 + static_cast<int32_t>(random() % 9)) {
        float *row = &y[static_cast<size_t>(cell * kChannels)];
        const int32_t place = cell / layer.anchor_count;
        row[0] = (static_cast<float>(place % layer.grid_width) + uniform(0, 1)) / static_cast<float>(layer.grid_width);
        row[1] = (static_cast<float>(place / layer.grid_width % layer.grid_height) + uniform(0, 1)) /
                 static_cast<float>(layer.grid_height);
        row[2] = uniform(0.1, 0.9);
        row[3] = uniform(0.1, 0.9);
        row[4] = random() % 3 ? 1.0f : uniform(0.2, 0.9);
        for (int32_t c = 5; c < kChannels; ++c) row[c] = uniform(0, 1);
      }
      feats.push_back(f);
      y_true.push_back(y);
      grad.emplace_back(f.size(), NAN);
    }
    for (size_t l = 0; l < layers.size(); ++l) {
      feats_at.push_back(feats[l].data());
      y_true_at.push_back(y_true[l].data());
      grad_at.push_back(grad[l].data());
    }
    yl_config config = YL_CONFIG_INIT;
    config.layers = layers.data();
    config.layer_count = 2;
    config.anchors = anchors.data();
    config.anchor_count = 3;
    config.input_height = 96;
    config.input_width = 128;
    config.num_classes = kClasses;
    config.max_batch = kBatch;
    config.ignore_thresh = 0.3f;
    config.device = device;
    if (seed > 6) {  // with rules, and for the last seeds weighted boxes
      rules.class_weights = class_weights.data();
      rules.ignore_threshes = threshes.data();
      rules.weight_xy = 0.5f, rules.weight_wh = 3, rules.weight_object = 2, rules.weight_background = 0.75f;
      rules.weight_class = 1.25f, rules.label_smoothing = 0.2f;
      rules.ignore_scope = seed % 2 ? YL_SCOPE_IMAGE : YL_SCOPE_LAYER;
      config.rules = &rules;
    }
    CHECK(yl_plan_create(&config, &plan) == YL_OK, yl_last_error());
    for (int i = 0; i < 2 * 16; ++i) {
      const float x = uniform(0, 90), y = uniform(0, 60);
      rows.insert(rows.end(), {x, y, x + uniform(10, 36), y + uniform(10, 34), static_cast<float>(random() % 3)});
      row_weights.push_back(uniform(0, 2));
    }
    boxes.data = rows.data();
    boxes.weights = row_weights.data();
    boxes.per_image = 16;
    call.batch = kBatch;
    call.feats = feats_at.data();
    if (seed > 9)
      call.boxes = &boxes;
    else
      call.y_true = y_true_at.data();
    call.grad_scale = 3;
    call.normaliser = static_cast<int32_t>(seed % 3);  // batch, none, objects
  }
  ~Problem() { yl_plan_destroy(plan); }
  Problem(const Problem &) = delete;

  void run(bool gradient) {
    yl_result result = YL_RESULT_INIT;
    result.summary = &summary;
    call.grads = gradient ? grad_at.data() : nullptr;
    CHECK(yl_loss(plan, &call, &result) == YL_OK, yl_last_error());
  }
};

}  // namespace

int main() {
  constexpr double kStep = 1.0 / 64;
  int64_t compared = 0, moved = 0;
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    Problem p(YL_DEVICE_REFERENCE, seed), cpu(YL_DEVICE_CPU, seed);
    p.run(true);
    cpu.run(true);
    CHECK(p.summary.objects > 10 && p.summary.ignored > 2,
          std::to_string(p.summary.objects) + " objects, " + std::to_string(p.summary.ignored) + " ignored");
    const int64_t ignored = p.summary.ignored;
    for (size_t l = 0; l < p.feats.size(); ++l) {
      for (size_t i = 0; i < p.feats[l].size(); ++i) {
        CHECK(std::fabs(cpu.grad[l][i] - p.grad[l][i]) <= 2e-6 * (1 + std::fabs(p.grad[l][i])));
        const float logit = p.feats[l][i];
        double sum = 0;
        bool same_mask = true;
        const double weights[] = {1, -8, 0, 8, -1};
        for (int step = -2; step <= 2; ++step) {
          if (step == 0) continue;
          p.feats[l][i] = static_cast<float>(logit + step * kStep);
          p.run(false);
          same_mask &= p.summary.ignored == ignored;
          sum += weights[step + 2] * p.summary.total;
        }
        p.feats[l][i] = logit;
        if (!same_mask) {  // k is a constant in the gradient and may jump in the loss
          ++moved;
          continue;
        }
        ++compared;
        const double want = 3 * sum / (12 * kStep), got = p.grad[l][i];
        CHECK(std::fabs(got - want) <= 1e-6 * (1 + std::fabs(want)),
              "layer " + std::to_string(l) + " element " + std::to_string(i) + ": gradient " + number(got) +
                  ", finite difference " + number(want));
      }
    }
  }
  std::printf("%lld elements compared, %lld where the ignore mask moved\n", static_cast<long long>(compared),
              static_cast<long long>(moved));
  CHECK(compared > 20 * moved && compared > 5000);
  return report("gradient");
}
