// Checks that count.
#pragma once

#include <atomic>
#include <cstdio>
#include <string>

inline std::atomic<int> checks{0}, failures{0};

// A failed check is printed with its place and counted; the test goes on.
inline bool check_that(const char *file, int line, const char *text, bool ok, const std::string &where = "") {
  ++checks;
  if (!ok && ++failures <= 50) std::printf("%s:%d: FAILED %s: %s\n", file, line, text, where.c_str());
  return ok;
}
#define CHECK(...) check_that(__FILE__, __LINE__, #__VA_ARGS__, __VA_ARGS__)  // condition, and where it was tested

// The closing line and exit status of a test program. A test that checked nothing has failed.
inline int report(const char *name) {
  std::printf("%s: %d checks, %d failed\n", name, checks.load(), failures.load());
  return failures || !checks ? 1 : 0;
}

inline std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}
