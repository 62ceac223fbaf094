// The table of backends: one line for each kind of device. A new kind is a folder that defines a BackendEntry, a name
// and a line here, and its YL_DEVICE_... in yololoss.h.
//
// YOLOLOSS_WITH_CUDA is 0 where the library is built without nvcc. Then the line has no entry, and a caller who names
// the device gets YL_NO_DEVICE with a sentence. The name is known even so, for other messages.
#include "backend.h"

#include "check/check.h"

namespace yl {
namespace {

// A kind of device: its name, and its entry, NULL if this build lacks it.
struct Kind {
  const char *name;
  const BackendEntry *entry;
};

// In the order of YL_DEVICE_..., which is the index. "auto" is a kind that a config may name, but no backend:
// check/config.cpp replaces it.
const Kind kKinds[] = {{"auto", nullptr},
                       {"reference", &reference_backend},
                       {"cpu", &cpu_backend},
#if YOLOLOSS_WITH_CUDA
                       {"cuda", &cuda_backend}};
#else
                       {"cuda", nullptr}};
#endif

}  // namespace

// Throws, which is right for backends on host memory. api.cpp refuses such a call before, so this is reached only by a
// mistake.
void Backend::loss_async(const Call &, void *, const yl_result &) {
  fail(YL_UNSUPPORTED, "this device works on host memory and has no streams; use yl_loss");
}

const char *kind_name(int32_t device) { return kKinds[device].name; }

// device must be in the table before it is used as an index. YL_DEVICE_AUTO is refused too.
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
