// Truths from boxes beyond the golden cases: rows that name no object, shared cells, thousands of boxes.
#include <algorithm>
#include <random>

#include "plan.h"

namespace {

// One image with the given rows, over every device; the plan is that of Config with a second image left empty.
struct BoxesCase {
  Config c;
  std::vector<float> feats = std::vector<float>(2 * 48 * 7, 0.5f), grad = std::vector<float>(2 * 48 * 7, NAN);
  std::vector<float> y_true = std::vector<float>(2 * 48 * 7, NAN);
  yl_boxes boxes = YL_BOXES_INIT;
  yl_box_counts counts{};
  yl_status build(std::vector<float> rows, int32_t policy, int32_t device = YL_DEVICE_CPU) {
    c.config.device = device;
    CHECK(c.create() == YL_OK);
    rows.insert(rows.begin(), rows.size(), 0.0f);  // image 0 has none
    boxes.data = rows.data();
    boxes.per_image = static_cast<int32_t>(rows.size() / 10);
    boxes.policy = policy;
    float *out = y_true.data();
    return yl_build_y_true(c.plan, 2, &boxes, &out, &counts);
  }
  const float *row(int image, int line, int column, int anchor) {
    return &y_true[static_cast<size_t>(((image * 4 + line) * 4 + column) * 3 + anchor) * 7];
  }
};

void boxes_at_the_edges() {
  const std::vector<float> good{10, 20, 40, 50, 1};
  struct Bad {
    std::vector<float> row;
    const char *words;
  };
  const float big = 3e38f;
  const std::vector<Bad> bad = {
      {{10, 20, 10, 50, 1}, "image 1, row 1 [10, 20, 10, 50, 1] has no area"},
      {{10, 50, 40, 20, 1}, "no area"},
      {{40, 20, 10, 50, 1}, "no area"},
      {{10, 20, 40, 50, 2}, "a class that is not a whole number in 0..C-1 (input 128x128, C = 2)"},
      {{10, 20, 40, 50, -1}, "a class"},
      {{10, 20, 40, 50, 0.5f}, "a class"},
      {{10, 20, 40, 50, big}, "a class"},
      {{10, 20, 40, 50, NAN}, "not finite"},
      {{NAN, 20, 40, 50, 1}, "not finite"},
      {{10, 20, INFINITY, 50, 1}, "not finite"},
      {{-big, 20, big, 50, 1}, "a size too large"},
      {{120, 20, 136, 50, 1}, "a centre outside the input"},
      {{10, 120, 40, 140, 1}, "a centre outside the input"},
      {{-40, 20, -10, 50, 1}, "a centre outside the input"},
      {{10, -50, 40, -20, 1}, "a centre outside the input"},
  };
  for (const DeviceCase &device : kDevices) {
    for (const Bad &b : bad) {
      BoxesCase k;
      std::vector<float> rows = good;
      rows.insert(rows.end(), b.row.begin(), b.row.end());
      REFUSED(k.build(rows, YL_BOXES_ERROR, device.device), YL_INVALID_BOXES, b.words);
      CHECK(std::isnan(k.y_true[0]) && std::isnan(k.y_true.back()), "nothing is written");
      CHECK(k.build(rows, YL_BOXES_SKIP, device.device) == YL_OK, yl_last_error());
      CHECK(k.counts.used == 1 && k.counts.skipped == 1 && k.counts.dropped == 0 && k.counts.collided == 0);
      CHECK(k.row(1, 1, 0, 1)[4] == 1 && k.row(1, 1, 0, 1)[6] == 1 && k.row(0, 1, 0, 1)[4] == 0);
    }
  }
  BoxesCase k;
  // Zero rows are no boxes wherever they stand; the later of two rows in a cell wins, both classes stay.
  CHECK(k.build({0, 0, 0, 0, 0, 10, 20, 40, 50, 1, 0, 0, 0, 0, 7, 8, 20, 40, 50, 0, 8, 20, 40, 50, 0},
                YL_BOXES_ERROR) == YL_OK,
        yl_last_error());
  CHECK(k.counts.used == 3 && k.counts.collided == 2);
  const float *row = k.row(1, 1, 0, 1);
  CHECK(row[0] == 24.0f / 128 && row[1] == 35.0f / 128 && row[2] == 32.0f / 128 && row[3] == 30.0f / 128);
  CHECK(row[4] == 1 && row[5] == 1 && row[6] == 1);
  // A box larger than the input whose centre is inside is an object; the last pixel column is inside.
  CHECK(k.build({-100, -100, 300, 300, 0, 126, 126, 128, 129, 0}, YL_BOXES_ERROR) == YL_OK);
  CHECK(k.row(1, 3, 3, 2)[4] == 1 && k.row(1, 3, 3, 0)[4] == 1);
  // No boxes at all.
  k.boxes = YL_BOXES_INIT;
  float *out = k.y_true.data();
  CHECK(yl_build_y_true(k.c.plan, 2, &k.boxes, &out, nullptr) == YL_OK);
  CHECK(std::all_of(k.y_true.begin(), k.y_true.end(), [](float v) { return v == 0; }));
  k.boxes.per_image = 1;
  REFUSED(yl_build_y_true(k.c.plan, 2, &k.boxes, &out, nullptr), YL_INVALID_ARGUMENT, "boxes.data is NULL");
  k.boxes.per_image = -1;
  REFUSED(yl_build_y_true(k.c.plan, 2, &k.boxes, &out, nullptr), YL_INVALID_ARGUMENT, "per_image is -1");
  k.boxes = YL_BOXES_INIT;
  k.boxes.policy = 5;
  REFUSED(yl_build_y_true(k.c.plan, 2, &k.boxes, &out, nullptr), YL_INVALID_ARGUMENT, "policy is 5");
  REFUSED(yl_build_y_true(k.c.plan, 2, nullptr, &out, nullptr), YL_INVALID_ARGUMENT, "boxes is NULL");
}

// Five thousand boxes an image: every one has its truth, and the loss equals that of the dense truths.
void thousands_of_boxes(const Golden &g) {
  const int32_t most = 5000;
  std::mt19937 random(3);
  std::vector<float> rows;
  for (int32_t i = 0; i < g.batch * most; ++i) {
    const auto w = static_cast<float>(4 + random() % 60), h = static_cast<float>(4 + random() % 60);
    const auto x = static_cast<float>(random() % (static_cast<uint32_t>(g.input_width) - 64));
    const auto y = static_cast<float>(random() % (static_cast<uint32_t>(g.input_height) - 64));
    rows.insert(rows.end(), {x, y, x + w, y + h, static_cast<float>(random() % static_cast<uint32_t>(g.classes))});
  }
  for (const DeviceCase &device : kDevices) {
    Plan p(g, device);
    const int32_t per_image = device.device == YL_DEVICE_CUDA ? 1500 : most;  // every row meets every row there
    p.boxes.data = rows.data();
    p.boxes.per_image = per_image;
    CHECK(p.run(false) == YL_OK, yl_last_error());
    CHECK(p.summary.boxes.used == g.batch * per_image && p.summary.objects > 900);
    CHECK(p.summary.boxes.used == p.summary.objects + p.summary.boxes.collided + p.summary.boxes.dropped);
    const std::vector<yl_parts> rows_of_boxes = p.rows;
    std::vector<std::vector<float>> dense;
    std::vector<float *> out;
    for (const Array &y : g.y_true) dense.emplace_back(y.data.size());
    for (auto &y : dense) out.push_back(y.data());
    CHECK(p.build_y_true(out.data(), nullptr) == YL_OK);
    for (size_t l = 0; l < dense.size(); ++l) p.y_true[l] = dense[l].data();
    CHECK(p.run(true) == YL_OK && same_bits(p.rows, rows_of_boxes), device.name);
  }
}

}  // namespace

int main() {
  boxes_at_the_edges();
  thousands_of_boxes(read_golden("d_nonsquare"));
  return report("boxes");
}
