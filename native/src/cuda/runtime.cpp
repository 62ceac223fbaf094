// Devices, memory and streams of CUDA: implements yl_device_... and yl_stream_... for YL_DEVICE_CUDA, and the two
// checks that the backend needs, of an error and of a pointer.
//
// The runtime is linked statically and loads the driver when it is first used, so the library also loads on machines
// without a driver: then count_for says why no device can be used. Every function that depends on the current context
// selects one for its own duration (DeviceScope). The runtime has no functions for contexts, so the driver's are used.
#include "cuda/runtime.h"

#include <cstdio>
#include <mutex>
#include <set>

namespace yl {
namespace {

// Fails with YL_NO_DEVICE and the reason.
[[noreturn]] void unusable(int32_t device_index, const char *reason) {
  fail(YL_NO_DEVICE, "cuda:%d cannot be used: %s; use the cpu device", device_index, reason);
}

// Returns the number of devices, at least 1; fails with the reason if there is none. device_index is named in the
// sentence.
int32_t count_for(int32_t device_index) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  // CUDA also reports a missing driver as one that is too old.
  if (error == cudaErrorInsufficientDriver)
    unusable(device_index, "there is no NVIDIA driver, or it is too old (CUDA 13 needs 580 or later)");
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    unusable(device_index, "the NVIDIA driver sees no GPU");
  if (error != cudaSuccess) unusable(device_index, cudaGetErrorString(error));
  return count;
}

// The functions of the driver that the runtime does not offer. The runtime fetches them from the driver that it has
// loaded, because the library must not be linked with libcuda: machines without a driver do not have that file.
struct Driver {
  decltype(&cuCtxGetCurrent) get_current;
  decltype(&cuCtxSetCurrent) set_current;
  decltype(&cuDevicePrimaryCtxGetState) get_primary_state;
  decltype(&cuPointerGetAttribute) get_attribute;

  // Throws a Failure if there is no driver. Requests the functions as they are in CUDA 12.0, so that a later signature
  // of the same name is not mistaken for the one that this was compiled with.
  Driver() {
    fetch("cuCtxGetCurrent", get_current);
    fetch("cuCtxSetCurrent", set_current);
    fetch("cuDevicePrimaryCtxGetState", get_primary_state);
    fetch("cuPointerGetAttribute", get_attribute);
  }

 private:
  template <class Function> static void fetch(const char *name, Function &function) {
    void *address = nullptr;
    cudaDriverEntryPointQueryResult found;
    require(cudaGetDriverEntryPointByVersion(name, &address, 12000, cudaEnableDefault, &found), name);
    if (!address) fail(YL_DEVICE_FAILED, "the NVIDIA driver has no function %s; update it", name);
    function = reinterpret_cast<Function>(address);
  }
};

// Returns the functions of the driver, which are fetched in the first call. Throws a Failure if there is no driver.
const Driver &driver() {
  static const Driver functions;
  return functions;
}

// Returns an error of the driver as one of the runtime, which has the same number.
cudaError_t error_of(CUresult error) { return static_cast<cudaError_t>(error); }

// Returns the device in whose context pinned memory is allocated. Every device can reach the memory, but it belongs to
// one context; to choose the current one, or that of a device which is in use, saves the caller a new context.
int32_t device_for_pinned_memory() {
  const int32_t count = count_for(0);
  if (current_context()) {
    int device = 0;
    require(cudaGetDevice(&device), "asking for the current device");
    return device;
  }
  for (int32_t device = 0; device < count; ++device) {
    unsigned flags = 0;
    int active = 0;
    require(error_of(driver().get_primary_state(device, &flags, &active)), "asking for the contexts of devices");
    if (active) return device;
  }
  return 0;
}

// Frees memory with cudaFree or cudaFreeHost, in the context in which it was allocated, and fails if CUDA does not know
// it. Enqueued calls that use the memory are waited for (see Mark).
void free_with(cudaError_t (*free)(void *), void *memory, const char *what) {
  CUcontext context = nullptr;
  const auto at = static_cast<CUdeviceptr>(reinterpret_cast<uintptr_t>(memory));
  if (driver().get_attribute(&context, CU_POINTER_ATTRIBUTE_CONTEXT, at) != CUDA_SUCCESS || !context)
    fail(YL_INVALID_ARGUMENT,
         "memory at %p is not memory of CUDA's; what yl_device_malloc or yl_device_malloc_host gave is "
         "expected",
         memory);
  const DeviceScope scope(context);
  const RelaxedCapture relaxed;
  Mark::wait_for_all();
  require(free(memory), what);
}

// Fails unless a size is at least 1.
void require_bytes(int64_t bytes) {
  if (bytes < 1) fail(YL_INVALID_ARGUMENT, "bytes is %lld, at least 1 is expected", static_cast<long long>(bytes));
}

// Fails unless both pointers and the size of a copy are valid.
void require_copy(const void *to, const void *from, int64_t bytes) {
  require_bytes(bytes);
  if (!to || !from) fail(YL_INVALID_ARGUMENT, "%s is NULL, memory is expected", to ? "from" : "to");
}

}  // namespace

void require(cudaError_t error, const char *what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // clears the thread's last error, or a later check of the caller's would report it as its own
  if (error == cudaErrorMemoryAllocation)
    fail(YL_OUT_OF_MEMORY, "out of memory of the device, or of pinned memory, while %s; use a smaller max_batch", what);
  fail(YL_DEVICE_FAILED, "CUDA failed while %s: %s (error %d); see that every pointer is memory of the device", what,
       cudaGetErrorString(error), static_cast<int>(error));
}

CUcontext current_context() {
  CUcontext context = nullptr;
  require(error_of(driver().get_current(&context)), "asking for the current context");
  return context;
}

DeviceScope::DeviceScope(int32_t device_index) : before_(current_context()) {
  int device = -1;
  if (before_) require(cudaGetDevice(&device), "asking for the current device");
  if (device == device_index) return;
  require(cudaSetDevice(device_index), "choosing the device");
  changed_ = true;
}

DeviceScope::DeviceScope(CUcontext context) : before_(current_context()) {
  if (context == before_) return;
  require(error_of(driver().set_current(context)), "choosing the context");
  changed_ = true;
}

DeviceScope::~DeviceScope() {
  if (changed_) driver().set_current(before_);
}

namespace {

// The events of all marks that exist. Never destroyed, because a plan may be destroyed after the statics of this file.
struct Events {
  std::mutex mutex;
  std::set<cudaEvent_t> all;
};
Events &events() {
  static Events &list = *new Events;
  return list;
}

}  // namespace

Mark::Mark() {
  const std::lock_guard<std::mutex> lock(events().mutex);
  require(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event");
  events().all.insert(event_);
}

Mark::~Mark() {
  cudaEventSynchronize(event_);
  const std::lock_guard<std::mutex> lock(events().mutex);
  events().all.erase(event_);
  cudaEventDestroy(event_);
}

void Mark::record(cudaStream_t stream) const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  require(cudaStreamIsCapturing(stream, &status), "asking for the state of a stream");
  if (status == cudaStreamCaptureStatusNone) require(cudaEventRecord(event_, stream), "marking a call");
}

// The lock is held, so that no event is destroyed meanwhile. An error is ignored: the device of that plan has failed,
// and executes nothing more.
void Mark::wait_for_all() {
  const std::lock_guard<std::mutex> lock(events().mutex);
  for (const cudaEvent_t event : events().all) cudaEventSynchronize(event);
  cudaGetLastError();  // see require
}

// Pinned and managed memory is reachable from every device. Memory of another device is, if the program has enabled
// peer access (or, for memory of a pool, access to the pool): CUDA reports the address under which the current device
// reaches the memory, NULL if it does not. Plain host memory is refused, even on systems whose devices could read it
// through the page tables of the host, so that the same program works everywhere.
bool require_reachable(int32_t device_index, const char *name, int32_t layer, const void *pointer) {
  const DeviceScope scope(device_index);
  cudaPointerAttributes attributes{};
  const cudaError_t error = cudaPointerGetAttributes(&attributes, pointer);
  const bool own = attributes.type == cudaMemoryTypeDevice && attributes.device == device_index;
  if (error == cudaSuccess && own) return true;
  const std::string place = layer < 0 ? name : name + ("[" + std::to_string(layer) + "]");
  if (error != cudaSuccess || attributes.type == cudaMemoryTypeUnregistered) {
    cudaGetLastError();  // see require
    fail(YL_INVALID_ARGUMENT,
         "%s at %p is host memory, which cuda:%d cannot reach; device, pinned or managed memory is expected",
         place.c_str(), pointer, device_index);
  }
  if (attributes.type == cudaMemoryTypeDevice && !attributes.devicePointer)
    fail(YL_INVALID_ARGUMENT,
         "%s at %p is memory of cuda:%d, this plan is on cuda:%d and has no peer access to it; memory of its own "
         "device, or of one that it has access to, is expected",
         place.c_str(), pointer, attributes.device, device_index);
  return false;
}

void check_cuda(int32_t device_index) {
  const int32_t count = count_for(device_index);
  if (device_index >= 0 && device_index < count) return;
  char reason[96];
  std::snprintf(reason, sizeof reason, "this machine has %d CUDA device%s, numbered from 0", count,
                count == 1 ? "" : "s");
  unusable(device_index, reason);
}

// Never returns 0: without a device count_for fails, and api.cpp sets the caller's count to 0.
int32_t cuda_count() { return count_for(0); }

yl_device_properties cuda_properties(int32_t device_index) {
  check_cuda(device_index);
  const DeviceScope scope(device_index);  // cudaMemGetInfo reads the current device
  cudaDeviceProp properties;
  size_t free = 0, total = 0;
  require(cudaGetDeviceProperties(&properties, device_index), "reading the device's properties");
  require(cudaMemGetInfo(&free, &total), "reading the device's free memory");
  yl_device_properties info = YL_DEVICE_PROPERTIES_INIT;
  info.total_memory = static_cast<int64_t>(total);
  info.free_memory = static_cast<int64_t>(free);
  info.compute_capability = 10 * properties.major + properties.minor;
  info.multiprocessors = properties.multiProcessorCount;
  std::snprintf(info.name, sizeof info.name, "%s", properties.name);
  return info;
}

void *cuda_malloc(int32_t device_index, int64_t bytes) {
  require_bytes(bytes);
  check_cuda(device_index);
  const DeviceScope scope(device_index);
  const RelaxedCapture relaxed;
  void *memory = nullptr;
  require(cudaMalloc(&memory, static_cast<size_t>(bytes)), "allocating device memory");
  return memory;
}

void cuda_free(void *memory) {
  if (memory) free_with(cudaFree, memory, "freeing device memory");
}

void *cuda_malloc_host(int64_t bytes) {
  require_bytes(bytes);
  const DeviceScope scope(device_for_pinned_memory());  // fails with the reason if no device can be used
  const RelaxedCapture relaxed;
  void *memory = nullptr;
  // Portable: pinned for every device, not only for the current one.
  require(cudaHostAlloc(&memory, static_cast<size_t>(bytes), cudaHostAllocPortable), "allocating pinned memory");
  return memory;
}

void cuda_free_host(void *memory) {
  if (memory) free_with(cudaFreeHost, memory, "freeing pinned memory");
}

// Copies and waits. cudaMemcpy returns before a copy within the device is done, so it is not used.
void cuda_copy(int32_t device_index, void *to, const void *from, int64_t bytes) {
  cuda_copy_async(device_index, to, from, bytes, nullptr);
  cuda_stream_synchronize(device_index, nullptr);
}

void cuda_copy_async(int32_t device_index, void *to, const void *from, int64_t bytes, void *stream) {
  require_copy(to, from, bytes);
  check_cuda(device_index);
  const DeviceScope scope(device_index);
  // cudaMemcpyDefault lets CUDA find out from the addresses which of the two are device memory.
  require(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, static_cast<cudaStream_t>(stream)),
          "copying");
}

void *cuda_stream_create(int32_t device_index) {
  check_cuda(device_index);
  const DeviceScope scope(device_index);
  cudaStream_t stream = nullptr;
  // Non-blocking: the stream does not wait for the legacy default stream, as yl_stream_create promises.
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  return stream;
}

// Does not wait: CUDA releases the stream when all that is enqueued on it has been executed.
void cuda_stream_destroy(int32_t device_index, void *stream) {
  if (!stream) return;
  check_cuda(device_index);
  const DeviceScope scope(device_index);
  require(cudaStreamDestroy(static_cast<cudaStream_t>(stream)), "destroying a stream");
}

void cuda_stream_synchronize(int32_t device_index, void *stream) {
  check_cuda(device_index);
  const DeviceScope scope(device_index);
  require(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "waiting for a stream");
}

const DeviceMemory cuda_memory = {
    cuda_count, cuda_properties, cuda_malloc,        cuda_free,           cuda_malloc_host,        cuda_free_host,
    cuda_copy,  cuda_copy_async, cuda_stream_create, cuda_stream_destroy, cuda_stream_synchronize, require_reachable};

}  // namespace yl
