// Numbers and their elementary functions, for every number type of formula.h: float, double, and several floats side by
// side (cpu/simd.h). Compiles as C++ and as CUDA.
//
// Several floats side by side, and floats in kernels, have an exponential and a logarithm made of sums and products
// alone. So GPUs of all generations compute the same bits, and so do the tests on the host: the exponential of the CUDA
// library ends in an instruction that approximates, with an error that NVIDIA only limits (2 units in the last place).
// All other numbers use the C library, or CUDA's. Read formula.h next.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define YL_HOST_DEVICE __host__ __device__
#else  // Always inline: these are compiled for several instruction sets, and the linker would keep one copy.
#define YL_HOST_DEVICE __attribute__((always_inline))
#endif

namespace yl {

using std::fabs;
using std::fma;
using std::log;

template <class T> YL_HOST_DEVICE inline T select(bool condition, T yes, T no) { return condition ? yes : no; }
// Both return b if either is NaN, as the processors' min and max instructions do. So the order of the arguments decides
// whether a NaN is kept: larger(value, best) drops a NaN value, smaller(limit, value) keeps it.
template <class T> YL_HOST_DEVICE inline T smaller(T a, T b) { return select(a < b, a, b); }
template <class T> YL_HOST_DEVICE inline T larger(T a, T b) { return select(a > b, a, b); }
// Subtracting an infinity or a NaN from itself yields NaN, which equals nothing.
template <class T> YL_HOST_DEVICE inline bool finite(T a) { return a - a == T(0); }

// Return the bits of a number, and the number of bits. memcpy is the one way to copy bits that C++ defines, and it
// compiles to a move.
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
YL_HOST_DEVICE inline uint64_t bits_of(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
YL_HOST_DEVICE inline double double_of(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Returns the number whose sign and exponent are the lowest 9 bits of a, as bits, and whose fraction is 0.
YL_HOST_DEVICE inline float exponent_of(float a) { return float_of(bits_of(a) << 23); }

// Returns e^x, for T of float, as 2^n * e^r, with n whole and |r| <= ln(2)/2: a polynomial for 2 e^r times 2^(n-1),
// which is composed of bits. Halving the power and doubling the polynomial lets the result reach the largest number and
// infinity, where 2^n itself has no bits (n = 128). Below about e^-87 n is -126, so the exponent is 0 and so is the
// result.
//
// The reduction to r adds little error: n has at most 8 bits and the upper part of ln(2) has 15, so that their product
// is exact even without fma. The coefficients minimise the largest relative error. The terms of the polynomial are
// summed in pairs, so that fewer operations wait for each other.
template <class T> YL_HOST_DEVICE inline T exp_of_floats(T x) {
  x = smaller(T(89.0f), larger(T(-87.5f), x));  // NaN stays NaN: it is b in both
  // The sum of this and x/ln(2) has no bits below 1, so the addition rounds to a whole number n. The lowest bits of the
  // sum are then n + 126, and as an exponent these mean 2^(n-1).
  const T whole(0x1.8p23f + 126);
  const T shifted = fma(x, T(0x1.715476p+0f), whole), n = shifted - whole;
  const T r = fma(n, T(-0x1.7f7d1cp-20f), fma(n, T(-0x1.62e4p-1f), x));  // ln(2): upper 15 bits, the rest
  const T r2 = r * r;
  const T q =
      fma(fma(T(2 * 0.0013814599f), r, T(2 * 0.008368717f)), r2, fma(T(2 * 0.04166839f), r, T(2 * 0.16666521f)));
  return (fma(fma(q, r, T(2 * 0.49999994f)), r2, fma(r, T(2), T(2)))) * exponent_of(shifted);
}

// Returns ln(1 + x) for x in 0..1 or NaN, for T of float: formula.h takes it of e^-|u| only. It is x - x^2/2 + x^3 *
// q(x), so small x keep all their digits. q is of degree 6 and summed in pairs, as in exp_of_floats.
template <class T> YL_HOST_DEVICE inline T log1p_of_floats(T x) {
  const T x2 = x * x, x4 = x2 * x2;
  const T a = fma(T(-0.24857163f), x, T(0.33321324f)), b = fma(T(-0.13753799f), x, T(0.19153653f));
  const T c = fma(T(-0.03006577f), x, T(0.0792045f));
  const T q = fma(fma(T(0.0053648185f), x2, c), x4, fma(b, x2, a));
  return fma(fma(q, x, T(-0.49999648f)), x2, x);
}

#if defined(__CUDACC__) || defined(YL_SIMT)  // in kernels, also where the tests run them on the host
YL_HOST_DEVICE inline float exp(float x) { return exp_of_floats(x); }
YL_HOST_DEVICE inline float log1p(float x) { return log1p_of_floats(x); }
YL_HOST_DEVICE inline double exp(double x) { return std::exp(x); }
YL_HOST_DEVICE inline double log1p(double x) { return std::log1p(x); }
#else
using std::exp;
using std::log1p;
#endif

}  // namespace yl
