// What the rest of the library knows of CUDA: no header of CUDA is needed to include this. Everything throws a Failure.
#pragma once

#include <cstdint>
#include <memory>

#include "backend.h"

namespace yl {

constexpr int32_t kMaxCudaLayers = 16;  // their descriptions are parameters of the kernels

// NO_DEVICE, with the reason, unless the device can be used.
void check_cuda(int32_t device_index);
int32_t cuda_count();
yl_device_properties cuda_info(int32_t device_index);

std::unique_ptr<Backend> make_cuda(const Shape &shape);

// Unless the device can reach what the caller points to; layer -1: the name has no index.
void require_reachable(int32_t device_index, const char *name, int32_t layer, const void *pointer);
void *cuda_malloc(int32_t device_index, int64_t bytes);
void cuda_free(void *memory);
void *cuda_malloc_host(int64_t bytes);
void cuda_free_host(void *memory);
void cuda_copy(int32_t device_index, void *to, const void *from, int64_t bytes);
void cuda_copy_async(int32_t device_index, void *to, const void *from, int64_t bytes, void *stream);
void *cuda_stream_create(int32_t device_index);
void cuda_stream_destroy(int32_t device_index, void *stream);
void cuda_stream_synchronize(int32_t device_index, void *stream);

}  // namespace yl
