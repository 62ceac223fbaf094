// Cache lines of the host, and reading them ahead.
#pragma once

#include <cstdint>

namespace yl {

constexpr int64_t kLine = 64;    // bytes
constexpr int32_t kAhead = 128;  // rows: so far before they are read they are fetched

// Begins to read one value of each of kCount rows, step values apart.
template <int64_t kCount, class Value>
inline __attribute__((always_inline)) void fetch(const Value *from, int64_t step) {
  constexpr int64_t kOfLine = kLine / int64_t(sizeof(Value));
  if (step <= kOfLine)  // all lines have one
    for (int64_t at = 0; at < kCount * step; at += kOfLine) __builtin_prefetch(from + at, 0, 3);
  else
    for (int64_t row = 0; row < kCount; ++row) __builtin_prefetch(from + row * step, 0, 1);
}

}  // namespace yl
