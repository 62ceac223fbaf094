// The types of feats and gradients: conversion of the 16-bit ones, and which type they are computed in. For host and
// device.
//
// A gradient of 16 bits is the float32 gradient rounded to nearest even, on every device: the host converts by integer
// operations, since x86-64 has no such instruction in its baseline, the kernels by one instruction of PTX. layout.h
// says where a value is stored.
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
// The upper half of a float32.
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
  // Shifted into place, the exponent is too small by 112. The product corrects that, for subnormal numbers too.
  return float_of(sign | bits_of(float_of(rest << 13) * 0x1p112f));
#endif
}

// Store<Value>::from converts a number of the arithmetic to the type that is stored, rounding to nearest even.
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
    if (rest <
        0x38800000u) {  // below 2^-14: subnormal. The last bit of the sum is worth 2^-24, so the processor rounds
      const uint32_t sum = bits_of(float_of(rest) + 0.5f);
      return {static_cast<uint16_t>(sign | (sum - bits_of(0.5f)))};
    }
    return {static_cast<uint16_t>(sign | (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13)};
#endif
  }
};

// The type in which the cpu and cuda devices compute feats of a type.
template <class Value> struct ArithmeticOf {
  using Type = float;
};
template <> struct ArithmeticOf<double> {
  using Type = double;
};

// Returns the bytes of a value of a YL_F32 ... type.
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
