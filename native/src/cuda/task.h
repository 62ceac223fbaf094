// A call as the kernels see it: one struct, passed by value, and the functions that launch them. Plain C++, so that the
// host files need no CUDA compiler.
//
// A Task is a parameter of a kernel: the kernels read pointers and sizes from the constant bank of the launch, and a
// call copies no description to the device. It must stay below CUDA's limit for parameters (4 KiB before CUDA 12.1),
// which is why the number of layers is limited. workspace.h fills in what all calls of a plan share, cuda.cpp the rest.
#pragma once

#include "boxes.h"
#include "statistics.h"

namespace yl {

// Sizes of blocks: cells of a block of stage cells, cells of a block of stage truths from y_true, rows of a block of
// stage truths from boxes. Each is a multiple of a warp. kTile and kBoxRows are also the threads of a block. kTile is a
// part of the result: sums go tile by tile, so another value gives other last bits.
constexpr int32_t kTile = 256;
constexpr int32_t kTruthsTile = 1024;
constexpr int32_t kBoxRows = 128;

constexpr int32_t kMaxCudaLayers = 16;  // their descriptions are parameters of the kernels

// A layer of a call. Pointers are device memory; feats, y_true, grads and the maps begin at image 0 of the call.
struct LayerTask {
  const void *feats;
  const float *y_true;         // NULL: boxes
  void *grads;                 // NULL: loss only
  const void *anchor_sizes;    // A pairs, as fractions of the input, in the type of the arithmetic
  const int32_t *anchor_mask;  // A
  int64_t first_cell;          // of the layer within an image
  int32_t height, width, anchors, cells;
  float ignore_thresh;
  float *ignore_mask, *best_iou, *cell_loss;  // on request, else NULL
};

// The counters of a launch: YL_CLEARED_CONTROL between calls. Stage truths counts, stage cells reads, and the last
// block brings them back to YL_CLEARED_CONTROL for the next call, so that a call needs no launch or copy to clear them.
// The type is that of CUDA's 64-bit atomicAdd.
struct Control {
  unsigned long long first_bad;  // image * per_image + row of boxes
  unsigned long long objects;
  unsigned long long used, skipped, clamped, dropped, collided;
  unsigned long long rows_done;  // tickets of (image, layer)
};
constexpr unsigned long long kNoBadRow = ~0ull;
#define YL_CLEARED_CONTROL {kNoBadRow, 0, 0, 0, 0, 0, 0, 0}

// The counters of an image and layer. count and tiles_done are 0 between calls.
struct RowCounters {
  int32_t count;                  // length of the list
  int32_t previous_count;         // length of the list previous
  unsigned long long tiles_done;  // tickets
};

// Device memory of a plan (workspace.h). Lists of objects are in no order: nothing depends on it. Each image and layer
// has the part of a list that its cells would need, so none can overflow.
struct Workspace {
  int32_t *cells;             // (max_batch, cells_per_image): of the objects of each (image, layer)
  Box<float> *truths;         // likewise
  float *weights;             // likewise: of their boxes
  uint32_t *class_flags;      // (max_batch, cells_per_image, flag_words), by cell; boxes only
  int32_t *previous;          // as cells: the rows that a refreshed gradient must clear
  RowCounters *row_counters;  // (max_batch, L)
  yl_parts *partial_sums;     // (max_batch, tiles)
  yl_parts *rows;             // (max_batch, L)
  yl_summary *summary;        // one, where the caller wants none
  Extra *partial_extras;      // as partial_sums
  Extra *row_extras;          // as rows
  Control *control;
};

// One call, or one chunk of a call. layers beyond layer_count are unused.
struct Task {
  LayerTask layers[kMaxCudaLayers];
  int32_t layer_count, batch, channels, flag_words;
  int64_t cells_per_image;
  int32_t dtype, layout;  // YL_F32 ..., YL_NHWC ...
  bool f32_grads;         // grads are float32 and feats are not
  bool extras;            // Call::extras
  bool scan_all;
  int32_t grad_mode;  // YL_GRAD_...
  CellRules rules;    // class_weights is device memory
  BoxRules box_rules;
  const float *boxes;
  const float *box_weights;  // or NULL
  int32_t boxes_per_image;
  bool refuse_bad_boxes;
  bool places_boxes;  // the blocks of stage cells place the boxes of the only image: there is no launch of stage truths
  bool overlaps;      // the kernels that are loaded can start before the launch before has ended (YOLOLOSS_CUDA_PDL)
  int32_t normaliser;
  double normaliser_value, grad_scale;
  const float *normaliser_at, *grad_scale_at;
  double factor;          // grad_scale / normaliser, unless
  bool factor_on_device;  // it depends on device memory: on the two above, or on the number of objects
  Workspace work;
  yl_result result;  // memory that the device can write; summary is never NULL
};

// Returns the number of blocks of an image for a tile size, over all layers.
int64_t tiles_per_image(const Task &task, int32_t size);

// The functions below return a cudaError_t as int. stream is a cudaStream_t. None of them waits.
//
// Load the kernels of a plan, so that its first launches may be captured in a graph. They fail if this build has no
// kernels for the current device. load_cells needs type and layout of the task, and sets overlaps.
int load_truths();
int load_cells(Task &task);
// Returns whether a call launches stage truths. Without rows of boxes there is nothing to launch: the lists are empty
// and the counts are 0 between calls.
inline bool launches_truths(const Task &task) {
  return task.layers[0].y_true || (task.boxes_per_image > 0 && !task.places_boxes);
}
// Launches stage truths: fills the lists and the counters of the workspace.
int launch_truths(const Task &task, void *stream);
// Launches stages cells, sum and result, after launch_truths on the same stream.
int launch_cells(const Task &task, void *stream);
// Launches, after launch_truths and instead of launch_cells, the kernel that writes the dense truths of the lists into
// y_true (L pointers).
int launch_write_y_true(const Task &task, float *const *y_true, void *stream);
// Launches the kernel that ends such a call: it writes counts and objects, which the device must be able to write, and
// clears lists and counters.
int launch_finish_truths(const Task &task, yl_box_counts *counts, int64_t *objects, void *stream);
// Launches yl_yolo_head for head.batch images of head.layer. It needs no workspace.
int launch_yolo_head(const Task &task, const yl_head &head, void *stream);

}  // namespace yl
