// Stage 2 of the cpu device, compiled for the instruction set avx2 (CMakeLists.txt has the options).
#define YL_ISA avx2
#include "cpu/cells_simd.h"

yl::CellsFunction yl::avx2_cells(const Shape &shape, bool extras) { return simd_cells(shape, extras); }
