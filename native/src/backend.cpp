// The table of backends: one line for each kind of device. A new kind is a folder that defines a BackendEntry, a name
// and a line here. YOLOLOSS_WITH_CUDA is 0 where the library is built without nvcc; then the line is empty, and whoever
// names the device gets a sentence.
#include "backend.h"

#include "check/check.h"

namespace yl {
namespace {

struct Kind {
  const char *name;
  const BackendEntry *entry;
};

// In the order of YL_DEVICE_....
const Kind kKinds[] = {{"auto", nullptr},
                       {"reference", &reference_backend},
                       {"cpu", &cpu_backend},
#if YOLOLOSS_WITH_CUDA
                       {"cuda", &cuda_backend}};
#else
                       {"cuda", nullptr}};
#endif

}  // namespace

void Backend::loss_async(const Call &, void *, const yl_result &) {
  fail(YL_UNSUPPORTED, "this device works on host memory and has no streams; use yl_loss");
}

const char *kind_name(int32_t device) { return kKinds[device].name; }

const BackendEntry &backend_of(int32_t device, int32_t device_index) {
  check_between("device", device, YL_DEVICE_REFERENCE, YL_DEVICE_CUDA);
  if (const BackendEntry *entry = kKinds[device].entry) return *entry;
  fail(YL_NO_DEVICE, "%s:%d cannot be used: this build of the library has no CUDA backend; use the cpu device",
       kind_name(device), device_index);
}

const DeviceMemory &memory_of(int32_t device, int32_t device_index) {
  const BackendEntry &entry = backend_of(device, device_index);
  if (entry.memory) return *entry.memory;
  fail(YL_UNSUPPORTED, "the %s device works on host memory and has no memory or streams of its own; use host memory",
       entry.name);
}

void check_not_numbered(int32_t device_index) {
  if (device_index != 0)
    fail(YL_INVALID_ARGUMENT, "device_index is %d, expected 0: only CUDA devices are numbered", device_index);
}

}  // namespace yl
