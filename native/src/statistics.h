// The extras of a call that are sums or searches: yl_stats, and the first value that is not finite. For host and
// device.
//
// Stage cells keeps an Extra for each run of cells (a span or a tile), and stage sum adds them. Statistics are doubles,
// added in a fixed order, so that the bits repeat. Of several offences the smallest key wins, in any order.
// layer_sums.h does the same for yl_parts.
#pragma once

#include <cstdint>

#include "abi.h"
#include "layout.h"
#include "yololoss.h"

namespace yl {

// A value that is not finite, as a candidate for yl_offender.
struct Offence {
  uint64_t key;  // 4 * (number of the value among all values of the batch, image by image) + cause
  double value, gradient;
};
constexpr uint64_t kNoOffence = ~uint64_t(0);

// The extras of a run of cells.
struct Extra {
  yl_stats stats;
  Offence first;
};
// Initialises an Extra to nothing found. It is a macro, because default member initialisers would give Extra a
// constructor, which variables in a device's shared memory must not have.
#define YL_NO_EXTRA {{}, {kNoOffence, 0, 0}}

// Keeps the offence with the smaller key: the order of images, layers, cells, channels, and then causes.
YL_HOST_DEVICE inline void meet(Offence &first, const Offence &other) {
  if (other.key < first.key) first = other;
}

// The lists of fields are generated from yololoss.h (abi.h), so a new statistic is added up without a change here.
#define YL_ADD_STATISTIC(owner, type, field, offset) sum.field += part.field;
YL_HOST_DEVICE inline void add(yl_stats &sum, const yl_stats &part) { YL_FIELDS_OF_yl_stats(YL_ADD_STATISTIC) }
#undef YL_ADD_STATISTIC

YL_HOST_DEVICE inline void add(Extra &sum, const Extra &part) {
  add(sum.stats, part.stats);
  meet(sum.first, part.first);
}

template <class T> YL_HOST_DEVICE inline double square(T value) { return double(value) * double(value); }

// Adds a background cell; slope is the gradient of its objectness, 0 without grads. Both are in the type of the
// arithmetic, before they are rounded to the type of grads.
template <class T> YL_HOST_DEVICE inline void add_background(yl_stats &stats, T objectness, T slope) {
  ++stats.background;
  stats.objectness_background += sigmoid(objectness);
  stats.grad_background += square(slope);
}

// Adds an object without its gradient; iou is that of its prediction with its own truth. A NaN fails all comparisons,
// so it counts as 0.
template <class T> YL_HOST_DEVICE inline void add_object(yl_stats &stats, T iou, T objectness) {
  ++stats.objects;
  stats.iou += iou >= T(0) ? double(iou) : 0;  // NaN: 0
  stats.iou_50 += iou > T(0.5);
  stats.iou_75 += iou > T(0.75);
  stats.objectness_object += sigmoid(objectness);
}

// Returns the offender that an offence stands for: takes the key apart. All fields are 0 if there is none. layers: an
// array of anything that has cells, width and anchors (a host Layer or a LayerTask).
template <class Layers>
YL_HOST_DEVICE inline yl_offender describe(const Offence &offence, const Layers &layers, int32_t layer_count,
                                           int64_t cells_per_image, int32_t channels) {
  yl_offender out{};
  if (offence.key == kNoOffence) return out;
  const auto place = static_cast<int64_t>(offence.key / 4);
  int64_t cell = place / channels % cells_per_image;
  out.cause = static_cast<int32_t>(offence.key % 4);
  out.channel = static_cast<int32_t>(place % channels);
  out.image = static_cast<int32_t>(place / channels / cells_per_image);
  while (out.layer + 1 < layer_count && cell >= layers[out.layer].cells) cell -= layers[out.layer++].cells;
  const CellPlace where = place_of(static_cast<int32_t>(cell), layers[out.layer].width, layers[out.layer].anchors);
  out.row = where.row;
  out.column = where.column;
  out.anchor = where.anchor;
  out.value = offence.value;
  out.gradient = offence.gradient;
  return out;
}

}  // namespace yl
