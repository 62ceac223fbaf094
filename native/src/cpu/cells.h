// Stage 2 of the cpu backend for float32 arithmetic: one function for each instruction set, type and order of feats.
#pragma once

#include "statistics.h"
#include "truths.h"

namespace yl {

struct Scratch;

// Where the cells of a layer are, as Cell has it, in the order of memory; so many more that any of them begins a whole
// vector of the widest instruction set.
struct Places {
  std::vector<float> column, row, anchor_width, anchor_height;
};

// Cells side by side in memory: of NHWC cells [first, last) of a layer, at most kRun; of NCHW places [first, last) of one
// anchor, at most kPlaneRun.
struct Span {
  int32_t layer;
  int32_t anchor;  // NCHW
  int64_t first, last;
};

// What is the same for all spans of a call.
struct Visiting {
  const Shape &shape;
  const std::vector<Places> &places;  // of each layer
  const Truths &truths;
  const Call &call;
  double factor;  // of the gradient
  bool stream;    // the gradient is so large that it is better not kept in the caches
};

using Visit = void (*)(const Visiting &, int32_t image, const Span &, Scratch &, yl_parts &sum, Extra &extra);

// For feats of a type and order, not YL_F64. extras as in Call.
Visit baseline_visit(const Shape &shape, bool extras);
Visit avx2_visit(const Shape &shape, bool extras);
Visit avx512_visit(const Shape &shape, bool extras);

}  // namespace yl
