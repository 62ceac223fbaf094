// The devices that a test runs over: the reference, the CPU with each instruction set and several numbers of threads,
// and CUDA reached in each way, as far as this machine has them. The library that a program is linked with decides what
// CUDA is: the GPU, or the kernels on the host.
#pragma once

#include <string>
#include <vector>

#include "yololoss.h"

// The sanitizer of this build, said once. Under one the tests are the same on fewer numbers of threads; tests that a
// sanitizer cannot run have a label (test.h).
enum class Sanitizer { kNone, kAddress, kThread };
#if defined(__SANITIZE_THREAD__)
constexpr Sanitizer kSanitizer = Sanitizer::kThread;
#elif defined(__SANITIZE_ADDRESS__)
constexpr Sanitizer kSanitizer = Sanitizer::kAddress;
#else
constexpr Sanitizer kSanitizer = Sanitizer::kNone;
#endif

// A call reaches a device from host memory, or from device memory, blocking or enqueued.
enum class Way { kHost, kDevice, kAsync };

struct Device {
  std::string name;  // for messages
  int32_t kind = YL_DEVICE_AUTO, threads = 0;
  Way way = Way::kHost;
  const char *isa = nullptr;  // YOLOLOSS_ISA of its plans

  bool in_device_memory() const { return way != Way::kHost; }
};

Device reference_device();
Device cpu_device(int32_t threads, const char *isa = nullptr);
Device cuda_device(Way way, int32_t threads = 0);

// Returns the devices that every case runs over.
const std::vector<Device> &devices();

// Restricts devices() to those whose name contains the words.
void use_devices(const std::string &words);

// Returns whether two devices run the same code, so that their bits are the same.
bool same_kind(const Device &a, const Device &b);

// Returns the instruction sets of the cpu device that this processor has. Where the environment's YOLOLOSS_TEST_ISA
// names one, it is that one alone, and it must be there.
const std::vector<const char *> &isas();
bool is_one_isa_requested();

// Returns the numbers of threads of the cpu devices; one number under a sanitizer.
const std::vector<int32_t> &thread_counts();

// Returns whether the library has a usable CUDA device.
bool has_cuda();

// Returns whether the CUDA device is the kernels on the host, whose runtime fails on request.
bool is_cuda_on_the_host();

// Sets or removes (NULL) a variable of the environment. Writes only what changes: other threads may read it at the same
// time.
void set_environment(const char *name, const char *value);
