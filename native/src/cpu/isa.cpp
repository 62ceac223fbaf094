// Chooses the instruction set of the cpu backend: the widest that was compiled, that the processor has and that the
// environment allows. levels.h has the checks of the processor.
#include "cpu/isa.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "check/check.h"
#include "cpu/levels.h"

namespace yl {
namespace {

// The entry of an instruction set, whose name may be a macro.
#define YL_ENTRY_OF(name) {#name, has_##name, name##_cells}
#define YL_ENTRY(name) YL_ENTRY_OF(name)

// From the widest to the one that every processor of the architecture has. The order matters: usable_isa takes the
// first that is both allowed and usable.
const Isa kIsas[] = {
#if defined(YL_ONLY_ISA)  // a build for one machine: YOLOLOSS_ISAS=NATIVE of CMake
    YL_ENTRY(YL_ONLY_ISA)
#elif defined(__x86_64__)
    YL_ENTRY(avx512), YL_ENTRY(avx2), YL_ENTRY(baseline)
#else
    YL_ENTRY(baseline)
#endif
};

#if defined(YL_ONLY_ISA)
const char kNote[] = " (this library was built for this machine only; `mvn verify` builds one with all)";
#else
const char kNote[] = "";
#endif

}  // namespace

// YOLOLOSS_ISA is an upper limit and no demand: "avx512" on a processor that lacks it gives the next one. The last
// entry is always usable, except in a build for one machine that runs on another.
const Isa &usable_isa() {
  const char *const cap = std::getenv("YOLOLOSS_ISA");
  bool allowed = !cap || !*cap;  // an empty cap is no cap
  std::string names;
  for (const Isa &isa : kIsas) {
    allowed |= cap && std::strcmp(cap, isa.name) == 0;
    if (allowed && isa.usable()) return isa;
    names += (names.empty() ? "" : ", ") + std::string(isa.name);
  }
  if (allowed)
    fail(YL_UNSUPPORTED,
         "this library was built only for processors with %s, which this one lacks; build it with `cmake --preset "
         "release`, whose library chooses when it runs",
         names.c_str());
  fail(YL_INVALID_ARGUMENT,
       "the environment variable YOLOLOSS_ISA is \"%.40s\", expected one of %s%s; unset it for the best that this "
       "processor has",
       cap, names.c_str(), kNote);
}

}  // namespace yl
