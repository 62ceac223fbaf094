// Stage 2 of the cpu device, compiled for the instruction set baseline (CMakeLists.txt has the options).
#define YL_ISA baseline
#include "cpu/cells_simd.h"

yl::CellsFunction yl::baseline_cells(const Shape &shape, bool extras) { return simd_cells(shape, extras); }
