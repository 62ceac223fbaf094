// Stands in for CUDA's own header where the tests compile the CUDA backend as C++: the part of the runtime that the
// backend uses, over host memory, and the part of the device language that the kernels use, over simt.cpp, which runs the
// threads of a block as fibers. A launch returns when the kernel is done. What a GPU would do silently, a fault here says
// and ends the program: divergent or missing threads at a barrier, shuffle or ballot; an access outside a shared array; a
// read of shared memory that nobody wrote, or that another thread wrote without a barrier between; a block or grid size
// that no GPU takes; an allocation, a copy or a wait while a stream is captured. Device memory is poisoned under AddressSanitizer while no kernel and no copy runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#define YL_SIMT 1
#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct __attribute__((may_alias, aligned(16))) uint4 {
  unsigned x, y, z, w;
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

struct simt_stream;
struct simt_event;
struct simt_graph;

namespace simt {

// Fibers of a block, or the lanes of mask of a warp, come together: all of them, at the same line.
enum class Meeting { kNone, kBlock, kWarp };
void meet(Meeting meeting, unsigned mask, uint64_t value, int line);
// For the lanes of mask: the value that a lane brings, and the lanes that bring true.
uint64_t lane_value(unsigned mask, uint64_t value, int source, int line);
unsigned ballot(unsigned mask, bool predicate, int line);

[[noreturn]] void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool launch_fails();  // as the environment's SIMT_FAIL_LAUNCH asks: the launch of that number, from 0, once
bool captured(struct ::simt_stream *stream,
              const std::function<void()> &launch);  // then it is recorded, not to be run now
void run(dim3 grid, dim3 block, void (*thread)(const void *body), const void *body);

// Memory of the running block, by place of its declaration: fresh for each block.
void *shared_memory(int line, size_t bytes);
struct Access {  // the last ones to an element
  int32_t writer = -1, reader = -1;
  uint32_t write_phase = 0, write_warp_phase = 0, read_phase = 0;  // counts of barriers
};
void note_write(Access &access, int line, size_t index);
void note_read(Access &access, int line, size_t index);

template <class T, int N> struct Shared {
  struct Element {
    Shared &array;
    size_t index;
    operator T() const {
      note_read(array.accesses[index], array.line, index);
      return array.values[index];
    }
    Element &operator=(const T &value) {
      note_write(array.accesses[index], array.line, index);
      array.values[index] = value;
      return *this;
    }
    Element &operator=(const Element &other) { return *this = static_cast<T>(other); }
  };
  Element operator[](int64_t index) const {
    if (index < 0 || index >= N) fault("line %d: index %lld of a shared array of %d", line, (long long)index, N);
    return {const_cast<Shared &>(*this), static_cast<size_t>(index)};
  }
  int line;
  T values[N];
  Access accesses[N];
};

template <class T, int N> Shared<T, N> &shared(int line) {
  auto *array = static_cast<Shared<T, N> *>(shared_memory(line, sizeof(Shared<T, N>)));
  array->line = line;
  return *array;
}

template <class T> uint64_t bits_of(T value) {
  static_assert(sizeof(T) <= 8, "a shuffle moves 8 bytes at most");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T> T value_of(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline int lane() { return static_cast<int>(threadIdx.x % 32); }

}  // namespace simt

#define __syncthreads() simt::meet(simt::Meeting::kBlock, 0, 0, __LINE__)
#define __syncwarp() simt::meet(simt::Meeting::kWarp, ~0u, 0, __LINE__)
#define __ballot_sync(mask, predicate) simt::ballot(mask, predicate, __LINE__)
#define __any_sync(mask, predicate) (simt::ballot(mask, predicate, __LINE__) != 0)
#define __shfl_sync(mask, value, source) \
  simt::value_of<std::decay_t<decltype(value)>>(simt::lane_value(mask, simt::bits_of(value), source, __LINE__))
#define __shfl_xor_sync(mask, value, distance) __shfl_sync(mask, value, simt::lane() ^ (distance))
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline void __threadfence() {}
template <class T> T atomicAdd(T *at, T value) {
  const T old = *at;
  *at = static_cast<T>(old + value);
  return old;
}
template <class T> T atomicMin(T *at, T value) {
  const T old = *at;
  if (value < old) *at = value;
  return old;
}

// ---- the runtime -----------------------------------------------------------------------------------------------------

typedef enum cudaError {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorLaunchFailure = 719
} cudaError_t;
typedef simt_stream *cudaStream_t;
typedef simt_event *cudaEvent_t;
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDefault = 4 };
enum cudaMemoryType { cudaMemoryTypeUnregistered = 0, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocPortable = 1 };
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  void *attrs;
  unsigned numAttrs;
};

struct cudaFuncAttributes {};
template <class... Parameters> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *, void (*)(Parameters...)) {
  return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer);
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
typedef simt_graph *cudaGraph_t, *cudaGraphExec_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *replay, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t replay, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t replay);

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...),
                               Arguments &&...arguments) {
  if (simt::launch_fails()) return cudaErrorLaunchFailure;
  const std::tuple<void (*)(Parameters...), std::decay_t<Parameters>...> body(kernel, arguments...);
  const auto launch = [grid = config->gridDim, block = config->blockDim, body] {
    simt::run(
        grid, block,
        [](const void *given) {
          std::apply([](auto *function, const auto &...values) { function(values...); },
                     *static_cast<const std::tuple<void (*)(Parameters...), std::decay_t<Parameters>...> *>(given));
        },
        &body);
  };
  if (!simt::captured(config->stream, launch)) launch();
  return cudaSuccess;
}
