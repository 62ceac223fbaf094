// Exact sums of rows: against another algorithm, in any order and grouping, at the ends of double's range.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "yololoss.h"

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
using Sum = std::vector<int64_t>;

// By name: other fields of yl_parts are 0.
yl_parts parts_of(const std::array<double, 5> &sums, const std::array<int64_t, 5> &counts) {
  yl_parts parts{};
  parts.xy = sums[0], parts.wh = sums[1], parts.class_ = sums[4];
  parts.confidence_object = sums[2], parts.confidence_background = sums[3];
  parts.objects = counts[0], parts.ignored = counts[1], parts.ignored_background = counts[2];
  parts.non_finite = counts[3], parts.found_inf = counts[4];
  return parts;
}

yl_parts row_of(double x) { return parts_of({x, 0, 0, 0, 0}, {1, 2, 3, 4, 5}); }

Sum sum_of(const std::vector<double> &values) {
  Sum sum(YL_SUM_WORDS(1));
  std::vector<yl_parts> rows;
  for (double x : values) rows.push_back(row_of(x));
  CHECK(yl_sum_add(sum.data(), 1, rows.data(), static_cast<int32_t>(rows.size()), nullptr) == YL_OK);
  return sum;
}

double value_of(const Sum &sum) {
  yl_parts layer;
  CHECK(yl_sum_result(sum.data(), 1, YL_NORMALISER_NONE, 1, nullptr, &layer) == YL_OK);
  return layer.xy;
}

bool same(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b)); }

// The correctly rounded sum by another way: non-overlapping parts (Shewchuk, Adaptive Precision Floating-Point
// Arithmetic, 1997), and a tie of the last addition decided by the part below.
double by_partials(const std::vector<double> &values) {
  std::vector<double> parts;  // smallest first
  for (double x : values) {
    std::vector<double> next;
    for (double y : parts) {
      if (std::fabs(x) < std::fabs(y)) std::swap(x, y);
      const double high = x + y, low = y - (high - x);
      if (low != 0) next.push_back(low);
      x = high;
    }
    next.push_back(x);
    parts = next;
  }
  double high = 0, low = 0;
  size_t n = parts.size();
  while (n > 0) {
    const double x = high, y = parts[--n];
    high = x + y;
    low = y - (high - x);
    if (low != 0) break;
  }
  if (n > 0 && ((low < 0 && parts[n - 1] < 0) || (low > 0 && parts[n - 1] > 0))) {
    const double twice = 2 * low, moved = high + twice;
    if (twice == moved - high) high = moved;
  }
  return high;
}

void against_another_algorithm() {
  std::mt19937_64 random(1);
  for (int round = 0; round < 3000; ++round) {
    std::vector<double> values(1 + random() % 60);
    const int spread = 1 + static_cast<int>(random() % 1900);  // of exponents
    for (double &x : values) {
      x = std::ldexp(static_cast<double>(static_cast<int64_t>(random())), static_cast<int>(random() % spread) - 1074);
      if (random() % 3 == 0 && &x != values.data()) x = -*(&x - 1);           // cancels
      if (random() % 5 == 0 && &x != values.data()) x = *(&x - 1) * 0x1p-53;  // near a tie
    }
    const Sum sum = sum_of(values);
    CHECK(same(value_of(sum), by_partials(values)), "round " + number(round));
    std::shuffle(values.begin(), values.end(), random);
    const auto middle = values.begin() + static_cast<int64_t>(random() % (values.size() + 1));
    Sum left = sum_of({values.begin(), middle});
    const Sum right = sum_of({middle, values.end()});
    Sum plain(left);  // as MPI_SUM does
    for (size_t i = 0; i < plain.size(); ++i) plain[i] += right[i];
    CHECK(same(value_of(plain), value_of(sum)), "word by word");
    CHECK(yl_sum_merge(left.data(), 1, right.data()) == YL_OK);
    CHECK(left == sum, "the same words in any order and grouping");
  }
}

void ends_of_the_range() {
  const double most = std::numeric_limits<double>::max(), least = std::numeric_limits<double>::denorm_min();
  CHECK(same(value_of(sum_of({})), 0.0));
  CHECK(same(value_of(sum_of({-0.0, -0.0})), 0.0), "a sum of zeros is +0");
  CHECK(same(value_of(sum_of({least, least, -least})), least));
  CHECK(same(value_of(sum_of({most, most, -most})), most), "no overflow on the way");
  CHECK(same(value_of(sum_of({most, most})), kInf));
  CHECK(same(value_of(sum_of({-most, -most})), -kInf));
  CHECK(same(value_of(sum_of({most, 0x1p969})), most), "below the half of the last place");
  CHECK(same(value_of(sum_of({most, 0x1p970})), kInf), "rounds up to 2^1024");
  CHECK(same(value_of(sum_of({most, 0x1p970, -least})), most), "and one bit of 2000 decides it");
  CHECK(same(value_of(sum_of({1, 0x1p-53})), 1.0), "a tie goes to even");
  CHECK(same(value_of(sum_of({1, 0x1p-53, least})), 1 + 0x1p-52));
  CHECK(same(value_of(sum_of({-1, -0x1p-53, -least})), -1 - 0x1p-52));
  CHECK(same(value_of(sum_of({1, kInf})), kInf));
  CHECK(same(value_of(sum_of({-kInf, most})), -kInf));
  CHECK(std::isnan(value_of(sum_of({kInf, -kInf}))));
  CHECK(std::isnan(value_of(sum_of({kInf, std::nan("")}))));
}

void many_merged_at_once() {  // far more additions of full digits than a word could take without carrying
  Sum all(YL_SUM_WORDS(1));
  const double full = std::nextafter(1.0, 0.0);
  Sum one = sum_of({full});
  double expected = full;
  for (int i = 0; i < 60; ++i) {
    CHECK(yl_sum_merge(one.data(), 1, one.data()) == YL_OK);
    expected *= 2;
  }
  CHECK(same(value_of(one), expected), "2^60 of them");
  yl_summary summary;
  CHECK(yl_sum_result(one.data(), 1, YL_NORMALISER_BATCH, 1, &summary, nullptr) == YL_OK);
  CHECK(summary.normaliser == 0x1p60 && same(summary.total, full) && summary.objects == int64_t(1) << 60);
}

void what_a_result_holds() {
  const yl_parts rows[] = {parts_of({1, 2, 3, 4, 5}, {1, 2, 3, 4, 5}),
                           parts_of({10, 20, 30, 40, 50}, {10, 20, 30, 40, 50}),
                           parts_of({100, 200, 300, 400, 500}, {1, 1, 1, 1, 1}),
                           parts_of({0.5, 0, 0, 0, 0}, {0, 0, 0, 0, 0})};
  const yl_box_counts boxes = {9, 8, 7, 6, 5};
  Sum sum(YL_SUM_WORDS(2));
  CHECK(yl_sum_add(sum.data(), 2, rows, 2, &boxes) == YL_OK);
  CHECK(yl_sum_add(sum.data(), 2, nullptr, 0, &boxes) == YL_OK);
  yl_summary summary;
  yl_parts layers[2];
  CHECK(yl_sum_result(sum.data(), 2, YL_NORMALISER_BATCH, 1, &summary, layers) == YL_OK);
  CHECK(summary.total == 1665.5 / 2 && summary.normaliser == 2);
  CHECK(layers[0].xy == 50.5 && layers[1].xy == 5.25 && layers[0].class_ == 252.5 && layers[1].wh == 10);
  CHECK(summary.objects == 12 && summary.ignored == 23 && summary.ignored_background == 34 &&
        summary.non_finite == 45 && summary.found_inf == 56);
  CHECK(layers[0].objects == 2 && layers[0].found_inf == 6 && layers[1].objects == 10);
  CHECK(summary.boxes.used == 18 && summary.boxes.skipped == 16 && summary.boxes.clamped == 14 &&
        summary.boxes.dropped == 12 && summary.boxes.collided == 10);
  CHECK(yl_sum_result(sum.data(), 2, YL_NORMALISER_OBJECTS, 1, &summary, nullptr) == YL_OK && summary.normaliser == 12);
  CHECK(yl_sum_result(sum.data(), 2, YL_NORMALISER_VALUE, 4, &summary, nullptr) == YL_OK &&
        summary.total == 1665.5 / 4);
}

void what_is_refused() {
  Sum sum(YL_SUM_WORDS(1)), before;
  sum[0] = 7;
  before = sum;
  const yl_parts row = row_of(1);
  auto *const odd = reinterpret_cast<int64_t *>(reinterpret_cast<char *>(sum.data()) + 4);
  const auto refused = [&](yl_status status, const char *words) {
    CHECK(status == YL_INVALID_ARGUMENT && std::strstr(yl_last_error(), words) && sum == before, yl_last_error());
  };
  const std::string missing = "sum is NULL, " + std::to_string(8 * YL_SUM_WORDS(1)) + " bytes are expected";
  refused(yl_sum_add(nullptr, 1, &row, 1, nullptr), missing.c_str());
  refused(yl_sum_add(sum.data(), 1, nullptr, 1, nullptr), "rows is NULL");
  refused(yl_sum_add(sum.data(), 0, &row, 1, nullptr), "layer_count is 0");
  refused(yl_sum_add(sum.data(), 4097, &row, 1, nullptr), "layer_count is 4097");
  refused(yl_sum_add(sum.data(), 1, &row, -1, nullptr), "batch is -1");
  refused(yl_sum_add(odd, 1, &row, 1, nullptr), "not aligned to 8 bytes");
  refused(yl_sum_merge(sum.data(), 1, nullptr), "other is NULL");
  refused(yl_sum_result(sum.data(), 1, 4, 1, nullptr, nullptr), "normaliser is 4");
  refused(yl_sum_result(sum.data(), 1, YL_NORMALISER_VALUE, 0, nullptr, nullptr), "normaliser_value is 0");
}

void any_words_do_no_harm() {
  std::mt19937_64 random(2);
  for (int round = 0; round < 2000; ++round) {
    Sum a(YL_SUM_WORDS(1)), b(YL_SUM_WORDS(1));
    for (int64_t &word : a) word = static_cast<int64_t>(random());
    for (int64_t &word : b) word = random() % 2 ? std::numeric_limits<int64_t>::min() : -1;
    const yl_parts row = row_of(-kInf);
    yl_summary summary;
    CHECK(yl_sum_merge(a.data(), 1, b.data()) == YL_OK && yl_sum_add(b.data(), 1, &row, 1, nullptr) == YL_OK &&
          yl_sum_result(a.data(), 1, YL_NORMALISER_OBJECTS, 1, &summary, nullptr) == YL_OK &&
          yl_sum_result(b.data(), 1, YL_NORMALISER_BATCH, 1, &summary, nullptr) == YL_OK);
  }
}

}  // namespace

int main() {
  against_another_algorithm();
  ends_of_the_range();
  many_merged_at_once();
  what_a_result_holds();
  what_is_refused();
  any_words_do_no_harm();
  return report("exact");
}
