// The instruction sets of the cpu backend. Stage 2 is compiled once for each of them (cells_baseline.cpp,
// cells_avx2.cpp, cells_avx512.cpp), and a plan picks one when it is made: the widest that the processor has and
// YOLOLOSS_ISA allows. Which features each name stands for is in isa.cpp; the operations themselves are in the headers
// of cpu/simd.
#pragma once

#include "cpu/cells.h"

namespace yl {

struct Isa {
  const char *name;                                            // as YOLOLOSS_ISA takes it, and yl_device_why reports it
  bool (*usable)();                                            // the processor has it, and the OS saves its registers
  CellsFunction (*cells_of)(const Shape &shape, bool extras);  // stage 2, compiled for it
};

// Returns the widest instruction set that is usable here and not wider than YOLOLOSS_ISA. Throws a Failure if that
// environment variable is not the name of one.
const Isa &usable_isa();

}  // namespace yl
