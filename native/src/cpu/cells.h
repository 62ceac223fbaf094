// Stage 2 on the cpu device, as cpu.cpp calls it: a function that computes one span of cells, for each instruction set.
//
// cells_simd.h computes float32 arithmetic, compiled by cells_<isa>.cpp for each instruction set; cells_scalar.h
// computes YL_F64 in double. Both are made of view.h (where things are), object.h (the row of an object) and formula.h.
#pragma once

#include "statistics.h"
#include "truths.h"

namespace yl {

constexpr int64_t kRun = 1024;       // the most cells of a span of rows
constexpr int64_t kPlaneRun = 8192;  // of a span of planes: usually a whole plane, so that its gradient is one stretch

// Column, row and anchor size of every cell, in memory order, padded so that a full vector load that starts at any cell
// stays in bounds.
struct CellTable {
  std::vector<float> column, row, anchor_width, anchor_height;
};

// Cells that are adjacent in memory. NHWC: cells [first, last) of a layer, at most kRun. NCHW: grid squares [first,
// last) of one anchor, at most kPlaneRun; in double, cells as for NHWC.
struct Span {
  int32_t layer;
  int32_t anchor;  // NCHW
  int64_t first, last;
};

// What all spans of a call share.
struct CellsCall {
  const Shape &shape;
  const CellRules rules;
  const std::vector<CellTable> &tables;  // of each layer
  const Truths &truths;
  const Call &call;
  double factor;  // of the gradient: grad_scale / normaliser
  bool stream;    // the gradient is larger than the caches, so it is written past them
};

// An object that cells of a span can reach: those from first to last, counted from the first cell of the span.
struct Reachable {
  Box<float> truth;
  int32_t first, last;
};

// Memory of a worker, so that a call allocates none.
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
  std::vector<float> row;                  // of y_true
  std::vector<double> slopes;              // planes: those of the objectness, in the type of the gradient
  std::vector<uint8_t> is_object;          // planes in double: for each cell
  std::unique_ptr<Reachable[]> reachable;  // room for all objects of an image
  std::vector<char> tile;                  // rows of the gradient on their way to memory
  const Object *objects[kPlaneRun];        // of the span
  std::unique_ptr<float[]> object_rows;    // planes: the gradient of each object, in its type
};

// Adds the parts of the cells of a span to sum and what is requested besides to extra; writes their gradient.
using CellsFunction = void (*)(const CellsCall &, int32_t image, const Span &, Scratch &, yl_parts &sum, Extra &extra);

// Returns the function for the types and the order of a plan. extras: as Call::extras. The first three are for float32
// arithmetic, the last for YL_F64.
CellsFunction baseline_cells(const Shape &shape, bool extras);
CellsFunction avx2_cells(const Shape &shape, bool extras);
CellsFunction avx512_cells(const Shape &shape, bool extras);
CellsFunction double_cells(const Shape &shape, bool extras);

// Fills the outputs of head for cells [first, last) of an image, but for the grid.
void decode_cells(const Shape &shape, const yl_head &head, int32_t image, int64_t first, int64_t last);

}  // namespace yl
