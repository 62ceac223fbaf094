// How feats and gradients lie in memory: the 16-bit numbers, and where the channels of a cell are. For host and device.
#pragma once

#include <cstdint>
#include <cstring>

#include "formula.h"
#include "yololoss.h"

namespace yl {

// IEEE 754 binary16, and the upper half of a float32; both rounded to nearest even.
struct Half {
  uint16_t bits;
};
struct Bfloat16 {
  uint16_t bits;
};

YL_HOST_DEVICE inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
YL_HOST_DEVICE inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

YL_HOST_DEVICE inline double load(double value) { return value; }
YL_HOST_DEVICE inline float load(float value) { return value; }
YL_HOST_DEVICE inline float load(Bfloat16 value) { return float_of(uint32_t(value.bits) << 16); }
YL_HOST_DEVICE inline float load(Half value) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#else
  const uint32_t sign = uint32_t(value.bits & 0x8000u) << 16, rest = value.bits & 0x7fffu;
  if (rest >= 0x7c00u) return float_of(sign | 0x7f800000u | (rest & 0x3ffu) << 13);  // infinity, NaN
  // As a float32 with an exponent smaller by 112, which the product makes good, also for subnormals.
  return float_of(sign | bits_of(float_of(rest << 13) * 0x1p112f));
#endif
}

// Of the type that is stored, from the type of the arithmetic.
template <class Value> struct Store;
template <> struct Store<float> {
  template <class T> static YL_HOST_DEVICE float from(T value) { return static_cast<float>(value); }
};
template <> struct Store<double> {
  template <class T> static YL_HOST_DEVICE double from(T value) { return static_cast<double>(value); }
};
template <> struct Store<Bfloat16> {
  template <class T> static YL_HOST_DEVICE Bfloat16 from(T value) {
    const uint32_t bits = bits_of(static_cast<float>(value));
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>(bits >> 16 | 0x40u)};  // NaN stays NaN
    return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
  }
};
template <> struct Store<Half> {
  template <class T> static YL_HOST_DEVICE Half from(T value) {
    const auto single = static_cast<float>(value);
#if defined(__CUDA_ARCH__)
    Half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(single));
    return result;
#else
    const uint32_t bits = bits_of(single), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
    if (rest >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // from 65520 on: infinity
    if (rest < 0x38800000u) {  // below 2^-14: subnormal; the sum's last bit is 2^-24, and the processor rounds it
      const uint32_t sum = bits_of(float_of(rest) + 0.5f);
      return {static_cast<uint16_t>(sign | (sum - bits_of(0.5f)))};
    }
    return {static_cast<uint16_t>(sign | (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13)};
#endif
  }
};

// The type of the arithmetic of feats of a type, on cpu and cuda.
template <class Value> struct ArithmeticOf { using Type = float; };
template <> struct ArithmeticOf<double> { using Type = double; };

// The channels of a cell of an image: values at start(cell) + channel * step(). Cells are numbered (row*W + column)*A +
// anchor in every order; index counts them in the order of memory.
template <bool kPlanar> struct Order;

template <> struct Order<false> {  // (H, W, A*(5+C))
  int32_t channels;
  YL_HOST_DEVICE Order(int32_t, int64_t, int32_t channel_count) : channels(channel_count) {}
  YL_HOST_DEVICE int64_t start(int32_t cell) const { return int64_t(cell) * channels; }
  YL_HOST_DEVICE int64_t step() const { return 1; }
  YL_HOST_DEVICE int32_t cell_of(int32_t index) const { return index; }
  YL_HOST_DEVICE int32_t index_of(int32_t cell) const { return cell; }
};

template <> struct Order<true> {  // (A*(5+C), H, W)
  int32_t anchors, places, channels;
  YL_HOST_DEVICE Order(int32_t anchor_count, int64_t cells, int32_t channel_count)
      : anchors(anchor_count), places(static_cast<int32_t>(cells / anchor_count)), channels(channel_count) {}
  YL_HOST_DEVICE int64_t start(int32_t cell) const {
    return int64_t(cell % anchors) * channels * places + cell / anchors;
  }
  YL_HOST_DEVICE int64_t step() const { return places; }
  YL_HOST_DEVICE int32_t cell_of(int32_t index) const { return index % places * anchors + index / places; }
  YL_HOST_DEVICE int32_t index_of(int32_t cell) const { return cell % anchors * places + cell / anchors; }
};

inline int64_t size_of(int32_t dtype) { return dtype == YL_F64 ? 8 : dtype == YL_F32 ? 4 : 2; }

}  // namespace yl
