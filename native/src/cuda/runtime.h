// The CUDA runtime for the host files of this folder: errors become Failures with a sentence, scopes select the context
// of a call and the mode of allocations, and memory has an owner. The file does not run kernels; cuda.cpp does, through
// the launch functions of task.h.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include "backend.h"
#include "check/check.h"

namespace yl {

// Throws a Failure unless error is cudaSuccess: YL_OUT_OF_MEMORY if an allocation failed, else YL_DEVICE_FAILED. what
// names the operation in the sentence, as in "CUDA failed while copying". Also clears the thread's last CUDA error.
void require(cudaError_t error, const char *what);

// Fails with YL_NO_DEVICE and the reason unless the device can be used.
void check_cuda(int32_t device_index);
// These serve the functions of the same names in yololoss.h (yl_device_get_properties, yl_device_malloc, ...), for
// devices of CUDA, and the backend itself. Each throws a Failure; device_index need not be the current device.
yl_device_properties cuda_properties(int32_t device_index);
// Throws a Failure with YL_INVALID_ARGUMENT unless kernels on the device can reach the caller's pointer; name and layer
// are for the sentence, layer -1 means that the name has no index. Returns whether the pointer is memory of the device
// itself. Such an address stays valid for as long as the caller keeps the memory, and is never one of malloc's; any
// other pointer must be checked again in the next call.
bool require_reachable(int32_t device_index, const char *name, int32_t layer, const void *pointer);
void *cuda_malloc(int32_t device_index, int64_t bytes);
void *cuda_malloc_host(int64_t bytes);
void cuda_copy(int32_t device_index, void *to, const void *from, int64_t bytes);
void cuda_copy_async(int32_t device_index, void *to, const void *from, int64_t bytes, void *stream);
void cuda_stream_synchronize(int32_t device_index, void *stream);
// These functions and the remaining ones, as the table of backends has them.
extern const DeviceMemory cuda_memory;

// Returns the context that is current on the calling thread, or NULL if there is none.
CUcontext current_context();

// Makes a context current while it lives, and then the one that was current before, or none: a library must not change
// the context of the thread that calls it. The driver knows the context; cudaGetDevice and cudaSetDevice would create
// the primary context of device 0 on a thread that has none, and replace a context that the caller has created.
class DeviceScope {
 public:
  // Selects a device: the current context if that is on the device, whether it is the primary one or not, because the
  // caller's streams and memory belong to it. Otherwise the primary context of the device.
  explicit DeviceScope(int32_t device_index);
  // Selects a context that exists.
  explicit DeviceScope(CUcontext context);
  ~DeviceScope();
  DeviceScope(const DeviceScope &) = delete;
  DeviceScope &operator=(const DeviceScope &) = delete;

 private:
  CUcontext before_;
  bool changed_ = false;
};

// Lets the calling thread allocate, free and wait for events while it lives, even if another thread captures a stream
// in the global mode, which is the default of CUDA and of PyTorch: otherwise CUDA would fail the call and end that
// capture. None of these touches the captured stream, so nothing is missing in the graph. Enqueued calls have no such
// scope: they must not need one.
class RelaxedCapture {
 public:
  RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture &) = delete;
  RelaxedCapture &operator=(const RelaxedCapture &) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;  // then the mode to return to
};

// An event behind the last call that a plan has enqueued on a stream of the caller. Memory that such a call may use is
// freed after it: that of the plan, and, as yl_device_free promises, any other. CUDA does not promise that cudaFree
// waits, and cudaDeviceSynchronize would end the capture of any stream of the device, in whatever mode. The price is to
// record an event for each enqueued call.
class Mark {
 public:
  Mark();   // belongs to the current context
  ~Mark();  // waits
  Mark(const Mark &) = delete;
  Mark &operator=(const Mark &) = delete;

  // Marks a call that was enqueued. The calls of a plan follow each other on the device, so the last one stands for
  // all. A captured call is not marked, because it is not executed yet; replays of its graph are not known here.
  void record(cudaStream_t stream) const;
  // Waits for the calls behind the marks of all plans.
  static void wait_for_all();

 private:
  cudaEvent_t event_ = nullptr;
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
