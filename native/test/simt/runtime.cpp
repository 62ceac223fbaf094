// Stands in for the CUDA runtime over host memory, with two devices that share the host's one. It is as strict as it
// can be where a GPU would be lenient or slow to complain: every allocation lies between pages that nobody may touch
// and bytes that nobody may change, starts with a pattern instead of zeros, and knows its kind and device; streams and
// events must be alive; what must not happen during a capture ends the program.
//
// Every launch and copy is done when its function returns, so streams keep no queue; a captured graph is a list of
// launches. Environment variables make a call of the runtime fail (SIMT_FAIL_CALL, SIMT_FAIL_LAUNCH,
// SIMT_FAIL_ALLOCATION, SIMT_STICKY): test_cuda drives the backend's error paths by them.
#include "runtime.h"

#include <sys/mman.h>

#include <map>
#include <set>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) (static_cast<void>(at))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) (static_cast<void>(at))
#endif

struct simt_graph {
  std::vector<std::function<void()>> launches;
};

namespace simt {

std::recursive_mutex device_mutex;

namespace {

struct Allocation {
  size_t bytes;
  cudaMemoryType type;
  int device;
  char *mapped;  // the pages around it, of which the first and the last are protected
  size_t pages;  // their number, these two included
};
std::map<uintptr_t, Allocation> allocations;  // guarded by device_mutex
std::set<const void *> live_handles;          // streams and events; guarded by device_mutex
thread_local int current_device = 0;
constexpr int kDevices = 2;
constexpr size_t kMemory = size_t(16) << 30;  // of a device
constexpr size_t kPage = 4096;
constexpr char kPattern = 0x5C;  // fills what lies between an allocation and its protected pages

int accesses = 0;  // DeviceAccess objects that live; guarded by device_mutex

// Forbids or allows AddressSanitizer every access to device memory; pinned memory is the host's too, and stays allowed.
void poison_device_memory(bool poisoned) {
  for (const auto &[at, allocation] : allocations) {
    if (allocation.type != cudaMemoryTypeDevice) continue;
    if (poisoned)
      ASAN_POISON_MEMORY_REGION(reinterpret_cast<void *>(at), allocation.bytes);
    else
      ASAN_UNPOISON_MEMORY_REGION(reinterpret_cast<void *>(at), allocation.bytes);
  }
}

simt_graph *capture = nullptr;          // the graph that is being captured, or NULL; guarded by device_mutex
cudaStream_t capture_stream = nullptr;  // the stream that it is captured from; guarded by device_mutex

// Faults while any stream is captured. CUDA would fail the call or invalidate the capture.
void forbid_in_capture(const char *what) {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  if (capture) fault("%s while a stream is captured", what);
}

// Returns true once: for the operation whose number the environment variable holds. Operations are counted from 0 from
// the moment at which the variable is set, so that a test can fail the nth operation of its own call.
bool asked_to_fail(const char *variable, int &number) {
  const char *asked = std::getenv(variable);
  number = asked ? number + 1 : 0;
  return asked && number == std::atoi(asked) + 1;
}

// Returns true for the call of the runtime whose number SIMT_FAIL_CALL holds; with SIMT_STICKY also for all that
// follow, as after a fault in a kernel, which breaks the CUDA context. Calls that free or destroy always succeed.
bool call_fails() {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  static int number = 0;
  static bool broken = false;
  const bool fails = asked_to_fail("SIMT_FAIL_CALL", number);
  broken = std::getenv("SIMT_STICKY") && (broken || fails);
  return fails || broken;
}
#define MAY_FAIL() \
  if (simt::call_fails()) return cudaErrorLaunchFailure

// Maps memory with a protected page before and after it, as close to the last one as a device's alignment of 256
// allows. An overrun is found by the page, or by the pattern when the memory is freed. The content is 0xA5, which no
// code can mistake for zeros.
cudaError_t allocate(void **memory, size_t bytes, cudaMemoryType type) {
  MAY_FAIL();
  const DeviceAccess access;
  static int number = 0;
  if (bytes == 0 || bytes > kMemory || asked_to_fail("SIMT_FAIL_ALLOCATION", number)) return cudaErrorMemoryAllocation;
  const size_t pages = (bytes + kPage - 1) / kPage + 2;
  void *const mapped = mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return cudaErrorMemoryAllocation;
  char *const start = static_cast<char *>(mapped), *const last = start + (pages - 1) * kPage;
  if (mprotect(start, kPage, PROT_NONE) != 0 || mprotect(last, kPage, PROT_NONE) != 0) fault("mprotect failed");
  *memory = last - (bytes + 255) / 256 * 256;
  std::memset(start + kPage, kPattern, (pages - 2) * kPage);
  std::memset(*memory, 0xA5, bytes);
  ASAN_POISON_MEMORY_REGION(start + kPage, (pages - 2) * kPage);
  ASAN_UNPOISON_MEMORY_REGION(*memory, bytes);
  allocations[reinterpret_cast<uintptr_t>(*memory)] = {bytes, type, current_device, start, pages};
  return cudaSuccess;
}

// Faults if the bytes around an allocation have changed.
void require_pattern(const char *from, const char *to) {
  for (; from < to; ++from)
    if (*from != kPattern) fault("written beside device or pinned memory, at %p", static_cast<const void *>(from));
}

// Frees an allocation of that type, and checks the bytes around it.
cudaError_t release(void *memory, cudaMemoryType type) {
  const DeviceAccess access;
  if (!memory) return cudaSuccess;
  const auto found = allocations.find(reinterpret_cast<uintptr_t>(memory));
  if (found == allocations.end() || found->second.type != type) return cudaErrorInvalidValue;
  const Allocation &a = found->second;
  char *const start = static_cast<char *>(memory);
  ASAN_UNPOISON_MEMORY_REGION(a.mapped + kPage, (a.pages - 2) * kPage);
  require_pattern(a.mapped + kPage, start);
  require_pattern(start + a.bytes, a.mapped + (a.pages - 1) * kPage);
  munmap(a.mapped, a.pages * kPage);
  allocations.erase(found);
  return cudaSuccess;
}

// Makes a stream or an event: an address and nothing else, since there is nothing to wait for.
template <class Handle> cudaError_t make_handle(Handle *handle) {
  MAY_FAIL();
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  *handle = reinterpret_cast<Handle>(new char);
  live_handles.insert(*handle);
  return cudaSuccess;
}

// Faults if a stream or event has been destroyed; NULL is the legacy default stream.
void require_live(const void *handle) {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  if (handle && !live_handles.count(handle)) fault("a stream or event is used that does not live");
}

cudaError_t destroy_handle(void *handle) {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  require_live(handle);
  live_handles.erase(handle);
  delete static_cast<char *>(handle);
  return cudaSuccess;
}

}  // namespace

DeviceAccess::DeviceAccess() {
  if (accesses++ == 0) poison_device_memory(false);
}

DeviceAccess::~DeviceAccess() {
  if (--accesses == 0) poison_device_memory(true);
}

bool accessible(const void *at, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  auto found = allocations.upper_bound(address);
  if (found == allocations.begin()) return false;
  --found;
  return address + bytes <= found->first + found->second.bytes;
}

bool captured(cudaStream_t stream, const std::function<void()> &launch) {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  if (!capture || stream != capture_stream) return false;
  capture->launches.push_back(launch);
  return true;
}

bool launch_fails() {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  static int number = 0;
  return asked_to_fail("SIMT_FAIL_LAUNCH", number) || call_fails();
}

}  // namespace simt

using simt::allocations;
using simt::device_mutex;
using simt::DeviceAccess;
using simt::forbid_in_capture;
using simt::require_live;

const char *cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "error";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int *count) {
  *count = simt::kDevices;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
  *device = simt::current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= simt::kDevices) return cudaErrorInvalidDevice;
  simt::current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
  *properties = {"host SIMT runner", simt::kMemory, 0, 0, 1};
  return device >= 0 && device < simt::kDevices ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  MAY_FAIL();
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  *free = *total = simt::kMemory;
  for (const auto &[at, allocation] : allocations)
    if (allocation.type == cudaMemoryTypeDevice && allocation.device == simt::current_device) *free -= allocation.bytes;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  const auto at = reinterpret_cast<uintptr_t>(pointer);
  auto after = allocations.upper_bound(at);
  *attributes = {cudaMemoryTypeUnregistered, -1};
  if (after == allocations.begin()) return cudaSuccess;
  const auto &[start, allocation] = *--after;
  if (at < start + allocation.bytes) *attributes = {allocation.type, allocation.device};
  return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes) {
  forbid_in_capture("cudaMalloc");
  return simt::allocate(memory, bytes, cudaMemoryTypeDevice);
}

cudaError_t cudaFree(void *memory) {
  forbid_in_capture("cudaFree");
  return simt::release(memory, cudaMemoryTypeDevice);
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned) {
  forbid_in_capture("cudaHostAlloc");
  return simt::allocate(memory, bytes, cudaMemoryTypeHost);
}

cudaError_t cudaFreeHost(void *memory) {
  forbid_in_capture("cudaFreeHost");
  return simt::release(memory, cudaMemoryTypeHost);
}

cudaError_t cudaDeviceSynchronize() {
  MAY_FAIL();
  forbid_in_capture("cudaDeviceSynchronize");
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  MAY_FAIL();
  require_live(stream);
  forbid_in_capture("cudaMemcpyAsync");  // CUDA would capture it; yl_loss_async promises that it does not copy
  const DeviceAccess access;
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) {
  MAY_FAIL();
  require_live(stream);
  forbid_in_capture("cudaMemsetAsync");
  const DeviceAccess access;
  std::memset(memory, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) { return simt::make_handle(stream); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return simt::destroy_handle(stream); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) { return simt::make_handle(event); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return simt::destroy_handle(event); }

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  MAY_FAIL();
  require_live(stream);
  forbid_in_capture("cudaStreamSynchronize");
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  MAY_FAIL();
  require_live(event);
  require_live(stream);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  MAY_FAIL();
  require_live(event);
  forbid_in_capture("cudaEventSynchronize");
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  forbid_in_capture("cudaStreamBeginCapture");
  simt::capture = new simt_graph;
  simt::capture_stream = stream;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph) {
  *graph = simt::capture;
  simt::capture = nullptr;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *replay, cudaGraph_t graph, unsigned long long) {
  *replay = new simt_graph(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t replay, cudaStream_t) {
  for (const auto &launch : replay->launches) launch();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t replay) {
  delete replay;
  return cudaSuccess;
}
