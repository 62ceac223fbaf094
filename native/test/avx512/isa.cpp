// Chooses the instruction set of the library whose AVX-512 is emulated (emulated.h): every check of the processor asks
// for AVX2 instead, so that avx512 is usable wherever AVX2 is. has_v3's checks by cpuid are unchanged.
#define __builtin_cpu_supports(feature) __builtin_cpu_supports("avx2")
#include "cpu/isa.cpp"
