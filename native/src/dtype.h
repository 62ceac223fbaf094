// The types of feats and gradients: conversion of the 16-bit ones, and the type that each is computed in. For host and
// device.
//
// A gradient of 16 bits is the float32 gradient rounded to nearest even, on every device. The host converts by integer
// operations, since x86-64 has no such instruction in its baseline, and a kernel by one instruction of PTX. The headers
// of cpu/simd convert whole vectors, to the same bits. layout.h has the positions of values.
#pragma once

#include <cstdint>
#include <cstring>

#include "formula.h"
#include "yololoss.h"

namespace yl {

// IEEE 754 binary16.
struct Half {
  uint16_t bits;
};
// bfloat16: the upper half of a float32, so its exponent reaches as far.
struct Bfloat16 {
  uint16_t bits;
};

// load returns a stored value as a number of the arithmetic. Every conversion is exact.
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
  // Shifted into place, the five bits of the exponent are read with a bias of 127 instead of 15, so the number is too
  // small by 2^112. Subnormal halves become subnormal floats, so the product corrects those too, and is always exact.
  return float_of(sign | bits_of(float_of(rest << 13) * 0x1p112f));
#endif
}

// Store<Value>::from converts a number of the arithmetic to the type that is stored, rounding to nearest even. A number
// that is too large becomes infinity, and a NaN stays a NaN.
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
    // Adding just under half of the last place that is kept, and one more if that place is odd, rounds to nearest even;
    // a carry into the exponent is right. A NaN is kept apart, since the sum could turn it into infinity or wrap round.
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
    if (rest <
        0x38800000u) {  // below 2^-14: subnormal. The last bit of the sum is worth 2^-24, so the processor rounds
      const uint32_t sum = bits_of(float_of(rest) + 0.5f);
      return {static_cast<uint16_t>(sign | (sum - bits_of(0.5f)))};
    }
    // The exponent's bias goes from 127 to 15; the rest is rounded as for Bfloat16, with 13 bits to drop.
    return {static_cast<uint16_t>(sign | (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13)};
#endif
  }
};

// The type of the arithmetic, on the cpu and cuda devices, for feats of a type.
template <class Value> struct ArithmeticOf {
  using Type = float;
};
template <> struct ArithmeticOf<double> {
  using Type = double;
};

// Returns the size in bytes of a value of a YL_F32 ... type.
inline int64_t size_of(int32_t dtype) {
  switch (dtype) {
    case YL_F64: return sizeof(double);
    case YL_F32: return sizeof(float);
    case YL_F16: return sizeof(Half);
    case YL_BF16: return sizeof(Bfloat16);
    default: __builtin_unreachable();  // check/config.cpp accepts no other
  }
}

}  // namespace yl
