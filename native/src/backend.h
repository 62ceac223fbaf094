// The types that the API and the backends share: the checked config (Shape), the checked call (Call), and the table of
// backends.
//
// A backend is a folder and a line: the folder defines a BackendEntry, and backend.cpp lists it. Nothing else in the
// library includes a header of a backend. Every backend has the same stages under the same names: truths, cells, sum.
// Stage check comes before them, in check/, and stage result after them, in api.cpp (a call of yl_loss_async: on the
// device). Read reference/reference.cpp next: it is the simplest backend.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formula.h"
#include "yololoss.h"

namespace yl {

// One scale. layout.h says how its cells are numbered.
struct Layer {
  int32_t height, width, anchors;
  int64_t cells;                     // H*W*A
  std::vector<int32_t> anchor_mask;  // A indices into Shape::anchors
  std::vector<double> anchor_sizes;  // A pairs: width, height as fractions of the input
  float ignore_thresh;
};

// yl_rules after its checks. class_weights has C entries, all 1 if the caller gave none.
struct Rules {
  CellRules cells;                   // its class_weights is not set; see cell_rules
  std::vector<float> class_weights;  // C
  bool plain;                        // keras-yolo3's rules: nothing of the above changes anything

  // Returns the rules for host code. The pointer is set here and not in cells, because a copy of Rules would otherwise
  // point into the vector of the original.
  CellRules cell_rules() const {
    CellRules rules = cells;
    rules.class_weights = class_weights.data();
    return rules;
  }
};

// The config after its checks. It never changes once the plan is made, so every thread may read it without a lock.
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
  int32_t device_index;  // of a kind of device that is numbered; else 0
  bool device_memory;    // feats, truths and gradients are in memory of the device

  int32_t layer_count() const { return static_cast<int32_t>(layers.size()); }
  int64_t cells_per_image() const {
    int64_t cells = 0;
    for (const Layer &layer : layers) cells += layer.cells;
    return cells;
  }
};

// The call after its checks. Its pointers are those of the caller, valid until the call returns. y_true is NULL if the
// truths are boxes; boxes may then be NULL too, if there are none.
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
  const float *normaliser_at;  // device memory, or NULL
  const float *grad_scale_at;  // device memory, or NULL
  yl_stats *stats;             // (L), or NULL
  yl_offender *offender;       // one, or NULL
  float *const *ignore_mask;   // L pointers, or NULL
  float *const *best_iou;      // L pointers, or NULL
  float *const *cell_loss;     // L pointers, or NULL
  // Returns whether the truths are y_true.
  bool dense() const { return y_true != nullptr; }
  bool refresh() const { return grad_mode == YL_GRAD_REFRESH; }
  // Returns whether more is requested than keras-yolo3's loss and gradient. Backends compile their inner code twice,
  // and a call without extras runs the instance that knows nothing of them.
  bool extras(const Rules &rules) const {
    return !rules.plain || box_weights || scan_all || stats || offender || ignore_mask || best_iou || cell_loss;
  }
};

// A backend's results of a call besides its rows: the number that sums are divided by, and the counts of boxes (0 for
// y_true).
struct Outcome {
  double normaliser;
  yl_box_counts boxes;
};

// A plan on a device: it owns its workspace, and runs one call at a time. Calls have been checked. On the host nothing
// fails once the plan is made; a function of another device may throw a Failure.
class Backend {
 public:
  virtual ~Backend() = default;
  // Returns the arithmetic and the hardware, for yl_device_why.
  virtual std::string description() const = 0;
  // Fills rows (batch * layers, image by image), call.grads and what else the call requests.
  virtual Outcome loss(const Call &call, yl_parts *rows) = 0;
  // Enqueues the same, with the whole result, on a stream of the device. Only for plans with device memory: a backend
  // whose entry has no memory is never called, and keeps this, which throws.
  virtual void loss_async(const Call &call, void *stream, const yl_result &result);
  // Returns whether the plan's last gradient had an object's row at a cell: a refreshed gradient of host memory may
  // hold values other than 0 only there and in the objectness channel. A backend that overwrites a refreshed gradient
  // in any case returns true.
  virtual bool was_object(int32_t image, int32_t l, int32_t cell) const = 0;
  // Fills the outputs of head that are not NULL.
  virtual void yolo_head(const yl_head &head) = 0;
  // Fills y_true from boxes; those in host memory have been checked.
  virtual yl_box_counts build_y_true(int32_t batch, const yl_boxes &boxes, float *const *y_true) = 0;
};

// Memory and streams of a kind of device, as the functions of yololoss.h without their checks of the kind. Each throws
// a Failure.
struct DeviceMemory {
  int32_t (*count)();
  yl_device_properties (*properties)(int32_t device_index);
  void *(*allocate)(int32_t device_index, int64_t bytes);
  void (*free)(void *memory);
  void *(*allocate_host)(int64_t bytes);
  void (*free_host)(void *memory);
  void (*copy)(int32_t device_index, void *to, const void *from, int64_t bytes);
  void (*copy_async)(int32_t device_index, void *to, const void *from, int64_t bytes, void *stream);
  void *(*stream_create)(int32_t device_index);
  void (*stream_destroy)(int32_t device_index, void *stream);
  void (*stream_synchronize)(int32_t device_index, void *stream);
  // Fails unless the device can reach the caller's pointer; layer -1: the name has no index. Returns whether it is
  // memory of the device itself.
  bool (*require_reachable)(int32_t device_index, const char *name, int32_t layer, const void *pointer);
};

// A kind of device: a row of the table in backend.cpp.
struct BackendEntry {
  int32_t device;                       // YL_DEVICE_...
  const char *name;                     // in lower case, as yl_device_name returns it
  const char *auto_reason;              // why YL_DEVICE_AUTO takes it
  int32_t most_layers;                  // of a plan
  void (*check)(int32_t device_index);  // throws a Failure unless a plan can be made on that device
  std::unique_ptr<Backend> (*make)(const Shape &shape);
  const DeviceMemory *memory;  // NULL: it works on host memory, and its devices are not numbered
};

// Each is defined in its folder; cuda_backend only where the library is built with CUDA.
extern const BackendEntry reference_backend, cpu_backend, cuda_backend;

// Returns the name of a kind of device, whether this build has it or not.
const char *kind_name(int32_t device);
// Returns the entry of a kind of device. Throws a Failure for a value that is not a kind, and for one that this build
// lacks.
const BackendEntry &backend_of(int32_t device, int32_t device_index);
// Returns the memory of a kind of device. Throws a Failure for a kind that works on host memory.
const DeviceMemory &memory_of(int32_t device, int32_t device_index);
// Fails unless the index is 0. For the check of entries whose devices are not numbered.
void check_not_numbered(int32_t device_index);

}  // namespace yl
