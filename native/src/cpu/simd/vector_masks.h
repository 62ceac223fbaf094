// Masks of the instruction sets that have no registers for them: a mask is a register with -1 or 0 in each lane. Included by
// their headers; an instruction set's own header defines kPartLanes, Register and IntRegister first.
#pragma once

namespace yl {
inline namespace YL_ISA {

typedef IntRegister MaskPart;  // -1 or 0 in each lane
YL_SIMD MaskPart mask_of(uint64_t bits) {
  IntRegister one{};
  for (int32_t lane = 0; lane < kPartLanes; ++lane) one[lane] = 1 << lane;
  return ((static_cast<int32_t>(bits) - IntRegister{}) & one) != 0;
}
YL_SIMD MaskPart less(Register a, Register b) { return a < b; }
YL_SIMD MaskPart at_most(Register a, Register b) { return a <= b; }
YL_SIMD MaskPart equal(Register a, Register b) { return a == b; }

}  // namespace YL_ISA
}  // namespace yl
