// A call as the kernels see it: one struct, passed by value, and the functions that launch them. Plain C++.
#pragma once

#include "boxes.h"
#include "statistics.h"

namespace yl {

// Cells of a block of stage 2, of stage 1 from y_true, and rows of a block of stage 1 from boxes. Each is a multiple of
// a warp.
constexpr int32_t kTile = 256;
constexpr int32_t kTruthsTile = 1024;
constexpr int32_t kBoxRows = 128;

constexpr int32_t kMaxCudaLayers = 16;  // their descriptions are parameters of the kernels

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

// Counters of a launch: YL_CLEARED_CONTROL between calls, brought back to it by the last block.
struct Control {
  unsigned long long first_bad;  // image * per_image + row of boxes
  unsigned long long objects;
  unsigned long long used, skipped, clamped, dropped, collided;
  unsigned long long rows_done;  // tickets of (image, layer)
};
constexpr unsigned long long kNoBadRow = ~0ull;
#define YL_CLEARED_CONTROL {kNoBadRow, 0, 0, 0, 0, 0, 0, 0}

// Device memory of a plan. The lists of objects are in no order: nothing depends on it.
struct Workspace {
  int32_t *cells;                  // (max_batch, cells_per_image): of the objects of each (image, layer)
  Box<float> *truths;              // alike
  float *weights;                  // alike: of their boxes
  uint32_t *class_flags;           // (max_batch, cells_per_image, flag_words), by cell; boxes only
  int32_t *previous;               // as cells: the rows that a refreshed gradient must clear
  int32_t *counts;                 // (max_batch, L): lengths of the lists; 0 between calls
  int32_t *previous_counts;        // (max_batch, L)
  unsigned long long *tiles_done;  // (max_batch, L): tickets; 0 between calls
  yl_parts *partial_sums;          // (max_batch, tiles)
  yl_parts *rows;                  // (max_batch, L)
  yl_parts *layers;                // (L)
  yl_summary *summary;             // one, where the caller wants none
  Extra *partial_extras;           // as partial_sums
  Extra *row_extras;               // as rows
  Control *control;
};

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
  int32_t normaliser;
  double normaliser_value, grad_scale;
  const float *normaliser_at, *grad_scale_at;
  Workspace work;
  yl_result result;  // memory that the device can write; summary is never NULL
};

// Blocks of an image, for a tile size.
int64_t tiles_per_image(const Task &task, int32_t size);

// Each returns a cudaError_t; stream is a cudaStream_t.
// The kernels of a call are loaded, so that its first launch may be captured; fails where this build has none for the
// current device.
int load_truths();
int load_cells(const Task &task);
int launch_truths(const Task &task, void *stream);  // stage 1
int launch_cells(const Task &task, void *stream);   // stages 2 and 3
// After launch_truths, instead of launch_cells: the dense truths of the lists into y_true (L pointers); then counts and
// objects, where the device can write them.
int launch_write_y_true(const Task &task, float *const *y_true, void *stream);
int launch_finish_truths(const Task &task, yl_box_counts *counts, int64_t *objects, void *stream);
int launch_yolo_head(const Task &task, const yl_head &head, void *stream);

}  // namespace yl
