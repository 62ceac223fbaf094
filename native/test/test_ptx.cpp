// Counts what a call costs on a GPU, as far as that needs none: launches, instructions, and round trips to
// memory that follow each other, of the kernels as nvcc compiled them (simt/ptx.cpp). The limits keep what has been
// achieved: lower them when a change does better. What they mean on a GPU is for bench/gpu-check to find out.
#include <algorithm>
#include <climits>
#include <cstdio>
#include <string>

#include "plan.h"
#include "run.h"
#include "simt/cuda_runtime.h"
#include "test.h"

namespace {

// YOLOv3 for 416x416 and 80 classes, with seven boxes an image of 20 to 300 pixels, about what COCO has. y_true is what
// the boxes stand for.
Case yolov3(int32_t batch) {
  RandomCase wanted;
  wanted.batch = batch;
  wanted.classes = 80;
  wanted.grids = {{13, 13, 3}, {26, 26, 3}, {52, 52, 3}};
  wanted.object_share = 0;
  Case c = random_case(wanted);
  c.name = "YOLOv3, 80 classes, batch " + std::to_string(batch);
  add_random_boxes(c, 7, 20, 300);
  std::vector<std::vector<float>> y_true;
  for (const Layer &layer : c.layers) y_true.push_back(layer.y_true);
  CHECK_OK(Plan(c, reference_device()).build_y_true(y_true, nullptr), c.name);
  for (size_t l = 0; l < c.layers.size(); ++l) c.layers[l].y_true = y_true[l];
  return c;
}

// The launches of one call on device memory, and the last of them, which is stages cells, sum and result.
struct Cost {
  std::vector<simt::PtxLaunch> launches;
  double instructions() const { return launches.back().instructions; }
  int median_trips() const { return launches.back().trips[launches.back().trips.size() / 2]; }
  int longest_trips() const { return launches.back().trips.back(); }
};

// Runs kernels as PTX, and counts, while it lives.
struct Counting {
  explicit Counting(Cost &cost) {
    set_environment("SIMT_PTX", PTX_FILES);
    simt::count_ptx(&cost.launches);
  }
  ~Counting() {
    simt::count_ptx(nullptr);
    set_environment("SIMT_PTX", nullptr);
  }
};

Cost cost_of(const Case &c, Truths truths, bool gradient) {
  Options options;
  options.device = cuda_device(Way::kDevice);
  options.truths = truths;
  options.gradient = gradient;
  Cost cost;
  {
    const Counting counting(cost);
    CHECK_OK(run(c, options).status, named(c, options));
  }
  if (!CHECK(!cost.launches.empty(), named(c, options))) cost.launches.push_back({"none", 0, 1e9, {0, INT_MAX}});
  std::printf("guarantee: %s, %s, %s: %zu launches, %.0f instructions a warp, round trips %d, of the last block %d\n",
              c.name.c_str(), truths == Truths::kBoxes ? "boxes" : "y_true", gradient ? "gradient" : "loss",
              cost.launches.size(), cost.instructions(), cost.median_trips(), cost.longest_trips());
  return cost;
}

}  // namespace

TEST(ptx, a_call_of_two_images_issues_few_instructions) {
  const Case c = yolov3(2);
  for (const Truths truths : {Truths::kYTrue, Truths::kBoxes}) {
    CHECK_AT_MOST(cost_of(c, truths, false).instructions(), 480);
    CHECK_AT_MOST(cost_of(c, truths, true).instructions(), 650);
  }
}

// The last block adds the tiles, the rows and the layers, and writes the result; the others do not.
// Without objects the blocks differ in nothing else.
TEST(ptx, the_last_block_waits_for_few_round_trips) {
  for (const int32_t batch : {1, 2, 64}) {
    Case c = yolov3(batch);
    c.name += ", no objects";
    for (Layer &layer : c.layers) std::fill(layer.y_true.begin(), layer.y_true.end(), 0.0f);
    const Cost cost = cost_of(c, Truths::kYTrue, true);
    CHECK_AT_MOST(cost.longest_trips() - cost.median_trips(), 6, c.name);
  }
}

TEST(ptx, few_boxes_of_one_image_are_one_launch) {
  const Case c = yolov3(1);
  for (const bool gradient : {false, true}) CHECK_EQUAL(cost_of(c, Truths::kBoxes, gradient).launches.size(), 1);
}
