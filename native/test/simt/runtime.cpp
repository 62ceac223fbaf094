// Stands in for the devices, contexts and memory of the CUDA runtime, with two devices that share the host's memory. It
// is as strict as it can be where a GPU would be lenient or slow to complain: every allocation lies between pages that
// nobody may touch and bytes that nobody may change, starts with a pattern instead of zeros, and knows its kind,
// context and device.
//
// Contexts are modelled because a library must not change, nor make, one that is the caller's business: each thread has
// a current context or none, and a function that needs one makes the primary context of the thread's device. Streams
// and graphs are in streams.cpp. Environment variables make a call of the runtime fail (SIMT_FAIL_CALL,
// SIMT_FAIL_LAUNCH, SIMT_FAIL_ALLOCATION, SIMT_STICKY): test_cuda drives the backend's error paths by them.
#include "runtime.h"

#include <sys/mman.h>

#include <deque>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) (static_cast<void>(at))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) (static_cast<void>(at))
#endif

namespace simt {

std::recursive_mutex device_mutex;

namespace {

struct Allocation {
  size_t bytes;
  cudaMemoryType type;
  CUcontext context;
  char *mapped;  // the pages around it, of which the first and the last are protected
  size_t pages;  // their number, these two included
};
std::map<uintptr_t, Allocation> allocations;  // guarded by device_mutex
constexpr int kDevices = 2;
CUctx_st primary_contexts[kDevices] = {{0, false, nullptr}, {1, false, nullptr}};
thread_local CUcontext current_context = nullptr;
thread_local int current_device = 0;          // of the runtime; used where no context is current
bool peers[kDevices][kDevices] = {};          // the first may access memory of the second; guarded by device_mutex
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

// Returns true once: for the operation whose number the environment variable holds. Operations are counted from 0 from
// the moment at which the variable is set, so that a test can fail the nth operation of its own call.
bool asked_to_fail(const char *variable, int &number) {
  const char *asked = std::getenv(variable);
  number = asked ? number + 1 : 0;
  return asked && number == std::atoi(asked) + 1;
}

// Maps memory with a protected page before and after it, as close to the last one as a device's alignment of 256
// allows. An overrun is found by the page, or by the pattern when the memory is freed. The content is 0xA5, which no
// code can mistake for zeros.
cudaError_t allocate(void **memory, size_t bytes, cudaMemoryType type) {
  MAY_FAIL();
  UNSAFE_IN_CAPTURE();
  context();
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
  allocations[reinterpret_cast<uintptr_t>(*memory)] = {bytes, type, context(), start, pages};
  return cudaSuccess;
}

// Faults if the bytes around an allocation have changed.
void require_pattern(const char *from, const char *to) {
  for (; from < to; ++from)
    if (*from != kPattern) fault("written beside device or pinned memory, at %p", static_cast<const void *>(from));
}

// Frees an allocation of that type, and checks the bytes around it.
cudaError_t release(void *memory, cudaMemoryType type) {
  UNSAFE_IN_CAPTURE();
  const DeviceAccess access;
  context();  // also for NULL: cudaFree(0) is a common way to make one
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

// Returns the allocation that an address is in, or NULL.
const Allocation *allocation_at(const void *pointer) {
  const auto at = reinterpret_cast<uintptr_t>(pointer);
  const auto after = allocations.upper_bound(at);
  if (after == allocations.begin()) return nullptr;
  const auto &[start, allocation] = *std::prev(after);
  return at < start + allocation.bytes ? &allocation : nullptr;
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

// Returns true for the call of the runtime whose number SIMT_FAIL_CALL holds; with SIMT_STICKY also for all that
// follow, as after a fault in a kernel, which breaks the CUDA context. Calls that free or destroy always succeed.
bool call_fails() {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  static int number = 0;
  static bool broken = false;
  const bool fails = asked_to_fail("SIMT_FAIL_CALL", number);
  broken = std::getenv("SIMT_STICKY") && (broken || fails);
  if (broken) drop_queues();
  return fails || broken;
}

bool launch_fails() {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  static int number = 0;
  return asked_to_fail("SIMT_FAIL_LAUNCH", number) || call_fails();
}

CUcontext context() {
  if (current_context) return current_context;
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  current_context = &primary_contexts[current_device];
  current_context->active = true;
  return current_context;
}

cudaMemoryType kind_of(const void *pointer) {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  const Allocation *const allocation = allocation_at(pointer);
  return allocation ? allocation->type : cudaMemoryTypeUnregistered;
}

}  // namespace simt

using simt::current_context;
using simt::current_device;
using simt::device_mutex;
using simt::kDevices;
using simt::primary_contexts;

const char *cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "error";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

// ---- Devices and contexts -------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int *count) {
  *count = kDevices;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
  *device = current_context ? current_context->device : current_device;
  return cudaSuccess;
}

// Makes the primary context of the device, and makes it current, as CUDA does since version 12.
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= kDevices) return cudaErrorInvalidDevice;
  current_device = device;
  current_context = nullptr;
  simt::context();
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
  *properties = {"host SIMT runner", simt::kMemory, 0, 0, 1};
  return device >= 0 && device < kDevices ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  MAY_FAIL();
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  const int device = simt::context()->device;
  *free = *total = simt::kMemory;
  for (const auto &[at, allocation] : simt::allocations)
    if (allocation.type == cudaMemoryTypeDevice && allocation.context->device == device) *free -= allocation.bytes;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
  *can = device != peer;
  return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  bool &enabled = simt::peers[simt::context()->device][peer];
  return std::exchange(enabled, true) ? cudaErrorPeerAccessAlreadyEnabled : cudaSuccess;
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  bool &enabled = simt::peers[simt::context()->device][peer];
  return std::exchange(enabled, false) ? cudaSuccess : cudaErrorPeerAccessNotEnabled;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  *context = current_context;
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  current_context = context;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  if (device < 0 || device >= kDevices) return CUDA_ERROR_INVALID_DEVICE;
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  *flags = 0;
  *active = primary_contexts[device].active;
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute, CUdeviceptr pointer) {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  const auto *const allocation = simt::allocation_at(reinterpret_cast<const void *>(pointer));
  if (!allocation) return CUDA_ERROR_INVALID_VALUE;
  *static_cast<CUcontext *>(data) = allocation->context;
  return CUDA_SUCCESS;
}

namespace {

// Has the signature of the driver's versions 3.2 to 11.3; tests request one of these. A context that is destroyed is
// only no longer current, so that its memory can be freed.
CUresult create_context(CUcontext *context, unsigned, CUdevice device) {
  static auto &made = *new std::deque<CUctx_st>;
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  made.push_back({device, true, nullptr});
  *context = current_context = &made.back();
  return CUDA_SUCCESS;
}
CUresult destroy_context(CUcontext context) {
  if (current_context == context) current_context = nullptr;
  return CUDA_SUCCESS;
}

}  // namespace

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *status) {
  static const std::map<std::string, void *> functions = {
      {"cuCtxGetCurrent", reinterpret_cast<void *>(cuCtxGetCurrent)},
      {"cuCtxSetCurrent", reinterpret_cast<void *>(cuCtxSetCurrent)},
      {"cuCtxCreate", reinterpret_cast<void *>(create_context)},
      {"cuCtxDestroy", reinterpret_cast<void *>(destroy_context)},
      {"cuDevicePrimaryCtxGetState", reinterpret_cast<void *>(cuDevicePrimaryCtxGetState)},
      {"cuPointerGetAttribute", reinterpret_cast<void *>(cuPointerGetAttribute)}};
  const auto found = functions.find(symbol);
  *function = found == functions.end() ? nullptr : found->second;
  *status = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
  const std::lock_guard<std::recursive_mutex> lock(device_mutex);
  const int here = simt::context()->device;
  *attributes = {cudaMemoryTypeUnregistered, -1, nullptr};
  const auto *const allocation = simt::allocation_at(pointer);
  if (!allocation) return cudaSuccess;
  const int there = allocation->context->device;
  const bool reachable = allocation->type != cudaMemoryTypeDevice || here == there || simt::peers[here][there];
  *attributes = {allocation->type, there, reachable ? const_cast<void *>(pointer) : nullptr};
  return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes) { return simt::allocate(memory, bytes, cudaMemoryTypeDevice); }
cudaError_t cudaFree(void *memory) { return simt::release(memory, cudaMemoryTypeDevice); }
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned) {
  return simt::allocate(memory, bytes, cudaMemoryTypeHost);
}
cudaError_t cudaFreeHost(void *memory) { return simt::release(memory, cudaMemoryTypeHost); }
