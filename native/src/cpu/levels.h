// Checks which instruction sets the processor has, for isa.cpp and for the build. The two x86-64 levels are checked
// feature by feature rather than by processor model, because a virtual machine or a kernel option can hide any of them:
// code compiled for x86-64-v3 may use every feature of that level, not only AVX2, and one missing instruction would end
// the process. The compiler's check of AVX-512 and AVX2 includes that the operating system saves the wide registers.
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace yl {

// Returns true: every processor of the architecture has it.
inline bool has_baseline() { return true; }

#if defined(__x86_64__)
// Returns whether the processor has everything that the compiler may use for -march=x86-64-v3. Three features are read
// by cpuid, since gcc and clang have no common name for them.
inline bool has_avx2() {
  unsigned a, b, basic, extended, d;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && __get_cpuid(1, &a, &b, &basic, &d) && (basic & bit_F16C) &&
         (basic & bit_MOVBE) && __get_cpuid(0x80000001, &a, &b, &extended, &d) && (extended & bit_LZCNT);
}

// Returns whether the processor has everything that the compiler may use for -march=x86-64-v4.
inline bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
inline bool has_avx2() { return false; }
inline bool has_avx512() { return false; }
#endif

}  // namespace yl
