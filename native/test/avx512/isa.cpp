// For a library whose AVX-512 is emulated: all is usable where AVX2 is.
#define __builtin_cpu_supports(feature) __builtin_cpu_supports("avx2")
#include "cpu/isa.cpp"
