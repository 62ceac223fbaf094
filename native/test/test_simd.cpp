// exp, log1p and what formula.h makes of them, against the functions of the C library in double, for each instruction
// set of this processor. The program is linked with simd_functions.cpp, compiled for each.
#include <algorithm>

#include "devices.h"
#include "test.h"

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

// Returns the largest error in units in the last place of the right result, over every 97th float from low to high
// (both of the sign of low). Results below floor may be 0.
double worst_error(SimdFunction function, double (*right)(double), float low, float high, double floor) {
  constexpr int64_t kCount = 4096;
  constexpr uint32_t kStep = 97;
  std::vector<float> in(kCount), out(kCount);
  double largest = 0;
  const uint32_t first = std::min(bits_of(low), bits_of(high)), last = std::max(bits_of(low), bits_of(high));
  for (uint64_t next = first; next <= last;) {
    for (float &x : in) {
      x = float_of(static_cast<uint32_t>(std::min<uint64_t>(next, last)));
      next += kStep;
    }
    function(kCount, in.data(), out.data());
    for (size_t i = 0; i < in.size(); ++i) {
      const double want = right(double(in[i]));
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

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }
double exp_of(double x) { return std::exp(x); }
double log1p_of(double x) { return std::log1p(x); }

enum Function { kExp, kLog1p, kSigmoid, kSoftplus };
const char *const kNames[] = {"exp", "log1p", "sigmoid", "softplus"};

struct Range {
  float low, high;
  double floor;
};
void errors_are_at_most(double most, Function which, double (*right)(double), const std::vector<Range> &ranges) {
  for (const char *isa : isas())
    for (const Range &range : ranges) {
      const double error = worst_error(function_of(isa, which), right, range.low, range.high, range.floor);
      std::printf("%s %s from %g to %g: %.3f units in the last place, at most %.2f\n", isa, kNames[which],
                  static_cast<double>(range.low), static_cast<double>(range.high), error, most);
      CHECK_AT_MOST(error, most, std::string(isa) + ", to " + number(range.high));
    }
}

void values_are(Function which, const std::vector<std::pair<float, float>> &pairs) {
  for (const char *isa : isas()) {
    std::vector<float> in(64, 0.0f), out(64);
    for (size_t i = 0; i < pairs.size(); ++i) in[i] = pairs[i].first;
    function_of(isa, which)(64, in.data(), out.data());
    for (size_t i = 0; i < pairs.size(); ++i) {
      const std::string where = std::string(isa) + ", " + kNames[which] + " of " + number(in[i]);
      if (std::isnan(pairs[i].second))
        CHECK(std::isnan(out[i]), where);
      else
        CHECK_EQUAL(out[i], pairs[i].second, where);
    }
  }
}

const double kSmallest = std::exp(-86.9);

}  // namespace

TEST_LABELLED(simd, exp_is_within_one_and_a_half_units_in_the_last_place, kLong | kNotThreadSanitized) {
  errors_are_at_most(1.5, kExp, exp_of, {{1e-30f, 88.72283f, 0}, {-1e-30f, -86.9f, kSmallest}});
}
TEST_LABELLED(simd, log1p_is_within_two_units_in_the_last_place, kNotThreadSanitized) {
  errors_are_at_most(2, kLog1p, log1p_of, {{1e-30f, 1.0f, 0}});
}
TEST_LABELLED(simd, sigmoid_is_within_three_units_in_the_last_place, kLong | kNotThreadSanitized) {
  errors_are_at_most(3, kSigmoid, sigmoid, {{1e-30f, 100.0f, 0}, {-1e-30f, -100.0f, kSmallest}});
}
TEST_LABELLED(simd, softplus_is_within_three_units_in_the_last_place, kLong | kNotThreadSanitized) {
  errors_are_at_most(3, kSoftplus, softplus, {{1e-30f, 3e38f, 0}, {-1e-30f, -3e38f, kSmallest}});
}

TEST_LABELLED(simd, exact_and_extreme_arguments_have_exact_results, kNotThreadSanitized) {
  values_are(kExp, {{0.0f, 1.0f},
                    {-0.0f, 1.0f},
                    {INFINITY, INFINITY},
                    {-INFINITY, 0.0f},
                    {NAN, NAN},
                    {-NAN, NAN},
                    {float_of(0x7fffffff), NAN},
                    {float_of(0xff800001), NAN},
                    {89.0f, INFINITY},
                    {3e38f, INFINITY},
                    {-88.0f, 0.0f},
                    {-3e38f, 0.0f},
                    {1e-45f, 1.0f}});
  values_are(kLog1p, {{0.0f, 0.0f}, {NAN, NAN}, {1e-45f, 1e-45f}});
  values_are(kSigmoid,
             {{0.0f, 0.5f}, {INFINITY, 1.0f}, {-INFINITY, 0.0f}, {NAN, NAN}, {200.0f, 1.0f}, {-200.0f, 0.0f}});
  values_are(kSoftplus,
             {{0.0f, std::log(2.0f)}, {NAN, NAN}, {INFINITY, NAN}, {-INFINITY, NAN}, {1e30f, 1e30f}, {-1e30f, 0.0f}});
}
