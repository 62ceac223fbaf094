// The registry of the tests, and their checks.
//
// A test is a behaviour: a sentence about the library that is its name, and that CTest runs by itself. To add one:
//
//   1. Write it into the test_*.cpp of its area. (For a new file, add its name to a list in CMakeLists.txt.)
//
//        TEST(rules, a_part_of_weight_zero_is_exactly_zero) {
//          for (const Device &device : devices()) {  // every device, instruction set and number of threads
//            Options options;
//            options.device = device;
//            options.with_rules().weight_xy = 0;
//            CHECK_EQUAL(run(golden("f_soft_targets"), options).layers[0].xy, 0, device.name);
//          }
//        }
//
//   2. Build, and run it: target/native/native/test/test_yololoss -k weight_zero
//      CTest knows it from then on as rules.a_part_of_weight_zero_is_exactly_zero; with _simt or _avx512 behind its
//      name it runs against the kernels on the host or the emulated AVX-512.
//
// The other headers of this folder hold what a test needs: case.h (what is computed), devices.h (where), run.h (one
// call and all its outputs), plan.h (a plan for many calls), compare.h (outputs against the reference device).
#pragma once

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "yololoss.h"

// ---- Tests ----------------------------------------------------------------------------------------------------------

// Labels say how a test differs from the others. A build under a sanitizer does not list the tests that it leaves out.
enum Label : unsigned {
  kPlain = 0,
  kLong = 1,                // CTest starts it early, so that it does not run alone at the end
  kNeedsCuda = 2,           // without a CUDA device it is skipped (exit status 77)
  kNotThreadSanitized = 4,  // it runs on one thread, where ThreadSanitizer has nothing to see, or it forks
  kNotSanitized = 8,        // it needs memory that the sanitizers do not grant
  kFull = 16,               // takes many seconds: `ctest --preset release` runs it, `ctest --preset dev` does not
};

#define TEST(area, behaviour) TEST_LABELLED(area, behaviour, kPlain)
#define TEST_LABELLED(area, behaviour, labels)                                                     \
  static void area##_##behaviour();                                                                \
  static const test::Registration area##_##behaviour##_is_registered{#area "." #behaviour, labels, \
                                                                     area##_##behaviour};          \
  static void area##_##behaviour()

// ---- Checks ---------------------------------------------------------------------------------------------------------
//
// A failed check prints its place, what it compared and where (device, case), and the test goes on. Each returns
// whether it held, and counts: a test that checked nothing has failed. The last argument, where, may be left out.

// Checks a condition.
#define CHECK(...) test::check(TEST_PLACE(#__VA_ARGS__), __VA_ARGS__)
// Checks that got == want, of numbers, text or statuses.
#define CHECK_EQUAL(...) test::check_equal(TEST_PLACE(#__VA_ARGS__), __VA_ARGS__)
// Checks that got is within a Tolerance of want: CHECK_NEAR(got, want, {1e-5, 1e-6}, where).
#define CHECK_NEAR(...) test::check_near(TEST_PLACE(#__VA_ARGS__), __VA_ARGS__)
// Checks that got <= most.
#define CHECK_AT_MOST(...) test::check_at_most(TEST_PLACE(#__VA_ARGS__), __VA_ARGS__)
// Checks that two numbers have the same bits, or are both NaN.
#define CHECK_IDENTICAL(...) test::check_identical(TEST_PLACE(#__VA_ARGS__), __VA_ARGS__)
// Checks each element of an array (std::vector): against one with the same bits, one within a Tolerance, or one value.
#define CHECK_SAME_BITS(...) test::check_same_bits(TEST_PLACE(#__VA_ARGS__), __VA_ARGS__)
#define CHECK_ALL_NEAR(...) test::check_all_near(TEST_PLACE(#__VA_ARGS__), __VA_ARGS__)
#define CHECK_ALL_EQUAL(...) test::check_all_equal(TEST_PLACE(#__VA_ARGS__), __VA_ARGS__)
// Checks that a status is YL_OK. Otherwise the sentence of yl_last_error() is printed.
#define CHECK_OK(...) test::check_ok(TEST_PLACE(#__VA_ARGS__), __VA_ARGS__)
// Checks that a call fails with a status, and that its sentence contains the words: CHECK_REFUSED(call, status, words).
#define CHECK_REFUSED(...) test::check_refused(TEST_PLACE(#__VA_ARGS__), __VA_ARGS__)

// A number may be relative * |want| + absolute away from want.
struct Tolerance {
  double relative = 0, absolute = 0;
};

// Returns whether got is within a tolerance of want. An infinity is near itself only, a NaN is near nothing.
inline bool near(double got, double want, const Tolerance &tolerance) {
  if (got == want) return true;
  return std::isfinite(want) && std::fabs(got - want) <= tolerance.relative * std::fabs(want) + tolerance.absolute;
}

// Returns whether the sentence of the last failure contains the words.
bool says(const char *words);

// Returns a number as text, with the digits that identify a float or a double.
std::string number(float value);
std::string number(double value);

// ---- What the macros use --------------------------------------------------------------------------------------------

#define TEST_PLACE(text) \
  test::Place { __FILE__, __LINE__, text }

namespace test {

struct Place {
  const char *file;
  int line;
  const char *text;  // of the arguments
};

struct Registration {
  Registration(const char *name, unsigned labels, void (*run)());
};

extern std::atomic<int64_t> checks, failures;

// Runs the tests that the command line requests, and returns the exit status.
int main(int count, char **arguments);

// Counts and prints a failed check; details says what was compared. Returns false.
bool failed(const Place &place, const std::string &details, const std::string &where);

inline std::string text_of(bool value) { return value ? "true" : "false"; }
inline std::string text_of(float value) { return number(value); }
inline std::string text_of(double value) { return number(value); }
inline std::string text_of(const std::string &value) { return "\"" + value + "\""; }
std::string text_of(const yl_parts &parts);
inline std::string text_of(yl_status value) { return yl_status_name(value); }
template <class T> std::string text_of(const T &value) {
  if constexpr (std::is_integral_v<T> || std::is_enum_v<T>)
    return std::to_string(static_cast<int64_t>(value));
  else
    return std::string("\"") + value + "\"";
}

template <class T> constexpr bool kIsWhole = std::is_integral_v<T> || std::is_enum_v<T>;

template <class A, class B> bool equal(const A &a, const B &b) {
  if constexpr (kIsWhole<A> && kIsWhole<B>)
    return static_cast<int64_t>(a) == static_cast<int64_t>(b);
  else if constexpr (std::is_convertible_v<A, const char *>)
    return std::string(a) == b;
  else
    return a == b;
}

template <class A, class B> std::string difference(const A &got, const B &want) {
  return "got " + text_of(got) + ", want " + text_of(want);
}

inline bool check(const Place &place, bool ok, const std::string &where = {}) {
  ++checks;
  return ok || failed(place, "", where);
}

template <class A, class B>
bool check_equal(const Place &place, const A &got, const B &want, const std::string &where = {}) {
  ++checks;
  return equal(got, want) || failed(place, difference(got, want), where);
}

bool not_near(const Place &place, double got, double want, const Tolerance &tolerance, const std::string &where);
inline bool check_near(const Place &place, double got, double want, const Tolerance &tolerance,
                       const std::string &where = {}) {
  ++checks;
  return near(got, want, tolerance) || not_near(place, got, want, tolerance, where);
}

inline bool check_at_most(const Place &place, double got, double most, const std::string &where = {}) {
  ++checks;
  return got <= most || failed(place, "got " + number(got) + ", at most " + number(most) + " is allowed", where);
}

template <class T> bool identical(T a, T b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}
template <class T> bool check_identical(const Place &place, T got, T want, const std::string &where = {}) {
  ++checks;
  return identical(got, want) || failed(place, difference(got, want), where);
}

// Compares two arrays element by element; one line says how many differ, and how the first of them does.
template <class Same, class Describe>
bool check_all(const Place &place, size_t got_size, size_t want_size, const Same &same, const Describe &describe,
               const std::string &where) {
  if (got_size != want_size)
    return ++checks,
           failed(place, "got " + std::to_string(got_size) + " elements, want " + std::to_string(want_size), where);
  size_t wrong = 0, first = 0;
  for (size_t i = got_size; i-- > 0;)
    if (!same(i)) ++wrong, first = i;
  checks += static_cast<int64_t>(got_size);
  return wrong == 0 || failed(place,
                              std::to_string(wrong) + " of " + std::to_string(got_size) +
                                  " elements differ, the first is [" + std::to_string(first) + "]: " + describe(first),
                              where);
}

template <class T>
bool check_same_bits(const Place &place, const std::vector<T> &got, const std::vector<T> &want,
                     const std::string &where = {}) {
  return check_all(
      place, got.size(), want.size(), [&](size_t i) { return std::memcmp(&got[i], &want[i], sizeof(T)) == 0; },
      [&](size_t i) { return difference(got[i], want[i]); }, where);
}

template <class A, class B>
bool check_all_near(const Place &place, const A &got, const B &want, const Tolerance &tolerance,
                    const std::string &where = {}) {
  return check_all(
      place, got.size(), want.size(),
      [&](size_t i) { return near(static_cast<double>(got[i]), static_cast<double>(want[i]), tolerance); },
      [&](size_t i) {
        return difference(got[i], want[i]) + ", tolerance " + number(tolerance.relative) + " relative and " +
               number(tolerance.absolute) + " absolute";
      },
      where);
}

template <class T>
bool check_all_equal(const Place &place, const std::vector<T> &got, double want, const std::string &where = {}) {
  return check_all(
      place, got.size(), got.size(), [&](size_t i) { return got[i] == static_cast<T>(want); },
      [&](size_t i) { return difference(got[i], static_cast<T>(want)); }, where);
}

bool check_ok(const Place &place, int32_t status, const std::string &where = {});
bool check_refused(const Place &place, int32_t got, int32_t want, const char *words, const std::string &where = {});

}  // namespace test
