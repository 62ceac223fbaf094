// What a call gives on request besides loss and gradient: statistics, and the first value that is not finite. For host
// and device. Sums are added in the order of the cells; of offences the smallest key wins, in any order.
#pragma once

#include <cstdint>

#include "abi.h"
#include "layout.h"
#include "yololoss.h"

namespace yl {

struct Offence {
  uint64_t key;  // 4 * (place of the value among all values of the batch, image by image) + cause
  double value, gradient;
};
constexpr uint64_t kNoOffence = ~uint64_t(0);

// Of a run of cells.
struct Extra {
  yl_stats stats;
  Offence first;
};
#define YL_NO_EXTRA {{}, {kNoOffence, 0, 0}}

YL_HOST_DEVICE inline void meet(Offence &first, const Offence &other) {
  if (other.key < first.key) first = other;
}

#define YL_ADD_STATISTIC(owner, type, field, offset) sum.field += part.field;
YL_HOST_DEVICE inline void add(yl_stats &sum, const yl_stats &part){YL_FIELDS_OF_yl_stats(YL_ADD_STATISTIC)}
#undef YL_ADD_STATISTIC

YL_HOST_DEVICE inline void add(Extra &sum, const Extra &part) {
  add(sum.stats, part.stats);
  meet(sum.first, part.first);
}

template <class T> YL_HOST_DEVICE inline double square(T value) { return double(value) * double(value); }

// Adds a background cell; slope is the gradient of its objectness, 0 if there is none.
template <class T> YL_HOST_DEVICE inline void add_background(yl_stats &stats, T objectness, T slope) {
  ++stats.background;
  stats.objectness_background += sigmoid(objectness);
  stats.grad_background += square(slope);
}

// Adds an object without its gradient; iou is that of its prediction with its own truth.
template <class T> YL_HOST_DEVICE inline void add_object(yl_stats &stats, T iou, T objectness) {
  ++stats.objects;
  stats.iou += iou >= T(0) ? double(iou) : 0;  // not NaN
  stats.iou_50 += iou > T(0.5);
  stats.iou_75 += iou > T(0.75);
  stats.objectness_object += sigmoid(objectness);
}

// The address of an offence. layers: anything with cells, width and anchors.
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
