// Tests what formula.h proves rather than computes: zone_of leaves out no cell from which a prediction reaches the
// threshold.
#include "case.h"
#include "formula.h"
#include "test.h"

namespace {

template <class T> void zones(uint32_t seed) {
  Random random(seed);
  const auto uniform = [&](double low, double high) { return random.uniform(low, high); };
  int64_t reached = 0, outside = 0, edges = 0;
  for (int i = 0; i < 400000; ++i) {
    const T width = T(1 + random.bits() % 80), height = T(1 + random.bits() % 80);
    const yl::Box<T> truth{T(uniform(-0.1, 1.1)), T(uniform(-0.1, 1.1)), T(std::exp(uniform(-7, 1.5))),
                           T(std::exp(uniform(-7, 1.5)))};
    const T thresh = i % 50 == 0 ? T(i % 100 == 0 ? 0 : -0.5) : i % 7 == 0 ? T(0.5) : T(uniform(0.02, 1));
    const yl::Zone<T> zone = yl::zone_of(truth, thresh, width, height);
    // A cell near the zone's edge, a centre within it, and the size that overlaps most from there.
    const T reach = truth.w * (T(1) - thresh) / (T(2) * thresh);
    const T near_x = truth.x + (random.bits() % 2 ? reach : -reach), near_y = truth.y + T(uniform(-1, 1)) * truth.h;
    const T column = std::floor((i % 3 ? near_x : T(uniform(0, 1))) * width + T(int(random.bits() % 3)) - 1);
    const T row = std::floor((i % 3 ? near_y : T(uniform(0, 1))) * height + T(int(random.bits() % 3)) - 1);
    if (!(column >= 0 && column < width && row >= 0 && row < height)) continue;
    const T logit_x = T(uniform(-20, 20)), logit_y = T(uniform(-20, 20));
    const yl::Cell<T> cell{column, row, width, height, T(1), T(1)};
    yl::Box<T> box = yl::decode(yl::Box<T>{logit_x, logit_y, T(0), T(0)}, cell);
    const T sizes[] = {truth.w, truth.w + T(2) * std::fabs(box.x - truth.x), T(std::exp(uniform(-7, 2)))};
    const T heights[] = {truth.h, truth.h + T(2) * std::fabs(box.y - truth.y), T(std::exp(uniform(-7, 2)))};
    const bool in = yl::in_zone(zone, column, row);
    outside += !in;
    for (const T w : sizes)
      for (const T h : heights) {
        box.w = w;
        box.h = h;
        if (!(yl::iou(box, truth) >= thresh)) continue;
        ++reached;
        edges += thresh > 0 && std::fabs(box.x - truth.x) > T(0.95) * reach;
        const auto where = [&] {
          return "truth " + number(truth.x) + " " + number(truth.y) + " " + number(truth.w) + " " + number(truth.h) +
                 ", thresh " + number(thresh) + ", column " + number(column) + " of " + number(width);
        };
        CHECK(in, in ? "" : where());
      }
  }
  CHECK(reached > 20000, std::to_string(reached) + " predictions reach the threshold");
  CHECK(outside > 20000, std::to_string(outside) + " cells are outside");
  CHECK(edges > 50, std::to_string(edges) + " are at the edge");
}

}  // namespace

TEST_LABELLED(formula, a_zone_leaves_out_no_cell_that_reaches_the_threshold, kNotThreadSanitized) {
  zones<float>(1);
  zones<double>(2);
}

// They are in no zone of a threshold above 0, and reach none; at 0 every cell may.
TEST_LABELLED(formula, a_truth_that_is_not_finite_has_a_zone_for_threshold_zero_only, kNotThreadSanitized) {
  const yl::Box<float> odd[] = {{NAN, 0.5f, 1, 1}, {0.5f, 0.5f, NAN, 1}, {INFINITY, 0.5f, 1, 1}, {0.5f, 0.5f, -1, 1}};
  for (const yl::Box<float> &truth : odd) {
    CHECK(!(yl::iou({0.5f, 0.5f, 1, 1}, truth) >= 0.1f));
    CHECK(yl::in_zone(yl::zone_of(truth, 0.0f, 4.0f, 4.0f), 3.0f, 0.0f));
  }
}
