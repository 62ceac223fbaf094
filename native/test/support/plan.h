// Plans of a case, in two forms: Config, to be changed before a plan is made of it, and Plan, with the memory of its
// calls in float32 and NHWC, whose yl_call and pointers a test changes between calls. For one call in any type and
// order see run.h.
#pragma once

#include <memory>
#include <vector>

#include "case.h"
#include "devices.h"
#include "memory.h"
#include "yololoss.h"

// A call takes its truths in one of two forms.
enum class Truths { kYTrue, kBoxes };

// The yl_config of a case, and the plan that create() makes of it.
struct Config {
  Config();  // of the small case, on YL_DEVICE_AUTO
  Config(const Case &c, const Device &device);
  ~Config() { yl_plan_destroy(plan); }
  Config(const Config &) = delete;

  yl_status create();  // in place of a plan made before

  std::vector<float> anchors;
  std::vector<std::vector<int32_t>> masks;
  std::vector<yl_layer> layers;
  yl_config config = YL_CONFIG_INIT;
  yl_plan *plan = nullptr;
};

// A plan, and host memory for its calls. With a device that reads device memory, run() uploads and downloads the
// arrays.
class Plan {
 public:
  Plan(const Case &c, const Device &device, int32_t max_batch = 0);  // 0: the batch of the case
  Plan(const Plan &) = delete;

  // Calls yl_loss, or yl_loss_async and waits. The results are summary, layers, rows and gradient.
  yl_status run(Truths truths);

  // Copies what the pointers name to the device, and returns the call with its arrays there.
  struct OnDevice {
    yl_call call;
    yl_boxes boxes;
    std::vector<const void *> feats;
    std::vector<const float *> y_true;
    std::vector<void *> grads;
  };
  std::unique_ptr<OnDevice> upload();
  void download_gradient();

  // The other functions of a plan, with arrays on the host.
  yl_status build_y_true(std::vector<std::vector<float>> &y_true, yl_box_counts *counts);
  yl_status yolo_head(const yl_head &head);

  // Makes one layer's logits, truths or gradient another array of the test. (They belong to the plan at first.)
  std::vector<const void *> feats;
  std::vector<const float *> y_true;
  std::vector<void *> grads;

  int64_t bytes_of(size_t layer) const;  // of the images of the call
  size_t layer_count() const { return feats.size(); }

  const Case c;
  const Device device;
  Config made;  // before the results: destroyed after them
  yl_plan *plan = nullptr;
  std::vector<std::vector<float>> logits, gradient;  // what feats and grads point to
  yl_boxes boxes = YL_BOXES_INIT;
  yl_call call = YL_CALL_INIT;
  yl_summary summary{};
  std::vector<yl_parts> layers, rows;
  yl_result result = YL_RESULT_INIT;
  std::vector<DeviceMemory> mirrors;  // logits, truths and gradient of each layer, then the boxes

 private:
  yl_status enqueue(const yl_call &on_device);
};
