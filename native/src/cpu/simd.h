// Numbers of the instruction set that this file is compiled for, kLanes side by side, for formula.h: float32, and its
// exp and log1p. Everything lies in a namespace named after the instruction set (YL_ISA): one library holds several, and
// the linker must not take one for another.
//
// Errors of exp and log1p against the real functions: at most 2 units in the last place (test_simd).
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "storage.h"

namespace yl {
inline namespace YL_ISA {

#if defined(__AVX512F__)
constexpr int32_t kLanes = 16;
#elif defined(__AVX2__)
constexpr int32_t kLanes = 8;
#else
constexpr int32_t kLanes = 4;
#endif
constexpr uint64_t kAllLanes = (uint64_t(1) << kLanes) - 1;

#define YL_SIMD inline __attribute__((always_inline))

struct Floats {
  typedef float Native __attribute__((vector_size(4 * kLanes)));
  Native v;
  Floats() = default;
  YL_SIMD Floats(Native native) : v(native) {}
  YL_SIMD explicit Floats(float value) : v(value - Native{}) {}
  static YL_SIMD Floats load(const float *from) {  // of any alignment
    Floats result;
    std::memcpy(&result.v, from, sizeof result.v);
    return result;
  }
  YL_SIMD void store(float *to) const { std::memcpy(to, &v, sizeof v); }
};

struct Ints {
  typedef int32_t Native __attribute__((vector_size(4 * kLanes)));
  Native v;
  static YL_SIMD Ints of_bits(Floats a) { return {reinterpret_cast<Native>(a.v)}; }
  YL_SIMD Floats bits() const { return reinterpret_cast<Floats::Native>(v); }
};

// One truth value for each lane; bits() has that of lane i at bit i.
#if defined(__AVX512F__)
struct Mask {
  __mmask16 m;
  static YL_SIMD Mask of_bits(uint64_t bits) { return {static_cast<__mmask16>(bits)}; }
  YL_SIMD uint64_t bits() const { return m; }
};
YL_SIMD Mask operator<(Floats a, Floats b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
YL_SIMD Mask operator>(Floats a, Floats b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
YL_SIMD Mask operator>=(Floats a, Floats b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
YL_SIMD Mask operator==(Floats a, Floats b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
YL_SIMD Mask operator&(Mask a, Mask b) { return {static_cast<__mmask16>(a.m & b.m)}; }
YL_SIMD Mask operator|(Mask a, Mask b) { return {static_cast<__mmask16>(a.m | b.m)}; }
YL_SIMD Floats select(Mask condition, Floats yes, Floats no) { return _mm512_mask_blend_ps(condition.m, no.v, yes.v); }
#else
struct Mask {
  Ints::Native m;  // -1 or 0
  static YL_SIMD Mask of_bits(uint64_t bits) {
    Ints::Native one{};
    for (int32_t lane = 0; lane < kLanes; ++lane) one[lane] = 1 << lane;
    return {((static_cast<int32_t>(bits) - Ints::Native{}) & one) != 0};
  }
  YL_SIMD uint64_t bits() const {
#if defined(__AVX2__)
    return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(m)));
#elif defined(__SSE2__)
    return static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(m)));
#else
    uint64_t result = 0;
    for (int32_t lane = 0; lane < kLanes; ++lane) result |= static_cast<uint64_t>(m[lane] & 1) << lane;
    return result;
#endif
  }
};
YL_SIMD Mask operator<(Floats a, Floats b) { return {a.v < b.v}; }
YL_SIMD Mask operator>(Floats a, Floats b) { return {a.v > b.v}; }
YL_SIMD Mask operator>=(Floats a, Floats b) { return {a.v >= b.v}; }
YL_SIMD Mask operator==(Floats a, Floats b) { return {a.v == b.v}; }
YL_SIMD Mask operator&(Mask a, Mask b) { return {a.m & b.m}; }
YL_SIMD Mask operator|(Mask a, Mask b) { return {a.m | b.m}; }
YL_SIMD Floats select(Mask condition, Floats yes, Floats no) {
  return Ints{(Ints::of_bits(yes).v & condition.m) | (Ints::of_bits(no).v & ~condition.m)}.bits();
}
#endif

YL_SIMD Floats operator+(Floats a, Floats b) { return a.v + b.v; }
YL_SIMD Floats operator-(Floats a, Floats b) { return a.v - b.v; }
YL_SIMD Floats operator*(Floats a, Floats b) { return a.v * b.v; }
YL_SIMD Floats operator/(Floats a, Floats b) { return a.v / b.v; }
YL_SIMD Floats operator-(Floats a) { return -a.v; }
// a * b + c, rounded once where the instruction set can.
YL_SIMD Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a.v, b.v, c.v);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a.v, b.v, c.v);
#else
  return a * b + c;
#endif
}
// As formula.h has them: b if unordered.
YL_SIMD Floats smaller(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a.v, b.v);
#elif defined(__AVX2__)
  return _mm256_min_ps(a.v, b.v);
#elif defined(__SSE2__)
  return _mm_min_ps(a.v, b.v);
#else
  return select(a < b, a, b);
#endif
}
YL_SIMD Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a.v, b.v);
#elif defined(__AVX2__)
  return _mm256_max_ps(a.v, b.v);
#elif defined(__SSE2__)
  return _mm_max_ps(a.v, b.v);
#else
  return select(a > b, a, b);
#endif
}
YL_SIMD Floats fabs(Floats a) { return Ints{Ints::of_bits(a).v & 0x7fffffff}.bits(); }
YL_SIMD Mask finite(Floats a) { return a - a == Floats(0); }

// Coefficients from the highest power down to the constant.
YL_SIMD Floats polynomial(Floats, Floats sum) { return sum; }
template <class... Rest> YL_SIMD Floats polynomial(Floats x, Floats sum, float next, Rest... rest) {
  return polynomial(x, fma(sum, x, Floats(next)), rest...);
}
template <class... Rest> YL_SIMD Floats polynomial(Floats x, float first, Rest... rest) {
  return polynomial(x, Floats(first), rest...);
}

// e^x = 2^n * e^r with n whole and |r| <= ln(2)/2: a polynomial for e^r, and 2^n in two factors, so that the result reaches
// infinity and the subnormal numbers. Coefficients: least greatest relative error.
YL_SIMD Floats exp(Floats x) {
  const Floats whole(0x1.8p23f);  // what is added to it is rounded to a whole number, in the lowest bits
  x = smaller(Floats(90.0f), larger(Floats(-105.0f), x));  // NaN stays NaN
  const Floats shifted = fma(x, Floats(0x1.715476p+0f), whole);
  const Floats n = shifted - whole;
  const Floats r = fma(n, Floats(-0x1.7f7d1cp-20f), fma(n, Floats(-0x1.62e4p-1f), x));  // ln(2): upper 15 bits, the rest
  const Floats power = fma(polynomial(r, 0.0013814599f, 0.008368717f, 0.04166839f, 0.16666521f, 0.49999994f) * r, r, r);
#if defined(__AVX512F__)
  return _mm512_scalef_ps((power + Floats(1)).v, n.v);
#else
  const Ints::Native exponent = Ints::of_bits(shifted).v - Ints::of_bits(whole).v;
  const Ints::Native half = exponent >> 1;
  return (power + Floats(1)) * Ints{(half + 127) << 23}.bits() * Ints{(exponent - half + 127) << 23}.bits();
#endif
}

// log(1 + x) for x in 0..1, or NaN: as formula.h asks for.
YL_SIMD Floats log1p(Floats x) {
  const Floats q = polynomial(x, 0.0053648185f, -0.03006577f, 0.0792045f, -0.13753799f, 0.19153653f, -0.24857163f,
                              0.33321324f, -0.49999648f);
  return fma(q * x, x, x);
}

// Sums of floats in double, lane by lane; total() adds the lanes in their order.
class Sums {
 public:
  YL_SIMD void add(Floats a) {
    low_ += halves(a).low;
    high_ += halves(a).high;
  }
  YL_SIMD void add_squares(Floats a) {
    const Halves of = halves(a);
    low_ += of.low * of.low;
    high_ += of.high * of.high;
  }
  YL_SIMD double total() const {
    double sum = 0;
    for (int32_t i = 0; i < kLanes / 2; ++i) sum += low_[i];
    for (int32_t i = 0; i < kLanes / 2; ++i) sum += high_[i];
    return sum;
  }

 private:
  typedef double Doubles __attribute__((vector_size(4 * kLanes)));
  struct Halves {
    Doubles low, high;
  };
  static YL_SIMD Halves halves(Floats a) {
#if defined(__AVX512F__)
    return {_mm512_cvtps_pd(_mm512_castps512_ps256(a.v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1))};
#elif defined(__AVX2__)
    return {_mm256_cvtps_pd(_mm256_castps256_ps128(a.v)), _mm256_cvtps_pd(_mm256_extractf128_ps(a.v, 1))};
#else
    typedef float Half __attribute__((vector_size(2 * kLanes)));
    Half parts[2];
    std::memcpy(parts, &a.v, sizeof parts);
    return {__builtin_convertvector(parts[0], Doubles), __builtin_convertvector(parts[1], Doubles)};
#endif
  }
  Doubles low_{}, high_{};
};

// Of feats and gradients: kLanes values side by side, and their float32.
template <class Value> YL_SIMD Floats load_lanes(const Value *from) {
  float values[kLanes];
  for (int32_t lane = 0; lane < kLanes; ++lane) values[lane] = load(from[lane]);
  return Floats::load(values);
}
template <class Value> YL_SIMD void store_lanes(Value *to, Floats a) {
  float values[kLanes];
  a.store(values);
  for (int32_t lane = 0; lane < kLanes; ++lane) to[lane] = Store<Value>::from(values[lane]);
}
template <> YL_SIMD Floats load_lanes(const float *from) { return Floats::load(from); }
template <> YL_SIMD void store_lanes(float *to, Floats a) { a.store(to); }
template <> YL_SIMD Floats load_lanes(const Bfloat16 *from) {
  typedef uint16_t Words __attribute__((vector_size(2 * kLanes)));
  Words words;
  std::memcpy(&words, from, sizeof words);
  return Ints{__builtin_convertvector(words, Ints::Native) << 16}.bits();
}
#if defined(__AVX512F__)
template <> YL_SIMD Floats load_lanes(const Half *from) {
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
}
template <> YL_SIMD void store_lanes(Half *to, Floats a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm512_maskz_cvtps_ph(0xffff, a.v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__) && defined(__AVX2__)
template <> YL_SIMD Floats load_lanes(const Half *from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
}
template <> YL_SIMD void store_lanes(Half *to, Floats a) {
  _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
#endif

// The first four values of kLanes rows that are step values apart.
template <class Value> YL_SIMD Box<Floats> load_boxes(const Value *from, int64_t step) {
  float values[4][kLanes];
  for (int32_t lane = 0; lane < kLanes; ++lane, from += step)
    for (int32_t i = 0; i < 4; ++i) values[i][lane] = load(from[i]);
  return {Floats::load(values[0]), Floats::load(values[1]), Floats::load(values[2]), Floats::load(values[3])};
}
#if defined(__AVX512F__)
template <> YL_SIMD Box<Floats> load_boxes(const float *from, int64_t step) {
  __m512 rows[4];  // rows i, i + 4, i + 8, i + 12
  for (int32_t i = 0; i < 4; ++i, from += step) {
    rows[i] = _mm512_castps128_ps512(_mm_loadu_ps(from));
    rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(from + 4 * step), 1);
    rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(from + 8 * step), 2);
    rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(from + 12 * step), 3);
  }
  const __m512 xy_01 = _mm512_unpacklo_ps(rows[0], rows[1]), wh_01 = _mm512_unpackhi_ps(rows[0], rows[1]);
  const __m512 xy_23 = _mm512_unpacklo_ps(rows[2], rows[3]), wh_23 = _mm512_unpackhi_ps(rows[2], rows[3]);
  return {_mm512_shuffle_ps(xy_01, xy_23, 0x44), _mm512_shuffle_ps(xy_01, xy_23, 0xee),
          _mm512_shuffle_ps(wh_01, wh_23, 0x44), _mm512_shuffle_ps(wh_01, wh_23, 0xee)};
}
#endif

// A store of 4 * kLanes bytes that leaves the caches alone; to is a multiple of that. Of another processor: a store.
YL_SIMD void stream(char *to, Floats a) {
#if defined(__AVX512F__)
  _mm512_stream_ps(reinterpret_cast<float *>(to), a.v);
#elif defined(__AVX2__)
  _mm256_stream_ps(reinterpret_cast<float *>(to), a.v);
#elif defined(__SSE2__)
  _mm_stream_ps(reinterpret_cast<float *>(to), a.v);
#else
  std::memcpy(to, &a.v, sizeof a.v);
#endif
}
// What was streamed may be read by other threads once this has been called.
YL_SIMD void streamed() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace YL_ISA
}  // namespace yl
