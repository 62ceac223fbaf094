#define YL_ISA baseline
#include "visit_isa.h"

yl::Visit yl::baseline_visit(const Shape &shape, bool extras) { return visit_of(shape, extras); }
