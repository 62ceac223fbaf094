// Truths from boxes beyond the golden cases: rows that are not a valid object, shared cells, thousands of boxes.
#include <algorithm>

#include "plan.h"
#include "test.h"

namespace {

// The truths of one image with the given rows, on the plan of the small case; the other image has no boxes.
struct Built {
  Config c;
  std::vector<float> y_true = std::vector<float>(2 * 48 * 7, NAN);
  yl_boxes boxes = YL_BOXES_INIT;
  yl_box_counts counts{};

  yl_status build(std::vector<float> rows, int32_t policy, int32_t device = YL_DEVICE_CPU) {
    c.config.device = device;
    CHECK_OK(c.create());
    rows.insert(rows.begin(), rows.size(), 0.0f);  // image 0
    boxes.data = rows.data();
    boxes.per_image = static_cast<int32_t>(rows.size() / 10);
    boxes.policy = policy;
    return build_again();
  }
  yl_status build_again() {
    float *out = y_true.data();
    return yl_build_y_true(c.plan, 2, &boxes, &out, &counts);
  }
  const float *row(int image, int line, int column, int anchor) const {
    return &y_true[static_cast<size_t>(((image * 4 + line) * 4 + column) * 3 + anchor) * 7];
  }
};

// A row that is not a valid object, and the words that say why.
struct BadRow {
  std::vector<float> row;
  const char *words;
};
constexpr float kBig = 3e38f;
const std::vector<float> kGoodRow{10, 20, 40, 50, 1};

void bad_rows(const std::vector<BadRow> &rows) {
  for (const Device &device : devices())
    for (const BadRow &bad : rows) {
      const std::string where = device.name + ", " + bad.words;
      Built built;
      std::vector<float> both = kGoodRow;
      both.insert(both.end(), bad.row.begin(), bad.row.end());
      CHECK_REFUSED(built.build(both, YL_BOXES_ERROR, device.kind), YL_INVALID_BOXES, bad.words, where);
      CHECK(std::isnan(built.y_true[0]) && std::isnan(built.y_true.back()), where + ": nothing is written");
      CHECK_OK(built.build(both, YL_BOXES_SKIP, device.kind), where);
      CHECK_EQUAL(built.counts.used, 1, where);
      CHECK_EQUAL(built.counts.skipped, 1, where);
      CHECK_EQUAL(built.counts.dropped, 0, where);
      CHECK_EQUAL(built.counts.collided, 0, where);
      CHECK_EQUAL(built.row(1, 1, 0, 1)[4], 1, where);
      CHECK_EQUAL(built.row(1, 1, 0, 1)[6], 1, where);
      CHECK_EQUAL(built.row(0, 1, 0, 1)[4], 0, where);
    }
}

}  // namespace

TEST(boxes, a_row_without_an_area_is_refused_or_skipped) {
  bad_rows({{{10, 20, 10, 50, 1}, "image 1, row 1 [10, 20, 10, 50, 1] has no area"},
            {{10, 50, 40, 20, 1}, "no area"},
            {{40, 20, 10, 50, 1}, "no area"}});
}

TEST(boxes, a_row_without_a_class_is_refused_or_skipped) {
  bad_rows({{{10, 20, 40, 50, 2}, "a class that is not a whole number in 0..C-1 (input 128x128, C = 2)"},
            {{10, 20, 40, 50, -1}, "a class"},
            {{10, 20, 40, 50, 0.5f}, "a class"},
            {{10, 20, 40, 50, kBig}, "a class"}});
}

TEST(boxes, a_row_that_is_not_finite_or_too_large_is_refused_or_skipped) {
  bad_rows({{{10, 20, 40, 50, NAN}, "not finite"},
            {{NAN, 20, 40, 50, 1}, "not finite"},
            {{10, 20, INFINITY, 50, 1}, "not finite"},
            {{-kBig, 20, kBig, 50, 1}, "a size too large"}});
}

TEST(boxes, a_row_whose_centre_is_outside_is_refused_or_skipped) {
  bad_rows({{{120, 20, 136, 50, 1}, "a centre outside the input"},
            {{10, 120, 40, 140, 1}, "a centre outside the input"},
            {{-40, 20, -10, 50, 1}, "a centre outside the input"},
            {{10, -50, 40, -20, 1}, "a centre outside the input"}});
}

// Fractions of the input are valid boxes of less than a pixel, or no boxes at all: the refusal says what they are.
TEST(boxes, that_look_normalised_are_refused) {
  const std::vector<float> corners{0, 0, 0, 0, 0, 0.1f, 0.2f, 0.5f, 0.6f, 1, 0, 0, 1, 1, 0};
  const std::vector<float> centre_and_size{0.5f, 0.5f, 0.25f, 0.25f, 1};
  for (const Device &device : devices()) {
    Built built;
    CHECK_REFUSED(built.build(corners, YL_BOXES_ERROR, device.kind), YL_INVALID_BOXES,
                  "boxes: all coordinates of image 1 are in 0..1, as in row 1 [0.1, 0.2, 0.5, 0.6, 1]; pixels of the "
                  "input are expected: multiply x by the width",
                  device.name);
    CHECK(std::isnan(built.y_true[0]) && std::isnan(built.y_true.back()), device.name + ": nothing is written");
    CHECK_REFUSED(built.build(centre_and_size, YL_BOXES_ERROR, device.kind), YL_INVALID_BOXES,
                  "image 1 are in 0..1, as in row 0 [0.5, 0.5, 0.25, 0.25, 1]", device.name);
  }
}

TEST(boxes, that_are_small_or_of_another_policy_do_not_look_normalised) {
  const std::vector<float> small{0.1f, 0.2f, 0.5f, 0.6f, 1};
  const auto with = [&](const std::vector<float> &row) {
    std::vector<float> rows = small;
    rows.insert(rows.end(), row.begin(), row.end());
    return rows;
  };
  for (const Device &device : devices()) {
    Built built;
    CHECK_OK(built.build({0, 0, 1, 1, 1}, YL_BOXES_ERROR, device.kind), device.name);  // whole numbers
    CHECK_OK(built.build(with(kGoodRow), YL_BOXES_ERROR, device.kind), device.name);   // a row in pixels
    CHECK_OK(built.build(with({0, 0, 1.5f, 1, 1}), YL_BOXES_ERROR, device.kind), device.name);
    CHECK_EQUAL(built.counts.used, 2, device.name);
    CHECK_OK(built.build(small, YL_BOXES_SKIP, device.kind), device.name);
    CHECK_OK(built.build(small, YL_BOXES_CLAMP, device.kind), device.name);
    CHECK_EQUAL(built.counts.used, 1, device.name);
    CHECK_REFUSED(built.build(with({NAN, 0, 1, 1, 1}), YL_BOXES_ERROR, device.kind), YL_INVALID_BOXES,
                  "image 1, row 1 [nan, 0, 1, 1, 1] has a value that is not finite", device.name);
  }
}

TEST(boxes, zero_rows_are_ignored_and_in_a_shared_cell_the_later_row_wins) {
  Built built;
  CHECK_OK(built.build({0, 0, 0, 0, 0, 10, 20, 40, 50, 1, 0, 0, 0, 0, 7, 8, 20, 40, 50, 0, 8, 20, 40, 50, 0},
                       YL_BOXES_ERROR));
  CHECK_EQUAL(built.counts.used, 3);
  CHECK_EQUAL(built.counts.collided, 2);
  const float *row = built.row(1, 1, 0, 1);
  const float want[] = {24.0f / 128, 35.0f / 128, 32.0f / 128, 30.0f / 128, 1, 1, 1};  // both classes stay
  for (int i = 0; i < 7; ++i) CHECK_EQUAL(row[i], want[i], "channel " + std::to_string(i));
}

TEST(boxes, larger_than_the_input_and_in_the_last_pixel_are_objects) {
  Built built;
  CHECK_OK(built.build({-100, -100, 300, 300, 0, 126, 126, 128, 129, 0}, YL_BOXES_ERROR));
  CHECK_EQUAL(built.row(1, 3, 3, 2)[4], 1);
  CHECK_EQUAL(built.row(1, 3, 3, 0)[4], 1);
}

TEST(boxes, none_at_all_are_truths_of_zero) {
  Built built;
  CHECK_OK(built.build(kGoodRow, YL_BOXES_ERROR));
  built.boxes = YL_BOXES_INIT;
  CHECK_OK(built.build_again());
  CHECK_ALL_EQUAL(built.y_true, 0);
}

TEST(boxes, arguments_that_are_wrong_are_refused) {
  Built built;
  CHECK_OK(built.build(kGoodRow, YL_BOXES_ERROR));
  built.boxes = YL_BOXES_INIT;
  built.boxes.per_image = 1;
  CHECK_REFUSED(built.build_again(), YL_INVALID_ARGUMENT, "boxes.data is NULL");
  built.boxes.per_image = -1;
  CHECK_REFUSED(built.build_again(), YL_INVALID_ARGUMENT, "per_image is -1");
  built.boxes = YL_BOXES_INIT;
  built.boxes.policy = 5;
  CHECK_REFUSED(built.build_again(), YL_INVALID_ARGUMENT, "policy is 5");
  float *out = built.y_true.data();
  CHECK_REFUSED(yl_build_y_true(built.c.plan, 2, nullptr, &out, nullptr), YL_INVALID_ARGUMENT, "boxes is NULL");
}

// Five thousand boxes an image: every one has its truth, and the loss equals that of the dense truths.
TEST(boxes, thousands_in_an_image_have_the_loss_of_their_truths) {
  Case c = golden("d_nonsquare");
  add_random_boxes(c, 5000, 4, 64, 3);
  for (const Device &device : devices()) {
    Plan p(c, device);
    if (device.kind == YL_DEVICE_CUDA) p.boxes.per_image = 1500;  // every row is compared with every row there
    CHECK_OK(p.run(Truths::kBoxes), device.name);
    const yl_box_counts counts = p.summary.boxes;
    CHECK_EQUAL(counts.used, c.batch * p.boxes.per_image, device.name);
    CHECK(p.summary.objects > 900, device.name + ": " + std::to_string(p.summary.objects) + " objects");
    CHECK_EQUAL(counts.used, p.summary.objects + counts.collided + counts.dropped, device.name);
    const std::vector<yl_parts> rows_of_boxes = p.rows;
    std::vector<std::vector<float>> dense;
    for (const Layer &layer : c.layers) dense.emplace_back(layer.y_true.size());
    CHECK_OK(p.build_y_true(dense, nullptr), device.name);
    for (size_t l = 0; l < dense.size(); ++l) p.y_true[l] = dense[l].data();
    CHECK_OK(p.run(Truths::kYTrue), device.name);
    CHECK_SAME_BITS(p.rows, rows_of_boxes, device.name);
  }
}
