// Values of all types by way of the library's own conversions, which types.* test. See values.h.
#include "values.h"

#include <cstring>

#include "dtype.h"

int64_t size_of(int32_t dtype) { return yl::size_of(dtype); }

void put(int32_t dtype, char *at, double value) {
  const auto copy = [&](auto stored) { std::memcpy(at, &stored, sizeof stored); };
  switch (dtype) {
    case YL_F16: return copy(yl::Store<yl::Half>::from(value));
    case YL_BF16: return copy(yl::Store<yl::Bfloat16>::from(value));
    case YL_F64: return copy(value);
    default: return copy(static_cast<float>(value));
  }
}

namespace {

template <class T> double loaded(const char *at) {
  T stored;
  std::memcpy(&stored, at, sizeof stored);
  return yl::load(stored);
}

}  // namespace

double get(int32_t dtype, const char *at) {
  switch (dtype) {
    case YL_F16: return loaded<yl::Half>(at);
    case YL_BF16: return loaded<yl::Bfloat16>(at);
    case YL_F64: return loaded<double>(at);
    default: return loaded<float>(at);
  }
}

double rounded(int32_t dtype, double value) {
  char bytes[8];
  put(dtype, bytes, value);
  return get(dtype, bytes);
}

int64_t index_in(int32_t layout, int64_t i, int64_t cells, int64_t anchors, int64_t channels) {
  if (layout == YL_NHWC) return i;
  const int64_t channel = i % channels, cell = i / channels % cells, image = i / channels / cells;
  return ((image * anchors + cell % anchors) * channels + channel) * (cells / anchors) + cell / anchors;
}
