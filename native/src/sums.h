// Stage 3 and the result, for host and device: sums of rows, and what they are divided by.
#pragma once

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
}

YL_HOST_DEVICE inline void add(yl_box_counts &sum, const yl_box_counts &part) {
  sum.used += part.used;
  sum.skipped += part.skipped;
  sum.dropped += part.dropped;
  sum.collided += part.collided;
}

// A layer's rows, in the order of the images.
YL_HOST_DEVICE inline yl_parts layer_sum(const yl_parts *rows, int32_t batch, int32_t layer_count, int32_t l) {
  yl_parts sum{};
  for (int32_t image = 0; image < batch; ++image) add(sum, rows[int64_t(image) * layer_count + l]);
  return sum;
}

// The raw sums of the layers are divided by the normaliser, and added up.
YL_HOST_DEVICE inline yl_summary summarise(yl_parts *layers, int32_t layer_count, double normaliser,
                                           const yl_box_counts &boxes) {
  yl_summary summary{};
  double sum = 0;
  for (int32_t l = 0; l < layer_count; ++l) {
    yl_parts &layer = layers[l];
    summary.objects += layer.objects;
    summary.ignored += layer.ignored;
    summary.ignored_background += layer.ignored_background;
    summary.non_finite += layer.non_finite;
    double *const parts[] = {&layer.xy, &layer.wh, &layer.confidence_object, &layer.confidence_background,
                             &layer.class_};
    for (int i = 0; i < 5; ++i) {
      sum += *parts[i];
      *parts[i] /= normaliser;
    }
  }
  summary.normaliser = normaliser;
  summary.total = sum / normaliser;
  summary.boxes = boxes;
  return summary;
}

}  // namespace yl
