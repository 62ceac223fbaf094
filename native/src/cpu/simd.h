// Numbers of the instruction set that this file is compiled for, kLanes side by side, for formula.h: float32, and its
// exp and log1p. Everything lies in a namespace named after the instruction set (YL_ISA): one library holds several, and
// the linker must not take one for another.
//
// A Floats is kParts registers. exp and log1p are chains of operations that wait for each other; two registers' chains side
// by side fill the gaps, which no processor's look-ahead does alone.
//
// Errors against the real functions, in units in the last place, at most (test_simd): exp 1.5, log1p 2, and formula.h's
// sigmoid and softplus with them 3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "dtype.h"

namespace yl {
inline namespace YL_ISA {

#if defined(__AVX512F__)
constexpr int32_t kPartLanes = 16, kParts = 2;
#elif defined(__AVX2__)
constexpr int32_t kPartLanes = 8, kParts = 2;
#else
constexpr int32_t kPartLanes = 4, kParts = 2;
#endif
constexpr int32_t kLanes = kParts * kPartLanes;
constexpr uint64_t kAllLanes = (uint64_t(1) << kLanes) - 1;

#define YL_SIMD inline __attribute__((always_inline))
// Not a loop: the compiler would keep the parts in memory where it instruments the code, and take many minutes for it.
#define YL_EACH_PART(...)       \
  static_assert(kParts == 2);   \
  {                             \
    constexpr int32_t p = 0;    \
    __VA_ARGS__                 \
  }                             \
  {                             \
    constexpr int32_t p = 1;    \
    __VA_ARGS__                 \
  }

typedef float Register __attribute__((vector_size(4 * kPartLanes)));
typedef int32_t IntRegister __attribute__((vector_size(4 * kPartLanes)));

struct Floats {
  Register part[kParts];
  Floats() = default;
  YL_SIMD explicit Floats(float value) {
    YL_EACH_PART(part[p] = value - Register{};)
  }
  // Of any alignment. Register by register: the compiler copies all of part in smaller pieces, by way of the stack.
  static YL_SIMD Floats load(const float *from) {
    Floats result;
    YL_EACH_PART(std::memcpy(&result.part[p], from + p * kPartLanes, sizeof(Register));)
    return result;
  }
  YL_SIMD void store(float *to) const {
    YL_EACH_PART(std::memcpy(to + p * kPartLanes, &part[p], sizeof(Register));)
  }
};

// One truth value for each lane; bits() has that of lane i at bit i.
#if defined(__AVX512F__)
typedef __mmask16 MaskPart;
YL_SIMD MaskPart mask_of(uint64_t bits) { return static_cast<__mmask16>(bits); }
YL_SIMD uint64_t bits_of_mask(MaskPart m) { return m; }
YL_SIMD MaskPart less(Register a, Register b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
YL_SIMD MaskPart at_most(Register a, Register b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
YL_SIMD MaskPart equal(Register a, Register b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
YL_SIMD Register select(MaskPart m, Register yes, Register no) { return _mm512_mask_blend_ps(m, no, yes); }
YL_SIMD Register fma(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
YL_SIMD Register smaller(Register a, Register b) { return _mm512_min_ps(a, b); }  // as formula.h has it: b if unordered
YL_SIMD Register larger(Register a, Register b) { return _mm512_max_ps(a, b); }
#else
typedef IntRegister MaskPart;  // -1 or 0
YL_SIMD MaskPart mask_of(uint64_t bits) {
  IntRegister one{};
  for (int32_t lane = 0; lane < kPartLanes; ++lane) one[lane] = 1 << lane;
  return ((static_cast<int32_t>(bits) - IntRegister{}) & one) != 0;
}
YL_SIMD MaskPart less(Register a, Register b) { return a < b; }
YL_SIMD MaskPart at_most(Register a, Register b) { return a <= b; }
YL_SIMD MaskPart equal(Register a, Register b) { return a == b; }
#if defined(__AVX2__)
YL_SIMD uint64_t bits_of_mask(MaskPart m) {
  return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(m)));
}
YL_SIMD Register select(MaskPart m, Register yes, Register no) {
  return _mm256_blendv_ps(no, yes, reinterpret_cast<__m256>(m));
}
YL_SIMD Register fma(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
YL_SIMD Register smaller(Register a, Register b) { return _mm256_min_ps(a, b); }
YL_SIMD Register larger(Register a, Register b) { return _mm256_max_ps(a, b); }
#else
YL_SIMD Register select(MaskPart m, Register yes, Register no) {
  return reinterpret_cast<Register>((reinterpret_cast<IntRegister>(yes) & m) | (reinterpret_cast<IntRegister>(no) & ~m));
}
#if defined(__SSE2__)
YL_SIMD uint64_t bits_of_mask(MaskPart m) { return static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(m))); }
YL_SIMD Register fma(Register a, Register b, Register c) { return a * b + c; }  // rounded twice
YL_SIMD Register smaller(Register a, Register b) { return _mm_min_ps(a, b); }
YL_SIMD Register larger(Register a, Register b) { return _mm_max_ps(a, b); }
#else
#if defined(__aarch64__)
YL_SIMD uint64_t bits_of_mask(MaskPart m) {
  const MaskPart bits = {1, 2, 4, 8};
  return vaddvq_u32(reinterpret_cast<uint32x4_t>(m & bits));
}
YL_SIMD Register fma(Register a, Register b, Register c) {
  return reinterpret_cast<Register>(vfmaq_f32(reinterpret_cast<float32x4_t>(c), reinterpret_cast<float32x4_t>(a),
                                              reinterpret_cast<float32x4_t>(b)));
}
#else
YL_SIMD uint64_t bits_of_mask(MaskPart m) {
  uint64_t result = 0;
  for (int32_t lane = 0; lane < kPartLanes; ++lane) result |= static_cast<uint64_t>(m[lane] & 1) << lane;
  return result;
}
YL_SIMD Register fma(Register a, Register b, Register c) { return a * b + c; }  // rounded twice
#endif
YL_SIMD Register smaller(Register a, Register b) { return select(a < b, a, b); }
YL_SIMD Register larger(Register a, Register b) { return select(a > b, a, b); }
#endif
#endif
#endif

struct Mask {
  MaskPart part[kParts];
  static YL_SIMD Mask of_bits(uint64_t bits) {
    Mask result;
    YL_EACH_PART(result.part[p] = mask_of(bits >> p * kPartLanes);)
    return result;
  }
  YL_SIMD uint64_t bits() const {
    uint64_t result = 0;
    YL_EACH_PART(result |= bits_of_mask(part[p]) << p * kPartLanes;)
    return result;
  }
};

// result = expression of a, b and c, part by part.
#define YL_PARTWISE(Type, expression)          \
  Type result;                                 \
  YL_EACH_PART(result.part[p] = (expression);) \
  return result;

YL_SIMD Floats operator+(Floats a, Floats b) { YL_PARTWISE(Floats, a.part[p] + b.part[p]) }
YL_SIMD Floats operator-(Floats a, Floats b) { YL_PARTWISE(Floats, a.part[p] - b.part[p]) }
YL_SIMD Floats operator*(Floats a, Floats b) { YL_PARTWISE(Floats, a.part[p] * b.part[p]) }
YL_SIMD Floats operator/(Floats a, Floats b) { YL_PARTWISE(Floats, a.part[p] / b.part[p]) }
YL_SIMD Floats operator-(Floats a) { YL_PARTWISE(Floats, -a.part[p]) }
// a * b + c, rounded once where the instruction set can.
YL_SIMD Floats fma(Floats a, Floats b, Floats c) { YL_PARTWISE(Floats, fma(a.part[p], b.part[p], c.part[p])) }
YL_SIMD Floats smaller(Floats a, Floats b) { YL_PARTWISE(Floats, smaller(a.part[p], b.part[p])) }
YL_SIMD Floats larger(Floats a, Floats b) { YL_PARTWISE(Floats, larger(a.part[p], b.part[p])) }
YL_SIMD Floats fabs(Floats a) {
  YL_PARTWISE(Floats, reinterpret_cast<Register>(reinterpret_cast<IntRegister>(a.part[p]) & 0x7fffffff))
}
YL_SIMD Mask operator<(Floats a, Floats b) { YL_PARTWISE(Mask, less(a.part[p], b.part[p])) }
YL_SIMD Mask operator>(Floats a, Floats b) { YL_PARTWISE(Mask, less(b.part[p], a.part[p])) }
YL_SIMD Mask operator>=(Floats a, Floats b) { YL_PARTWISE(Mask, at_most(b.part[p], a.part[p])) }
YL_SIMD Mask operator==(Floats a, Floats b) { YL_PARTWISE(Mask, equal(a.part[p], b.part[p])) }
YL_SIMD Mask operator&(Mask a, Mask b) { YL_PARTWISE(Mask, static_cast<MaskPart>(a.part[p] & b.part[p])) }
YL_SIMD Mask operator|(Mask a, Mask b) { YL_PARTWISE(Mask, static_cast<MaskPart>(a.part[p] | b.part[p])) }
YL_SIMD Floats select(Mask condition, Floats yes, Floats no) {
  YL_PARTWISE(Floats, select(condition.part[p], yes.part[p], no.part[p]))
}
YL_SIMD Mask finite(Floats a) { return a - a == Floats(0); }
// The number whose exponent is the lowest 8 bits.
YL_SIMD Floats exponent_of(Floats a) {
  YL_PARTWISE(Floats, reinterpret_cast<Register>(reinterpret_cast<IntRegister>(a.part[p]) << 23))
}

// e^x = 2^n * e^r with n whole and |r| <= ln(2)/2: a polynomial for 2 e^r, and 2^(n-1) made of bits, so that e^x reaches
// the largest number and infinity; it is 0 below e^-87. Coefficients: least greatest relative error. The polynomials here
// are summed in pairs, so that fewer operations wait for each other.
YL_SIMD Floats exp(Floats x) {
  x = smaller(Floats(89.0f), larger(Floats(-87.5f), x));  // NaN stays NaN
  const Floats whole(0x1.8p23f + 126);  // what is added to it is rounded; its lowest bits are the exponent of 2^(n-1)
  const Floats shifted = fma(x, Floats(0x1.715476p+0f), whole), n = shifted - whole;
  const Floats r = fma(n, Floats(-0x1.7f7d1cp-20f), fma(n, Floats(-0x1.62e4p-1f), x));  // ln(2): upper 15 bits, the rest
  const Floats r2 = r * r;
  const Floats q = fma(fma(Floats(2 * 0.0013814599f), r, Floats(2 * 0.008368717f)), r2,
                       fma(Floats(2 * 0.04166839f), r, Floats(2 * 0.16666521f)));
  return (fma(fma(q, r, Floats(2 * 0.49999994f)), r2, fma(r, Floats(2), Floats(2)))) * exponent_of(shifted);
}

// log(1 + x) for x in 0..1, or NaN: as formula.h asks for.
YL_SIMD Floats log1p(Floats x) {
  const Floats x2 = x * x, x4 = x2 * x2;
  const Floats a = fma(Floats(-0.24857163f), x, Floats(0.33321324f)), b = fma(Floats(-0.13753799f), x, Floats(0.19153653f));
  const Floats c = fma(Floats(-0.03006577f), x, Floats(0.0792045f));
  const Floats q = fma(fma(Floats(0.0053648185f), x2, c), x4, fma(b, x2, a));
  return fma(fma(q, x, Floats(-0.49999648f)), x2, x);
}

// Sums of floats in double, lane by lane; total() adds the lanes in their order.
class Sums {
 public:
  YL_SIMD void add(Floats a) {
    YL_EACH_PART(low_[p] += lower(a.part[p]); high_[p] += upper(a.part[p]);)
  }
  YL_SIMD void add_squares(Floats a) {
    YL_EACH_PART(const Doubles low = lower(a.part[p]), high = upper(a.part[p]); low_[p] += low * low;
                 high_[p] += high * high;)
  }
  YL_SIMD double total() const {
    double sum = 0;
    for (int32_t p = 0; p < kParts; ++p) {
      for (int32_t i = 0; i < kPartLanes / 2; ++i) sum += low_[p][i];
      for (int32_t i = 0; i < kPartLanes / 2; ++i) sum += high_[p][i];
    }
    return sum;
  }

 private:
  typedef double Doubles __attribute__((vector_size(4 * kPartLanes)));
#if defined(__AVX512F__)
  static YL_SIMD Doubles lower(Register a) { return _mm512_cvtps_pd(_mm512_castps512_ps256(a)); }
  static YL_SIMD Doubles upper(Register a) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)); }
#elif defined(__AVX2__)
  static YL_SIMD Doubles lower(Register a) { return _mm256_cvtps_pd(_mm256_castps256_ps128(a)); }
  static YL_SIMD Doubles upper(Register a) { return _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)); }
#elif defined(__SSE2__)
  static YL_SIMD Doubles lower(Register a) { return _mm_cvtps_pd(a); }
  static YL_SIMD Doubles upper(Register a) { return _mm_cvtps_pd(_mm_movehl_ps(a, a)); }
#else
  static YL_SIMD Doubles lower(Register a) { return Doubles{a[0], a[1]}; }
  static YL_SIMD Doubles upper(Register a) { return Doubles{a[2], a[3]}; }
#endif
  Doubles low_[kParts]{}, high_[kParts]{};
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
  typedef uint16_t Words __attribute__((vector_size(2 * kPartLanes)));
  YL_PARTWISE(Floats, [from] {
    Words words;
    std::memcpy(&words, from + p * kPartLanes, sizeof words);
    return reinterpret_cast<Register>(__builtin_convertvector(words, IntRegister) << 16);
  }())
}
#if defined(__AVX512F__)
template <> YL_SIMD Floats load_lanes(const Half *from) {
  const auto *at = reinterpret_cast<const __m256i *>(from);
  YL_PARTWISE(Floats, _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(at + p)))
}
template <> YL_SIMD void store_lanes(Half *to, Floats a) {
  for (int32_t p = 0; p < kParts; ++p)
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to) + p,
                        _mm512_maskz_cvtps_ph(0xffff, a.part[p], _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__) && defined(__AVX2__)
template <> YL_SIMD Floats load_lanes(const Half *from) {
  const auto *at = reinterpret_cast<const __m128i *>(from);
  YL_PARTWISE(Floats, _mm256_cvtph_ps(_mm_loadu_si128(at + p)))
}
template <> YL_SIMD void store_lanes(Half *to, Floats a) {
  for (int32_t p = 0; p < kParts; ++p)
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to) + p, _mm256_cvtps_ph(a.part[p], _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__aarch64__)
template <> YL_SIMD Floats load_lanes(const Half *from) {
  const auto *at = reinterpret_cast<const __fp16 *>(from);
  YL_PARTWISE(Floats, reinterpret_cast<Register>(vcvt_f32_f16(vld1_f16(at + p * kPartLanes))))
}
template <> YL_SIMD void store_lanes(Half *to, Floats a) {
  auto *at = reinterpret_cast<__fp16 *>(to);
  YL_EACH_PART(vst1_f16(at + p * kPartLanes, vcvt_f16_f32(reinterpret_cast<float32x4_t>(a.part[p])));)
}
#endif

// The first four values of kLanes rows that are step values apart.
template <class Value> YL_SIMD Box<Floats> load_boxes(const Value *from, int64_t step) {
  float values[4][kLanes];
  for (int32_t lane = 0; lane < kLanes; ++lane, from += step)
    for (int32_t i = 0; i < 4; ++i) values[i][lane] = load(from[i]);
  return {Floats::load(values[0]), Floats::load(values[1]), Floats::load(values[2]), Floats::load(values[3])};
}
#if defined(__SSE2__)
template <> YL_SIMD Box<Floats> load_boxes(const float *from, int64_t step) {
  Box<Floats> box;
  for (int32_t p = 0; p < kParts; ++p, from += kPartLanes * step) {
    Register rows[4];  // rows i, i + 4, ...
    for (int32_t i = 0; i < 4; ++i) {
      const float *const row = from + i * step;
#if defined(__AVX512F__)
      rows[i] = _mm512_castps128_ps512(_mm_loadu_ps(row));
      rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(row + 4 * step), 1);
      rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(row + 8 * step), 2);
      rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(row + 12 * step), 3);
#elif defined(__AVX2__)
      rows[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row)), _mm_loadu_ps(row + 4 * step), 1);
#else
      rows[i] = _mm_loadu_ps(row);
#endif
    }
#if defined(__AVX512F__)
#define YL_OF(name) _mm512_##name
#elif defined(__AVX2__)
#define YL_OF(name) _mm256_##name
#else
#define YL_OF(name) _mm_##name
#endif
    const Register xy_01 = YL_OF(unpacklo_ps)(rows[0], rows[1]), wh_01 = YL_OF(unpackhi_ps)(rows[0], rows[1]);
    const Register xy_23 = YL_OF(unpacklo_ps)(rows[2], rows[3]), wh_23 = YL_OF(unpackhi_ps)(rows[2], rows[3]);
    box.x.part[p] = YL_OF(shuffle_ps)(xy_01, xy_23, 0x44);
    box.y.part[p] = YL_OF(shuffle_ps)(xy_01, xy_23, 0xee);
    box.w.part[p] = YL_OF(shuffle_ps)(wh_01, wh_23, 0x44);
    box.h.part[p] = YL_OF(shuffle_ps)(wh_01, wh_23, 0xee);
#undef YL_OF
  }
  return box;
}
#endif

// For memset and memcpy: gcc takes a size with a known bound for a small one, and repeats a string instruction, which is slow.
YL_SIMD size_t of_any_size(int64_t bytes) {
  asm("" : "+r"(bytes));
  return static_cast<size_t>(bytes);
}

// As memset, whose string instruction takes longer for a few KiB.
YL_SIMD void zero_bytes(char *to, int64_t bytes) {
  const Register zero{};
  for (; bytes >= 256; to += 256, bytes -= 256) {
    asm("" : "+r"(to));  // or the compiler makes a memset of this
    for (size_t i = 0; i < 256; i += sizeof zero) std::memcpy(to + i, &zero, sizeof zero);
  }
  std::memset(to, 0, of_any_size(bytes));
}

// Stores the bytes of a line of 64, at a multiple of that, past the caches. On another processor: a store.
YL_SIMD void stream_line(char *to, const char *from) {
#if defined(__AVX512F__)
  _mm512_stream_ps(reinterpret_cast<float *>(to), _mm512_loadu_ps(from));
#elif defined(__AVX2__)
  for (int32_t i = 0; i < 64; i += 32)
    _mm256_stream_ps(reinterpret_cast<float *>(to + i), _mm256_loadu_ps(reinterpret_cast<const float *>(from + i)));
#elif defined(__SSE2__)
  for (int32_t i = 0; i < 64; i += 16)
    _mm_stream_ps(reinterpret_cast<float *>(to + i), _mm_loadu_ps(reinterpret_cast<const float *>(from + i)));
#else
  std::memcpy(to, from, 64);
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
