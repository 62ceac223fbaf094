// Advanced SIMD, which every 64-bit Arm has: 4 floats in a register. simd.h says what each operation means.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "cpu/simd/portable.h"

namespace yl {
inline namespace YL_ISA {

YL_SIMD uint64_t bits_of_mask(MaskPart m) {
  const MaskPart bits = {1, 2, 4, 8};
  return vaddvq_u32(reinterpret_cast<uint32x4_t>(m & bits));
}
YL_SIMD Register select(MaskPart m, Register yes, Register no) { return portable_select(m, yes, no); }

YL_SIMD Register fma(Register a, Register b, Register c) {
  return reinterpret_cast<Register>(
      vfmaq_f32(reinterpret_cast<float32x4_t>(c), reinterpret_cast<float32x4_t>(a), reinterpret_cast<float32x4_t>(b)));
}
// Not the instructions for it, which return NaN for a NaN: formula.h wants b.
YL_SIMD Register smaller(Register a, Register b) { return select(a < b, a, b); }
YL_SIMD Register larger(Register a, Register b) { return select(a > b, a, b); }

YL_SIMD Doubles lower(Register a) { return Doubles{a[0], a[1]}; }
YL_SIMD Doubles upper(Register a) { return Doubles{a[2], a[3]}; }

YL_SIMD Register load_half(const Half *from) {
  return reinterpret_cast<Register>(vcvt_f32_f16(vld1_f16(reinterpret_cast<const __fp16 *>(from))));
}
YL_SIMD void store_half(Half *to, Register a) {
  vst1_f16(reinterpret_cast<__fp16 *>(to), vcvt_f16_f32(reinterpret_cast<float32x4_t>(a)));
}

YL_SIMD Box<Register> load_boxes(const float *from, int64_t step) { return portable_load_boxes(from, step); }

// There is no store past the caches, or it is of no use.
YL_SIMD void stream_line(char *to, const char *from) { std::memcpy(to, from, 64); }
YL_SIMD void streamed() {}

}  // namespace YL_ISA
}  // namespace yl
