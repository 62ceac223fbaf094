// SSE2, which every x86-64 has: 4 floats in a register, no fused product and sum, no 16-bit numbers. simd.h says what
// each operation means.
#pragma once

#include <immintrin.h>

#include "cpu/simd/portable.h"

namespace yl {
inline namespace YL_ISA {

YL_SIMD uint64_t bits_of_mask(MaskPart m) {
  return static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(m)));
}
YL_SIMD Register select(MaskPart m, Register yes, Register no) { return portable_select(m, yes, no); }

YL_SIMD Register fma(Register a, Register b, Register c) { return a * b + c; }  // rounded twice
YL_SIMD Register smaller(Register a, Register b) { return _mm_min_ps(a, b); }
YL_SIMD Register larger(Register a, Register b) { return _mm_max_ps(a, b); }

YL_SIMD Doubles lower(Register a) { return _mm_cvtps_pd(a); }
YL_SIMD Doubles upper(Register a) { return _mm_cvtps_pd(_mm_movehl_ps(a, a)); }

YL_SIMD Register load_half(const Half *from) { return portable_load_half(from); }
YL_SIMD void store_half(Half *to, Register a) { portable_store_half(to, a); }

YL_SIMD Box<Register> load_boxes(const float *from, int64_t step) {
  Register rows[4];
  for (int32_t i = 0; i < 4; ++i) rows[i] = _mm_loadu_ps(from + i * step);
  const Register xy_01 = _mm_unpacklo_ps(rows[0], rows[1]), wh_01 = _mm_unpackhi_ps(rows[0], rows[1]);
  const Register xy_23 = _mm_unpacklo_ps(rows[2], rows[3]), wh_23 = _mm_unpackhi_ps(rows[2], rows[3]);
  return {_mm_shuffle_ps(xy_01, xy_23, 0x44), _mm_shuffle_ps(xy_01, xy_23, 0xee), _mm_shuffle_ps(wh_01, wh_23, 0x44),
          _mm_shuffle_ps(wh_01, wh_23, 0xee)};
}

YL_SIMD void stream_line(char *to, const char *from) {
  for (int32_t i = 0; i < 64; i += 16)
    _mm_stream_ps(reinterpret_cast<float *>(to + i), _mm_loadu_ps(reinterpret_cast<const float *>(from + i)));
}
YL_SIMD void streamed() { _mm_sfence(); }

}  // namespace YL_ISA
}  // namespace yl
