// exp, log1p and what formula.h makes of them, against the real functions, for each instruction set of this processor.
#include "plan.h"

using SimdFunction = void (*)(int64_t, const float *, float *);
extern "C" SimdFunction simd_function_baseline(int which);
#if defined(__x86_64__)
extern "C" SimdFunction simd_function_avx2(int which);
extern "C" SimdFunction simd_function_avx512(int which);
#endif

namespace {

SimdFunction function_of([[maybe_unused]] const std::string &isa, int which) {
#if defined(__x86_64__)
  if (isa == "avx512") return simd_function_avx512(which);
  if (isa == "avx2") return simd_function_avx2(which);
#endif
  return simd_function_baseline(which);
}

float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// The largest error in units in the last place of the real result, over every step-th float from low to high (both of the
// sign of low). Results below floor may be 0.
template <class Real>
double worst(SimdFunction function, const Real &real, float low, float high, uint32_t step, double floor = 0) {
  constexpr int64_t kCount = 4096;
  std::vector<float> in(kCount), out(kCount);
  double largest = 0;
  const uint32_t first = std::min(bits_of(low), bits_of(high)), last = std::max(bits_of(low), bits_of(high));
  for (uint64_t next = first; next <= last;) {
    for (float &x : in) {
      x = float_of(static_cast<uint32_t>(std::min<uint64_t>(next, last)));
      next += step;
    }
    function(kCount, in.data(), out.data());
    for (size_t i = 0; i < in.size(); ++i) {
      const double want = real(double(in[i]));
      if (want < floor && out[i] == 0) continue;
      int exponent;
      std::frexp(want, &exponent);
      const double unit = std::ldexp(1.0, std::max(exponent, -125) - 24);
      const double error = std::fabs(double(out[i]) - want) / unit;
      if (!(error <= largest)) largest = error;  // NaN too
    }
  }
  return largest;
}

void bound(const std::string &what, double error, double most) {
  std::printf("%-30s %.3f units in the last place, at most %.2f\n", what.c_str(), error, most);
  CHECK(error <= most, what + ": " + number(error));
}

void values(const std::string &isa, int which, std::vector<std::pair<float, float>> pairs) {
  std::vector<float> in(64, 0.0f), out(64);
  for (size_t i = 0; i < pairs.size(); ++i) in[i] = pairs[i].first;
  function_of(isa, which)(64, in.data(), out.data());
  for (size_t i = 0; i < pairs.size(); ++i) {
    const float want = pairs[i].second;
    CHECK(std::isnan(want) ? std::isnan(out[i]) : out[i] == want,
          isa + ", function " + std::to_string(which) + " of " + number(in[i]) + ": " + number(out[i]));
  }
}

}  // namespace

int main() {
  const auto exp = [](double x) { return std::exp(x); };
  const auto log1p = [](double x) { return std::log1p(x); };
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  const auto softplus = [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); };
  for (const char *isa : kIsas) {
    const std::string name = isa;
    const double smallest = std::exp(-86.9);
    bound(name + " exp, x > 0", worst(function_of(isa, 0), exp, 1e-30f, 88.72283f, 97), 1.5);
    bound(name + " exp, x < 0", worst(function_of(isa, 0), exp, -1e-30f, -86.9f, 97, smallest), 1.5);
    bound(name + " log1p", worst(function_of(isa, 1), log1p, 1e-30f, 1.0f, 97), 2);
    bound(name + " sigmoid, x > 0", worst(function_of(isa, 2), sigmoid, 1e-30f, 100.0f, 97), 3);
    bound(name + " sigmoid, x < 0", worst(function_of(isa, 2), sigmoid, -1e-30f, -100.0f, 97, smallest), 3);
    bound(name + " softplus, x > 0", worst(function_of(isa, 3), softplus, 1e-30f, 3e38f, 97), 3);
    bound(name + " softplus, x < 0", worst(function_of(isa, 3), softplus, -1e-30f, -3e38f, 97, smallest), 3);
    values(name, 0, {{0.0f, 1.0f}, {-0.0f, 1.0f}, {INFINITY, INFINITY}, {-INFINITY, 0.0f}, {NAN, NAN}, {-NAN, NAN},
                     {float_of(0x7fffffff), NAN}, {float_of(0xff800001), NAN}, {89.0f, INFINITY}, {3e38f, INFINITY},
                     {-88.0f, 0.0f}, {-3e38f, 0.0f}, {1e-45f, 1.0f}});
    values(name, 1, {{0.0f, 0.0f}, {NAN, NAN}, {1e-45f, 1e-45f}});
    values(name, 2, {{0.0f, 0.5f}, {INFINITY, 1.0f}, {-INFINITY, 0.0f}, {NAN, NAN}, {200.0f, 1.0f}, {-200.0f, 0.0f}});
    values(name, 3, {{0.0f, std::log(2.0f)}, {NAN, NAN}, {INFINITY, NAN}, {-INFINITY, NAN}, {1e30f, 1e30f}, {-1e30f, 0.0f}});
  }
  return report("simd");
}
