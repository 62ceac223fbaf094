// The host SIMT runner's stand-in for CUDA's cuda_runtime.h: with it on the include path, the CUDA backend compiles as
// plain C++, and its kernels run on any x86-64 machine, without nvcc, driver or GPU. Test programs and the Java tests
// use that library as they would use the real one.
//
// The file declares the part of the runtime that the backend uses (over host memory: runtime.cpp, streams.cpp) and the
// part of the device language that the kernels use (over simt.cpp, which runs the threads of a block as fibers). A
// launch or copy is queued, and runs when something waits for it: as late as CUDA allows, so that a missing wait shows.
//
// What a GPU would do silently ends the program here with a sentence: divergent or missing threads at a barrier,
// shuffle or ballot; an access outside a shared array; a read of shared memory that nobody wrote, or that another
// thread wrote without a barrier in between; a block or grid size that no GPU takes; a copy in a captured stream. Under
// AddressSanitizer device memory is poisoned while no kernel and no copy runs, so that host code that touches it fails
// as it would on a machine with a GPU. Read simt.cpp next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

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

typedef enum cudaError {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorPeerAccessAlreadyEnabled = 704,
  cudaErrorPeerAccessNotEnabled = 705,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureUnmatched = 903,
  cudaErrorStreamCaptureImplicit = 906
} cudaError_t;
struct simt_stream;
struct simt_event;
struct simt_graph;

namespace simt {

// A meeting is a point that several threads must reach before any of them goes on: __syncthreads for a block;
// __syncwarp, a shuffle or a ballot for a warp.
enum class Meeting { kNone, kBlock, kWarp };

// Suspends the calling thread until all threads of its block, or all lanes of mask in its warp, have come to a meeting
// on the same source line. Faults if one of them ends or comes to another line instead. value is what the lane brings
// along.
void meet(Meeting meeting, unsigned mask, uint64_t value, int line);

// Meets the lanes of mask, and returns the value that lane source brought. Faults if source is not in mask.
uint64_t lane_value(unsigned mask, uint64_t value, int source, int line);

// Meets the lanes of mask, and returns the set of those that brought true.
unsigned ballot(unsigned mask, bool predicate, int line);

// Prints the running block and thread and a sentence, and aborts.
[[noreturn]] void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Returns true for the launch whose number, counted from 0, is in the environment variable SIMT_FAIL_LAUNCH.
bool launch_fails();

// Queues a launch on a stream, or records it if the stream is being captured.
cudaError_t enqueue_launch(struct ::simt_stream *stream, std::function<void()> launch);

// Runs thread(body) for every thread of every block, and returns when all have ended. Faults if no GPU takes the sizes.
void run(dim3 grid, dim3 block, void (*thread)(const void *body), const void *body);

// Runs a kernel as nvcc compiled it, if the environment variable SIMT_PTX names files of PTX (ptx.cpp); else returns
// false. arguments and sizes have count elements.
bool run_ptx(const void *kernel, dim3 grid, dim3 block, const void *const *arguments, const size_t *sizes,
             size_t count);

// Holds what a launch of a kernel as PTX did.
struct PtxLaunch {
  std::string kernel;  // its mangled name
  unsigned blocks;
  double instructions;  // that a warp issued, on average; two sides of a branch on which its lanes disagree both count
  // For each block, in ascending order: the round trips to global memory that follow each other. An instruction waits
  // for the loads that its operands come from, and a fence for the stores before it. What the block has loaded before
  // is in the cache of its multiprocessor, until the next fence.
  std::vector<int> trips;
};

// Appends what each later launch did; NULL ends that.
void count_ptx(std::vector<PtxLaunch> *launches);

// Returns the memory of the shared array that is declared at a source line, for the running block. Its content is new
// in each block: what an earlier block wrote there does not count as written.
void *shared_memory(int line, size_t bytes);

// The last accesses to one element of a shared array, from which races are detected. A phase is the number of barriers
// that the block, or the warp, had passed at the access: two accesses of one phase are not ordered.
struct Access {
  int32_t writer = -1, reader = -1;  // threads; -1: none yet, reader -2: several in this phase
  uint32_t write_phase = 0, write_warp_phase = 0, read_phase = 0;
};

// Records a write to or read of an element, and faults if it races with an earlier one, or reads what nobody wrote.
void note_write(Access &access, int line, size_t index);
void note_read(Access &access, int line, size_t index);

// A shared array whose elements are accessed through a proxy that checks the index and records each access. YL_SHARED
// declares one; on a GPU it is a plain __shared__ array.
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

// Returns the array of the running block that is declared at a source line. The line is its only name, so two arrays of
// one size must not be declared on lines of the same number in different files and used in one kernel.
template <class T, int N> Shared<T, N> &shared(int line) {
  auto *array = static_cast<Shared<T, N> *>(shared_memory(line, sizeof(Shared<T, N>)));
  array->line = line;
  return *array;
}

// Return a value as bits and back: shuffles exchange 64 bits, whatever the type.
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

// Returns the number of the calling thread within its warp.
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

// A fiber is never interrupted between two meetings, and one block runs at a time: memory is always in order, and an
// atomic operation needs no instruction of its own.
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

// ---- the runtime --------------------------------------------------------------------------------------------------
//
// Names, values and signatures are CUDA's. Only what the backend and its tests use is here; a new use fails to compile.

typedef simt_stream *cudaStream_t;
typedef simt_event *cudaEvent_t;
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDefault = 4 };
enum cudaMemoryType { cudaMemoryTypeUnregistered = 0, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocPortable = 1 };
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
  void *devicePointer;
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

struct cudaFuncAttributes {
  int ptxVersion;
};
template <class... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, void (*)(Parameters...)) {
  attributes->ptxVersion = 90;
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
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer);
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags);
cudaError_t cudaDeviceDisablePeerAccess(int peer);
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess = 0, cudaDriverEntryPointSymbolNotFound = 1 };
enum { cudaEnableDefault = 0 };
cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags, cudaDriverEntryPointQueryResult *status);
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
typedef simt_graph *cudaGraph_t, *cudaGraphExec_t;
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2
};
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone = 0,
  cudaStreamCaptureStatusActive = 1,
  cudaStreamCaptureStatusInvalidated = 2
};
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *replay, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t replay, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t replay);

// Queues a kernel, or records it if the stream is being captured. The arguments are copied into the launch, as CUDA
// does: neither a queued kernel nor a replayed graph may refer to variables of the caller.
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...),
                               Arguments &&...arguments) {
  if (simt::launch_fails()) return cudaErrorLaunchFailure;
  const std::tuple<void (*)(Parameters...), std::decay_t<Parameters>...> body(kernel, arguments...);
  const auto launch = [grid = config->gridDim, block = config->blockDim, body] {
    const bool ran = std::apply(
        [&](auto *function, const auto &...values) {
          const void *const addresses[] = {&values...};
          const size_t sizes[] = {sizeof values...};
          return simt::run_ptx(reinterpret_cast<const void *>(function), grid, block, addresses, sizes,
                               sizeof...(values));
        },
        body);
    if (ran) return;
    simt::run(
        grid, block,
        [](const void *given) {
          std::apply([](auto *function, const auto &...values) { function(values...); },
                     *static_cast<const std::tuple<void (*)(Parameters...), std::decay_t<Parameters>...> *>(given));
        },
        &body);
  };
  return simt::enqueue_launch(config->stream, launch);
}
