// No memory is allocated by a call, and none is lost by a plan for which there is not enough: each allocation of
// yl_plan_create fails once. This program's malloc is that of the library too.
#include <cerrno>

#include "plan.h"

extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);
}

namespace {

std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0}, live{0}, fails_at{-1};

// Whether this allocation is to fail.
bool next_fails() {
  if (!counting) return false;
  return allocations++ == fails_at;
}
void *counted(void *memory) {
  if (memory) ++live;
  return memory;
}

}  // namespace

extern "C" {
void *malloc(size_t bytes) { return next_fails() ? (errno = ENOMEM, nullptr) : counted(__libc_malloc(bytes)); }
void *calloc(size_t count, size_t bytes) {
  return next_fails() ? (errno = ENOMEM, nullptr) : counted(__libc_calloc(count, bytes));
}
void *realloc(void *memory, size_t bytes) {
  if (next_fails()) return errno = ENOMEM, nullptr;
  return memory ? __libc_realloc(memory, bytes) : counted(__libc_realloc(memory, bytes));
}
int posix_memalign(void **memory, size_t alignment, size_t bytes) {
  return (*memory = next_fails() ? nullptr : counted(__libc_memalign(alignment, bytes))) ? 0 : ENOMEM;
}
void *aligned_alloc(size_t alignment, size_t bytes) {
  return next_fails() ? (errno = ENOMEM, nullptr) : counted(__libc_memalign(alignment, bytes));
}
void free(void *memory) {
  if (memory) --live;
  __libc_free(memory);
}
}

namespace {

// Each allocation of a plan fails in turn.
int64_t create(const DeviceCase &device, int32_t dtype) {
  Config c;
  c.config.device = device.device;
  c.config.threads = device.threads;
  c.config.dtype = dtype;
  set_environment("YOLOLOSS_ISA", device.isa);
  CHECK(c.create() == YL_OK, yl_last_error());  // what is allocated once only
  yl_plan_destroy(c.plan);
  c.plan = nullptr;
  for (int64_t n = 0;; ++n) {
    const int64_t before = live;
    fails_at = n;
    allocations = 0;
    counting = true;
    yl_plan *plan = nullptr;
    const yl_status status = yl_plan_create(&c.config, &plan);
    counting = false;
    const int64_t lost = live - before;
    const bool failed = allocations > n;
    if (!failed) {
      CHECK(status == YL_OK, yl_last_error());
      yl_plan_destroy(plan);
      CHECK(n > 10, device.name);
      return n;
    }
    CHECK(status == YL_OUT_OF_MEMORY && !plan, device.name + ": " + yl_status_name(status) + ", " + yl_last_error());
    CHECK(lost == 0, device.name + ", allocation " + std::to_string(n) + ": " + std::to_string(lost) + " lost");
    if (n > 100000) return CHECK(false, device.name), n;
  }
}

void calls(const Golden &g, const DeviceCase &device) {
  Plan p(g, device);
  CHECK(p.run(true) == YL_OK && p.run(false) == YL_OK, yl_last_error());
  fails_at = -1;
  allocations = 0;
  counting = true;
  yl_status status = YL_OK;
  for (int i = 0; i < 20 && status == YL_OK; ++i) {
    p.call.grads = i % 2 ? p.grads.data() : nullptr;
    status = p.run(i % 3 == 0);
  }
  counting = false;
  CHECK(status == YL_OK && allocations == 0, device.name + ": " + std::to_string(allocations) + " allocations");
}

}  // namespace

int main() {
  int64_t failed = 0;
  const Golden g = read_golden("a_small_3scale");
  for (const DeviceCase &device : kDevices) {
    if (device.device == YL_DEVICE_CUDA) continue;
    for (const int32_t dtype : {YL_F32, YL_F64}) failed += create(device, dtype);
    calls(g, device);
  }
  std::printf("guarantee: %lld allocations failed, each a status, nothing lost; no allocation in a call\n",
              static_cast<long long>(failed));
  return report("memory");
}
