// AVX-512 (x86-64-v4): 16 floats in a register, masks in registers of their own. simd.h says what each operation means.
// native/test/avx512/emulated.h has the same intrinsics made of AVX2's: one used here must be there too.
#pragma once

#include <immintrin.h>

namespace yl {
inline namespace YL_ISA {

typedef __mmask16 MaskPart;
YL_SIMD MaskPart mask_of(uint64_t bits) { return static_cast<__mmask16>(bits); }
YL_SIMD uint64_t bits_of_mask(MaskPart m) { return m; }
YL_SIMD MaskPart less(Register a, Register b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
YL_SIMD MaskPart at_most(Register a, Register b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
YL_SIMD MaskPart equal(Register a, Register b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
YL_SIMD Register select(MaskPart m, Register yes, Register no) { return _mm512_mask_blend_ps(m, no, yes); }

YL_SIMD Register fma(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
YL_SIMD Register smaller(Register a, Register b) { return _mm512_min_ps(a, b); }
YL_SIMD Register larger(Register a, Register b) { return _mm512_max_ps(a, b); }

YL_SIMD Doubles lower(Register a) { return _mm512_cvtps_pd(_mm512_castps512_ps256(a)); }
YL_SIMD Doubles upper(Register a) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)); }

YL_SIMD Register load_half(const Half *from) {
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
}
YL_SIMD void store_half(Half *to, Register a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm512_maskz_cvtps_ph(0xffff, a, _MM_FROUND_TO_NEAREST_INT));
}

YL_SIMD Box<Register> load_boxes(const float *from, int64_t step) {
  Register rows[4];  // register i holds rows i, i + 4, i + 8 and i + 12
  for (int32_t i = 0; i < 4; ++i) {
    const float *const row = from + i * step;
    rows[i] = _mm512_castps128_ps512(_mm_loadu_ps(row));
    rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(row + 4 * step), 1);
    rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(row + 8 * step), 2);
    rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(row + 12 * step), 3);
  }
  const Register xy_01 = _mm512_unpacklo_ps(rows[0], rows[1]), wh_01 = _mm512_unpackhi_ps(rows[0], rows[1]);
  const Register xy_23 = _mm512_unpacklo_ps(rows[2], rows[3]), wh_23 = _mm512_unpackhi_ps(rows[2], rows[3]);
  return {_mm512_shuffle_ps(xy_01, xy_23, 0x44), _mm512_shuffle_ps(xy_01, xy_23, 0xee),
          _mm512_shuffle_ps(wh_01, wh_23, 0x44), _mm512_shuffle_ps(wh_01, wh_23, 0xee)};
}

YL_SIMD void stream_line(char *to, const char *from) {
  _mm512_stream_ps(reinterpret_cast<float *>(to), _mm512_loadu_ps(from));
}
YL_SIMD void streamed() { _mm_sfence(); }

}  // namespace YL_ISA
}  // namespace yl
