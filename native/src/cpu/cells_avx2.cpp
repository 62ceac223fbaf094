#define YL_ISA avx2
#include "cpu/cells_simd.h"

yl::Visit yl::avx2_visit(const Shape &shape, bool extras) { return visit_of(shape, extras); }
