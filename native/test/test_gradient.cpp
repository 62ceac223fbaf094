// The gradient against finite differences of the loss, on the reference device, and the cpu device against the
// reference. (The reference's loss is double and its logits are float: they are multiples of 2^-10, so that every step
// of 2^-6 is exact.)
#include "plan.h"
#include "test.h"

namespace {

constexpr double kStep = 1.0 / 64, kScale = 3;

// Two grids that are not square, soft masks and targets, and a scale and a normaliser other than the default.
Case case_of(uint32_t seed) {
  RandomCase wanted;
  wanted.seed = seed;
  wanted.batch = 2;
  wanted.classes = 3;
  wanted.grids = {{3, 4, 2}, {6, 8, 1}};
  wanted.thresh = 0.3f;
  wanted.logits = 1.5;
  wanted.object_share = 0.2;
  wanted.sizes_near_predictions = true;
  wanted.soft = true;
  Case c = random_case(wanted);
  for (Layer &layer : c.layers)
    for (double &value : layer.feats) value = std::floor(value * 1024) / 1024;
  add_random_boxes(c, 16, 10, 36, seed);
  Random random(seed);
  for (int32_t i = 0; i < c.batch * c.boxes_per_image; ++i)
    c.box_weights.push_back(static_cast<float>(random.uniform(0, 2)));
  return c;
}

enum class Kind { kPlain, kRules, kWeightedBoxes };

struct Problem {
  static constexpr float kClassWeights[] = {0.5f, 2, 0}, kThreshes[] = {0.25f, 0.4f};
  Plan p;
  yl_rules rules = YL_RULES_INIT;
  Truths truths;

  Problem(const Case &c, const Device &device, Kind kind, uint32_t seed)
      : p(c, device), truths(kind == Kind::kWeightedBoxes ? Truths::kBoxes : Truths::kYTrue) {
    if (kind != Kind::kPlain) {
      rules.class_weights = kClassWeights;
      rules.ignore_threshes = kThreshes;
      rules.weight_xy = 0.5f, rules.weight_wh = 3, rules.weight_object = 2, rules.weight_background = 0.75f;
      rules.weight_class = 1.25f, rules.label_smoothing = 0.2f;
      rules.ignore_scope = seed % 2 ? YL_SCOPE_IMAGE : YL_SCOPE_LAYER;
      p.made.config.rules = &rules;
      CHECK_OK(p.made.create());
      p.plan = p.made.plan;
    }
    p.call.grad_scale = kScale;
    p.call.normaliser = static_cast<int32_t>(seed % 3);  // batch, none, objects
  }
  double loss() {
    p.call.grads = nullptr;
    CHECK_OK(p.run(truths));
    return p.summary.total;
  }
  void gradient() {
    p.call.grads = p.grads.data();
    CHECK_OK(p.run(truths));
  }
};

void is_the_finite_difference(Kind kind, uint32_t first_seed, uint32_t last_seed) {
  int64_t compared = 0, moved = 0;
  for (uint32_t seed = first_seed; seed <= last_seed; ++seed) {
    Problem problem(case_of(seed), reference_device(), kind, seed);
    Plan &p = problem.p;
    problem.gradient();
    const std::string where = "seed " + std::to_string(seed);
    CHECK(p.summary.objects > 10, where + ": " + std::to_string(p.summary.objects) + " objects");
    CHECK(p.summary.ignored > 2, where + ": " + std::to_string(p.summary.ignored) + " ignored");
    const int64_t ignored = p.summary.ignored;
    for (size_t l = 0; l < p.layer_count(); ++l)
      for (size_t i = 0; i < p.logits[l].size(); ++i) {
        const float logit = p.logits[l][i];
        double sum = 0;
        bool same_mask = true;
        const double weights[] = {1, -8, 0, 8, -1};
        for (int step = -2; step <= 2; ++step) {
          if (step == 0) continue;
          p.logits[l][i] = static_cast<float>(logit + step * kStep);
          sum += weights[step + 2] * problem.loss();
          same_mask &= p.summary.ignored == ignored;
        }
        p.logits[l][i] = logit;
        if (!same_mask) {  // the ignore mask is a constant in the gradient, and may jump in the loss
          ++moved;
          continue;
        }
        ++compared;
        const double want = kScale * sum / (12 * kStep);
        CHECK_NEAR(p.gradient[l][i], want, {1e-6, 1e-6},
                   where + ", layer " + std::to_string(l) + ", element " + std::to_string(i));
      }
  }
  std::printf("%lld elements compared, %lld where the ignore mask moved\n", static_cast<long long>(compared),
              static_cast<long long>(moved));
  CHECK(compared > 20 * moved, std::to_string(compared) + " compared, " + std::to_string(moved) + " moved");
  CHECK(compared > 420 * static_cast<int64_t>(last_seed - first_seed + 1), std::to_string(compared) + " compared");
}

void is_the_same_on_the_cpu(Kind kind, uint32_t first_seed, uint32_t last_seed) {
  for (uint32_t seed = first_seed; seed <= last_seed; ++seed) {
    const Case c = case_of(seed);
    Problem want(c, reference_device(), kind, seed), got(c, cpu_device(0), kind, seed);
    want.gradient();
    got.gradient();
    for (size_t l = 0; l < c.layers.size(); ++l)
      CHECK_ALL_NEAR(got.p.gradient[l], want.p.gradient[l], {2e-6, 2e-6}, c.name);
  }
}

}  // namespace

TEST(gradient, is_the_finite_difference_of_the_loss) { is_the_finite_difference(Kind::kPlain, 1, 6); }
TEST(gradient, is_the_finite_difference_of_the_loss_with_rules) { is_the_finite_difference(Kind::kRules, 7, 9); }
TEST(gradient, is_the_finite_difference_of_the_loss_of_weighted_boxes) {
  is_the_finite_difference(Kind::kWeightedBoxes, 10, 12);
}

TEST(gradient, of_the_cpu_is_that_of_the_reference) {
  is_the_same_on_the_cpu(Kind::kPlain, 1, 6);
  is_the_same_on_the_cpu(Kind::kRules, 7, 9);
  is_the_same_on_the_cpu(Kind::kWeightedBoxes, 10, 12);
}
