// Prints the widest instruction set that this machine's processor has, by the checks that the library itself makes when
// a plan is made. CMake runs it for YOLOLOSS_ISAS=NATIVE.
#include <cstdio>

#include "cpu/levels.h"

int main() { std::fputs(yl::has_avx512() ? "avx512" : yl::has_avx2() ? "avx2" : "baseline", stdout); }
