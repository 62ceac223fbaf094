// AVX2 with FMA and F16C (x86-64-v3): 8 floats in a register. simd.h says what each operation means.
#pragma once

#include <immintrin.h>

#include "cpu/simd/portable.h"

namespace yl {
inline namespace YL_ISA {

YL_SIMD uint64_t bits_of_mask(MaskPart m) {
  return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(m)));
}
YL_SIMD Register select(MaskPart m, Register yes, Register no) {
  return _mm256_blendv_ps(no, yes, reinterpret_cast<__m256>(m));
}

YL_SIMD Register fma(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
YL_SIMD Register smaller(Register a, Register b) { return _mm256_min_ps(a, b); }
YL_SIMD Register larger(Register a, Register b) { return _mm256_max_ps(a, b); }

YL_SIMD Doubles lower(Register a) { return _mm256_cvtps_pd(_mm256_castps256_ps128(a)); }
YL_SIMD Doubles upper(Register a) { return _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)); }

YL_SIMD Register load_half(const Half *from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
}
YL_SIMD void store_half(Half *to, Register a) {
  _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

YL_SIMD Box<Register> load_boxes(const float *from, int64_t step) {
  Register rows[4];  // register i holds rows i and i + 4
  for (int32_t i = 0; i < 4; ++i) {
    const float *const row = from + i * step;
    rows[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row)), _mm_loadu_ps(row + 4 * step), 1);
  }
  const Register xy_01 = _mm256_unpacklo_ps(rows[0], rows[1]), wh_01 = _mm256_unpackhi_ps(rows[0], rows[1]);
  const Register xy_23 = _mm256_unpacklo_ps(rows[2], rows[3]), wh_23 = _mm256_unpackhi_ps(rows[2], rows[3]);
  return {_mm256_shuffle_ps(xy_01, xy_23, 0x44), _mm256_shuffle_ps(xy_01, xy_23, 0xee),
          _mm256_shuffle_ps(wh_01, wh_23, 0x44), _mm256_shuffle_ps(wh_01, wh_23, 0xee)};
}

YL_SIMD void stream_line(char *to, const char *from) {
  for (int32_t i = 0; i < 64; i += 32)
    _mm256_stream_ps(reinterpret_cast<float *>(to + i), _mm256_loadu_ps(reinterpret_cast<const float *>(from + i)));
}
YL_SIMD void streamed() { _mm_sfence(); }

}  // namespace YL_ISA
}  // namespace yl
