// Exact sums of rows (yl_sum_...): sums that do not depend on the order or grouping of what is added, for batches that
// are spread over threads, ranks and machines.
//
// A sum of doubles is a fixed-point number as wide as the range of double. Its digits have 32 bits, but each is stored
// in a word of 64: additions leave their carries in the upper half of the word, until carry() moves them to the next
// digit. So two sums are merged by adding word to word, which any reduction over int64 can do, and as long as no word
// overflows the result is exact. LossSum.java uses the same words and must change with them.
#pragma once

#include <cstdint>

#include "check/check.h"
#include "layer_sums.h"

namespace yl {

// The words of one sum of doubles: kDigits digits, of which digit i counts units of 2^(32*i - 1074) (2^-1074 is the
// smallest double) and the last one is signed; then the numbers of NaN, infinity and -infinity that were added.
constexpr int32_t kDigits = 68, kExactWords = kDigits + 3;

// Of a sum: images, the counts of boxes; for each layer the counts of yl_parts, and kExactWords for each of its sums.
constexpr int32_t kHeadWords = 1 + kBoxCounts, kLayerWords = kCounts + kSums * kExactWords;
static_assert(YL_SUM_WORDS(0) == kHeadWords && YL_SUM_WORDS(1) == kHeadWords + kLayerWords, "YL_SUM_WORDS");

// These are yl_sum_add, yl_sum_merge and yl_sum_result; they throw a Failure instead of returning a status.
void sum_add(int64_t *sum, int32_t layer_count, const yl_parts *rows, int32_t batch, const yl_box_counts *boxes);
void sum_merge(int64_t *sum, int32_t layer_count, const int64_t *other);
// layers may be NULL.
yl_summary sum_result(const int64_t *sum, int32_t layer_count, int32_t normaliser, double normaliser_value,
                      yl_parts *layers);

}  // namespace yl
