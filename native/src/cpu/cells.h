// Stage cells on the cpu device, as cpu.cpp calls it: a function that computes one span of cells, for each instruction
// set.
//
// cells_simd.h computes in float32 and is compiled by cells_<isa>.cpp for each instruction set; cells_scalar.h computes
// YL_F64 in double. Both are made of view.h (the arrays of an image and layer), object.h (the row of an object) and
// formula.h. This header is seen by code for every instruction set, so it holds only data and declarations.
#pragma once

#include "statistics.h"
#include "truths.h"

namespace yl {

constexpr int64_t kRun = 1024;       // the most cells of a span, NHWC
constexpr int64_t kPlaneRun = 8192;  // NCHW: usually a whole plane, so that its gradient is one stretch

// Column, row and anchor size of every cell, in memory order, padded so that a full vector load that starts at any cell
// stays in bounds.
struct CellTable {
  std::vector<float> column, row, anchor_width, anchor_height;
};

// Cells that are adjacent in memory, the work of one item of the pool. NHWC: cells [first, last) of a layer, at most
// kRun. NCHW: grid squares [first, last) of one anchor, at most kPlaneRun. YL_F64: cells, as for NHWC, in both layouts.
struct Span {
  int32_t layer;
  int32_t anchor;  // NCHW, else 0
  int64_t first, last;
};

// The data that all spans of a call share.
struct CellsCall {
  const Shape &shape;
  const CellRules rules;
  const std::vector<CellTable> &tables;  // (L)
  const Truths &truths;
  const Call &call;
  double factor;  // factor of every slope: grad_scale / normaliser
  bool stream;    // the gradient is larger than the caches, so it is written past them
};

// An object that cells of a span can reach. Those cells are within [first, last], counted from the first cell of the
// span.
struct Reachable {
  Box<float> truth;
  int32_t first, last;
};

// Memory of one worker, allocated with the plan, so that a call allocates none. A span uses it from its start to its
// end; nothing is kept from one span to the next.
struct Scratch {
  explicit Scratch(const Shape &shape)
      : row(shape.channels),
        slopes(kPlaneRun),
        is_object(kRun),
        reachable(new Reachable[shape.cells_per_image()]),
        tile(64 * int64_t(shape.channels) + 128) {
    int64_t squares = 0;
    for (const Layer &layer : shape.layers)
      if (shape.layout == YL_NCHW) squares = larger(squares, smaller(layer.cells / layer.anchors, kPlaneRun));
    object_rows.reset(new float[squares * shape.channels]);
  }
  std::vector<float> row;                  // a row of y_true, composed from a box
  std::vector<double> slopes;              // planes: slopes of the objectness, in the type of grads
  std::vector<uint8_t> is_object;          // planes in double: 1 for each object
  std::unique_ptr<Reachable[]> reachable;  // room for all objects of an image
  std::vector<char> tile;                  // rows of the gradient on their way to memory
  const Object *objects[kPlaneRun];        // objects of the span, by cell
  std::unique_ptr<float[]> object_rows;    // planes: the gradient of each object, in its type
};

// Adds the parts of the cells of a span to sum, and the extras that the call requests to extra; writes their gradient.
// Different spans may be computed at the same time, each with its own Scratch.
using CellsFunction = void (*)(const CellsCall &, int32_t image, const Span &, Scratch &, yl_parts &sum, Extra &extra);

// Each returns the function for the types and the layout of a plan. extras: as Call::extras. The first three compute in
// float32, the last one YL_F64.
CellsFunction baseline_cells(const Shape &shape, bool extras);
CellsFunction avx2_cells(const Shape &shape, bool extras);
CellsFunction avx512_cells(const Shape &shape, bool extras);
CellsFunction double_cells(const Shape &shape, bool extras);

// Fills the outputs of head, except the grid, for cells [first, last) of an image.
void decode_cells(const Shape &shape, const yl_head &head, int32_t image, int64_t first, int64_t last);

}  // namespace yl
