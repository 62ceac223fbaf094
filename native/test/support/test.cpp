// The counters and messages of the checks, and the command line of the tests. See test.h.
#include "test.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <mutex>

#include "abi.h"
#include "case.h"
#include "devices.h"

namespace test {

std::atomic<int64_t> checks{0}, failures{0};

namespace {

constexpr int kSkipped = 77;           // the exit status that CTest shows as skipped
constexpr int64_t kMostMessages = 20;  // of a test; its failures are counted nevertheless

struct Behaviour {
  std::string name;
  unsigned labels;
  void (*run)();
};

// A function, since the registrations of other files run before this file's own initialisation.
std::vector<Behaviour> &behaviours() {
  static std::vector<Behaviour> all;
  return all;
}

const Behaviour *running = nullptr;
int64_t failures_before = 0;  // the running test
std::mutex printing;

bool is_left_out(unsigned labels) {
  return (kSanitizer != Sanitizer::kNone && (labels & kNotSanitized)) ||
         (kSanitizer == Sanitizer::kThread && (labels & kNotThreadSanitized));
}

// Runs a test and prints its line. Returns its exit status.
int run(const Behaviour &behaviour) {
  if ((behaviour.labels & kNeedsCuda) && !has_cuda()) {
    std::printf("%s: skipped: no CUDA device\n", behaviour.name.c_str());
    return kSkipped;
  }
  running = &behaviour;
  failures_before = failures;
  const int64_t checks_before = checks;
  const auto start = std::chrono::steady_clock::now();
  try {
    behaviour.run();
  } catch (const std::exception &e) {
    failed(TEST_PLACE(behaviour.name.c_str()), std::string("an exception ended the test: ") + e.what(), "");
  }
  if (checks == checks_before) failed(TEST_PLACE(behaviour.name.c_str()), "the test checked nothing", "");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const int64_t wrong = failures - failures_before;
  std::printf("%s: %lld checks, %lld failed, %.2f s\n", behaviour.name.c_str(),
              static_cast<long long>(checks - checks_before), static_cast<long long>(wrong), seconds.count());
  std::fflush(stdout);
  return wrong ? 1 : 0;
}

int usage(const char *program) {
  std::printf(
      "%s [NAME...] [-k WORDS]... [--case WORDS] [--device WORDS] [--list]\n"
      "Runs the tests of these names (area.behaviour), and those whose name contains any of the words; without either "
      "all.\n"
      "  --case    uses only the golden cases whose name contains the words\n"
      "  --device  uses only the devices whose name contains the words, for example avx2 or cuda\n"
      "  --list    prints each test with its labels in place of running it\n",
      program);
  return 2;
}

}  // namespace

Registration::Registration(const char *name, unsigned labels, void (*run)()) {
  if (!is_left_out(labels)) behaviours().push_back({name, labels, run});
}

bool failed(const Place &place, const std::string &details, const std::string &where) {
  const std::lock_guard<std::mutex> lock(printing);
  const int64_t count = ++failures - failures_before;
  if (count > kMostMessages) return false;
  std::printf("%s:%d: FAILED %s: %s\n", place.file, place.line, running ? running->name.c_str() : "", place.text);
  if (!details.empty()) std::printf("  %s\n", details.c_str());
  if (!where.empty()) std::printf("  at %s\n", where.c_str());
  if (count == kMostMessages) std::printf("  (further failures of this test are counted only)\n");
  return false;
}

bool not_near(const Place &place, double got, double want, const Tolerance &tolerance, const std::string &where) {
  return failed(place,
                difference(got, want) + ": off by " + number(static_cast<float>(std::fabs(got - want))) +
                    ", tolerance " + number(tolerance.relative) + " relative and " + number(tolerance.absolute) +
                    " absolute",
                where);
}

bool check_ok(const Place &place, int32_t status, const std::string &where) {
  ++checks;
  return status == YL_OK || failed(place, std::string(yl_status_name(status)) + ": " + yl_last_error(), where);
}

bool check_refused(const Place &place, int32_t got, int32_t want, const char *words, const std::string &where) {
  ++checks;
  if (got == want && (got == YL_OK || says(words))) return true;
  return failed(place,
                std::string("got ") + yl_status_name(got) + ", want " + yl_status_name(want) + "; the sentence \"" +
                    yl_last_error() + "\" should contain \"" + words + "\"",
                where);
}

std::string text_of(const yl_parts &parts) {
  std::string text;
#define ADD_FIELD(owner, type, field, offset) text += (text.empty() ? "{" : ", ") + (#field " " + text_of(parts.field));
  YL_FIELDS_OF_yl_parts(ADD_FIELD)
#undef ADD_FIELD
  return text + "}";
}

}  // namespace test

bool says(const char *words) { return std::strstr(yl_last_error(), words) != nullptr; }

std::string number(float value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
  return text;
}
std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", value);
  const double shorter = std::strtod(text, nullptr);
  for (int digits = 1; digits < 17; ++digits) {  // the shortest that reads back as the same
    char other[40];
    std::snprintf(other, sizeof other, "%.*g", digits, value);
    if (std::strtod(other, nullptr) == shorter) return other;
  }
  return text;
}

int test::main(int count, char **arguments) {
  std::vector<std::string> names, words;
  bool list = false;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--list") {
      list = true;
    } else if (argument == "-k" || argument == "--case" || argument == "--device") {
      if (i + 1 == count) return usage(arguments[0]);
      const char *const value = arguments[++i];
      if (argument == "-k") words.push_back(value);
      if (argument == "--case") use_golden_cases(value);
      if (argument == "--device") use_devices(value);
    } else if (argument[0] == '-') {
      return usage(arguments[0]);
    } else {
      names.push_back(argument);
    }
  }
  int status = 0;
  size_t found = 0, run = 0;
  for (const Behaviour &behaviour : behaviours()) {
    const auto contains = [&](const std::string &part) { return behaviour.name.find(part) != std::string::npos; };
    const bool chosen = (names.empty() && words.empty()) ||
                        std::find(names.begin(), names.end(), behaviour.name) != names.end() ||
                        std::any_of(words.begin(), words.end(), contains);
    if (!chosen) continue;
    ++found;
    if (list) {
      std::printf("%s%s%s%s\n", behaviour.name.c_str(), behaviour.labels & kLong ? " long" : "",
                  behaviour.labels & kFull ? " full" : "", behaviour.labels & kNeedsCuda ? " cuda" : "");
      continue;
    }
    const int result = test::run(behaviour);
    if (result != test::kSkipped) ++run;
    if (result != 0 && result != test::kSkipped) status = 1;
  }
  if (found == 0) {
    std::printf("no test has this name; --list prints them all\n");
    return 2;
  }
  if (list) return 0;
  if (run == 0) return test::kSkipped;
  if (run > 1)
    std::printf("%zu tests: %lld checks, %lld failed\n", run, static_cast<long long>(test::checks),
                static_cast<long long>(test::failures));
  return status;
}
