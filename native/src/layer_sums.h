// Stage 3 and the result, for host and device: sums of rows, and what they are divided by.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formula.h"
#include "yololoss.h"

namespace yl {

// What raw sums are divided by, once the objects are known.
YL_HOST_DEVICE inline double normaliser_of(int32_t kind, double value, int32_t batch, int64_t objects) {
  switch (kind) {
    case YL_NORMALISER_NONE: return 1;
    case YL_NORMALISER_OBJECTS: return static_cast<double>(objects > 1 ? objects : 1);
    case YL_NORMALISER_VALUE: return value;
    default: return batch;
  }
}

YL_HOST_DEVICE inline void add(yl_parts &sum, const yl_parts &part) {
  sum.xy += part.xy;
  sum.wh += part.wh;
  sum.confidence_object += part.confidence_object;
  sum.confidence_background += part.confidence_background;
  sum.class_ += part.class_;
  sum.objects += part.objects;
  sum.ignored += part.ignored;
  sum.ignored_background += part.ignored_background;
  sum.non_finite += part.non_finite;
  sum.found_inf += part.found_inf;
}

YL_HOST_DEVICE inline void add(yl_box_counts &sum, const yl_box_counts &part) {
  sum.used += part.used;
  sum.skipped += part.skipped;
  sum.clamped += part.clamped;
  sum.dropped += part.dropped;
  sum.collided += part.collided;
}

// A layer's rows, in the order of the images.
YL_HOST_DEVICE inline yl_parts layer_sum(const yl_parts *rows, int32_t batch, int32_t layer_count, int32_t l) {
  yl_parts sum{};
  for (int32_t image = 0; image < batch; ++image) add(sum, rows[int64_t(image) * layer_count + l]);
  return sum;
}

// On a device these loops are run by one thread of a kernel that has no registers to spare.
#if defined(__CUDACC__)
#define YL_NO_UNROLL _Pragma("unroll 1")
#else
#define YL_NO_UNROLL
#endif

// yl_parts is sums and then counts, all of 8 bytes: its fields by number.
constexpr int32_t kSums = 5, kFields = 2 * kSums;
static_assert(offsetof(yl_parts, objects) == 8 * kSums && sizeof(yl_parts) == 8 * kFields, "fields of yl_parts");

template <class T> YL_HOST_DEVICE inline T &field_of(yl_parts &parts, int32_t field) {
  return reinterpret_cast<T *>(&parts)[field];
}
template <class T> YL_HOST_DEVICE inline const T &field_of(const yl_parts &parts, int32_t field) {
  return reinterpret_cast<const T *>(&parts)[field];
}

YL_HOST_DEVICE inline int64_t total_of(const yl_parts *layers, int32_t layer_count, int64_t yl_parts::*count) {
  int64_t sum = 0;
  YL_NO_UNROLL
  for (int32_t l = 0; l < layer_count; ++l) sum += layers[l].*count;
  return sum;
}

// The raw sums of the layers are divided by the normaliser, and added up.
YL_HOST_DEVICE inline void summarise(yl_parts *layers, int32_t layer_count, double normaliser,
                                     const yl_box_counts &boxes, yl_summary &summary) {
  double sum = 0;
  YL_NO_UNROLL
  for (int32_t l = 0; l < layer_count; ++l) {
    YL_NO_UNROLL
    for (int32_t field = 0; field < kSums; ++field) {
      double &part = field_of<double>(layers[l], field);
      sum += part;
      part /= normaliser;
    }
  }
  summary.total = sum / normaliser;
  summary.normaliser = normaliser;
  summary.objects = total_of(layers, layer_count, &yl_parts::objects);
  summary.ignored = total_of(layers, layer_count, &yl_parts::ignored);
  summary.ignored_background = total_of(layers, layer_count, &yl_parts::ignored_background);
  summary.non_finite = total_of(layers, layer_count, &yl_parts::non_finite);
  summary.found_inf = total_of(layers, layer_count, &yl_parts::found_inf);
  summary.boxes = boxes;
}

}  // namespace yl
