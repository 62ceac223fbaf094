// Where values are: the channels of a cell, the place of a channel in memory for each order, and the row, column and
// anchor of a cell. For host and device; the only place that knows any of them.
//
// Cells of an image and layer are numbered (row*W + column)*A + anchor in every order. An *index* counts the same cells
// in the order of memory: with NHWC the two are equal, with NCHW an index is anchor*H*W + row*W + column.
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

struct CellPlace {
  int32_t row, column, anchor;
};

// Returns the place of a cell of a grid of that many columns and anchors.
YL_HOST_DEVICE inline CellPlace place_of(int32_t cell, int32_t width, int32_t anchors) {
  const int32_t square = cell / anchors;
  return {square / width, square % width, cell % anchors};
}

// Returns the cell as the formulas take it. layer: a host Layer or a LayerTask; sizes: A pairs, as fractions of the
// input.
template <class T, class Layer, class Size>
YL_HOST_DEVICE inline Cell<T> cell_at(const Layer &layer, const Size *sizes, int32_t cell) {
  const CellPlace place = place_of(cell, layer.width, layer.anchors);
  return {static_cast<T>(place.column), static_cast<T>(place.row),  static_cast<T>(layer.width),
          static_cast<T>(layer.height), T(sizes[2 * place.anchor]), T(sizes[2 * place.anchor + 1])};
}

// The order of an image's feats of a layer: a channel of a cell is at start(cell) + channel * step().
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
