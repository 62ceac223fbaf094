// Chooses the instruction set of the cpu backend. The two x86-64 levels are checked feature by feature rather than by
// processor model, because a virtual machine or a kernel option can hide any of them: code compiled for x86-64-v3 may
// use every feature of that level, not only AVX2, and one missing instruction would end the process. The compiler's
// check of AVX-512 and AVX2 includes that the operating system saves the wide registers.
#include "cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <cstring>
#include <string>

#include "check/check.h"

namespace yl {
namespace {

#if defined(__x86_64__)
// Returns whether the processor has everything that the compiler may use for -march=x86-64-v3. Three features are read
// by cpuid, since gcc and clang have no common name for them.
bool has_v3() {
  unsigned a, b, basic, extended, d;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && __get_cpuid(1, &a, &b, &basic, &d) && (basic & bit_F16C) &&
         (basic & bit_MOVBE) && __get_cpuid(0x80000001, &a, &b, &extended, &d) && (extended & bit_LZCNT);
}

// Returns whether the processor has everything that the compiler may use for -march=x86-64-v4.
bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

// From the widest to the one that every processor of the architecture has.
const Isa kIsas[] = {
#if defined(__x86_64__)
    {"avx512", has_v4, avx512_cells},
    {"avx2", has_v3, avx2_cells},
#endif
    {"baseline", [] { return true; }, baseline_cells}};

}  // namespace

const Isa &usable_isa() {
  const char *const cap = std::getenv("YOLOLOSS_ISA");
  bool allowed = !cap || !*cap;  // an empty cap is no cap
  std::string names;
  for (const Isa &isa : kIsas) {
    allowed |= cap && std::strcmp(cap, isa.name) == 0;
    if (allowed && isa.usable()) return isa;
    names += (names.empty() ? "" : ", ") + std::string(isa.name);
  }
  fail(YL_INVALID_ARGUMENT,
       "the environment variable YOLOLOSS_ISA is \"%.40s\", expected one of %s; unset it for the best that this "
       "processor "
       "has",
       cap, names.c_str());
}

}  // namespace yl
