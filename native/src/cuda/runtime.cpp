// Devices, memory and streams of CUDA: what yl_device_... and yl_stream_... do for YL_DEVICE_CUDA, and the two checks
// that the backend needs, of an error and of a pointer. The runtime is linked statically and loads the driver when it
// is first used, so the library also loads on machines without a driver: then count_for says why no device can be used.
#include "cuda/runtime.h"

#include <cstdio>

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

// Waits for everything that is enqueued on the device for which memory was allocated: kernels and copies may still use
// it. Fails if CUDA does not know the memory.
void wait_for_device_of(const void *memory) {
  cudaPointerAttributes attributes{};
  require(cudaPointerGetAttributes(&attributes, memory), "asking for the device of memory");
  if (attributes.type == cudaMemoryTypeUnregistered)
    fail(YL_INVALID_ARGUMENT,
         "memory at %p is not memory of CUDA's; what yl_device_malloc or yl_device_malloc_host gave is "
         "expected",
         memory);
  const DeviceScope scope(attributes.device);
  require(cudaDeviceSynchronize(), "waiting for the device");
}

void require_bytes(int64_t bytes) {
  if (bytes < 1) fail(YL_INVALID_ARGUMENT, "bytes is %lld, at least 1 is expected", static_cast<long long>(bytes));
}

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

// Pinned and managed memory is reachable from every device. Memory of another device might be, if the program has
// enabled peer access, but it is refused: such a pointer is nearly always a mistake, and slow where it is not. Plain
// host memory is refused too, even on systems whose devices could read it through the page tables of the host, so that
// the same program works everywhere.
void require_reachable(int32_t device_index, const char *name, int32_t layer, const void *pointer) {
  cudaPointerAttributes attributes{};
  const cudaError_t error = cudaPointerGetAttributes(&attributes, pointer);
  const std::string place = layer < 0 ? name : name + ("[" + std::to_string(layer) + "]");
  if (error != cudaSuccess || attributes.type == cudaMemoryTypeUnregistered) {
    cudaGetLastError();  // see require
    fail(YL_INVALID_ARGUMENT,
         "%s at %p is host memory, which cuda:%d cannot reach; device, pinned or managed memory is expected",
         place.c_str(), pointer, device_index);
  }
  if (attributes.type == cudaMemoryTypeDevice && attributes.device != device_index)
    fail(YL_INVALID_ARGUMENT,
         "%s at %p is memory of cuda:%d, this plan is on cuda:%d; memory of its own device is expected", place.c_str(),
         pointer, attributes.device, device_index);
}

void check_cuda(int32_t device_index) {
  const int32_t count = count_for(device_index);
  if (device_index >= 0 && device_index < count) return;
  char reason[96];
  std::snprintf(reason, sizeof reason, "this machine has %d CUDA device%s, numbered from 0", count,
                count == 1 ? "" : "s");
  unusable(device_index, reason);
}

// Never returns 0: without a device count_for fails, and api.cpp sets the caller's count.
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
  void *memory = nullptr;
  require(cudaMalloc(&memory, static_cast<size_t>(bytes)), "allocating device memory");
  return memory;
}

void cuda_free(void *memory) {
  if (!memory) return;
  wait_for_device_of(memory);
  require(cudaFree(memory), "freeing device memory");
}

void *cuda_malloc_host(int64_t bytes) {
  require_bytes(bytes);
  check_cuda(0);  // fails with the reason if no device can be used
  void *memory = nullptr;
  // Portable: pinned for every device, not only for the current one.
  require(cudaHostAlloc(&memory, static_cast<size_t>(bytes), cudaHostAllocPortable), "allocating pinned memory");
  return memory;
}

void cuda_free_host(void *memory) {
  if (!memory) return;
  wait_for_device_of(memory);
  require(cudaFreeHost(memory), "freeing pinned memory");
}

// Copies and waits. Not cudaMemcpy, which returns before a copy within the device is done.
void cuda_copy(int32_t device_index, void *to, const void *from, int64_t bytes) {
  cuda_copy_async(device_index, to, from, bytes, nullptr);
  cuda_stream_synchronize(device_index, nullptr);
}

void cuda_copy_async(int32_t device_index, void *to, const void *from, int64_t bytes, void *stream) {
  require_copy(to, from, bytes);
  check_cuda(device_index);
  const DeviceScope scope(device_index);
  // Default: CUDA finds out from the addresses which of the two are device memory.
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
