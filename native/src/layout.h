// Positions of values: the channels of a cell, the position of a channel in memory for each layout, and the row, column
// and anchor of a cell. For host and device; both fast backends take positions from here.
//
// Cells of an image and layer are numbered (row*W + column)*A + anchor in every layout. An *index* counts the same
// cells in the order of memory: with NHWC the two are equal, with NCHW an index is anchor*H*W + row*W + column.
#pragma once

#include <cstdint>

#include "formula.h"
#include "yololoss.h"

namespace yl {

// The channels of a cell, in feats (logits), gradients and y_true (there the mask is at kObjectness).
constexpr int32_t kX = 0, kY = 1, kW = 2, kH = 3, kObjectness = 4, kFirstClass = 5;
constexpr int32_t kBoxChannels = 4;

// Returns the value of one of the box channels.
template <class T> YL_HOST_DEVICE inline T channel_of(const Box<T> &box, int32_t channel) {
  return channel == kX ? box.x : channel == kY ? box.y : channel == kW ? box.w : box.h;
}

// The row, column and anchor of a cell, each from 0.
struct CellPlace {
  int32_t row, column, anchor;
};

// Returns the row, column and anchor of a cell, for a grid of the given width with anchors cells in each square.
YL_HOST_DEVICE inline CellPlace place_of(int32_t cell, int32_t width, int32_t anchors) {
  const int32_t anchor = cell % anchors, square = cell / anchors;
  const int32_t column = square % width, row = square / width;
  return {row, column, anchor};
}

// Returns the cell in the form that the formulas take. layer: a host Layer or a LayerTask; sizes: A pairs, as fractions
// of the input.
template <class T, class Layer, class Size>
YL_HOST_DEVICE inline Cell<T> cell_at(const Layer &layer, const Size *sizes, int32_t cell) {
  const CellPlace place = place_of(cell, layer.width, layer.anchors);
  const Size *const anchor = sizes + 2 * place.anchor;
  return {T(place.column), T(place.row), T(layer.width), T(layer.height), T(anchor[0]), T(anchor[1])};
}

// The order of an image's feats in a layer: a channel of a cell is at start(cell) + channel * step(). cell_of and
// index_of convert between the number and the index of a cell. A layer has fewer than 2^31 cells, but may have more
// values, so positions are int64_t.
template <bool kPlanar> struct Order;

// YL_NHWC: (H, W, A*(5+C)).
template <> struct Order<false> {
  int32_t channels;
  YL_HOST_DEVICE Order(int32_t, int64_t, int32_t channel_count) : channels(channel_count) {}
  YL_HOST_DEVICE int64_t start(int32_t cell) const { return int64_t(cell) * channels; }
  YL_HOST_DEVICE int64_t step() const { return 1; }
  YL_HOST_DEVICE int32_t cell_of(int32_t index) const { return index; }
  YL_HOST_DEVICE int32_t index_of(int32_t cell) const { return cell; }
};

// YL_NCHW: (A*(5+C), H, W).
template <> struct Order<true> {
  int32_t anchors, squares, channels;
  YL_HOST_DEVICE Order(int32_t anchor_count, int64_t cells, int32_t channel_count)
      : anchors(anchor_count), squares(static_cast<int32_t>(cells / anchor_count)), channels(channel_count) {}
  YL_HOST_DEVICE int64_t start(int32_t cell) const {
    return int64_t(cell % anchors) * channels * squares + cell / anchors;
  }
  YL_HOST_DEVICE int64_t step() const { return squares; }
  YL_HOST_DEVICE int32_t cell_of(int32_t index) const { return index % squares * anchors + index / squares; }
  YL_HOST_DEVICE int32_t index_of(int32_t cell) const { return cell % anchors * squares + cell / anchors; }
};

}  // namespace yl
