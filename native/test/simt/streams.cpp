// Stands in for the streams, events, captures and graphs of the CUDA runtime.
//
// A stream is a queue of operations (kernels, copies). An operation runs only when something waits for it: its stream,
// an event behind it, an operation that depends on it, or the device. cudaFree does not wait, because CUDA does not
// promise that it does. That is as late as CUDA allows, and always the same order, so that code which forgets to wait,
// or to order two streams, fails in every run. Dependencies are CUDA's: the order of a stream; events; and the legacy
// default stream, which each stream of its context that is not cudaStreamNonBlocking waits for, and which waits for all
// of these.
//
// A capture records launches and runs nothing. What CUDA does not allow during a capture ends it here too: the call
// returns an error, and so does cudaStreamEndCapture. Read runtime.cpp for memory and contexts.
#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "runtime.h"

struct simt_graph {
  std::vector<std::function<void()>> launches;
};

namespace {

// A place in the queue of a stream: the operation with that ticket, and all before it. Tickets grow from operation to
// operation over all streams, so that what an operation waits for has a smaller one.
struct Place {
  std::shared_ptr<simt_stream> stream;  // NULL: nothing to wait for
  uint64_t ticket = 0;
};

struct Operation {
  uint64_t ticket;
  std::vector<Place> after;
  std::function<void()> work;  // empty for an event
};

struct Capture {
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool ended_early;  // by a call that is not allowed during a capture
  simt_graph graph;
};

}  // namespace

struct simt_stream {
  CUcontext context;
  bool blocking;                     // with regard to the legacy default stream, which is not itself blocking
  bool alive = true;                 // not destroyed
  std::deque<Operation> queue;       // not run yet
  uint64_t last = 0;                 // ticket of the last operation
  std::vector<Place> next_after;     // what the next operation waits for, by cudaStreamWaitEvent
  std::unique_ptr<Capture> capture;  // or NULL

  simt_stream(CUcontext of, bool blocks) : context(of), blocking(blocks) {}
};

struct simt_event {
  CUcontext context;
  Place recorded;
};

namespace simt {
namespace {

constexpr size_t kMostQueued = 1024;  // operations of a stream; with more, CUDA too makes the host wait

// All are guarded by device_mutex. The containers are never destroyed, because a program may end with operations in a
// queue, after the destructors of this file.
auto &streams = *new std::vector<std::shared_ptr<simt_stream>>;  // in the order of creation; legacy ones included
auto &events = *new std::map<const simt_event *, std::unique_ptr<simt_event>>;
uint64_t tickets = 0;

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

using Lock = std::lock_guard<std::recursive_mutex>;

std::shared_ptr<simt_stream> add_stream(bool blocking) {
  streams.push_back(std::make_shared<simt_stream>(context(), blocking));
  return streams.back();
}

// Returns a stream by its handle; NULL is the legacy default stream of the current context. Faults if the stream has
// been destroyed.
std::shared_ptr<simt_stream> stream_of(cudaStream_t handle) {
  if (!handle) {
    simt_stream *&legacy = context()->legacy;
    if (!legacy) legacy = add_stream(false).get();
    handle = legacy;
  }
  for (const auto &stream : streams)
    if (stream.get() == handle && stream->alive) return stream;
  fault("a stream is used that does not live");
}

simt_event &event_of(cudaEvent_t handle) {
  const auto found = events.find(handle);
  if (found == events.end()) fault("an event is used that does not live");
  return *found->second;
}

bool is_legacy(const simt_stream &stream) { return stream.context->legacy == &stream; }

// Runs the operations of a stream up to a ticket, each after those that it waits for. The recursion visits a stream
// once at most: an operation waits only for smaller tickets, and those of a stream that is being visited have been run.
void finish(simt_stream &stream, uint64_t ticket) {
  while (!stream.queue.empty() && stream.queue.front().ticket <= ticket) {
    for (const Place &place : stream.queue.front().after) finish(*place.stream, place.ticket);
    const Operation operation = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (operation.work) operation.work();
  }
}

void finish(const Place &place) {
  if (place.stream) finish(*place.stream, place.ticket);
}

bool is_done(const Place &place) {
  return !place.stream || place.stream->queue.empty() || place.stream->queue.front().ticket > place.ticket;
}

// Appends an operation to a stream that is not captured, and returns its place.
Place enqueue(const std::shared_ptr<simt_stream> &stream, std::function<void()> work) {
  Operation operation{++tickets, std::move(stream->next_after), std::move(work)};
  stream->next_after.clear();
  for (const auto &other : streams)
    if (other->context == stream->context &&
        (is_legacy(*stream) ? other->blocking : stream->blocking && is_legacy(*other)) && !other->queue.empty())
      operation.after.push_back({other, other->last});
  stream->last = operation.ticket;
  stream->queue.push_back(std::move(operation));
  if (stream->queue.size() > kMostQueued) finish(*stream, stream->queue.front().ticket);
  return {stream, stream->last};
}

// Ends the captures for which a condition holds, and returns the error if there is one.
template <class Condition> cudaError_t end_captures(const Condition &condition, cudaError_t error) {
  cudaError_t result = cudaSuccess;
  for (const auto &stream : streams)
    if (stream->capture && condition(*stream)) {
      stream->capture->ended_early = true;
      result = error;
    }
  return result;
}

// Checks the use of a stream by anything but a launch. A captured stream cannot be waited for; a legacy default stream
// cannot be used while a stream that it would wait for is captured.
cudaError_t check_capture(const simt_stream &used) {
  if (is_legacy(used))
    return end_captures(
        [&](const simt_stream &captured) { return captured.blocking && captured.context == used.context; },
        cudaErrorStreamCaptureImplicit);
  return end_captures([&](const simt_stream &captured) { return &captured == &used; },
                      cudaErrorStreamCaptureUnsupported);
}
#define CHECK_CAPTURE(stream) \
  if (const cudaError_t error = simt::check_capture(stream)) return error

// Appends a copy. CUDA would record one in a captured stream, but yl_loss_async promises that it does not copy.
cudaError_t enqueue_copy(cudaStream_t handle, std::function<void()> copy, bool wait) {
  const Lock lock(device_mutex);
  const auto stream = stream_of(handle);
  if (stream->capture) fault("a copy in a captured stream");
  CHECK_CAPTURE(*stream);
  const Place place = enqueue(stream, std::move(copy));
  if (wait) finish(place);
  return cudaSuccess;
}

}  // namespace

void drop_queues() {
  const Lock lock(device_mutex);
  for (const auto &stream : streams) stream->queue.clear();
}

// CUDA's rule, in the words of cudaThreadExchangeStreamCaptureMode: a thread of global mode is not allowed unsafe calls
// during its own captures nor during a global one of any thread; one of thread-local mode, during its own; one of
// relaxed mode is allowed them. A capture of relaxed mode forbids nothing.
cudaError_t unsafe_in_capture() {
  const Lock lock(device_mutex);
  if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  return end_captures(
      [](const simt_stream &stream) {
        const Capture &capture = *stream.capture;
        const bool own = capture.thread == std::this_thread::get_id();
        return (own && capture.mode != cudaStreamCaptureModeRelaxed) ||
               (thread_mode == cudaStreamCaptureModeGlobal && capture.mode == cudaStreamCaptureModeGlobal);
      },
      cudaErrorStreamCaptureUnsupported);
}

cudaError_t enqueue_launch(cudaStream_t handle, std::function<void()> launch) {
  const Lock lock(device_mutex);
  const auto stream = stream_of(handle);
  if (stream->context != context()) return cudaErrorInvalidResourceHandle;
  if (stream->capture) {
    if (stream->capture->ended_early) return cudaErrorStreamCaptureInvalidated;
    stream->capture->graph.launches.push_back(std::move(launch));
    return cudaSuccess;
  }
  CHECK_CAPTURE(*stream);
  enqueue(stream, std::move(launch));
  return cudaSuccess;
}

}  // namespace simt

using simt::device_mutex;
using simt::event_of;
using simt::finish;
using simt::Lock;
using simt::stream_of;

// ---- Copies ---------------------------------------------------------------------------------------------------------

// Memory that is not pinned: CUDA waits for a copy to it, and between two of them; it copies from it before the
// function returns, but the copy to the device need not be done then.
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  MAY_FAIL();
  std::vector<char> staged;
  const bool pageable = simt::kind_of(from) == cudaMemoryTypeUnregistered;
  const bool wait = simt::kind_of(to) == cudaMemoryTypeUnregistered;
  if (pageable && !wait) staged.assign(static_cast<const char *>(from), static_cast<const char *>(from) + bytes);
  return simt::enqueue_copy(
      stream,
      [=, staged = std::move(staged)] {
        const simt::DeviceAccess access;
        std::memmove(to, staged.empty() ? from : staged.data(), bytes);
      },
      wait);
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) {
  MAY_FAIL();
  return simt::enqueue_copy(
      stream,
      [=] {
        const simt::DeviceAccess access;
        std::memset(memory, value, bytes);
      },
      false);
}

// ---- Streams and events ---------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  MAY_FAIL();
  const Lock lock(device_mutex);
  *stream = simt::add_stream(flags != cudaStreamNonBlocking).get();
  return cudaSuccess;
}

// Returns at once: what is queued still runs.
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  const Lock lock(device_mutex);
  stream_of(handle)->alive = false;
  const auto is_over = [](const auto &stream) { return !stream->alive && stream->queue.empty(); };
  simt::streams.erase(std::remove_if(simt::streams.begin(), simt::streams.end(), is_over), simt::streams.end());
  return cudaSuccess;
}

// A wait that fails on request has waited, like one that reports the failure of a kernel.
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const cudaError_t result = simt::call_fails() ? cudaErrorLaunchFailure : cudaSuccess;
  const Lock lock(device_mutex);
  const auto stream = stream_of(handle);
  CHECK_CAPTURE(*stream);
  finish(simt::enqueue(stream, nullptr));
  return result;
}

// Runs nothing: a loop that queries a stream instead of waiting for it does not end.
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const Lock lock(device_mutex);
  const auto stream = stream_of(handle);
  CHECK_CAPTURE(*stream);
  return stream->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  const Lock lock(device_mutex);
  const auto stream = stream_of(handle);
  CHECK_CAPTURE(*stream);
  if (!simt::is_done(event_of(event).recorded)) stream->next_after.push_back(event_of(event).recorded);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  MAY_FAIL();
  const Lock lock(device_mutex);
  auto made = std::make_unique<simt_event>(simt_event{simt::context(), {}});
  *event = made.get();
  simt::events[*event] = std::move(made);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Lock lock(device_mutex);
  event_of(event);
  simt::events.erase(event);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  MAY_FAIL();
  const Lock lock(device_mutex);
  const auto stream = stream_of(handle);
  if (event_of(event).context != stream->context) return cudaErrorInvalidResourceHandle;
  CHECK_CAPTURE(*stream);  // CUDA allows it; the backend records no event in a captured stream
  event_of(event).recorded = simt::enqueue(stream, nullptr);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const cudaError_t result = simt::call_fails() ? cudaErrorLaunchFailure : cudaSuccess;
  UNSAFE_IN_CAPTURE();
  const Lock lock(device_mutex);
  finish(event_of(event).recorded);
  return result;
}

// A device cannot be waited for while any stream of it is captured, in whatever mode.
cudaError_t cudaDeviceSynchronize() {
  const cudaError_t result = simt::call_fails() ? cudaErrorLaunchFailure : cudaSuccess;
  const Lock lock(device_mutex);
  const CUcontext current = simt::context();
  const cudaError_t error = simt::end_captures([&](const simt_stream &captured) { return captured.context == current; },
                                               cudaErrorStreamCaptureUnsupported);
  if (error != cudaSuccess) return error;
  for (const auto &stream : simt::streams)
    if (stream->context == current) finish(*stream, stream->last);
  return result;
}

// ---- Captures and graphs --------------------------------------------------------------------------------------------

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) {
  std::swap(simt::thread_mode, *mode);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus *status) {
  const Lock lock(device_mutex);
  const auto stream = stream_of(handle);
  *status = !stream->capture               ? cudaStreamCaptureStatusNone
            : stream->capture->ended_early ? cudaStreamCaptureStatusInvalidated
                                           : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const Lock lock(device_mutex);
  const auto stream = stream_of(handle);
  if (simt::is_legacy(*stream) || stream->capture) return cudaErrorStreamCaptureUnsupported;
  stream->capture = std::make_unique<Capture>(Capture{mode, std::this_thread::get_id(), false, {}});
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *graph) {
  const Lock lock(device_mutex);
  const auto stream = stream_of(handle);
  *graph = nullptr;
  if (!stream->capture) return cudaErrorStreamCaptureUnmatched;
  const std::unique_ptr<Capture> capture = std::move(stream->capture);
  if (capture->ended_early) return cudaErrorStreamCaptureInvalidated;
  *graph = new simt_graph(std::move(capture->graph));
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *replay, cudaGraph_t graph, unsigned long long) {
  *replay = new simt_graph(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t replay, cudaStream_t handle) {
  const Lock lock(device_mutex);
  const auto stream = stream_of(handle);
  CHECK_CAPTURE(*stream);
  for (const auto &launch : replay->launches) simt::enqueue(stream, launch);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t replay) {
  delete replay;
  return cudaSuccess;
}
