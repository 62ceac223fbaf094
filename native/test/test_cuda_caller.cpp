// Tests what a caller that uses CUDA itself relies on: its current context stays as it was, its captures go on, and its
// memory is checked. This file needs the runtime of the library that it is linked with, and is compiled for each.
//
// The contexts are observed by functions of the driver, which are fetched as the library fetches them.
#include <cuda.h>
#include <cuda_runtime.h>
#include <sys/mman.h>

#include <cstdlib>
#include <functional>
#include <thread>

#include "plan.h"
#include "test.h"

#define CUDA_TEST(behaviour) TEST_LABELLED(cuda, behaviour, kNeedsCuda)

namespace {

// Returns a function of the driver, with the signature that it had in a version of CUDA.
template <class Function> Function *driver(const char *name, unsigned version) {
  void *function = nullptr;
  cudaDriverEntryPointQueryResult found;
  CHECK(cudaGetDriverEntryPointByVersion(name, &function, version, cudaEnableDefault, &found) == cudaSuccess, name);
  return reinterpret_cast<Function *>(function);
}

CUcontext current_context() {
  static auto *const get = driver<CUresult(CUcontext *)>("cuCtxGetCurrent", 4000);
  CUcontext context = nullptr;
  CHECK(get(&context) == CUDA_SUCCESS);
  return context;
}

bool has_primary_context(int device) {
  static auto *const state = driver<CUresult(CUdevice, unsigned *, int *)>("cuDevicePrimaryCtxGetState", 7000);
  unsigned flags = 0;
  int active = 0;
  CHECK(state(device, &flags, &active) == CUDA_SUCCESS);
  return active != 0;
}

int32_t device_count() {
  int32_t count = 0;
  CHECK_OK(yl_device_count(YL_DEVICE_CUDA, &count));
  return count;
}

// Runs everything that touches a device, and a check with its name after each.
void use_device(int32_t device, const std::function<void(const char *)> &check) {
  void *memory = nullptr, *pinned = nullptr, *stream = nullptr;
  char bytes[8] = {};
  CHECK_OK(yl_device_malloc_host(YL_DEVICE_CUDA, 8, &pinned));
  check("yl_device_malloc_host");
  CHECK_OK(yl_device_malloc(YL_DEVICE_CUDA, device, 8, &memory));
  check("yl_device_malloc");
  CHECK_OK(yl_stream_create(YL_DEVICE_CUDA, device, &stream));
  check("yl_stream_create");
  CHECK_OK(yl_device_copy_async(YL_DEVICE_CUDA, device, memory, pinned, 8, stream));
  CHECK_OK(yl_stream_synchronize(YL_DEVICE_CUDA, device, stream));
  CHECK_OK(yl_device_copy(YL_DEVICE_CUDA, device, bytes, memory, 8));
  check("a copy");
  CHECK_OK(yl_stream_destroy(YL_DEVICE_CUDA, device, stream));
  check("yl_stream_destroy");
  CHECK_OK(yl_device_free(YL_DEVICE_CUDA, memory));
  check("yl_device_free");
  CHECK_OK(yl_device_free_host(YL_DEVICE_CUDA, pinned));
  check("yl_device_free_host");
  CHECK_REFUSED(yl_device_free(YL_DEVICE_CUDA, bytes), YL_INVALID_ARGUMENT, "is not memory of CUDA's");
  check("yl_device_free of host memory");

  Config c;
  c.config.device = YL_DEVICE_CUDA;
  c.config.device_index = device;
  CHECK_OK(c.create());
  check("yl_plan_create");
  const std::vector<float> feats(2 * 4 * 4 * 3 * 7, 0.5f);
  const void *feats_at[] = {feats.data()};
  const yl_boxes boxes = YL_BOXES_INIT;
  yl_call call = YL_CALL_INIT;
  call.batch = 2;
  call.feats = feats_at;
  call.boxes = &boxes;
  CHECK_OK(yl_loss(c.plan, &call, nullptr));
  check("yl_loss");
  yl_plan_destroy(c.plan);
  c.plan = nullptr;
  check("yl_plan_destroy");
}

// Runs a body on a thread of its own, which has no context.
void on_fresh_thread(const std::function<void()> &body) { std::thread(body).join(); }

}  // namespace

// ---- Contexts -------------------------------------------------------------------------------------------------------

CUDA_TEST(a_thread_without_a_context_has_none_after_a_call) {
  on_fresh_thread(
      [] { use_device(device_count() - 1, [](const char *call) { CHECK(current_context() == nullptr, call); }); });
}

CUDA_TEST(the_context_that_a_caller_made_stays_current) {
  on_fresh_thread([] {
    CUcontext own = nullptr;
    CHECK(driver<CUresult(CUcontext *, unsigned, CUdevice)>("cuCtxCreate", 3020)(&own, 0, 0) == CUDA_SUCCESS);
    for (int32_t device = 0; device < device_count(); ++device)
      use_device(device, [&](const char *call) { CHECK(current_context() == own, call); });
    CHECK(driver<CUresult(CUcontext)>("cuCtxDestroy", 4000)(own) == CUDA_SUCCESS);
  });
}

// A plan that was made in one context is called, and destroyed, by threads with another one, and with none.
CUDA_TEST(a_plan_works_in_every_context_of_its_caller) {
  const Case c = golden("a_small_3scale");
  auto p = std::make_unique<Plan>(c, cuda_device(Way::kHost, 1));
  CHECK_OK(p->run(Truths::kYTrue));
  const auto rows = p->rows;
  on_fresh_thread([&] {
    CHECK_OK(p->run(Truths::kYTrue));
    CHECK_SAME_BITS(p->rows, rows);
    CUcontext own = nullptr;
    CHECK(driver<CUresult(CUcontext *, unsigned, CUdevice)>("cuCtxCreate", 3020)(&own, 0, 0) == CUDA_SUCCESS);
    CHECK_OK(p->run(Truths::kYTrue));
    CHECK_SAME_BITS(p->rows, rows);
    p.reset();
    CHECK(current_context() == own);
    CHECK(driver<CUresult(CUcontext)>("cuCtxDestroy", 4000)(own) == CUDA_SUCCESS);
  });
}

// Needs two devices, and a process that has not used device 0 yet: CTest runs each test in its own.
CUDA_TEST(no_context_appears_on_a_device_that_is_not_used) {
  const int32_t count = device_count(), device = count - 1;
  CHECK(count >= 1);
  if (count < 2 || has_primary_context(0)) return;
  on_fresh_thread([&] {
    void *memory = nullptr;  // the device is in use before pinned memory is made
    CHECK_OK(yl_device_malloc(YL_DEVICE_CUDA, device, 8, &memory));
    CHECK(has_primary_context(device));
    use_device(device, [](const char *call) { CHECK(!has_primary_context(0), call); });
    on_fresh_thread([&] { CHECK_OK(yl_device_free(YL_DEVICE_CUDA, memory)); });
    CHECK(!has_primary_context(0), "yl_device_free on another thread");
  });
}

// ---- Captures -------------------------------------------------------------------------------------------------------

namespace {

// A plan, its call in device memory, and a stream of the caller that does not wait for the legacy default stream.
struct Caller {
  Plan p;
  std::unique_ptr<Plan::OnDevice> there;
  Pinned pinned{sizeof(yl_summary)};
  yl_summary *summary = pinned.as<yl_summary>();
  yl_result result = YL_RESULT_INIT;
  cudaStream_t stream = nullptr;

  explicit Caller(const Case &c) : p(c, cuda_device(Way::kDevice)) {
    CHECK_OK(p.run(Truths::kBoxes));
    there = p.upload();
    *summary = {};
    result.summary = summary;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  }
  ~Caller() { CHECK(cudaStreamDestroy(stream) == cudaSuccess); }
  yl_status enqueue() { return yl_loss_async(p.plan, &there->call, stream, &result); }
  void destroy_plan() {
    yl_plan_destroy(p.made.plan);
    p.made.plan = p.plan = nullptr;
  }
};

}  // namespace

CUDA_TEST(plans_and_memory_come_and_go_while_another_thread_captures) {
  for (const auto mode : {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal}) {
    const Case c = golden("a_small_3scale");
    Caller caller(c), other(c);
    CHECK_OK(other.enqueue());
    CHECK(cudaStreamBeginCapture(caller.stream, mode) == cudaSuccess);
    CHECK_OK(caller.enqueue());
    on_fresh_thread([&] {
      other.destroy_plan();
      void *memory = nullptr, *pinned = nullptr;
      CHECK_OK(yl_device_malloc(YL_DEVICE_CUDA, 0, 8, &memory));
      CHECK_OK(yl_device_malloc_host(YL_DEVICE_CUDA, 8, &pinned));
      CHECK_OK(yl_device_free(YL_DEVICE_CUDA, memory));
      CHECK_OK(yl_device_free_host(YL_DEVICE_CUDA, pinned));
      Plan host(c, cuda_device(Way::kHost, 1));
      CHECK_OK(host.run(Truths::kYTrue));
    });
    cudaGraph_t graph = nullptr;
    CHECK(cudaStreamEndCapture(caller.stream, &graph) == cudaSuccess, std::to_string(mode));
    if (graph) CHECK(cudaGraphDestroy(graph) == cudaSuccess);
    CHECK_EQUAL(other.summary->total, other.p.summary.total);
  }
}

// Not after what uses them otherwise: that is the caller's.
CUDA_TEST(a_plan_is_destroyed_and_memory_is_freed_after_enqueued_calls) {
  RandomCase wanted;
  wanted.batch = 5;
  wanted.classes = 80;
  wanted.grids = {{26, 26, 3}};
  Caller caller(random_case(wanted));
  const auto is_done_after = [&](const std::function<void()> &free) {
    for (int i = 0; i < 4; ++i) CHECK_OK(caller.enqueue());
    on_fresh_thread(free);
    return cudaStreamQuery(caller.stream) == cudaSuccess;
  };
  void *memory = nullptr, *pinned = nullptr;
  CHECK_OK(yl_device_malloc(YL_DEVICE_CUDA, 0, 8, &memory));
  CHECK_OK(yl_device_malloc_host(YL_DEVICE_CUDA, 8, &pinned));
  CHECK(is_done_after([&] { CHECK_OK(yl_device_free(YL_DEVICE_CUDA, memory)); }));
  CHECK(is_done_after([&] { CHECK_OK(yl_device_free_host(YL_DEVICE_CUDA, pinned)); }));
  CHECK(is_done_after([&] { caller.destroy_plan(); }));
  CHECK_EQUAL(caller.summary->total, caller.p.summary.total);
}

// ---- Failures of the device -----------------------------------------------------------------------------------------
// A GPU does not fail on request; the kernels on the host do.

namespace {

// Makes the launch of the second of the two kernels of a call fail.
void fail_second_launch(Caller &caller) {
  setenv("SIMT_FAIL_LAUNCH", "1", 1);
  CHECK_REFUSED(caller.enqueue(), YL_DEVICE_FAILED, "CUDA failed while starting a kernel");
  unsetenv("SIMT_FAIL_LAUNCH");
}

}  // namespace

// The first kernel of the failed call, and the calls before it, are still queued when it fails. What they count must
// not be added to the counts of the next call, on whatever stream it runs.
CUDA_TEST(a_call_after_one_that_failed_half_way_counts_nothing_twice) {
  if (!is_cuda_on_the_host()) return;
  for (const bool same_stream : {true, false}) {
    Caller caller(golden("a_small_3scale"));
    const yl_summary want = caller.p.summary;
    CHECK_OK(caller.enqueue());
    fail_second_launch(caller);
    *caller.summary = {};
    if (same_stream) {
      CHECK_OK(caller.enqueue());
      CHECK(cudaStreamSynchronize(caller.stream) == cudaSuccess);
    } else {
      CHECK_OK(caller.p.run(Truths::kBoxes));
      *caller.summary = caller.p.summary;
    }
    CHECK_EQUAL(caller.summary->objects, want.objects);
    CHECK_EQUAL(caller.summary->boxes.used, want.boxes.used);
    CHECK_EQUAL(caller.summary->total, want.total);
  }
}

// Half a call must not be replayed.
CUDA_TEST(a_call_that_fails_half_way_ends_the_capture_of_its_stream) {
  if (!is_cuda_on_the_host()) return;
  Caller caller(golden("a_small_3scale"));
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamBeginCapture(caller.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  fail_second_launch(caller);
  CHECK(cudaStreamEndCapture(caller.stream, &graph) == cudaErrorStreamCaptureInvalidated);
  CHECK(graph == nullptr);
  CHECK_OK(caller.enqueue());
  CHECK(cudaStreamSynchronize(caller.stream) == cudaSuccess);
  CHECK_EQUAL(caller.summary->total, caller.p.summary.total);
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

// Needs two devices that can reach each other. Access that was enabled can be disabled again.
CUDA_TEST(memory_of_a_peer_device_is_accepted_while_it_can_be_reached) {
  const Case c = golden("a_small_3scale");
  Caller caller(c);
  int can = 0;
  if (device_count() >= 2) CHECK(cudaDeviceCanAccessPeer(&can, 0, 1) == cudaSuccess);
  if (!can) return;
  void *elsewhere = nullptr;
  const int64_t bytes = caller.p.bytes_of(0);
  CHECK_OK(yl_device_malloc(YL_DEVICE_CUDA, 1, bytes, &elsewhere));
  CHECK_OK(yl_device_copy(YL_DEVICE_CUDA, 1, elsewhere, caller.p.feats[0], bytes));
  caller.there->feats[0] = elsewhere;
  const auto loss = [&] { return yl_loss(caller.p.plan, &caller.there->call, &caller.p.result); };
  CHECK_REFUSED(loss(), YL_INVALID_ARGUMENT, "is memory of cuda:1, this plan is on cuda:0");
  const auto rows = caller.p.rows;
  CHECK(cudaSetDevice(0) == cudaSuccess);
  CHECK(cudaDeviceEnablePeerAccess(1, 0) == cudaSuccess);
  CHECK_OK(loss());
  CHECK_SAME_BITS(caller.p.rows, rows);
  CHECK(cudaDeviceDisablePeerAccess(1) == cudaSuccess);
  CHECK_REFUSED(loss(), YL_INVALID_ARGUMENT, "is memory of cuda:1, this plan is on cuda:0");
  CHECK_OK(yl_device_free(YL_DEVICE_CUDA, elsewhere));
}

// malloc may hand out the address of pinned memory that was freed. mmap stands for it, because it can be given the
// address. A kernel that wrote there would end the CUDA context of the process.
CUDA_TEST(host_memory_at_the_address_of_freed_pinned_memory_is_refused) {
  Caller caller(golden("a_small_3scale"));
  void *pinned = nullptr;
  CHECK_OK(yl_device_malloc_host(YL_DEVICE_CUDA, sizeof(yl_summary), &pinned));
  caller.result.summary = static_cast<yl_summary *>(pinned);
  CHECK_OK(caller.enqueue());
  CHECK_OK(yl_device_free_host(YL_DEVICE_CUDA, pinned));
  constexpr uintptr_t kPage = 4096;
  void *const page = reinterpret_cast<void *>(reinterpret_cast<uintptr_t>(pinned) / kPage * kPage);
  void *const mapped =
      mmap(page, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (mapped == MAP_FAILED) return;  // the driver keeps the address
  CHECK(mapped == page);
  CHECK_REFUSED(caller.enqueue(), YL_INVALID_ARGUMENT, "result.summary at");
  CHECK(cudaStreamSynchronize(caller.stream) == cudaSuccess);
  munmap(mapped, kPage);
}
