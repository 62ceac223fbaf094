// What instruction sets without registers for masks share, and what they use where they have no instruction of their
// own. A mask is a register with -1 or 0 in each lane.
#pragma once

#include <cstring>

namespace yl {
inline namespace YL_ISA {

typedef IntRegister MaskPart;
YL_SIMD MaskPart mask_of(uint64_t bits) {
  IntRegister one{};
  for (int32_t lane = 0; lane < kPartLanes; ++lane) one[lane] = 1 << lane;
  return ((static_cast<int32_t>(bits) - IntRegister{}) & one) != 0;
}
YL_SIMD MaskPart less(Register a, Register b) { return a < b; }
YL_SIMD MaskPart at_most(Register a, Register b) { return a <= b; }
YL_SIMD MaskPart equal(Register a, Register b) { return a == b; }

YL_SIMD Register portable_select(MaskPart m, Register yes, Register no) {
  return reinterpret_cast<Register>((reinterpret_cast<IntRegister>(yes) & m) |
                                    (reinterpret_cast<IntRegister>(no) & ~m));
}

// Converts one by one, in integer operations.
YL_SIMD Register portable_load_half(const Half *from) {
  float values[kPartLanes];
  for (int32_t lane = 0; lane < kPartLanes; ++lane) values[lane] = load(from[lane]);
  Register result;
  std::memcpy(&result, values, sizeof result);
  return result;
}
YL_SIMD void portable_store_half(Half *to, Register a) {
  float values[kPartLanes];
  std::memcpy(values, &a, sizeof a);
  for (int32_t lane = 0; lane < kPartLanes; ++lane) to[lane] = Store<Half>::from(values[lane]);
}

YL_SIMD Box<Register> portable_load_boxes(const float *from, int64_t step) {
  float values[4][kPartLanes];
  for (int32_t lane = 0; lane < kPartLanes; ++lane, from += step)
    for (int32_t i = 0; i < 4; ++i) values[i][lane] = from[i];
  Box<Register> box;
  std::memcpy(&box, values, sizeof box);
  return box;
}

}  // namespace YL_ISA
}  // namespace yl
