#define YL_ISA baseline
#include "cpu/cells_simd.h"

yl::Visit yl::baseline_visit(const Shape &shape, bool extras) { return visit_of(shape, extras); }
