// Cache lines of the host, and prefetching.
//
// The library reads one value of each row of 5 + C: a mask of y_true, or the objectness of feats. Processors do not
// foresee such steps well, so these reads are announced by hand. truths.cpp and cells_simd.h use this.
#pragma once

#include <cstdint>

namespace yl {

constexpr int64_t kLine = 64;    // bytes of a cache line
constexpr int32_t kAhead = 128;  // rows between a prefetch and its read

// Begins to read one value of each of kCount rows that are step values apart. The rows may be beyond the end of the
// array: a prefetch never faults. Rows of at most a line have a value in every line, so each line is fetched once, to
// stay in all caches. Of longer rows only the value's own line is fetched, with the hint that it is not needed for
// long.
template <int64_t kCount, class Value>
inline __attribute__((always_inline)) void fetch(const Value *from, int64_t step) {
  constexpr int64_t kOfLine = kLine / int64_t(sizeof(Value));
  if (step <= kOfLine)  // all lines have one
    for (int64_t at = 0; at < kCount * step; at += kOfLine) __builtin_prefetch(from + at, 0, 3);
  else
    for (int64_t row = 0; row < kCount; ++row) __builtin_prefetch(from + row * step, 0, 1);
}

}  // namespace yl
