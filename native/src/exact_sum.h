// Exact sums of rows, in words that are merged by adding them.
//
// A sum of doubles is a fixed-point number that spans their whole range, in digits of 32 bits, each in a word of 64: what
// a digit cannot hold stays in its word until carry. So sums are added word by word, in any order and grouping.
#pragma once

#include <cstdint>

#include "check/check.h"
#include "layer_sums.h"

namespace yl {

// The words of one sum of doubles: digits, digit i worth 2^(32*i - 1074), the last one signed; then how many of NaN,
// infinity and -infinity were added. The same in LossSum.java.
constexpr int32_t kDigits = 68, kExactWords = kDigits + 3;

// Of a sum: images, the counts of boxes; for each layer the counts of yl_parts, and kExactWords for each of its sums.
constexpr int32_t kHeadWords = 1 + kBoxCounts, kLayerWords = kCounts + kSums * kExactWords;
static_assert(YL_SUM_WORDS(0) == kHeadWords && YL_SUM_WORDS(1) == kHeadWords + kLayerWords, "YL_SUM_WORDS");

void sum_add(int64_t *sum, int32_t layer_count, const yl_parts *rows, int32_t batch, const yl_box_counts *boxes);
void sum_merge(int64_t *sum, int32_t layer_count, const int64_t *other);
// layers may be null.
yl_summary sum_result(const int64_t *sum, int32_t layer_count, int32_t normaliser, double normaliser_value,
                      yl_parts *layers);

}  // namespace yl
