// Adds doubles exactly, as digits, and rounds such a sum once. exact_sum.h explains the format. Additions are integer
// additions, so their order and grouping change no bit. Nothing here depends on the floating-point unit until value_of
// converts 63 bits to a double: one rounding, by the hardware, to nearest even.
//
// A finite double is below 2^1024 and a multiple of 2^-1074, so it takes the bits 0 to 2097 of a sum. 68 digits have
// 2176 bits. The 78 bits above hold the carries of more additions than any training makes, and the sign.
#include "exact_sum.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace yl {

namespace {

// Words behind the digits: the numbers of values that are not finite.
enum { kNaN = kDigits, kInfinity, kMinusInfinity };
constexpr int32_t kLeastExponent = -1074;  // of the lowest bit of a double, and so of digit 0
// A word takes 2^31 additions of a digit below 2^32 before it can overflow. sum_add adds at most one digit to a word
// for each image, so carrying every 2^24 images leaves room for what was in the words before: up to 2^30 merged sums.
constexpr int32_t kRowsBeforeCarry = 1 << 24;

// Adds two words. Additions wrap on purpose: a buffer that this library did not write yields a meaningless sum, but
// never undefined behaviour.
int64_t plus(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); }

// Adds a double to the words of a sum. The mantissa has 53 bits and can start at any bit of a digit, so it touches
// three digits. A subnormal has no implicit leading bit, and the exponent of the smallest normal numbers.
void add_double(int64_t *words, double x) {
  if (!std::isfinite(x)) {
    int64_t &count = words[std::isnan(x) ? kNaN : x > 0 ? kInfinity : kMinusInfinity];
    count = plus(count, 1);
    return;
  }
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const auto exponent = static_cast<int32_t>(bits >> 52 & 0x7ff);
  const uint64_t fraction = bits & ((uint64_t(1) << 52) - 1);
  const uint64_t mantissa = exponent ? fraction | uint64_t(1) << 52 : fraction;
  const int32_t place = exponent ? exponent - 1 : 0, shift = place % 32;  // of the mantissa's last bit
  // The mantissa, shifted to its place within a digit, as 128 bits in two words; a shift by 64 would be undefined.
  const uint64_t low = mantissa << shift, high = shift ? mantissa >> (64 - shift) : 0;
  const uint64_t digits[] = {low & 0xffffffff, low >> 32, high};
  for (int32_t i = 0; i < 3; ++i) {
    const auto digit = static_cast<int64_t>(digits[i]);
    words[place / 32 + i] = plus(words[place / 32 + i], bits >> 63 ? -digit : digit);
  }
}

// Moves carries up, until every digit but the last is in 0..2^32-1. Then equal sums are equal words, and words have
// room for further additions. For example, a word of 3*2^32 + 5 becomes 5 and adds 3 to the next; a word of -1 becomes
// 2^32-1 and adds -1 to the next, since the shift of a negative word is arithmetic and rounds down. The last digit
// keeps the sign.
void carry(int64_t *words) {
  for (int32_t i = 0; i + 1 < kDigits; ++i) {
    words[i + 1] = plus(words[i + 1], words[i] >> 32);
    words[i] &= 0xffffffff;
  }
}

// The words of one sum, by value.
using Exact = std::array<int64_t, kExactWords>;

// Returns the double nearest to a sum, ties to even. A NaN, or both infinities, make it NaN; one infinity wins over all
// finite numbers.
double value_of(Exact words) {
  const bool up = words[kInfinity], down = words[kMinusInfinity];
  if (words[kNaN] || (up && down)) return std::numeric_limits<double>::quiet_NaN();
  if (up || down) return up ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
  // After carry all digits but the last are >= 0, so the last has the sign of the sum. The magnitude of a negative sum
  // is its words negated and carried again.
  carry(words.data());
  const bool negative = words[kDigits - 1] < 0;
  if (negative) {
    for (int32_t i = 0; i < kDigits; ++i) words[i] = static_cast<int64_t>(0 - static_cast<uint64_t>(words[i]));
    carry(words.data());
  }
  int32_t top = kDigits - 1;
  while (top > 0 && !words[top]) --top;
  if (!words[top]) return 0;
  // The window is the leading 63 bits of the magnitude, with its last bit set if any bit below it is set (a sticky
  // bit). Rounding to 53 bits needs the next bit and whether anything follows it, so 55 bits would do: the conversion
  // of the window to double rounds as if it saw all bits. ldexp does not round again: digit 0 starts at 2^-1074, the
  // lowest bit that a double has.
  const int32_t length = 32 * top + 64 - __builtin_clzll(static_cast<uint64_t>(words[top]));
  const int32_t place = length > 63 ? length - 63 : 0, first = place / 32, cut = place % 32;
  int64_t window = words[first] >> cut;
  for (int32_t i = first + 1; i <= top; ++i) window |= words[i] << (32 * i - place);
  bool more = words[first] & ((int64_t(1) << cut) - 1);
  for (int32_t i = 0; i < first; ++i) more |= words[i] != 0;
  const double value = std::ldexp(static_cast<double>(window | more), place + kLeastExponent);
  return negative ? -value : value;
}

// Returns the words of a layer, which begin with its counts. Word is int64_t or const int64_t.
template <class Word> Word *counts_of(Word *sum, int32_t l) { return sum + kHeadWords + int64_t(l) * kLayerWords; }

// Returns the kExactWords of one of the sums of a layer.
template <class Word> Word *sum_of(Word *sum, int32_t l, int32_t field) {
  return counts_of(sum, l) + kCounts + field * kExactWords;
}

// Carries every sum of every layer. Counts are plain integers and need no carry.
void carry_layers(int64_t *sum, int32_t layer_count) {
  for (int32_t l = 0; l < layer_count; ++l)
    for (int32_t field = 0; field < kSums; ++field) carry(sum_of(sum, l, field));
}

// Fails unless a sum is an aligned array; layer_count is checked first, since its size follows from it.
void check_sum(const char *name, const void *sum, int32_t layer_count) {
  check_between("layer_count", layer_count, 1, kMostLayers);
  check_array(name, sum, YL_SUM_WORDS(int64_t(layer_count)) * int64_t(sizeof(int64_t)));
}

}  // namespace

// Adds images one by one: for each layer its counts as integers, its sums as digits. All arguments are checked before
// the first word is changed.
void sum_add(int64_t *sum, int32_t layer_count, const yl_parts *rows, int32_t batch, const yl_box_counts *boxes) {
  check_sum("sum", sum, layer_count);
  check_between("batch", batch, 0, INT32_MAX);
  if (batch > 0) check_array("rows", rows, int64_t(batch) * layer_count * int64_t(sizeof(yl_parts)));
  sum[0] = plus(sum[0], batch);
  if (boxes) {
    int64_t *word = sum;
#define YL_ADD_WORD(owner, type, field, offset) ++word, *word = plus(*word, boxes->field);
    YL_COUNTS_OF_yl_box_counts(YL_ADD_WORD)
#undef YL_ADD_WORD
  }
  for (int32_t image = 0; image < batch; ++image) {
    for (int32_t l = 0; l < layer_count; ++l) {
      const yl_parts &row = rows[int64_t(image) * layer_count + l];
      int64_t *counts = counts_of(sum, l);
      for (int32_t i = 0; i < kCounts; ++i) counts[i] = plus(counts[i], field_of<int64_t>(row, kSums + i));
      for (int32_t field = 0; field < kSums; ++field) add_double(sum_of(sum, l, field), field_of<double>(row, field));
    }
    if (image % kRowsBeforeCarry == kRowsBeforeCarry - 1) carry_layers(sum, layer_count);
  }
  carry_layers(sum, layer_count);
}

// Adds word to word. other may be sum itself: each word is read before it is written, and carrying comes afterwards.
void sum_merge(int64_t *sum, int32_t layer_count, const int64_t *other) {
  check_sum("sum", sum, layer_count);
  check_sum("other", other, layer_count);
  for (int64_t i = 0; i < YL_SUM_WORDS(int64_t(layer_count)); ++i) sum[i] = plus(sum[i], other[i]);
  carry_layers(sum, layer_count);
}

// Rounds the sum of each layer, and of all layers together. The total is rounded once from the exact sum of all parts,
// not added up from rounded parts. The sum itself is not changed, so digits are carried in copies.
yl_summary sum_result(const int64_t *sum, int32_t layer_count, int32_t normaliser, double normaliser_value,
                      yl_parts *layers) {
  check_sum("sum", sum, layer_count);
  check_normaliser(normaliser, normaliser_value);
  yl_summary summary{};
  const int64_t *word = sum;
#define YL_READ_WORD(owner, type, field, offset) summary.boxes.field = *++word;
  YL_COUNTS_OF_yl_box_counts(YL_READ_WORD)
#undef YL_READ_WORD
  yl_parts counts{};
  for (int32_t l = 0; l < layer_count; ++l)
    for (int32_t i = 0; i < kCounts; ++i) {
      int64_t &count = field_of<int64_t>(counts, kSums + i);
      count = plus(count, counts_of(sum, l)[i]);
    }
#define YL_COPY(owner, type, field, offset) summary.field = counts.field;
  YL_COUNTS_OF_yl_parts(YL_COPY)
#undef YL_COPY
  summary.normaliser = normaliser == YL_NORMALISER_BATCH
                           ? static_cast<double>(std::max<int64_t>(sum[0], 1))
                           : normaliser_of(normaliser, normaliser_value, 1, counts.objects);
  Exact total{};
  for (int32_t l = 0; l < layer_count; ++l) {
    for (int32_t field = 0; field < kSums; ++field) {
      Exact part;
      std::copy_n(sum_of(sum, l, field), kExactWords, part.begin());
      // Other programs may have added words (MPI_SUM), so carries may be pending. Once carried, the words of all layers
      // and parts can be added without overflow: at most 5 * 4096 digits below 2^32.
      carry(part.data());
      for (int32_t i = 0; i < kExactWords; ++i) total[i] = plus(total[i], part[i]);
      if (!layers) continue;
      field_of<double>(layers[l], field) = value_of(part) / summary.normaliser;
    }
    for (int32_t i = 0; layers && i < kCounts; ++i) field_of<int64_t>(layers[l], kSums + i) = counts_of(sum, l)[i];
  }
  summary.total = value_of(total) / summary.normaliser;
  return summary;
}

}  // namespace yl
