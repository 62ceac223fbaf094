// What the two halves of the host SIMT runner share: simt.cpp, which runs kernels, and runtime.cpp, which stands in for
// the CUDA runtime. Both touch device memory, and both must be alone when they do.
#pragma once

#include <mutex>

#include "cuda_runtime.h"

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

// Calls block for every block of a launch, with blockIdx set. Faults if no GPU takes the sizes. Every other launch has
// its blocks backwards: no result may depend on their order.
void for_blocks(dim3 grid, dim3 block, const std::function<void()> &run_block);

// Returns whether the bytes at an address are part of one allocation. The caller has a DeviceAccess.
bool accessible(const void *at, size_t bytes);

}  // namespace simt
