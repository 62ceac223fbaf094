// Stages sum and result, for host and device: the addition of yl_parts, the normaliser, and the summary.
//
// Raw sums stay undivided as long as possible, so that the rows of several calls can be added; only summarise divides.
// The order of every addition is fixed, because sums of doubles depend on it. exact_sum.h has sums that do not.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi.h"
#include "formula.h"
#include "yololoss.h"

namespace yl {

// Returns the number that raw sums and the gradient are divided by. kind is YL_NORMALISER_..., and value is used by
// YL_NORMALISER_VALUE only. objects is the number of objects of the whole call; 0 counts as 1.
YL_HOST_DEVICE inline double normaliser_of(int32_t kind, double value, int32_t batch, int64_t objects) {
  switch (kind) {
    case YL_NORMALISER_NONE: return 1;
    case YL_NORMALISER_OBJECTS: return static_cast<double>(objects > 1 ? objects : 1);
    case YL_NORMALISER_VALUE: return value;
    default: return batch;
  }
}

// Each macro below is applied to the fields of a struct by a list of abi.h, which is generated from yololoss.h.
#define YL_ADD(owner, type, field, offset) sum.field += part.field;
#define YL_COUNT(owner, type, field, offset) +1

// Each adds all fields of part to those of sum.
YL_HOST_DEVICE inline void add(yl_parts &sum, const yl_parts &part) { YL_FIELDS_OF_yl_parts(YL_ADD) }

YL_HOST_DEVICE inline void add(yl_box_counts &sum, const yl_box_counts &part) { YL_FIELDS_OF_yl_box_counts(YL_ADD) }

// Returns the sum of a layer's rows, in the order of the images. rows is (batch, layer_count).
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

// The fields of yl_parts by number: first the sums, then the counts, all of 8 bytes. The kernels add them by number,
// one field for each thread or warp, and the assertions below keep that right when the struct grows.
// clang-format off
constexpr int32_t kSums = YL_SUMS_OF_yl_parts(YL_COUNT);
constexpr int32_t kCounts = YL_COUNTS_OF_yl_parts(YL_COUNT);
// clang-format on
constexpr int32_t kFields = kSums + kCounts;
constexpr int32_t kBoxCounts = YL_COUNTS_OF_yl_box_counts(YL_COUNT);
static_assert(sizeof(yl_parts) == 8 * kFields, "yl_parts consists of double and int64_t");
static_assert(sizeof(yl_box_counts) == 8 * kBoxCounts, "yl_box_counts consists of int64_t");
#define YL_AFTER_SUMS(owner, type, field, offset) \
  static_assert(offsetof(owner, field) >= 8 * kSums, "in yl_parts counts follow the sums: " #field);
YL_COUNTS_OF_yl_parts(YL_AFTER_SUMS)
#undef YL_AFTER_SUMS

// Returns a field by its number; T is double for the first kSums, int64_t for the others.
template <class T> YL_HOST_DEVICE inline T &field_of(yl_parts &parts, int32_t field) {
  return reinterpret_cast<T *>(&parts)[field];
}
template <class T> YL_HOST_DEVICE inline const T &field_of(const yl_parts &parts, int32_t field) {
  return reinterpret_cast<const T *>(&parts)[field];
}

// Returns the sum of a count over all layers.
YL_HOST_DEVICE inline int64_t total_of(const yl_parts *layers, int32_t layer_count, int64_t yl_parts::*count) {
  int64_t sum = 0;
  for (int32_t l = 0; l < layer_count; ++l) sum += layers[l].*count;
  return sum;
}

// Returns the raw total of a call: all sums of all layers, added in the order of the layers and of the fields.
// sum_at(l, field) returns one of them.
template <class SumAt> YL_HOST_DEVICE inline double raw_total(int32_t layer_count, const SumAt &sum_at) {
  double total = 0;
  YL_NO_UNROLL
  for (int32_t l = 0; l < layer_count; ++l)
    for (int32_t field = 0; field < kSums; ++field) total += sum_at(l, field);
  return total;
}

// Makes the result of a call from the raw sums of its layers: divides the sums in layers by the normaliser, in place,
// and fills summary. The total is divided once, after all raw sums have been added, so it may differ in the last bits
// from the sum of the divided parts. write_result of cuda/sum.cuh does the same with a thread for each field.
YL_HOST_DEVICE inline void summarise(yl_parts *layers, int32_t layer_count, double normaliser,
                                     const yl_box_counts &boxes, yl_summary &summary) {
  const auto sum_at = [&](int32_t l, int32_t field) -> double & { return field_of<double>(layers[l], field); };
  summary.total = raw_total(layer_count, sum_at) / normaliser;
  for (int32_t l = 0; l < layer_count; ++l)
    for (int32_t field = 0; field < kSums; ++field) sum_at(l, field) /= normaliser;
  summary.normaliser = normaliser;
#define YL_TOTAL(owner, type, field, offset) summary.field = total_of(layers, layer_count, &yl_parts::field);
  YL_COUNTS_OF_yl_parts(YL_TOTAL)
#undef YL_TOTAL
  summary.boxes = boxes;
}

}  // namespace yl
