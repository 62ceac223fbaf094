// What the libFuzzer targets share: input taken apart, memory that ends at a redzone, and a check that stops the
// fuzzer.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "values.h"
#include "yololoss.h"

#define REQUIRE(condition)                                                                                           \
  do {                                                                                                               \
    if (!(condition)) {                                                                                              \
      std::fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__, #condition, yl_last_error()); \
      std::abort();                                                                                                  \
    }                                                                                                                \
  } while (false)

// Memory of exactly so many bytes: AddressSanitizer guards both sides.
class Exact {
 public:
  explicit Exact(size_t bytes, unsigned char filled = 0xA5)
      : data_(new char[std::max<size_t>(bytes, 1)]), bytes_(bytes) {
    std::memset(data_.get(), filled, bytes);
  }
  char *data() { return data_.get(); }
  size_t size() const { return bytes_; }
  bool holds_only(unsigned char value) const {
    return std::all_of(data_.get(), data_.get() + bytes_,
                       [&](char c) { return static_cast<unsigned char>(c) == value; });
  }
  bool same(const Exact &other) const {
    return bytes_ == other.bytes_ && std::memcmp(data_.get(), other.data_.get(), bytes_) == 0;
  }

 private:
  std::unique_ptr<char[]> data_;
  size_t bytes_;
};

// A whole number: mostly of the valid ones, now and then any.
inline int32_t number_from(FuzzedDataProvider &input, int32_t least, int32_t most) {
  return input.ConsumeIntegral<uint8_t>() < 12 ? input.ConsumeIntegral<int32_t>()
                                               : input.ConsumeIntegralInRange<int32_t>(least, most);
}

// A float: a plain one, one of those that break things, or any bits.
inline float float_from(FuzzedDataProvider &input, float least, float most) {
  static const float kOdd[] = {0,        -0.0f,   1,      -1,      INFINITY, -INFINITY, NAN,           FLT_MAX,
                               -FLT_MAX, FLT_MIN, 1e-45f, -1e-45f, 65504,    65520,     2147483648.0f, 1e20f,
                               1e-20f,   0.5f,    1e4f,   -1e4f};
  const auto kind = input.ConsumeIntegral<uint8_t>();
  if (kind < 20) return kOdd[kind];
  if (kind < 40) {
    const auto bits = input.ConsumeIntegral<uint32_t>();
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  return least + (most - least) * (static_cast<float>(input.ConsumeIntegral<uint16_t>()) / 65535.0f);
}

// A refusal has a sentence, and the status a name.
inline void require_sentence(yl_status status) {
  REQUIRE(status != YL_OK && status != YL_INTERNAL && std::strcmp(yl_status_name(status), "unknown status") != 0);
  REQUIRE(std::strlen(yl_last_error()) > 10);
}
