#define YL_ISA avx512
#include "cpu/cells_simd.h"

yl::Visit yl::avx512_visit(const Shape &shape, bool extras) { return visit_of(shape, extras); }
