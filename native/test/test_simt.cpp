// The runner of the kernels on the host: kernels that work, and what a GPU would do silently ends the program with a
// sentence.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

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

TEST(simt, an_allocation_during_a_capture_ends_the_program) {
  dies("cudaMalloc while a stream is captured", [] {
    cudaStream_t stream;
    void *memory;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    cudaMalloc(&memory, 8);
  });
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
