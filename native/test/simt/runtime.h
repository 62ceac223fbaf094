// What the runner and the stand-in runtime share.
#pragma once

#include <mutex>

#include "cuda_runtime.h"

namespace simt {

extern std::recursive_mutex device_mutex;

// While one lives, the device is taken and its memory may be touched.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();

 private:
  std::lock_guard<std::recursive_mutex> lock_{device_mutex};
};

}  // namespace simt
