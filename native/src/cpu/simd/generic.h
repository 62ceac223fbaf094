// No instruction set in particular: 4 floats that the compiler maps to whatever there is. simd.h says what each
// operation means.
#pragma once

#include <cstring>

#include "cpu/simd/portable.h"

namespace yl {
inline namespace YL_ISA {

YL_SIMD uint64_t bits_of_mask(MaskPart m) {
  uint64_t result = 0;
  for (int32_t lane = 0; lane < kPartLanes; ++lane) result |= static_cast<uint64_t>(m[lane] & 1) << lane;
  return result;
}
YL_SIMD Register select(MaskPart m, Register yes, Register no) { return portable_select(m, yes, no); }

YL_SIMD Register fma(Register a, Register b, Register c) { return a * b + c; }  // rounded twice
YL_SIMD Register smaller(Register a, Register b) { return select(a < b, a, b); }
YL_SIMD Register larger(Register a, Register b) { return select(a > b, a, b); }

YL_SIMD Doubles lower(Register a) { return Doubles{a[0], a[1]}; }
YL_SIMD Doubles upper(Register a) { return Doubles{a[2], a[3]}; }

YL_SIMD Register load_half(const Half *from) { return portable_load_half(from); }
YL_SIMD void store_half(Half *to, Register a) { portable_store_half(to, a); }

YL_SIMD Box<Register> load_boxes(const float *from, int64_t step) { return portable_load_boxes(from, step); }

// There is no store past the caches, or it is of no use.
YL_SIMD void stream_line(char *to, const char *from) { std::memcpy(to, from, 64); }
YL_SIMD void streamed() {}

}  // namespace YL_ISA
}  // namespace yl
