// The functions of yololoss.h: each takes the lock of the plan, checks its arguments (check/), runs the backend, turns
// the backend's rows into the result, and every failure into a status and a sentence.
//
// The functions of the C interface at the end only forward; those that have a _holding or a DLPack variant share one
// function of the anonymous namespace. Errors travel inside the library as exceptions, which guarded() converts:
// nothing else may swallow one or leak one. Read check/check.h and backend.h next.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <system_error>

#include "abi.h"
#include "audit.h"
#include "check/check.h"
#include "check/dlpack.h"
#include "exact_sum.h"
#include "yololoss_binding.h"

// A plan: the checked config, the backend that was made for it, and everything that a call needs and must not allocate.
// It never moves, because the backend keeps a reference to shape. in_use serialises the calls; device_name, device_why
// and shape do not change once the plan is made, so they are read without the lock.
struct yl_plan {
  yl::Shape shape;
  std::string device_name, device_why;
  std::unique_ptr<yl::Backend> backend;
  std::vector<yl_parts> rows;     // (max_batch, L)
  std::vector<yl_parts> layers;   // (L)
  std::vector<yl::Range> ranges;  // scratch of the checks
  yl::LastGradient last;
  std::mutex in_use;
};

namespace {

using yl::fail;

// The sentence of yl_last_error(). It is an array, not a string, so that a failure to allocate can be reported without
// an allocation; longer sentences are cut off.
thread_local char last_error[512] = "";

// Stores the sentence of a failure and returns its status. more is appended to sentence.
yl_status failed(yl_status status, const char *sentence, const char *more = "") noexcept {
  std::snprintf(last_error, sizeof last_error, "%s%s", sentence, more);
  return status;
}

// Runs body and converts its exception to a status; the only way out for an exception, which must not reach a caller
// written in C, Java or Python. The library throws Failure for everything that it detects. Of the others, bad_alloc and
// length_error come from containers, system_error from threads that cannot be started; any other exception is a bug in
// the library.
template <class Body> yl_status guarded(const Body &body) noexcept {
  try {
    body();
    return YL_OK;
  } catch (const yl::Failure &e) {
    return failed(e.status, e.sentence.c_str());
  } catch (const std::bad_alloc &) {
    return failed(YL_OUT_OF_MEMORY, "out of memory for the workspace; use a smaller max_batch");
  } catch (const std::length_error &) {
    return failed(YL_OUT_OF_MEMORY, "out of memory for the workspace; use a smaller max_batch");
  } catch (const std::system_error &e) {
    return failed(YL_OUT_OF_MEMORY, "threads could not be started: ", e.what());
  } catch (const std::exception &e) {
    return failed(YL_INTERNAL, "fault in the library: ", e.what());
  } catch (...) {
    return failed(YL_INTERNAL, "fault in the library: unknown exception");
  }
}

// Runs body with a plan while no other call uses it.
template <class Body> yl_status with_plan(yl_plan *plan, const Body &body) noexcept {
  return guarded([&] {
    if (!plan) fail(YL_INVALID_ARGUMENT, "plan is NULL; make one with yl_plan_create");
    const std::lock_guard<std::mutex> lock(plan->in_use);
    body(*plan);
  });
}

// Makes the backend of a plan whose shape is set, and the two texts that describe it. They are composed here, so that
// yl_device_name and yl_device_why can return them without an allocation.
void make_backend(const yl_config &config, yl_plan &plan) {
  const yl::BackendEntry &entry = yl::backend_of(plan.shape.device, plan.shape.device_index);
  plan.backend = entry.make(plan.shape);
  plan.device_name = entry.name;
  if (entry.memory) plan.device_name += ":" + std::to_string(plan.shape.device_index);
  plan.device_why = config.device != YL_DEVICE_AUTO ? "requested by name" : std::string("auto: ") + entry.auto_reason;
  plan.device_why += "; " + plan.backend->description();
}

// Writes the result of a call from the rows that the backend has left in plan.rows: adds the rows of each layer in the
// order of the images, divides by the normaliser, and copies the parts that are requested. Everything is computed in
// the plan's memory first, so the caller's memory is written once, with final values.
void give_result(yl_plan &plan, const yl::Call &call, const yl::Outcome &outcome, const yl_result &result) {
  const int32_t layer_count = plan.shape.layer_count();
  for (int32_t l = 0; l < layer_count; ++l)
    plan.layers[l] = yl::layer_sum(plan.rows.data(), call.batch, layer_count, l);
  yl_summary summary;
  yl::summarise(plan.layers.data(), layer_count, outcome.normaliser, outcome.boxes, summary);
  if (result.summary) *result.summary = summary;
  if (result.layers) std::copy(plan.layers.begin(), plan.layers.end(), result.layers);
  if (result.rows) std::copy_n(plan.rows.begin(), int64_t(call.batch) * layer_count, result.rows);
}

// Checks a call and computes it by body(plan, call, result).
//
// It also keeps LastGradient up to date, which decides whether the next call may use YL_GRAD_REFRESH. After a call with
// a gradient, its buffers are known, and hold at least as many images as before if they are the same buffers: a smaller
// batch leaves the later images unchanged, and the backend still knows their objects. A sum (YL_GRAD_ACCUMULATE) is no
// gradient to refresh, so batch becomes 0. If the device fails, or a cuda plan runs out of memory in mid-call, the
// buffers may hold anything. The other failures are detected before anything is written, and leave what is known
// unchanged. A call without a gradient writes no buffer and is not remembered.
//
// result may be NULL, which is the same as a result without any part. The sizes of the first versions of the structs
// are passed to take_sized, since both have grown.
template <class Body>
yl_status checked_call(yl_plan *plan, const yl_call *call, const yl_result *result, const Body &body) noexcept {
  return with_plan(plan, [&](yl_plan &p) {
    const yl_result none = YL_RESULT_INIT;
    const auto outputs =
        yl::take_sized<yl_result>("result", result ? result : &none, YL_RESULT_INIT, offsetof(yl_result, completion));
    const auto given = yl::take_sized<yl_call>("call", call, YL_CALL_INIT, offsetof(yl_call, normaliser_at));
    const yl::Call checked = yl::check_call(p.shape, given, outputs, p.last, p.ranges);
    if (!checked.grads) return body(p, checked, outputs);
    if (p.shape.debug && checked.refresh() && !p.shape.device_memory) check_refreshed(p.shape, *p.backend, checked);
    const bool same = std::equal(p.last.grads.begin(), p.last.grads.end(), checked.grads);
    const int32_t batch = same ? std::max(p.last.batch, checked.batch) : checked.batch;
    try {
      body(p, checked, outputs);
    } catch (const yl::Failure &e) {
      if (e.status == YL_DEVICE_FAILED || e.status == YL_OUT_OF_MEMORY) p.last.batch = 0;
      throw;
    }
    std::copy_n(checked.grads, p.last.grads.size(), p.last.grads.begin());
    p.last.batch = checked.grad_mode == YL_GRAD_ACCUMULATE ? 0 : batch;
  });
}

// Implements yl_loss. completion is refused, because a caller who passes it expects an enqueued call.
yl_status loss(yl_plan *plan, const yl_call *call, const yl_result *result) noexcept {
  return checked_call(plan, call, result, [](yl_plan &p, const yl::Call &checked, const yl_result &outputs) {
    if (outputs.completion)
      fail(YL_INVALID_ARGUMENT, "result.completion is given, which is for yl_loss_async; NULL is expected");
    give_result(p, checked, p.backend->loss(checked, p.rows.data()), outputs);
  });
}

// Implements yl_loss_async. The backend writes the result when the device has computed it, so give_result is not
// involved.
yl_status loss_async(yl_plan *plan, const yl_call *call, void *stream, const yl_result *result) noexcept {
  return checked_call(plan, call, result, [&](yl_plan &p, const yl::Call &checked, const yl_result &outputs) {
    if (!p.shape.device_memory)
      fail(YL_UNSUPPORTED,
           "yl_loss_async needs a cuda plan with memory YL_MEMORY_DEVICE, this one is on %s with host memory; "
           "use yl_loss",
           p.device_name.c_str());
    p.backend->loss_async(checked, stream, outputs);
  });
}

// Runs body(call) with the call that tensors stand for, and returns its status. The shape of a plan never changes, so
// it is read without the lock; body takes the lock. body returns a status instead of throwing, and has then stored its
// own sentence, which the outer guarded() does not replace.
template <class Body>
yl_status with_tensors(const yl_plan *plan, const yl_tensors *tensors, const yl_call *options,
                       const Body &body) noexcept {
  yl_status status = YL_OK;
  const yl_status checked = guarded([&] {
    if (!plan) fail(YL_INVALID_ARGUMENT, "plan is NULL; make one with yl_plan_create");
    status = body(yl::TensorCall(plan->shape, tensors, options).call());
  });
  return checked == YL_OK ? status : checked;
}

// Implements yl_audit. The backend is not involved: an audit runs on the host, whatever the device.
yl_status audit(yl_plan *plan, int32_t batch, const float *const *y_true, const yl_boxes *boxes, float poor_iou,
                const yl_audit_result *result) noexcept {
  return with_plan(plan, [&](yl_plan &p) {
    const auto outputs = yl::take_sized<yl_audit_result>("result", result, YL_AUDIT_RESULT_INIT);
    const yl::Call call = yl::check_audit(p.shape, batch, y_true, boxes, poor_iou, outputs, p.ranges);
    yl::audit(p.shape, call, poor_iou, outputs);
  });
}

// Implements yl_yolo_head.
yl_status yolo_head(yl_plan *plan, const yl_head *head) noexcept {
  return with_plan(plan, [&](yl_plan &p) {
    const auto checked = yl::take_sized<yl_head>("head", head, YL_HEAD_INIT);
    yl::check_head(p.shape, checked, p.ranges);
    p.backend->yolo_head(checked);
  });
}

// Implements yl_build_y_true. The counts are written last, so that a failure leaves them unchanged.
yl_status build_y_true(yl_plan *plan, int32_t batch, const yl_boxes *boxes, float *const *y_true,
                       yl_box_counts *counts) noexcept {
  return with_plan(plan, [&](yl_plan &p) {
    const yl_boxes checked = yl::check_y_true(p.shape, batch, boxes, y_true, counts, p.ranges);
    const yl_box_counts seen = p.backend->build_y_true(batch, checked, y_true);
    if (counts) *counts = seen;
  });
}

// Stores the value that body makes in *place. On failure *place is none, so that a caller who ignores the status does
// not use an undefined pointer.
template <class T, class Body> yl_status made_at(T *place, T none, const char *name, const Body &body) noexcept {
  if (place) *place = none;
  return guarded([&] {
    if (!place) fail(YL_INVALID_ARGUMENT, "%s is NULL; a place for it is expected", name);
    *place = body();
  });
}

// A field of a public struct, for yl_offset_of. name is NULL for the struct itself; offset is then its size.
struct Field {
  const char *struct_name, *name;
  int64_t offset;
};

// All fields of all structs, by the lists of abi.h, which is generated from the headers. The offsets are those of the
// compiler, so that a binding can verify its own.
#define YL_FIELD(owner, type, field, offset) {#owner, #field, offsetof(owner, field)},
#define YL_STRUCT(name) {#name, nullptr, sizeof(name)}, YL_FIELDS_OF_##name(YL_FIELD)
const Field kFields[] = {YL_STRUCTS(YL_STRUCT)};
#undef YL_STRUCT
#undef YL_FIELD

// The offsets that other languages use were computed from the header; the compiler must have the same.
#define YL_FIELD(owner, type, field, offset) \
  static_assert(offsetof(owner, field) == offset, "offset of " #owner "." #field);
#define YL_STRUCT(name) YL_FIELDS_OF_##name(YL_FIELD)
YL_STRUCTS(YL_STRUCT)
#undef YL_STRUCT
#undef YL_FIELD

}  // namespace

extern "C" {

// All memory of a plan is allocated here, so that a call need not: rows for max_batch images, and room for the ranges
// of the overlap check.
yl_status yl_plan_create(const yl_config *config, yl_plan **plan) {
  if (plan) *plan = nullptr;
  return guarded([&] {
    if (!plan) fail(YL_INVALID_ARGUMENT, "plan is NULL; a place for the new plan is expected");
    const auto given = yl::take_sized<yl_config>("config", config, YL_CONFIG_INIT, offsetof(yl_config, rules));
    auto made = std::make_unique<yl_plan>();
    made->shape = yl::check_config(given);
    const auto layers = static_cast<size_t>(given.layer_count);
    made->layers.resize(layers);
    made->rows.resize(layers * static_cast<size_t>(given.max_batch));
    made->ranges.reserve(yl::kRangesOfLayer * layers + yl::kRangesOfCall);
    made->last.grads.resize(layers);
    make_backend(given, *made);
    *plan = made.release();
  });
}

void yl_plan_destroy(yl_plan *plan) { delete plan; }

const char *yl_device_name(const yl_plan *plan) { return plan ? plan->device_name.c_str() : ""; }

const char *yl_device_why(const yl_plan *plan) { return plan ? plan->device_why.c_str() : ""; }

yl_status yl_device_check(int32_t device, int32_t device_index) {
  return guarded([&] { yl::check_device(device, device_index); });
}

yl_status yl_loss(yl_plan *plan, const yl_call *call, const yl_result *result) { return loss(plan, call, result); }

// The _holding variants ignore their variadic tail; yololoss_binding.h says what it is for.
yl_status yl_loss_holding(yl_plan *plan, const yl_call *call, const yl_result *result, ...) {
  return loss(plan, call, result);
}

yl_status yl_loss_async(yl_plan *plan, const yl_call *call, void *stream, const yl_result *result) {
  return loss_async(plan, call, stream, result);
}

yl_status yl_loss_async_holding(yl_plan *plan, const yl_call *call, void *stream, const yl_result *result, ...) {
  return loss_async(plan, call, stream, result);
}

yl_status yl_loss_dlpack(yl_plan *plan, const yl_tensors *tensors, const yl_call *options, const yl_result *result) {
  return with_tensors(plan, tensors, options, [&](const yl_call *call) { return loss(plan, call, result); });
}

yl_status yl_loss_dlpack_async(yl_plan *plan, const yl_tensors *tensors, const yl_call *options, void *stream,
                               const yl_result *result) {
  return with_tensors(plan, tensors, options,
                      [&](const yl_call *call) { return loss_async(plan, call, stream, result); });
}

yl_status yl_yolo_head(yl_plan *plan, const yl_head *head) { return yolo_head(plan, head); }

yl_status yl_yolo_head_holding(yl_plan *plan, const yl_head *head, ...) { return yolo_head(plan, head); }

yl_status yl_build_y_true(yl_plan *plan, int32_t batch, const yl_boxes *boxes, float *const *y_true,
                          yl_box_counts *counts) {
  return build_y_true(plan, batch, boxes, y_true, counts);
}

yl_status yl_build_y_true_holding(yl_plan *plan, int32_t batch, const yl_boxes *boxes, float *const *y_true,
                                  yl_box_counts *counts, ...) {
  return build_y_true(plan, batch, boxes, y_true, counts);
}

yl_status yl_audit(yl_plan *plan, int32_t batch, const float *const *y_true, const yl_boxes *boxes, float poor_iou,
                   const yl_audit_result *result) {
  return audit(plan, batch, y_true, boxes, poor_iou, result);
}

yl_status yl_audit_holding(yl_plan *plan, int32_t batch, const float *const *y_true, const yl_boxes *boxes,
                           float poor_iou, const yl_audit_result *result, ...) {
  return audit(plan, batch, y_true, boxes, poor_iou, result);
}

yl_status yl_sum_add(int64_t *sum, int32_t layer_count, const yl_parts *rows, int32_t batch,
                     const yl_box_counts *boxes) {
  return guarded([&] { yl::sum_add(sum, layer_count, rows, batch, boxes); });
}

yl_status yl_sum_merge(int64_t *sum, int32_t layer_count, const int64_t *other) {
  return guarded([&] { yl::sum_merge(sum, layer_count, other); });
}

yl_status yl_sum_result(const int64_t *sum, int32_t layer_count, int32_t normaliser, double normaliser_value,
                        yl_summary *summary, yl_parts *layers) {
  return guarded([&] {
    const yl_summary made = yl::sum_result(sum, layer_count, normaliser, normaliser_value, layers);
    if (summary) *summary = made;
  });
}

yl_status yl_device_count(int32_t device, int32_t *count) {
  return made_at(count, 0, "count", [&] { return yl::memory_of(device, 0).count(); });
}

// take_sized rejects a wrong struct_size; the caller's own size is kept.
yl_status yl_device_get_properties(int32_t device, int32_t device_index, yl_device_properties *properties) {
  return guarded([&] {
    const yl::DeviceMemory &memory = yl::memory_of(device, device_index);
    const auto given = yl::take_sized<yl_device_properties>("properties", properties, YL_DEVICE_PROPERTIES_INIT);
    *properties = memory.properties(device_index);
    properties->struct_size = given.struct_size;
  });
}

yl_status yl_device_malloc(int32_t device, int32_t device_index, int64_t bytes, void **memory) {
  return made_at<void *>(memory, nullptr, "memory",
                         [&] { return yl::memory_of(device, device_index).allocate(device_index, bytes); });
}

// memory_of is called with index 0: the memory itself knows its device.
yl_status yl_device_free(int32_t device, void *memory) {
  return guarded([&] {
    if (memory) yl::memory_of(device, 0).free(memory);
  });
}

yl_status yl_device_malloc_host(int32_t device, int64_t bytes, void **memory) {
  return made_at<void *>(memory, nullptr, "memory", [&] { return yl::memory_of(device, 0).allocate_host(bytes); });
}

yl_status yl_device_free_host(int32_t device, void *memory) {
  return guarded([&] {
    if (memory) yl::memory_of(device, 0).free_host(memory);
  });
}

yl_status yl_device_copy(int32_t device, int32_t device_index, void *to, const void *from, int64_t bytes) {
  return guarded([&] { yl::memory_of(device, device_index).copy(device_index, to, from, bytes); });
}

yl_status yl_device_copy_async(int32_t device, int32_t device_index, void *to, const void *from, int64_t bytes,
                               void *stream) {
  return guarded([&] { yl::memory_of(device, device_index).copy_async(device_index, to, from, bytes, stream); });
}

yl_status yl_stream_create(int32_t device, int32_t device_index, void **stream) {
  return made_at<void *>(stream, nullptr, "stream",
                         [&] { return yl::memory_of(device, device_index).stream_create(device_index); });
}

yl_status yl_stream_destroy(int32_t device, int32_t device_index, void *stream) {
  return guarded([&] { yl::memory_of(device, device_index).stream_destroy(device_index, stream); });
}

yl_status yl_stream_synchronize(int32_t device, int32_t device_index, void *stream) {
  return guarded([&] { yl::memory_of(device, device_index).stream_synchronize(device_index, stream); });
}

// The text stays valid until the next failure on this thread, because it is the thread's own array.
const char *yl_last_error(void) { return last_error; }

// The names come from abi.h too, so a new status cannot be forgotten here.
const char *yl_status_name(int32_t status) {
  switch (status) {
#define YL_NAME(name) \
  case name: return #name;
    YL_NAMES_OF_yl_status(YL_NAME)
#undef YL_NAME
    default: return "unknown status";
  }
}

// Two macros are needed, because # does not expand its argument.
#define YL_TEXT_OF(x) #x
#define YL_TEXT(x) YL_TEXT_OF(x)
const char *yl_version_string(void) {
  return YL_TEXT(YL_VERSION_MAJOR) "." YL_TEXT(YL_VERSION_MINOR) "." YL_TEXT(YL_VERSION_PATCH);
}

int32_t yl_abi_version(void) { return YL_ABI_VERSION; }

// Searches all fields in turn, which is enough: a binding calls it once for each field, when it is loaded.
int64_t yl_offset_of(const char *struct_name, const char *field) {
  if (!struct_name) return -1;
  for (const Field &known : kFields) {
    if (std::strcmp(known.struct_name, struct_name) != 0) continue;
    if (!field || !known.name ? !field && !known.name : !std::strcmp(known.name, field)) return known.offset;
  }
  return -1;
}

}  // extern "C"
