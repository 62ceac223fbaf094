// Stage cells of the cpu device, compiled for every processor of the architecture: SSE2 on x86-64, Advanced SIMD on
// 64-bit Arm. Only a function of this name leaves this file: the rest is in a namespace of its own, see view.h. isa.cpp
// chooses among the functions, and the code is in cells_simd.h.
#define YL_ISA baseline
#include "cpu/cells_simd.h"

yl::CellsFunction yl::baseline_cells(const Shape &shape, bool extras) { return simd_cells(shape, extras); }
