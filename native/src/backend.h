// What the API and the backends share: the checked config (Shape), the checked call (Call), and the functions that a
// backend has.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "yololoss.h"

namespace yl {

// One scale. Cells are numbered (row*W + column)*A + anchor.
struct Layer {
  int32_t height, width, anchors;
  int64_t cells;                     // H*W*A
  std::vector<int32_t> anchor_mask;  // A indices into Shape::anchors
  std::vector<double> anchor_sizes;  // A pairs: width, height as fractions of the input
  float ignore_thresh;
};

// yl_rules after its checks.
struct Rules {
  float weight_xy, weight_wh, weight_object, weight_background, weight_class;
  float label_smoothing;
  bool image_scope;                  // YL_SCOPE_IMAGE
  std::vector<float> class_weights;  // C
  bool plain;                        // keras-yolo3's: nothing of the above changes anything
};

// The config after its checks.
struct Shape {
  std::vector<Layer> layers;
  std::vector<float> anchors;  // pairs: width, height in input pixels
  int32_t input_height, input_width;
  int32_t num_classes;
  int32_t channels;       // of a cell: 5 + C
  int32_t dtype, layout;  // YL_F32 ..., YL_NHWC ...
  bool f32_grads;         // grads are float32 and feats are not
  Rules rules;
  int32_t max_batch;
  int32_t threads;
  int32_t processors;    // that this process may use
  bool debug;            // YOLOLOSS_DEBUG
  int32_t device;        // YL_DEVICE_..., not AUTO
  int32_t device_index;  // of a CUDA device
  bool device_memory;    // feats, truths and gradients lie there

  int32_t layer_count() const { return static_cast<int32_t>(layers.size()); }
  int64_t cells_per_image() const {
    int64_t cells = 0;
    for (const Layer &layer : layers) cells += layer.cells;
    return cells;
  }
};

// The call after its checks. Exactly one of y_true and boxes is set.
struct Call {
  int32_t batch;
  const void *const *feats;
  const float *const *y_true;
  const float *boxes;
  const float *box_weights;  // or NULL
  int32_t boxes_per_image;
  int32_t boxes_policy;  // YL_BOXES_...; rows in host memory have been checked already
  void *const *grads;    // NULL: loss only
  int32_t grad_mode;     // YL_GRAD_...
  bool scan_all;
  int32_t normaliser;  // YL_NORMALISER_...
  double normaliser_value;
  double grad_scale;
  const float *normaliser_at;  // CUDA: or NULL
  const float *grad_scale_at;  // CUDA: or NULL
  yl_stats *stats;             // (L), or NULL; as the next four
  yl_offender *offender;       // one
  float *const *ignore_mask;   // L pointers
  float *const *best_iou;
  float *const *cell_loss;
  bool dense() const { return y_true != nullptr; }
  bool refresh() const { return grad_mode == YL_GRAD_REFRESH; }
  // Whether more is asked for than keras-yolo3's loss and gradient.
  bool extras(const Rules &rules) const {
    return !rules.plain || box_weights || scan_all || stats || offender || ignore_mask || best_iou || cell_loss;
  }
};

// What a call gives besides its rows.
struct Outcome {
  double normaliser;
  yl_box_counts boxes;
};

class Truths;

// A backend owns its workspace; one call at a time. On the host nothing fails once it is made; CUDA may throw a Failure.
class Backend {
 public:
  virtual ~Backend() = default;
  // Fills rows (batch * layers, image by image), call.grads and what else the call asks for.
  virtual Outcome loss(const Call &call, yl_parts *rows) = 0;
  // Those of the last call, where they and what is written from them lie in host memory; else NULL.
  virtual const Truths *truths() const { return nullptr; }
  // Enqueues the same, with the whole result. Asked only of a backend for device memory.
  virtual void loss_async(const Call &, void *, const yl_result &) {}
  // Fills the outputs of head that are not NULL.
  virtual void yolo_head(const yl_head &head) = 0;
  // Fills y_true from boxes that have been checked if they lie on the host.
  virtual yl_box_counts build_y_true(int32_t batch, const yl_boxes &boxes, float *const *y_true) = 0;
};

std::unique_ptr<Backend> make_reference(const Shape &shape);
std::unique_ptr<Backend> make_cpu(const Shape &shape);

}  // namespace yl
