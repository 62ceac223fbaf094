// The CUDA runtime for the host files of this folder: errors become Failures with a sentence, a scope selects the
// device of a call, and memory has an owner. The file does not run kernels; cuda.cpp does, through the launch functions
// of task.h.
#pragma once

#include <cuda_runtime.h>

#include "backend.h"
#include "check/check.h"

namespace yl {

// Throws a Failure unless error is cudaSuccess: YL_OUT_OF_MEMORY if an allocation failed, else YL_DEVICE_FAILED. what
// names the operation in the sentence, as in "CUDA failed while copying".
void require(cudaError_t error, const char *what);

// Fails with YL_NO_DEVICE and the reason unless the device can be used.
void check_cuda(int32_t device_index);
yl_device_properties cuda_properties(int32_t device_index);
void require_reachable(int32_t device_index, const char *name, int32_t layer, const void *pointer);
void *cuda_malloc(int32_t device_index, int64_t bytes);
void *cuda_malloc_host(int64_t bytes);
void cuda_copy(int32_t device_index, void *to, const void *from, int64_t bytes);
void cuda_copy_async(int32_t device_index, void *to, const void *from, int64_t bytes, void *stream);
void cuda_stream_synchronize(int32_t device_index, void *stream);
// These and their siblings, as the table of backends has them.
extern const DeviceMemory cuda_memory;

// Makes a device current while it lives, and then the caller's device again: a library must not change the current
// device of the thread that calls it.
class DeviceScope {
 public:
  explicit DeviceScope(int32_t device_index) {
    require(cudaGetDevice(&before_), "asking for the current device");
    if (before_ != device_index) require(cudaSetDevice(device_index), "choosing the device");
    changed_ = before_ != device_index;
  }
  ~DeviceScope() {
    if (changed_) cudaSetDevice(before_);
  }
  DeviceScope(const DeviceScope &) = delete;
  DeviceScope &operator=(const DeviceScope &) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

// Owns bytes of device memory or of pinned memory. Free is cudaFree or cudaFreeHost; NULL is allowed there.
template <cudaError_t (*Free)(void *)> class OwnedMemory {
 public:
  OwnedMemory() = default;
  ~OwnedMemory() { Free(start_); }
  OwnedMemory(const OwnedMemory &) = delete;
  OwnedMemory &operator=(const OwnedMemory &) = delete;

  char *start() const { return static_cast<char *>(start_); }
  int64_t bytes() const { return bytes_; }
  // Replaces the memory by make(bytes), which may throw. Frees the old memory first, so that both are never needed at
  // once; after a throw the object is empty.
  template <class Allocate> void allocate(int64_t bytes, const Allocate &make) {
    Free(start_);
    start_ = nullptr;
    bytes_ = 0;
    start_ = make(bytes);
    bytes_ = bytes;
  }

 private:
  void *start_ = nullptr;
  int64_t bytes_ = 0;
};
using DeviceBytes = OwnedMemory<cudaFree>;
using PinnedBytes = OwnedMemory<cudaFreeHost>;

}  // namespace yl
