// Guard pages and mirrors. See memory.h.
#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "test.h"

DeviceMemory::~DeviceMemory() { yl_device_free(YL_DEVICE_CUDA, memory_); }

void *DeviceMemory::upload(const void *host, int64_t bytes) {
  if (!host || bytes == 0) return nullptr;
  if (bytes > bytes_) {
    CHECK_OK(yl_device_free(YL_DEVICE_CUDA, memory_));
    CHECK_OK(yl_device_malloc(YL_DEVICE_CUDA, 0, bytes + shift, &memory_));
    bytes_ = bytes;
  }
  CHECK_OK(yl_device_copy(YL_DEVICE_CUDA, 0, start(), host, bytes));
  return start();
}

void DeviceMemory::download(void *host, int64_t bytes) const {
  CHECK_OK(yl_device_copy(YL_DEVICE_CUDA, 0, host, start(), bytes));
}

Pinned::Pinned(int64_t bytes) { CHECK_OK(yl_device_malloc_host(YL_DEVICE_CUDA, bytes, &memory_)); }
Pinned::~Pinned() { CHECK_OK(yl_device_free_host(YL_DEVICE_CUDA, memory_)); }

Stream::Stream() { CHECK_OK(yl_stream_create(YL_DEVICE_CUDA, 0, &stream_)); }
Stream::~Stream() { CHECK_OK(yl_stream_destroy(YL_DEVICE_CUDA, 0, stream_)); }
void Stream::synchronize() const { CHECK_OK(yl_stream_synchronize(YL_DEVICE_CUDA, 0, stream_)); }

namespace {

constexpr char kPattern = 0x5C;

}  // namespace

bool Guarded::guard_before = false;
std::atomic<int64_t> Guarded::made{0};

Guarded::Guarded(int64_t bytes) : bytes_(static_cast<size_t>(bytes)) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  inner_ = std::max(page, (bytes_ + page - 1) / page * page);
  void *const mapped = mmap(nullptr, inner_ + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) std::abort();
  mapped_ = static_cast<char *>(mapped);
  first_ = mapped_ + page;
  start_ = guard_before ? first_ : first_ + inner_ - bytes_;
  std::memset(first_, kPattern, static_cast<size_t>(start_ - first_));
  std::memset(start_ + bytes_, kPattern, inner_ - bytes_ - static_cast<size_t>(start_ - first_));
  if (mprotect(mapped_, page, PROT_NONE) != 0 || mprotect(first_ + inner_, page, PROT_NONE) != 0) std::abort();
  ++made;
}

Guarded::~Guarded() {
  const auto is_pattern = [](char c) { return c == kPattern; };
  const bool whole =
      std::all_of(first_, start_, is_pattern) && std::all_of(start_ + bytes_, first_ + inner_, is_pattern);
  CHECK(whole, whole ? "" : "a write beside memory of " + std::to_string(bytes_) + " bytes");
  munmap(mapped_, inner_ + 2 * static_cast<size_t>(first_ - mapped_));
}

CallMemory::CallMemory(bool on_device, const void *values, int64_t bytes) : CallMemory(on_device, bytes) {
  if (bytes) std::memcpy(host_.data(), values, static_cast<size_t>(bytes));
}
