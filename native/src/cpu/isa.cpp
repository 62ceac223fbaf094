#include "isa.h"

#include <cstdlib>
#include <cstring>

#include "check.h"

namespace yl {
namespace {

// From the best to the one that all processors of the architecture have.
const Isa kIsas[] = {
#if defined(__x86_64__)
    {"avx512",
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
     },
     avx512_visit},
    {"avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }, avx2_visit},
#endif
    {"baseline", [] { return true; }, baseline_visit}};

}  // namespace

const Isa &usable_isa() {
  const char *const cap = std::getenv("YOLOLOSS_ISA");
  bool allowed = !cap || !*cap;
  for (const Isa &isa : kIsas) {
    allowed |= cap && std::strcmp(cap, isa.name) == 0;
    if (allowed && isa.usable()) return isa;
  }
  fail(YL_INVALID_ARGUMENT,
       "the environment variable YOLOLOSS_ISA is \"%.40s\", expected one of avx512, avx2, baseline; unset it for the best "
       "that this processor has",
       cap);
}

}  // namespace yl
