// The instruction sets of the cpu backend.
#pragma once

#include "cpu/cells.h"

namespace yl {

struct Isa {
  const char *name;
  bool (*usable)();  // here: the processor has it, and the operating system keeps its registers
  CellsFunction (*cells_of)(const Shape &shape, bool extras);
};

// The best that is usable and not above the cap in the environment variable YOLOLOSS_ISA. Throws a Failure if that names
// none.
const Isa &usable_isa();

}  // namespace yl
