// Floats: float32 numbers side by side, kLanes of them, for formula.h; with exp, log1p and sums in double.
//
// One header in simd/ for each instruction set defines the same operations on one register; which one is included
// depends on what this file is compiled for. Everything is in a namespace named after the instruction set (YL_ISA): one
// library has several, and the linker must not take one for another. The operations on a Register (kPartLanes floats):
//
//   mask_of, bits_of_mask      a MaskPart from and to bits, lane i at bit i
//   less, at_most, equal       comparisons; false where a NaN is compared
//   select(m, yes, no)
//   fma(a, b, c)               a * b + c, rounded once where the instruction set can
//   smaller, larger            as formula.h has them: b where a NaN is compared
//   lower, upper               the two halves of the lanes, as doubles
//   load_half, store_half      from and to IEEE binary16, rounded to nearest even
//   load_boxes(from, step)     the first four values of kPartLanes rows that are step values apart
//   stream_line(to, from)      stores 64 bytes at a multiple of 64, past the caches
//   streamed()                 after it, other threads may read what was streamed
//
// The test `simd` bounds the errors against the real functions, in units in the last place: exp 1.5, log1p 2, and 3 for
// formula.h's sigmoid and softplus, which are made of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dtype.h"
#include "elementary.h"

#define YL_SIMD inline __attribute__((always_inline))

namespace yl {
inline namespace YL_ISA {

#if defined(__AVX512F__)
constexpr int32_t kPartLanes = 16;
#elif defined(__AVX2__)
constexpr int32_t kPartLanes = 8;
#else
constexpr int32_t kPartLanes = 4;
#endif
typedef float Register __attribute__((vector_size(4 * kPartLanes)));
typedef int32_t IntRegister __attribute__((vector_size(4 * kPartLanes)));
typedef double Doubles __attribute__((vector_size(4 * kPartLanes)));  // half as many lanes

}  // namespace YL_ISA
}  // namespace yl

#if defined(__AVX512F__)
#include "cpu/simd/avx512.h"
#elif defined(__AVX2__)
#include "cpu/simd/avx2.h"
#elif defined(__SSE2__)
#include "cpu/simd/sse2.h"
#elif defined(__aarch64__)
#include "cpu/simd/neon.h"
#else
#include "cpu/simd/generic.h"
#endif

namespace yl {
inline namespace YL_ISA {

// A Floats is two registers: exp and log1p are chains of operations that wait for each other, and the chain of a second
// register fills the gaps, which no processor's look-ahead does alone.
constexpr int32_t kParts = 2;
constexpr int32_t kLanes = kParts * kPartLanes;
constexpr uint64_t kAllLanes = (uint64_t(1) << kLanes) - 1;

// Runs a statement for each part p. It is not a loop: the compiler would keep the parts in memory where it instruments
// the code, and take many minutes for it.
#define YL_EACH_PART(...)     \
  static_assert(kParts == 2); \
  {                           \
    constexpr int32_t p = 0;  \
    __VA_ARGS__               \
  }                           \
  {                           \
    constexpr int32_t p = 1;  \
    __VA_ARGS__               \
  }

// kLanes floats. Arithmetic, comparisons and the functions below work lane by lane. Each operation is rounded on its
// own: the build forbids the compiler to fuse products and sums (-ffp-contract=off).
struct Floats {
  Register part[kParts];
  Floats() = default;
  YL_SIMD explicit Floats(float value) { YL_EACH_PART(part[p] = value - Register{};); }
  // Loads from any alignment, register by register: the compiler would copy all of part in smaller pieces through the
  // stack.
  static YL_SIMD Floats load(const float *from) {
    Floats result;
    YL_EACH_PART(std::memcpy(&result.part[p], from + p * kPartLanes, sizeof(Register)););
    return result;
  }
  YL_SIMD void store(float *to) const { YL_EACH_PART(std::memcpy(to + p * kPartLanes, &part[p], sizeof(Register));); }
};

// A condition for each lane, the result of a comparison.
struct Mask {
  MaskPart part[kParts];
  static YL_SIMD Mask of_bits(uint64_t bits) {
    Mask result;
    YL_EACH_PART(result.part[p] = mask_of(bits >> p * kPartLanes););
    return result;
  }
  YL_SIMD uint64_t bits() const {
    uint64_t result = 0;
    YL_EACH_PART(result |= bits_of_mask(part[p]) << p * kPartLanes;);
    return result;
  }
};

// Returns a Type whose parts are an expression of the parts of the arguments.
#define YL_PARTWISE(Type, expression)          \
  Type result;                                 \
  YL_EACH_PART(result.part[p] = (expression);) \
  return result;

YL_SIMD Floats operator+(Floats a, Floats b) { YL_PARTWISE(Floats, a.part[p] + b.part[p]); }
YL_SIMD Floats operator-(Floats a, Floats b) { YL_PARTWISE(Floats, a.part[p] - b.part[p]); }
YL_SIMD Floats operator*(Floats a, Floats b) { YL_PARTWISE(Floats, a.part[p] * b.part[p]); }
YL_SIMD Floats operator/(Floats a, Floats b) { YL_PARTWISE(Floats, a.part[p] / b.part[p]); }
YL_SIMD Floats operator-(Floats a) { YL_PARTWISE(Floats, -a.part[p]); }
YL_SIMD Floats fma(Floats a, Floats b, Floats c) { YL_PARTWISE(Floats, fma(a.part[p], b.part[p], c.part[p])); }
YL_SIMD Floats smaller(Floats a, Floats b) { YL_PARTWISE(Floats, smaller(a.part[p], b.part[p])); }
YL_SIMD Floats larger(Floats a, Floats b) { YL_PARTWISE(Floats, larger(a.part[p], b.part[p])); }
YL_SIMD Floats fabs(Floats a) {
  YL_PARTWISE(Floats, reinterpret_cast<Register>(reinterpret_cast<IntRegister>(a.part[p]) & 0x7fffffff));
}
YL_SIMD Mask operator<(Floats a, Floats b) { YL_PARTWISE(Mask, less(a.part[p], b.part[p])); }
YL_SIMD Mask operator>(Floats a, Floats b) { YL_PARTWISE(Mask, less(b.part[p], a.part[p])); }
YL_SIMD Mask operator>=(Floats a, Floats b) { YL_PARTWISE(Mask, at_most(b.part[p], a.part[p])); }
YL_SIMD Mask operator==(Floats a, Floats b) { YL_PARTWISE(Mask, equal(a.part[p], b.part[p])); }
YL_SIMD Mask operator&(Mask a, Mask b) { YL_PARTWISE(Mask, static_cast<MaskPart>(a.part[p] & b.part[p])); }
YL_SIMD Mask operator|(Mask a, Mask b) { YL_PARTWISE(Mask, static_cast<MaskPart>(a.part[p] | b.part[p])); }
YL_SIMD Floats select(Mask condition, Floats yes, Floats no) {
  YL_PARTWISE(Floats, select(condition.part[p], yes.part[p], no.part[p]));
}
YL_SIMD Mask finite(Floats a) { return a - a == Floats(0); }
// Returns the number whose sign and exponent are the lowest 9 bits of a, as bits, and whose fraction is 0.
YL_SIMD Floats exponent_of(Floats a) {
  YL_PARTWISE(Floats, reinterpret_cast<Register>(reinterpret_cast<IntRegister>(a.part[p]) << 23));
}

YL_SIMD Floats exp(Floats x) { return exp_of_floats(x); }
YL_SIMD Floats log1p(Floats x) { return log1p_of_floats(x); }

// Sums of floats in double, lane by lane. total() adds the lanes in a fixed order, which depends on kLanes: instruction
// sets differ in the last bits of a sum, but each repeats its own.
class Sums {
 public:
  YL_SIMD void add(Floats a) { YL_EACH_PART(low_[p] += lower(a.part[p]); high_[p] += upper(a.part[p]);); }
  YL_SIMD void add_squares(Floats a) {
    YL_EACH_PART(const Doubles low = lower(a.part[p]), high = upper(a.part[p]); low_[p] += low * low;
                 high_[p] += high * high;);
  }
  YL_SIMD double total() const {
    double sum = 0;
    for (int32_t p = 0; p < kParts; ++p) {
      for (int32_t i = 0; i < kPartLanes / 2; ++i) sum += low_[p][i];
      for (int32_t i = 0; i < kPartLanes / 2; ++i) sum += high_[p][i];
    }
    return sum;
  }

 private:
  Doubles low_[kParts]{}, high_[kParts]{};
};

// Loads kLanes values of feats that are adjacent.
YL_SIMD Floats load_lanes(const float *from) { return Floats::load(from); }
YL_SIMD Floats load_lanes(const Half *from) { YL_PARTWISE(Floats, load_half(from + p * kPartLanes)); }
YL_SIMD Floats load_lanes(const Bfloat16 *from) {
  typedef uint16_t Words __attribute__((vector_size(2 * kPartLanes)));
  YL_PARTWISE(Floats, [from] {
    Words words;
    std::memcpy(&words, from + p * kPartLanes, sizeof words);
    return reinterpret_cast<Register>(__builtin_convertvector(words, IntRegister) << 16);
  }());
}

// Stores kLanes adjacent values of a gradient.
YL_SIMD void store_lanes(float *to, Floats a) { a.store(to); }
YL_SIMD void store_lanes(Half *to, Floats a) { YL_EACH_PART(store_half(to + p * kPartLanes, a.part[p]);); }
// Rounds one by one, in integer operations: no instruction set that is used here has an instruction for it.
YL_SIMD void store_lanes(Bfloat16 *to, Floats a) {
  float values[kLanes];
  a.store(values);
  for (int32_t lane = 0; lane < kLanes; ++lane) to[lane] = Store<Bfloat16>::from(values[lane]);
}

// Loads the box logits of kLanes rows that are step values apart, so that each logit is in a Floats of its own. The
// second is for float32: each instruction set has its own way to transpose rows.
template <class Value> YL_SIMD Box<Floats> load_box_lanes(const Value *from, int64_t step) {
  float values[4][kLanes];
  for (int32_t lane = 0; lane < kLanes; ++lane, from += step)
    for (int32_t i = 0; i < 4; ++i) values[i][lane] = load(from[i]);
  return {Floats::load(values[0]), Floats::load(values[1]), Floats::load(values[2]), Floats::load(values[3])};
}
template <> YL_SIMD Box<Floats> load_box_lanes(const float *from, int64_t step) {
  Box<Floats> box;
  for (int32_t p = 0; p < kParts; ++p) {
    const Box<Register> part = load_boxes(from + p * kPartLanes * step, step);
    box.x.part[p] = part.x;
    box.y.part[p] = part.y;
    box.w.part[p] = part.w;
    box.h.part[p] = part.h;
  }
  return box;
}

// Hides what the compiler knows of a size from memset and memcpy: where gcc knows a bound, it takes the size for a
// small one and repeats a string instruction, which is slow.
YL_SIMD size_t of_any_size(int64_t bytes) {
  asm("" : "+r"(bytes));
  return static_cast<size_t>(bytes);
}

// Clears memory as memset does, whose string instruction takes longer for a few KiB.
YL_SIMD void zero_bytes(char *to, int64_t bytes) {
  const Register zero{};
  for (; bytes >= 256; to += 256, bytes -= 256) {
    asm("" : "+r"(to));  // or the compiler would make a memset of this
    for (size_t i = 0; i < 256; i += sizeof zero) std::memcpy(to + i, &zero, sizeof zero);
  }
  std::memset(to, 0, of_any_size(bytes));
}

}  // namespace YL_ISA
}  // namespace yl
