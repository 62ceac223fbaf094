// No instruction set in particular: 4 floats that the compiler maps to whatever there is. simd.h says what each operation
// means.
#pragma once

#include <cstring>

namespace yl {
inline namespace YL_ISA {

constexpr int32_t kPartLanes = 4;
typedef float Register __attribute__((vector_size(16)));
typedef int32_t IntRegister __attribute__((vector_size(16)));
typedef double Doubles __attribute__((vector_size(16)));  // of half as many lanes

}  // namespace YL_ISA
}  // namespace yl

#include "cpu/simd/vector_masks.h"

namespace yl {
inline namespace YL_ISA {

YL_SIMD uint64_t bits_of_mask(MaskPart m) {
  uint64_t result = 0;
  for (int32_t lane = 0; lane < kPartLanes; ++lane) result |= static_cast<uint64_t>(m[lane] & 1) << lane;
  return result;
}
YL_SIMD Register select(MaskPart m, Register yes, Register no) {
  return reinterpret_cast<Register>((reinterpret_cast<IntRegister>(yes) & m) | (reinterpret_cast<IntRegister>(no) & ~m));
}

YL_SIMD Register fma(Register a, Register b, Register c) { return a * b + c; }  // rounded twice
YL_SIMD Register smaller(Register a, Register b) { return select(a < b, a, b); }
YL_SIMD Register larger(Register a, Register b) { return select(a > b, a, b); }

YL_SIMD Doubles lower(Register a) { return Doubles{a[0], a[1]}; }
YL_SIMD Doubles upper(Register a) { return Doubles{a[2], a[3]}; }

// One by one, in integer operations: there is no instruction for it.
YL_SIMD Register load_half(const Half *from) {
  float values[kPartLanes];
  for (int32_t lane = 0; lane < kPartLanes; ++lane) values[lane] = load(from[lane]);
  Register result;
  std::memcpy(&result, values, sizeof result);
  return result;
}
YL_SIMD void store_half(Half *to, Register a) {
  float values[kPartLanes];
  std::memcpy(values, &a, sizeof a);
  for (int32_t lane = 0; lane < kPartLanes; ++lane) to[lane] = Store<Half>::from(values[lane]);
}

YL_SIMD Box<Register> load_boxes(const float *from, int64_t step) {
  float values[4][kPartLanes];
  for (int32_t lane = 0; lane < kPartLanes; ++lane, from += step)
    for (int32_t i = 0; i < 4; ++i) values[i][lane] = from[i];
  Box<Register> box;
  std::memcpy(&box, values, sizeof box);
  return box;
}

// There is no store past the caches, or it is of no use.
YL_SIMD void stream_line(char *to, const char *from) { std::memcpy(to, from, 64); }
YL_SIMD void streamed() {}

}  // namespace YL_ISA
}  // namespace yl
