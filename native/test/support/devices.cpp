// The devices of this machine, found once. See devices.h.
#include "devices.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "plan.h"
#include "test.h"

namespace {

std::string device_words;

std::vector<const char *> usable_isas() {
  std::vector<const char *> usable, wanted = {"baseline"};
#if defined(__x86_64__)
  wanted = {"avx512", "avx2", "baseline"};
#endif
  if (is_one_isa_requested()) wanted = {std::getenv("YOLOLOSS_TEST_ISA")};
  for (const char *isa : wanted) {
    Config c;
    c.config.device = YL_DEVICE_CPU;
    set_environment("YOLOLOSS_ISA", isa);
    CHECK_OK(c.create());
    const bool has = std::strstr(yl_device_why(c.plan), isa);
    if (has)
      usable.push_back(isa);
    else
      std::fprintf(stderr, "skipped: this processor has no %s\n", isa);
    if (is_one_isa_requested()) CHECK(has, yl_device_why(c.plan));
  }
  set_environment("YOLOLOSS_ISA", nullptr);
  return usable;
}

std::vector<Device> usable_devices() {
  std::vector<Device> all = {reference_device()};
  for (const char *isa : isas())
    for (const int32_t threads : thread_counts()) all.push_back(cpu_device(threads, isa));
  if (has_cuda()) {
    all.push_back(cuda_device(Way::kHost, 2));
    if (kSanitizer == Sanitizer::kNone)
      all.push_back(cuda_device(Way::kDevice));  // else two of the three ways: they are slow
    all.push_back(cuda_device(Way::kAsync));
  }
  std::vector<Device> wanted;
  for (const Device &device : all)
    if (device.name.find(device_words) != std::string::npos) wanted.push_back(device);
  return wanted;
}

}  // namespace

Device reference_device() { return {"reference", YL_DEVICE_REFERENCE, 0, Way::kHost, nullptr}; }

Device cpu_device(int32_t threads, const char *isa) {
  const std::string kind = isa ? std::string("cpu ") + isa : "cpu";
  return {kind + ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads"), YL_DEVICE_CPU, threads,
          Way::kHost, isa};
}

Device cuda_device(Way way, int32_t threads) {
  const char *const memory = way == Way::kHost ? "host memory" : way == Way::kDevice ? "device memory" : "enqueued";
  return {std::string("cuda, ") + memory, YL_DEVICE_CUDA, threads, way, nullptr};
}

const std::vector<Device> &devices() {
  static const std::vector<Device> all = usable_devices();
  return all;
}

void use_devices(const std::string &words) { device_words = words; }

bool same_kind(const Device &a, const Device &b) { return a.kind == b.kind && a.isa == b.isa; }

bool is_one_isa_requested() { return std::getenv("YOLOLOSS_TEST_ISA") != nullptr; }

const std::vector<const char *> &isas() {
  static const std::vector<const char *> usable = usable_isas();
  return usable;
}

const std::vector<int32_t> &thread_counts() {
  // That the bits do not depend on it is tested without a sanitizer, under which all is slow.
  static const std::vector<int32_t> counts =
      kSanitizer == Sanitizer::kNone ? std::vector<int32_t>{1, 2, 3, 8} : std::vector<int32_t>{3};
  return counts;
}

bool has_cuda() {
  static const bool usable = [] {
    const bool ok = yl_device_check(YL_DEVICE_CUDA, 0) == YL_OK;
    if (!ok) std::fprintf(stderr, "skipped: no CUDA device: %s\n", yl_last_error());
    return ok;
  }();
  return usable;
}

bool is_cuda_on_the_host() {
  yl_device_properties properties = YL_DEVICE_PROPERTIES_INIT;
  CHECK_OK(yl_device_get_properties(YL_DEVICE_CUDA, 0, &properties));
  return std::strstr(properties.name, "SIMT") != nullptr;
}

void set_environment(const char *name, const char *value) {
  const char *const now = std::getenv(name);
  if (value ? now && std::strcmp(now, value) == 0 : !now) return;
  if (value)
    setenv(name, value, 1);
  else
    unsetenv(name);
}
