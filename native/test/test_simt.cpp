// The runner itself: kernels that work, and what a GPU would do silently ends the program with a sentence.
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "check.h"
#include "simt/cuda_runtime.h"

namespace {

void launch(void (*kernel)(int *), int *out, unsigned threads = 64, unsigned blocks = 1) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  cudaLaunchKernelEx(&config, kernel, out);
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

// body must end the program, saying the words.
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
  CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 0) && said.find(words) != std::string::npos,
        std::string(words) + ": " + said.substr(0, 200));
}

}  // namespace

int main() {
  int out = 0;
  launch(sum, &out, 64, 5);
  CHECK(out == 5 * 63 * 32, std::to_string(out));
  dies("not all threads come to one __syncthreads", [&] { launch(divergent_barrier, &out); });
  dies("not all threads come to one __syncthreads", [&] { launch(two_barriers, &out); });
  dies("lane 5 of warp 0 does not come", [&] { launch(missing_lane, &out); });
  dies("does not come to the shuffle", [&] { launch(two_shuffles, &out); });
  dies("a lane is not in its own mask", [&] { launch(lane_out_of_mask, &out); });
  dies("read, but nobody wrote it", [&] { launch(unwritten, &out); });
  dies("read without a barrier between", [&] { launch(no_barrier, &out); });
  dies("after another read it without a barrier", [&] { launch(overwritten, &out); });
  dies("written by threads 0 and 1 without a barrier", [&] { launch(two_writers, &out); });
  dies("index 4 of a shared array of 4", [&] { launch(outside, &out); });
  dies("a launch of 1 x 1 x 1 blocks of 65", [&] { launch(nothing, &out, 65); });
  dies("cudaMalloc while a stream is captured", [] {
    cudaStream_t stream;
    void *memory;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    cudaMalloc(&memory, 8);
  });
#if !defined(__SANITIZE_ADDRESS__)
  dies("written beside device or pinned memory", [&] {
    int *const memory = device_memory();
    launch(beyond_the_end, memory);
    cudaFree(memory);
  });
  dies("", [&] { launch(far_beyond_the_end, device_memory()); });  // a page that nobody may touch
#else
  dies("AddressSanitizer", [&] { *device_memory() = 1; });  // the host has no business there
  dies("AddressSanitizer", [&] { launch(beyond_the_end, device_memory()); });
  dies("AddressSanitizer", [&] { launch(far_beyond_the_end, device_memory()); });
#endif
  return report("simt");
}
