// Exact sums of rows: against another algorithm, in any order and grouping, at the ends of double's range.
#include <algorithm>
#include <array>
#include <limits>
#include <random>

#include "test.h"

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
using Sum = std::vector<int64_t>;

// Fills the fields by name; others of yl_parts are 0.
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
  CHECK_OK(yl_sum_add(sum.data(), 1, rows.data(), static_cast<int32_t>(rows.size()), nullptr));
  return sum;
}

double value_of(const Sum &sum) {
  yl_parts layer;
  CHECK_OK(yl_sum_result(sum.data(), 1, YL_NORMALISER_NONE, 1, nullptr, &layer));
  return layer.xy;
}

// Returns the correctly rounded sum, by another algorithm: non-overlapping parts (Shewchuk, Adaptive Precision
// Floating-Point Arithmetic, 1997), and a tie of the last addition decided by the part below.
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

}  // namespace

TEST_LABELLED(exact, sums_are_those_of_another_algorithm_in_any_order_and_grouping, kNotThreadSanitized) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 3000; ++round) {
    const std::string where = "round " + std::to_string(round);
    std::vector<double> values(1 + random() % 60);
    const int spread = 1 + static_cast<int>(random() % 1900);  // of exponents
    for (double &x : values) {
      x = std::ldexp(static_cast<double>(static_cast<int64_t>(random())), static_cast<int>(random() % spread) - 1074);
      if (random() % 3 == 0 && &x != values.data()) x = -*(&x - 1);           // cancels
      if (random() % 5 == 0 && &x != values.data()) x = *(&x - 1) * 0x1p-53;  // near a tie
    }
    const Sum sum = sum_of(values);
    CHECK_IDENTICAL(value_of(sum), by_partials(values), where);
    std::shuffle(values.begin(), values.end(), random);
    const auto middle = values.begin() + static_cast<int64_t>(random() % (values.size() + 1));
    Sum left = sum_of({values.begin(), middle});
    const Sum right = sum_of({middle, values.end()});
    Sum plain(left);  // as MPI_SUM does
    for (size_t i = 0; i < plain.size(); ++i) plain[i] += right[i];
    CHECK_IDENTICAL(value_of(plain), value_of(sum), where + ", word by word");
    CHECK_OK(yl_sum_merge(left.data(), 1, right.data()));
    CHECK_SAME_BITS(left, sum, where);
  }
}

TEST_LABELLED(exact, sums_at_the_ends_of_the_range_of_double, kNotThreadSanitized) {
  const double most = std::numeric_limits<double>::max(), least = std::numeric_limits<double>::denorm_min();
  const auto expect = [](const std::vector<double> &values, double want, const char *why) {
    CHECK_IDENTICAL(value_of(sum_of(values)), want, why);
  };
  expect({}, 0.0, "no values");
  expect({-0.0, -0.0}, 0.0, "a sum of zeros is +0");
  expect({least, least, -least}, least, "the least number");
  expect({most, most, -most}, most, "no overflow in between");
  expect({most, most}, kInf, "an overflow");
  expect({-most, -most}, -kInf, "an overflow");
  expect({most, 0x1p969}, most, "below the half of the last digit");
  expect({most, 0x1p970}, kInf, "rounds up to 2^1024");
  expect({most, 0x1p970, -least}, most, "one bit of 2000 decides it");
  expect({1, 0x1p-53}, 1.0, "a tie goes to even");
  expect({1, 0x1p-53, least}, 1 + 0x1p-52, "just above a tie");
  expect({-1, -0x1p-53, -least}, -1 - 0x1p-52, "just below a tie");
  expect({1, kInf}, kInf, "an infinity");
  expect({-kInf, most}, -kInf, "an infinity");
  expect({kInf, -kInf}, std::nan(""), "both infinities");
  expect({kInf, std::nan("")}, std::nan(""), "a NaN");
}

// Far more additions of full digits than a word could take without carrying.
TEST_LABELLED(exact, sums_merged_sixty_times_over_do_not_overflow, kNotThreadSanitized) {
  const double full = std::nextafter(1.0, 0.0);
  Sum one = sum_of({full});
  for (int i = 0; i < 60; ++i) CHECK_OK(yl_sum_merge(one.data(), 1, one.data()));
  CHECK_IDENTICAL(value_of(one), std::ldexp(full, 60));
  yl_summary summary;
  CHECK_OK(yl_sum_result(one.data(), 1, YL_NORMALISER_BATCH, 1, &summary, nullptr));
  CHECK_EQUAL(summary.normaliser, 0x1p60);
  CHECK_IDENTICAL(summary.total, full);
  CHECK_EQUAL(summary.objects, int64_t(1) << 60);
}

TEST_LABELLED(exact, a_result_holds_parts_counts_and_boxes, kNotThreadSanitized) {
  const yl_parts rows[] = {
      parts_of({1, 2, 3, 4, 5}, {1, 2, 3, 4, 5}), parts_of({10, 20, 30, 40, 50}, {10, 20, 30, 40, 50}),
      parts_of({100, 200, 300, 400, 500}, {1, 1, 1, 1, 1}), parts_of({0.5, 0, 0, 0, 0}, {0, 0, 0, 0, 0})};
  const yl_box_counts boxes = {9, 8, 7, 6, 5};
  Sum sum(YL_SUM_WORDS(2));
  CHECK_OK(yl_sum_add(sum.data(), 2, rows, 2, &boxes));
  CHECK_OK(yl_sum_add(sum.data(), 2, nullptr, 0, &boxes));
  yl_summary summary;
  yl_parts layers[2];
  CHECK_OK(yl_sum_result(sum.data(), 2, YL_NORMALISER_BATCH, 1, &summary, layers));
  CHECK_EQUAL(summary.total, 1665.5 / 2);
  CHECK_EQUAL(summary.normaliser, 2);
  CHECK_EQUAL(layers[0].xy, 50.5);
  CHECK_EQUAL(layers[1].xy, 5.25);
  CHECK_EQUAL(layers[0].class_, 252.5);
  CHECK_EQUAL(layers[1].wh, 10);
  CHECK_EQUAL(summary.objects, 12);
  CHECK_EQUAL(summary.ignored, 23);
  CHECK_EQUAL(summary.ignored_background, 34);
  CHECK_EQUAL(summary.non_finite, 45);
  CHECK_EQUAL(summary.found_inf, 56);
  CHECK_EQUAL(layers[0].objects, 2);
  CHECK_EQUAL(layers[0].found_inf, 6);
  CHECK_EQUAL(layers[1].objects, 10);
  CHECK_EQUAL(summary.boxes.used, 18);
  CHECK_EQUAL(summary.boxes.skipped, 16);
  CHECK_EQUAL(summary.boxes.clamped, 14);
  CHECK_EQUAL(summary.boxes.dropped, 12);
  CHECK_EQUAL(summary.boxes.collided, 10);
  CHECK_OK(yl_sum_result(sum.data(), 2, YL_NORMALISER_OBJECTS, 1, &summary, nullptr));
  CHECK_EQUAL(summary.normaliser, 12);
  CHECK_OK(yl_sum_result(sum.data(), 2, YL_NORMALISER_VALUE, 4, &summary, nullptr));
  CHECK_EQUAL(summary.total, 1665.5 / 4);
}

TEST_LABELLED(exact, arguments_that_are_wrong_are_refused, kNotThreadSanitized) {
  Sum sum(YL_SUM_WORDS(1)), before;
  sum[0] = 7;
  before = sum;
  const yl_parts row = row_of(1);
  auto *const odd = reinterpret_cast<int64_t *>(reinterpret_cast<char *>(sum.data()) + 4);
  const auto refused = [&](yl_status status, const char *words) {
    CHECK_REFUSED(status, YL_INVALID_ARGUMENT, words);
    CHECK_SAME_BITS(sum, before, words);
  };
  refused(yl_sum_add(nullptr, 1, &row, 1, nullptr), "sum is NULL, 2928 bytes are expected");
  refused(yl_sum_add(sum.data(), 1, nullptr, 1, nullptr), "rows is NULL");
  refused(yl_sum_add(sum.data(), 0, &row, 1, nullptr), "layer_count is 0");
  refused(yl_sum_add(sum.data(), 4097, &row, 1, nullptr), "layer_count is 4097");
  refused(yl_sum_add(sum.data(), 1, &row, -1, nullptr), "batch is -1");
  refused(yl_sum_add(odd, 1, &row, 1, nullptr), "not aligned to 8 bytes");
  refused(yl_sum_merge(sum.data(), 1, nullptr), "other is NULL");
  refused(yl_sum_result(sum.data(), 1, 4, 1, nullptr, nullptr), "normaliser is 4");
  refused(yl_sum_result(sum.data(), 1, YL_NORMALISER_VALUE, 0, nullptr, nullptr), "normaliser_value is 0");
}

TEST_LABELLED(exact, words_of_any_value_do_no_harm, kNotThreadSanitized) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 2000; ++round) {
    Sum a(YL_SUM_WORDS(1)), b(YL_SUM_WORDS(1));
    for (int64_t &word : a) word = static_cast<int64_t>(random());
    for (int64_t &word : b) word = random() % 2 ? std::numeric_limits<int64_t>::min() : -1;
    const yl_parts row = row_of(-kInf);
    yl_summary summary;
    CHECK_OK(yl_sum_merge(a.data(), 1, b.data()));
    CHECK_OK(yl_sum_add(b.data(), 1, &row, 1, nullptr));
    CHECK_OK(yl_sum_result(a.data(), 1, YL_NORMALISER_OBJECTS, 1, &summary, nullptr));
    CHECK_OK(yl_sum_result(b.data(), 1, YL_NORMALISER_BATCH, 1, &summary, nullptr));
  }
}
