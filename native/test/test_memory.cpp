// A call allocates no memory, and a plan for which there is not enough loses none: each allocation of yl_plan_create
// fails once. The library uses the malloc of this program, which therefore is a program of its own.
#include <atomic>
#include <cerrno>

#include "plan.h"
#include "test.h"

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

// Counts an allocation, and returns whether it is to fail.
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

// Lets each allocation of a plan fail in turn, and returns how many there are.
int64_t fail_each_allocation(const Device &device, int32_t dtype) {
  Config c;
  c.config.device = device.kind;
  c.config.threads = device.threads;
  c.config.dtype = dtype;
  set_environment("YOLOLOSS_ISA", device.isa);
  CHECK_OK(c.create(), device.name);  // what is allocated once only
  yl_plan_destroy(c.plan);
  c.plan = nullptr;
  for (int64_t n = 0; n < 100000; ++n) {
    const int64_t before = live;
    fails_at = n;
    allocations = 0;
    counting = true;
    yl_plan *plan = nullptr;
    const yl_status status = yl_plan_create(&c.config, &plan);
    counting = false;
    const int64_t lost = live - before;
    const bool failed = allocations > n;
    const std::string where = device.name + ", allocation " + std::to_string(n);
    if (!failed) {
      CHECK_OK(status, where);
      yl_plan_destroy(plan);
      CHECK(n > 10, where);
      return n;
    }
    CHECK_EQUAL(status, YL_OUT_OF_MEMORY, where);
    CHECK(!plan, where);
    CHECK_EQUAL(lost, 0, where);
  }
  CHECK(false, device.name + ": a plan has more than 100000 allocations");
  return 0;
}

}  // namespace

TEST(memory, each_allocation_that_fails_is_a_status_and_nothing_is_lost) {
  int64_t failed = 0;
  for (const Device &device : devices())
    for (const int32_t dtype : {YL_F32, YL_F64})
      if (device.kind != YL_DEVICE_CUDA) failed += fail_each_allocation(device, dtype);
  std::printf("guarantee: %lld allocations failed, each a status, nothing lost\n", static_cast<long long>(failed));
}

TEST(memory, calls_allocate_nothing) {
  const Case c = golden("a_small_3scale");
  for (const Device &device : devices()) {
    if (device.kind == YL_DEVICE_CUDA) continue;
    Plan p(c, device);
    CHECK_OK(p.run(Truths::kYTrue), device.name);
    CHECK_OK(p.run(Truths::kBoxes), device.name);
    fails_at = -1;
    allocations = 0;
    counting = true;
    yl_status status = YL_OK;
    for (int i = 0; i < 20 && status == YL_OK; ++i) {
      p.call.grads = i % 2 ? p.grads.data() : nullptr;
      status = p.run(i % 3 == 0 ? Truths::kYTrue : Truths::kBoxes);
    }
    counting = false;
    CHECK_OK(status, device.name);
    CHECK_EQUAL(allocations.load(), 0, device.name);
  }
}
