// The AVX-512 operations that the cpu backend uses, made of AVX2 operations, so that its AVX-512 code is tested on
// processors that have none. The build includes this file ahead of cells_avx512.cpp (-include): the macros at the end
// replace each _mm512_ intrinsic by a function that does the same to two halves of 256 bits, lane by lane and with the
// same rounding.
//
// Only what the backend uses is here; a new intrinsic in its AVX-512 header fails to compile until it is added. The
// tests of the emulated library have names that end in _avx512; the real instructions are tested where the processor
// has them.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#define __AVX512F__ 1  // selects the AVX-512 code; after immintrin.h, which would otherwise use real AVX-512 types

namespace emulated {

typedef float Floats __attribute__((vector_size(64)));
typedef double Doubles __attribute__((vector_size(64)));
#define EMULATED static inline __attribute__((always_inline))

// Returns a value of another type with the same bytes.
template <class To, class From> EMULATED To same_bytes(const From &from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
struct Halves {
  __m256 low, high;
};
EMULATED Halves halves(Floats a) { return same_bytes<Halves>(a); }
EMULATED Floats join(__m256 low, __m256 high) { return same_bytes<Floats>(Halves{low, high}); }

// Returns lanes of all ones where the lowest 8 bits are set, as AVX2's blend takes a mask.
EMULATED __m256 mask(uint32_t bits) {
  const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_castsi256_ps(
      _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lanes), lanes));
}

// Defines an operation that works within 128-bit lanes, and so on each half alone.
#define EMULATED_BY_HALVES(name)                                                                             \
  EMULATED Floats name(Floats a, Floats b) {                                                                 \
    return join(_mm256_##name(halves(a).low, halves(b).low), _mm256_##name(halves(a).high, halves(b).high)); \
  }
EMULATED_BY_HALVES(min_ps)
EMULATED_BY_HALVES(max_ps)
EMULATED_BY_HALVES(unpacklo_ps)
EMULATED_BY_HALVES(unpackhi_ps)
template <int kOrder> EMULATED Floats shuffle_ps(Floats a, Floats b) {
  return join(_mm256_shuffle_ps(halves(a).low, halves(b).low, kOrder),
              _mm256_shuffle_ps(halves(a).high, halves(b).high, kOrder));
}
EMULATED Floats fmadd_ps(Floats a, Floats b, Floats c) {
  const Halves x = halves(a), y = halves(b), z = halves(c);
  return join(_mm256_fmadd_ps(x.low, y.low, z.low), _mm256_fmadd_ps(x.high, y.high, z.high));
}
template <int kRelation> EMULATED __mmask16 cmp_ps_mask(Floats a, Floats b) {
  const int low = _mm256_movemask_ps(_mm256_cmp_ps(halves(a).low, halves(b).low, kRelation));
  const int high = _mm256_movemask_ps(_mm256_cmp_ps(halves(a).high, halves(b).high, kRelation));
  return static_cast<__mmask16>(low | high << 8);
}
EMULATED Floats mask_blend_ps(__mmask16 m, Floats no, Floats yes) {
  return join(_mm256_blendv_ps(halves(no).low, halves(yes).low, mask(m)),
              _mm256_blendv_ps(halves(no).high, halves(yes).high, mask(m >> 8)));
}

EMULATED __m256 castps512_ps256(Floats a) { return halves(a).low; }
template <int kHalf> EMULATED __m256 extractf32x8_ps(Floats a) { return kHalf ? halves(a).high : halves(a).low; }
EMULATED Doubles cvtps_pd(__m256 a) {
  const __m256d parts[] = {_mm256_cvtps_pd(_mm256_castps256_ps128(a)), _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1))};
  return same_bytes<Doubles>(parts);
}

// Leaves lanes undefined in AVX-512. NaN, so that a use of them shows in a result.
EMULATED Floats castps128_ps512(__m128 a) {
  return join(_mm256_castps128_ps256(a), _mm256_set1_ps(__builtin_nanf("")));
}
template <int kQuarter> EMULATED Floats insertf32x4(Floats a, __m128 b) {
  const Halves h = halves(a);
  return kQuarter < 2 ? join(_mm256_insertf128_ps(h.low, b, kQuarter % 2), h.high)
                      : join(h.low, _mm256_insertf128_ps(h.high, b, kQuarter % 2));
}

EMULATED Floats loadu_ps(const void *from) {
  Floats a;
  std::memcpy(&a, from, sizeof a);
  return a;
}

// Requires an alignment of 64 bytes, as AVX-512 does; AVX2's own stores would be content with 32.
EMULATED void stream_ps(float *to, Floats a) {
  if (reinterpret_cast<uintptr_t>(to) % 64) std::abort();
  _mm256_stream_ps(to, halves(a).low);
  _mm256_stream_ps(to + 8, halves(a).high);
}

// Ignore the mask, since the backend always passes one of all lanes.
EMULATED Floats maskz_cvtph_ps(__mmask16, __m256i a) {
  return join(_mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1)));
}
template <int kRounding> EMULATED __m256i maskz_cvtps_ph(__mmask16, Floats a) {
  return _mm256_set_m128i(_mm256_cvtps_ph(halves(a).high, kRounding), _mm256_cvtps_ph(halves(a).low, kRounding));
}

}  // namespace emulated

// Without optimization gcc's headers define these intrinsics as macros, whose arguments must be constants.
#undef _mm512_cmp_ps_mask
#undef _mm512_extractf32x8_ps
#undef _mm512_insertf32x4
#undef _mm512_shuffle_ps
#undef _mm512_maskz_cvtps_ph
#define _mm512_min_ps emulated::min_ps
#define _mm512_max_ps emulated::max_ps
#define _mm512_unpacklo_ps emulated::unpacklo_ps
#define _mm512_unpackhi_ps emulated::unpackhi_ps
#define _mm512_shuffle_ps(a, b, order) emulated::shuffle_ps<order>(a, b)
#define _mm512_fmadd_ps emulated::fmadd_ps
#define _mm512_cmp_ps_mask(a, b, relation) emulated::cmp_ps_mask<relation>(a, b)
#define _mm512_mask_blend_ps emulated::mask_blend_ps
#define _mm512_castps512_ps256 emulated::castps512_ps256
#define _mm512_extractf32x8_ps(a, half) emulated::extractf32x8_ps<half>(a)
#define _mm512_cvtps_pd emulated::cvtps_pd
#define _mm512_castps128_ps512 emulated::castps128_ps512
#define _mm512_insertf32x4(a, b, quarter) emulated::insertf32x4<quarter>(a, b)
#define _mm512_loadu_ps emulated::loadu_ps
#define _mm512_stream_ps emulated::stream_ps
#define _mm512_maskz_cvtph_ps emulated::maskz_cvtph_ps
#define _mm512_maskz_cvtps_ph(mask, a, rounding) emulated::maskz_cvtps_ph<rounding>(mask, a)
