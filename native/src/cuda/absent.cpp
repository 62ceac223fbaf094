// In place of the other files of this folder where the library is built without CUDA.
#include "check/check.h"
#include "cuda/cuda.h"

namespace yl {
namespace {

[[noreturn]] void absent(int32_t device_index) {
  fail(YL_NO_DEVICE, "cuda:%d cannot be used: this build of the library has no CUDA backend; use the cpu device",
       device_index);
}

}  // namespace

void check_cuda(int32_t device_index) { absent(device_index); }
int32_t cuda_count() { absent(0); }
yl_device_properties cuda_info(int32_t device_index) { absent(device_index); }
std::unique_ptr<Backend> make_cuda(const Shape &shape) { absent(shape.device_index); }
void require_reachable(int32_t device_index, const char *, int32_t, const void *) { absent(device_index); }
void *cuda_malloc(int32_t device_index, int64_t) { absent(device_index); }
void cuda_free(void *memory) {
  if (memory) absent(0);
}
void *cuda_malloc_host(int64_t) { absent(0); }
void cuda_free_host(void *memory) {
  if (memory) absent(0);
}
void cuda_copy(int32_t device_index, void *, const void *, int64_t) { absent(device_index); }
void cuda_copy_async(int32_t device_index, void *, const void *, int64_t, void *) { absent(device_index); }
void *cuda_stream_create(int32_t device_index) { absent(device_index); }
void cuda_stream_destroy(int32_t device_index, void *) { absent(device_index); }
void cuda_stream_synchronize(int32_t device_index, void *) { absent(device_index); }

}  // namespace yl
