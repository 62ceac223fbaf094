// What a call gives on request besides loss and gradient: statistics, and the first value that is not finite. For host and
// device. Sums are added in the order of the cells; of offences the smallest key wins, in any order.
#pragma once

#include <cstdint>

#include "abi.h"
#include "formula.h"
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
#define YL_NO_EXTRA          \
  {                          \
    {}, { kNoOffence, 0, 0 } \
  }

YL_HOST_DEVICE inline void meet(Offence &first, const Offence &other) {
  if (other.key < first.key) first = other;
}

#define YL_ADD_STATISTIC(owner, type, field, offset) sum.field += part.field;
YL_HOST_DEVICE inline void add(yl_stats &sum, const yl_stats &part) { YL_FIELDS_OF_yl_stats(YL_ADD_STATISTIC) }
#undef YL_ADD_STATISTIC

YL_HOST_DEVICE inline void add(Extra &sum, const Extra &part) {
  add(sum.stats, part.stats);
  meet(sum.first, part.first);
}

template <class T> YL_HOST_DEVICE inline double square(T value) { return double(value) * double(value); }

// An object, but for its gradient: iou of its prediction with its truth.
template <class T> YL_HOST_DEVICE inline void add_object(yl_stats &stats, T iou, T objectness) {
  ++stats.objects;
  stats.iou += iou >= T(0) ? double(iou) : 0;  // not NaN
  stats.iou_50 += iou > T(0.5);
  stats.iou_75 += iou > T(0.75);
  stats.objectness_object += sigmoid(objectness);
}

// The part of an object whose loss is not finite though its logits and truths are: wh (the square overflows) before xy (a
// product does). channel 0 and 1, or 2 and 3.
template <class T> YL_HOST_DEVICE inline int32_t overflow_channel(const BoxLoss<T> &box, const Box<T> &logits) {
  if (!finite(box.xy)) return finite(logits.x * box.slope.x) ? 1 : 0;
  if (!finite(box.wh)) return finite(box.slope.w * box.slope.w) ? 3 : 2;
  return -1;
}

// Whether a value of y_true of an object poisons its loss: its sizes go through a logarithm.
YL_HOST_DEVICE inline bool poisons(int32_t channel, float y) {
  return !finite(y) || ((channel == 2 || channel == 3) && y <= 0);
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
  const auto &layer = layers[out.layer];
  out.anchor = static_cast<int32_t>(cell % layer.anchors);
  out.column = static_cast<int32_t>(cell / layer.anchors % layer.width);
  out.row = static_cast<int32_t>(cell / layer.anchors / layer.width);
  out.value = offence.value;
  out.gradient = offence.gradient;
  return out;
}

}  // namespace yl
