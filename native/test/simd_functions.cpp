// The functions of simd.h as plain ones, for one instruction set. Nothing of the C++ library here: the linker could
// take its templates, compiled for this instruction set, for those of the whole program.
#include "cpu/simd.h"

namespace yl {
inline namespace YL_ISA {
namespace {

template <class Function> void each(int64_t count, const float *in, float *out, const Function &function) {
  for (int64_t i = 0; i < count; i += kLanes) function(Floats::load(in + i)).store(out + i);
}

}  // namespace

// count is a multiple of 64.
struct SimdFunctions {
  static void exp(int64_t count, const float *in, float *out) {
    each(count, in, out, [](Floats x) { return yl::exp(x); });
  }
  static void log1p(int64_t count, const float *in, float *out) {
    each(count, in, out, [](Floats x) { return yl::log1p(x); });
  }
  static void sigmoid(int64_t count, const float *in, float *out) {
    each(count, in, out, [](Floats x) { return yl::sigmoid(x); });
  }
  static void softplus(int64_t count, const float *in, float *out) {
    each(count, in, out, [](Floats x) { return cross_entropy(Floats(0), x).loss; });
  }
};

}  // namespace YL_ISA
}  // namespace yl

#define YL_JOINED(a, b) a##b
#define YL_NAME(a, b) YL_JOINED(a, b)
using SimdFunction = void (*)(int64_t, const float *, float *);
extern "C" SimdFunction YL_NAME(simd_function_, YL_ISA)(int which) {
  const SimdFunction functions[] = {yl::SimdFunctions::exp, yl::SimdFunctions::log1p, yl::SimdFunctions::sigmoid,
                                    yl::SimdFunctions::softplus};
  return functions[which];
}
