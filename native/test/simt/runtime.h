// What the parts of the host SIMT runner share: simt.cpp, which runs kernels; runtime.cpp, which stands in for the
// devices, contexts and memory of the CUDA runtime; streams.cpp, which stands in for its streams, events and graphs.
// simt.cpp and streams.cpp touch device memory, and must be alone when they do.
#pragma once

#include <mutex>

#include "cuda.h"
#include "cuda_runtime.h"

// A context: the primary one of a device, or one that a test has made with cuCtxCreate.
struct CUctx_st {
  int device;
  bool active;          // the primary context of a device is not, before the device is used
  simt_stream *legacy;  // its legacy default stream; NULL before it is used
};

namespace simt {

// Guards all state of the runner. Recursive, because a runtime function may be called while a DeviceAccess lives.
extern std::recursive_mutex device_mutex;

// Takes the device while it lives: other threads wait, and device memory, which is otherwise poisoned under
// AddressSanitizer, may be touched. Kernels and copies hold one.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();

 private:
  std::lock_guard<std::recursive_mutex> lock_{device_mutex};
};

// ---- simt.cpp ----

// Calls block for every block of a launch, with blockIdx set. Faults if no GPU takes the sizes. Every other launch has
// its blocks backwards: no result may depend on their order.
void for_blocks(dim3 grid, dim3 block, const std::function<void()> &run_block);

// ---- runtime.cpp ----

// Returns whether the bytes at an address are part of one allocation. The caller has a DeviceAccess.
bool accessible(const void *at, size_t bytes);

// Returns true for the call of the runtime whose number SIMT_FAIL_CALL holds.
bool call_fails();
#define MAY_FAIL() \
  if (simt::call_fails()) return cudaErrorLaunchFailure

// Returns the calling thread's current context. If it has none, makes the primary context of its device current, and
// active, as nearly every function of the CUDA runtime does.
CUcontext context();

// Returns the kind of memory at an address; cudaMemoryTypeUnregistered for plain host memory.
cudaMemoryType kind_of(const void *pointer);

// ---- streams.cpp ----

// Forgets everything that is queued: a device that is broken executes nothing more.
void drop_queues();

// Checks a call that CUDA calls unsafe during a capture: allocating, freeing, waiting for an event. Where the capture
// modes of the calling thread and of a capture do not allow it, ends the capture and returns an error.
cudaError_t unsafe_in_capture();
#define UNSAFE_IN_CAPTURE() \
  if (const cudaError_t unsafe = simt::unsafe_in_capture()) return unsafe

}  // namespace simt
