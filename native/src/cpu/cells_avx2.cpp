// Stage cells of the cpu device, compiled for the instruction set avx2 (CMakeLists.txt has the options). Only a
// function of this name leaves this file: the rest is in a namespace of its own, see view.h. isa.cpp chooses among the
// functions, and the code is in cells_simd.h.
#define YL_ISA avx2
#include "cpu/cells_simd.h"

yl::CellsFunction yl::avx2_cells(const Shape &shape, bool extras) { return simd_cells(shape, extras); }
