// The runner of the kernels on the host: kernels that work, and what a GPU would do silently ends the program with a
// sentence.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <thread>

#include "devices.h"
#include "simt/cuda_runtime.h"
#include "test.h"

namespace {

int out = 0;  // what the kernels write

void launch(void (*kernel)(int *), int *at, unsigned threads = 64, unsigned blocks = 1) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  cudaLaunchKernelEx(&config, kernel, at);
  cudaDeviceSynchronize();
}

// The sum of thread numbers, by shuffles, shared memory and an atomic.
void sum(int *out) {
  auto &sums = simt::shared<int, 2>(__LINE__);
  int value = static_cast<int>(threadIdx.x);
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
  if (simt::lane() == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(out, sums[0] + sums[1]);
  if (__ballot_sync(~0u, threadIdx.x % 2 == 0) != 0x55555555u) atomicAdd(out, 1000000);
  if (__shfl_sync(~0u, threadIdx.x, 3) % 32 != 3) atomicAdd(out, 1000000);
}

void divergent_barrier(int *) {
  if (threadIdx.x < 40) __syncthreads();
}
void two_barriers(int *) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
void missing_lane(int *) {
  if (threadIdx.x != 5) __ballot_sync(~0u, true);
}
void two_shuffles(int *out) {
  if (threadIdx.x % 2)
    *out += __shfl_sync(~0u, 1, 0);
  else
    *out += __shfl_sync(~0u, 1, 0);
}
void lane_out_of_mask(int *) {
  if (threadIdx.x < 32) __shfl_sync(1u, 1, 0);
}
void unwritten(int *out) { *out += simt::shared<int, 4>(__LINE__)[2]; }
void no_barrier(int *out) {
  auto &values = simt::shared<int, 64>(__LINE__);
  values[threadIdx.x] = 1;
  *out += values[0];
}
void overwritten(int *out) {
  auto &values = simt::shared<int, 1>(__LINE__);
  if (threadIdx.x == 0) values[0] = 1;
  __syncthreads();
  *out += values[0];
  if (threadIdx.x == 1) values[0] = 2;
}
void two_writers(int *) { simt::shared<int, 1>(__LINE__)[0] = 1; }
void outside(int *) { simt::shared<int, 4>(__LINE__)[threadIdx.x] = 1; }
void nothing(int *) {}
int *device_memory() {
  void *memory = nullptr;
  cudaMalloc(&memory, 8);
  return static_cast<int *>(memory);
}
void beyond_the_end(int *out) { out[2] = 1; }
void far_beyond_the_end(int *out) { out[256 / sizeof(int)] = 1; }

// Checks that the body ends the program and prints the words.
template <class Body> void dies(const char *words, const Body &body) {
  int pipe_ends[2];
  CHECK(pipe(pipe_ends) == 0);
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe_ends[1], 2);
    body();
    _exit(0);
  }
  close(pipe_ends[1]);
  std::string said;
  char buffer[4096];
  for (ssize_t n; (n = read(pipe_ends[0], buffer, sizeof buffer)) > 0;) said.append(buffer, static_cast<size_t>(n));
  close(pipe_ends[0]);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 0), words);
  CHECK(said.find(words) != std::string::npos, std::string(words) + " is not in: " + said.substr(0, 200));
}

void kernel_dies(const char *words, void (*kernel)(int *), unsigned threads = 64) {
  dies(words, [&] { launch(kernel, &out, threads); });
}

}  // namespace

TEST(simt, a_kernel_that_is_right_gives_its_sum) {
  out = 0;
  launch(sum, &out, 64, 5);
  CHECK_EQUAL(out, 5 * 63 * 32);
}

TEST(simt, a_barrier_that_not_all_threads_reach_ends_the_program) {
  kernel_dies("not all threads come to one __syncthreads", divergent_barrier);
  kernel_dies("not all threads come to one __syncthreads", two_barriers);
}

TEST(simt, a_shuffle_or_ballot_that_not_all_lanes_reach_ends_the_program) {
  kernel_dies("lane 5 of warp 0 does not come", missing_lane);
  kernel_dies("does not come to the shuffle", two_shuffles);
  kernel_dies("a lane is not in its own mask", lane_out_of_mask);
}

TEST(simt, a_race_on_shared_memory_ends_the_program) {
  kernel_dies("read, but nobody wrote it", unwritten);
  kernel_dies("read without a barrier between", no_barrier);
  kernel_dies("after another read it without a barrier", overwritten);
  kernel_dies("written by threads 0 and 1 without a barrier", two_writers);
}

TEST(simt, an_index_or_a_launch_that_no_gpu_takes_ends_the_program) {
  kernel_dies("index 4 of a shared array of 4", outside);
  kernel_dies("a launch of 1 x 1 x 1 blocks of 65", nothing, 65);
}

namespace {

void add_one(int *at) {
  if (threadIdx.x == 0) ++*at;
}
void times_ten(int *at) {
  if (threadIdx.x == 0) *at *= 10;
}

cudaStream_t make_stream(unsigned flags = cudaStreamNonBlocking) {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, flags);
  return stream;
}

void enqueue(cudaStream_t stream, void (*kernel)(int *), int *at) {
  cudaLaunchConfig_t config{};
  config.blockDim = dim3(32);
  config.stream = stream;
  cudaLaunchKernelEx(&config, kernel, at);
}

// Begins a capture on another thread, runs the body on this one, and returns the error with which the capture ends.
template <class Body> cudaError_t capture_elsewhere(cudaStreamCaptureMode mode, unsigned flags, const Body &body) {
  const cudaStream_t stream = make_stream(flags);
  cudaGraph_t graph = nullptr;
  std::thread([&] { cudaStreamBeginCapture(stream, mode); }).join();
  body();
  const cudaError_t error = cudaStreamEndCapture(stream, &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return error;
}

}  // namespace

TEST(simt, a_launch_or_copy_runs_when_it_is_waited_for) {
  int value = 0, elsewhere = 0;
  const cudaStream_t one = make_stream(), other = make_stream();
  enqueue(one, add_one, &value);
  enqueue(one, times_ten, &value);
  enqueue(other, add_one, &elsewhere);
  CHECK_EQUAL(value, 0);
  CHECK(cudaStreamQuery(one) == cudaErrorNotReady);
  cudaStreamSynchronize(one);
  CHECK_EQUAL(value, 10);
  CHECK(cudaStreamQuery(one) == cudaSuccess);
  CHECK_EQUAL(elsewhere, 0);
  cudaStreamDestroy(other);  // what is queued still runs
  CHECK_EQUAL(elsewhere, 0);
  cudaDeviceSynchronize();
  CHECK_EQUAL(elsewhere, 1);

  enqueue(one, add_one, &value);
  cudaFree(device_memory());  // CUDA's may wait, but need not
  CHECK_EQUAL(value, 10);
  cudaStreamSynchronize(one);
  CHECK_EQUAL(value, 11);

  void *pinned = nullptr;  // copies from host memory that is not pinned take its value at once
  cudaHostAlloc(&pinned, sizeof value, cudaHostAllocPortable);
  *static_cast<int *>(pinned) = 0;
  cudaMemcpyAsync(pinned, &value, sizeof value, cudaMemcpyDefault, one);
  value = 12;
  CHECK_EQUAL(*static_cast<int *>(pinned), 0);
  cudaMemcpyAsync(&value, pinned, sizeof value, cudaMemcpyDefault, one);  // and those to it are done at once
  CHECK_EQUAL(value, 11);
  cudaFreeHost(pinned);
  cudaStreamDestroy(one);
}

TEST(simt, streams_wait_for_the_default_stream_and_for_events) {
  int value = 1;
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  const cudaStream_t blocking = make_stream(cudaStreamDefault), alone = make_stream(), dependent = make_stream();
  enqueue(nullptr, add_one, &value);
  enqueue(blocking, times_ten, &value);
  enqueue(nullptr, add_one, &value);
  enqueue(alone, times_ten, &value);
  cudaStreamSynchronize(alone);
  CHECK_EQUAL(value, 10);
  cudaStreamSynchronize(nullptr);
  CHECK_EQUAL(value, 111);

  enqueue(alone, times_ten, &value);
  cudaEventRecord(event, alone);
  enqueue(alone, times_ten, &value);
  cudaStreamWaitEvent(dependent, event);
  enqueue(dependent, add_one, &value);
  CHECK_EQUAL(value, 111);
  cudaStreamSynchronize(dependent);
  CHECK_EQUAL(value, 1111);
  cudaEventSynchronize(event);
  CHECK_EQUAL(value, 1111);
  cudaStreamSynchronize(alone);
  CHECK_EQUAL(value, 11110);
  cudaEventDestroy(event);
  for (const cudaStream_t stream : {blocking, alone, dependent}) cudaStreamDestroy(stream);
}

TEST(simt, a_call_that_is_not_allowed_during_a_capture_ends_it) {
  const auto allocate = [] { cudaFree(device_memory()); };
  const auto relaxed = [&] {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    cudaThreadExchangeStreamCaptureMode(&mode);
    allocate();
    cudaThreadExchangeStreamCaptureMode(&mode);
    CHECK(mode == cudaStreamCaptureModeRelaxed);
  };
  const auto wait = [] { CHECK(cudaDeviceSynchronize() != cudaSuccess); };
  const auto use_default_stream = [] { cudaStreamSynchronize(nullptr); };
  constexpr auto kGlobal = cudaStreamCaptureModeGlobal, kLocal = cudaStreamCaptureModeThreadLocal;
  const auto kGone = cudaErrorStreamCaptureInvalidated;
  CHECK(capture_elsewhere(kGlobal, cudaStreamNonBlocking, allocate) == kGone);
  CHECK(capture_elsewhere(kLocal, cudaStreamNonBlocking, allocate) == cudaSuccess);
  CHECK(capture_elsewhere(kGlobal, cudaStreamNonBlocking, relaxed) == cudaSuccess);
  CHECK(capture_elsewhere(cudaStreamCaptureModeRelaxed, cudaStreamNonBlocking, wait) == kGone);
  CHECK(capture_elsewhere(kLocal, cudaStreamDefault, use_default_stream) == kGone);
  CHECK(capture_elsewhere(kLocal, cudaStreamNonBlocking, use_default_stream) == cudaSuccess);

  const cudaStream_t stream = make_stream();  // of this thread
  cudaGraph_t graph = nullptr;
  void *memory = nullptr;
  cudaStreamBeginCapture(stream, kLocal);
  CHECK(cudaMalloc(&memory, 8) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamEndCapture(stream, &graph) == kGone);
  cudaStreamDestroy(stream);
}

TEST(simt, a_copy_in_a_captured_stream_ends_the_program) {
  dies("a copy in a captured stream", [] {
    const cudaStream_t stream = make_stream();
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    cudaMemsetAsync(device_memory(), 0, 8, stream);
  });
}

TEST(simt, a_launch_on_a_stream_of_another_context_fails) {
  const cudaStream_t stream = make_stream();
  cudaLaunchConfig_t config{};
  config.blockDim = dim3(32);
  config.stream = stream;
  CHECK(cudaLaunchKernelEx(&config, add_one, &out) == cudaSuccess);
  cudaSetDevice(1);
  CHECK(cudaLaunchKernelEx(&config, add_one, &out) == cudaErrorInvalidResourceHandle);
  cudaSetDevice(0);
  cudaStreamDestroy(stream);
}

TEST(simt, a_write_beside_device_memory_ends_the_program) {
  if (kSanitizer == Sanitizer::kAddress) {  // poisons device memory for the host
    dies("AddressSanitizer", [&] { *device_memory() = 1; });
    dies("AddressSanitizer", [&] { launch(beyond_the_end, device_memory()); });
    dies("AddressSanitizer", [&] { launch(far_beyond_the_end, device_memory()); });
    return;
  }
  dies("written beside device or pinned memory", [&] {
    int *const memory = device_memory();
    launch(beyond_the_end, memory);
    cudaFree(memory);
  });
  dies("", [&] { launch(far_beyond_the_end, device_memory()); });  // a page whose touch ends the process
}
