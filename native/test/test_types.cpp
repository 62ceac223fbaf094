// The 16-bit numbers, and the sizes and alignments of all types of feats and gradients.
#include "plan.h"
#include "test.h"
#include "values.h"

namespace {

// Every value of a 16-bit type, and rounding to it: nearest, ties to even, overflow from the half step on.
void every_value(int32_t dtype, int fraction_bits, int bias, uint32_t last_exponent) {
  double previous = 0;
  for (uint32_t code = 0; code < 0x8000; ++code) {
    const uint32_t exponent = code >> fraction_bits, fraction = code & ((1u << fraction_bits) - 1);
    const auto stored = static_cast<uint16_t>(code);
    char bytes[8] = {};
    std::memcpy(bytes, &stored, 2);
    const double value = get(dtype, bytes);
    if (exponent == last_exponent) {
      CHECK(fraction ? std::isnan(value) : std::isinf(value), number(value));
      continue;
    }
    const double share = fraction / double(1 << fraction_bits);
    CHECK_EQUAL(value, exponent ? std::ldexp(1 + share, int(exponent) - bias) : std::ldexp(share, 1 - bias));
    CHECK_EQUAL(rounded(dtype, value), value);
    CHECK_EQUAL(rounded(dtype, -value), -value);
    const double half = (previous + value) / 2;  // exact in float32, except for subnormals of bfloat16
    if (code > 0 && (dtype == YL_F16 || exponent > 1)) {
      const auto single = static_cast<float>(half);
      CHECK_EQUAL(rounded(dtype, half), code % 2 ? previous : value);
      CHECK_EQUAL(rounded(dtype, static_cast<double>(std::nextafterf(single, 0))), previous);
      CHECK_EQUAL(rounded(dtype, static_cast<double>(std::nextafterf(single, INFINITY))), value);
    }
    previous = value;
  }
  CHECK(std::isnan(rounded(dtype, NAN)));
  CHECK_EQUAL(rounded(dtype, INFINITY), INFINITY);
  CHECK_EQUAL(rounded(dtype, 3.4e38), INFINITY);
}

}  // namespace

TEST(types, every_float16_and_rounding_to_it) {
  every_value(YL_F16, 10, 15, 31);
  CHECK_EQUAL(rounded(YL_F16, 65519), 65504);
  CHECK_EQUAL(rounded(YL_F16, 65520), INFINITY);
  CHECK_EQUAL(rounded(YL_F16, -65520), -INFINITY);
}

TEST(types, every_bfloat16_and_rounding_to_it) { every_value(YL_BF16, 7, 127, 255); }

TEST(types, have_their_own_size_and_alignment) {
  for (const int32_t dtype : {YL_F16, YL_F64}) {
    Config c;
    c.config.device = YL_DEVICE_CPU;
    c.config.max_batch = 1;
    c.config.dtype = dtype;
    c.config.grad_dtype = YL_GRAD_F32;
    CHECK_OK(c.create());
    const size_t size = dtype == YL_F64 ? 8 : 2, count = 4 * 4 * 3 * 7;
    std::vector<double> memory(2 * count + 2);
    char *const start = reinterpret_cast<char *>(memory.data());
    const void *feats[] = {start};
    void *grads[] = {start + size * count};
    yl_boxes boxes = YL_BOXES_INIT;
    yl_call call = YL_CALL_INIT;
    call.batch = 1, call.feats = feats, call.boxes = &boxes, call.grads = grads;
    CHECK_OK(yl_loss(c.plan, &call, nullptr));
    grads[0] = start + size * count - 4;
    CHECK_REFUSED(yl_loss(c.plan, &call, nullptr), YL_INVALID_ARGUMENT, "grads[0] and feats[0] overlap");
    grads[0] = start;  // a gradient of another type cannot be over feats
    CHECK_REFUSED(yl_loss(c.plan, &call, nullptr), YL_INVALID_ARGUMENT, "grads[0] and feats[0] overlap");
    feats[0] = start + size / 2;
    CHECK_REFUSED(yl_loss(c.plan, &call, nullptr), YL_INVALID_ARGUMENT,
                  dtype == YL_F64 ? "aligned to 8" : "aligned to 2");
  }
}
