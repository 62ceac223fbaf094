// The functions of yololoss.h: check, run the backend, turn what it gives into the result, and every failure into a
// status and a sentence.
#include <cstddef>
#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <system_error>

#include "cells.h"
#include "check.h"

struct yl_plan {
  yl::Shape shape;
  std::string device_name, device_why;
  std::unique_ptr<yl::Backend> backend;  // refers to shape
  std::vector<yl_parts> rows;            // (max_batch, L)
  std::vector<yl_parts> layers;          // (L)
  std::vector<yl::Range> ranges;         // scratch of the checks
  std::mutex in_use;
};

namespace {

using yl::fail;

thread_local char last_error[512] = "";

yl_status failed(yl_status status, const char *sentence, const char *more = "") noexcept {
  std::snprintf(last_error, sizeof last_error, "%s%s", sentence, more);
  return status;
}

// The only way out for an exception.
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

template <class Body> yl_status with_plan(yl_plan *plan, const Body &body) noexcept {
  return guarded([&] {
    if (!plan) fail(YL_INVALID_ARGUMENT, "plan is NULL; make one with yl_plan_create");
    const std::lock_guard<std::mutex> lock(plan->in_use);
    body(*plan);
  });
}

void make_backend(const yl_config &config, yl_plan &plan) {
  const std::string threads = std::to_string(plan.shape.threads) + (plan.shape.threads == 1 ? " thread" : " threads");
  if (config.device == YL_DEVICE_REFERENCE) {
    plan.device_name = "reference";
    plan.device_why = "asked for by name; double precision, 1 thread";
    plan.backend = yl::make_reference(plan.shape);
  } else {
    plan.device_name = "cpu";
    const char *why = config.device == YL_DEVICE_CPU ? "asked for by name" : "auto: host memory and no CUDA backend";
    plan.device_why = std::string(why) + "; float32, " + threads;
    plan.backend = yl::make_cpu(plan.shape);
  }
}

void give_result(yl_plan &plan, const yl::Call &call, const yl::Outcome &outcome, const yl_result &result) {
  const auto layer_count = static_cast<size_t>(plan.shape.layer_count());
  yl_summary summary{};
  summary.normaliser = outcome.normaliser;
  summary.boxes = outcome.boxes;
  double sum = 0;
  for (size_t l = 0; l < layer_count; ++l) {
    yl_parts &layer = plan.layers[l] = yl_parts{};
    for (int32_t image = 0; image < call.batch; ++image) yl::add(layer, plan.rows[image * layer_count + l]);
    summary.objects += layer.objects;
    summary.ignored += layer.ignored;
    summary.ignored_background += layer.ignored_background;
    summary.non_finite += layer.non_finite;
    for (double *part : {&layer.xy, &layer.wh, &layer.confidence_object, &layer.confidence_background, &layer.class_}) {
      sum += *part;
      *part /= outcome.normaliser;
    }
  }
  summary.total = sum / outcome.normaliser;
  if (result.summary) *result.summary = summary;
  if (result.layers) std::copy(plan.layers.begin(), plan.layers.end(), result.layers);
  if (result.rows) std::copy_n(plan.rows.begin(), call.batch * layer_count, result.rows);
}

yl_status loss(yl_plan *plan, const yl_call *call, const yl_result *result) noexcept {
  return with_plan(plan, [&](yl_plan &p) {
    const yl_result none = YL_RESULT_INIT;
    const auto outputs = yl::take_sized<yl_result>("result", result ? result : &none, YL_RESULT_INIT);
    const yl::Call checked =
        yl::check_call(p.shape, yl::take_sized<yl_call>("call", call, YL_CALL_INIT), outputs, p.ranges);
    give_result(p, checked, p.backend->loss(checked, p.rows.data()), outputs);
  });
}

yl_status yolo_head(yl_plan *plan, const yl_head *head) noexcept {
  return with_plan(plan, [&](yl_plan &p) {
    const auto checked = yl::take_sized<yl_head>("head", head, YL_HEAD_INIT);
    yl::check_head(p.shape, checked, p.ranges);
    p.backend->yolo_head(checked);
  });
}

yl_status build_y_true(yl_plan *plan, int32_t batch, const yl_boxes *boxes, float *const *y_true,
                       yl_box_counts *counts) noexcept {
  return with_plan(plan, [&](yl_plan &p) {
    const yl_boxes checked = yl::check_y_true(p.shape, batch, boxes, y_true, counts, p.ranges);
    const yl_box_counts seen = p.backend->build_y_true(batch, checked, y_true);
    if (counts) *counts = seen;
  });
}

struct Field {
  const char *struct_name, *name;
  int64_t offset;
};

#define YL_SIZE(type) \
  { #type, nullptr, sizeof(type) }
#define YL_FIELD(type, field) \
  { #type, #field, offsetof(type, field) }
// clang-format off
const Field kFields[] = {
    YL_SIZE(yl_layer), YL_FIELD(yl_layer, grid_height), YL_FIELD(yl_layer, grid_width),
    YL_FIELD(yl_layer, anchor_mask), YL_FIELD(yl_layer, anchor_count), YL_FIELD(yl_layer, reserved),
    YL_SIZE(yl_config), YL_FIELD(yl_config, struct_size), YL_FIELD(yl_config, layers), YL_FIELD(yl_config, anchors),
    YL_FIELD(yl_config, layer_count), YL_FIELD(yl_config, anchor_count), YL_FIELD(yl_config, input_height),
    YL_FIELD(yl_config, input_width), YL_FIELD(yl_config, num_classes), YL_FIELD(yl_config, ignore_thresh),
    YL_FIELD(yl_config, max_batch), YL_FIELD(yl_config, device), YL_FIELD(yl_config, device_index),
    YL_FIELD(yl_config, memory), YL_FIELD(yl_config, dtype), YL_FIELD(yl_config, layout),
    YL_FIELD(yl_config, threads), YL_FIELD(yl_config, reserved),
    YL_SIZE(yl_boxes), YL_FIELD(yl_boxes, struct_size), YL_FIELD(yl_boxes, data), YL_FIELD(yl_boxes, per_image),
    YL_FIELD(yl_boxes, policy),
    YL_SIZE(yl_box_counts), YL_FIELD(yl_box_counts, used), YL_FIELD(yl_box_counts, skipped),
    YL_FIELD(yl_box_counts, dropped), YL_FIELD(yl_box_counts, collided),
    YL_SIZE(yl_call), YL_FIELD(yl_call, struct_size), YL_FIELD(yl_call, feats), YL_FIELD(yl_call, y_true),
    YL_FIELD(yl_call, boxes), YL_FIELD(yl_call, grads), YL_FIELD(yl_call, batch), YL_FIELD(yl_call, grad_mode),
    YL_FIELD(yl_call, normaliser), YL_FIELD(yl_call, reserved), YL_FIELD(yl_call, normaliser_value),
    YL_FIELD(yl_call, grad_scale),
    YL_SIZE(yl_parts), YL_FIELD(yl_parts, xy), YL_FIELD(yl_parts, wh), YL_FIELD(yl_parts, confidence_object),
    YL_FIELD(yl_parts, confidence_background), YL_FIELD(yl_parts, class_), YL_FIELD(yl_parts, objects),
    YL_FIELD(yl_parts, ignored), YL_FIELD(yl_parts, ignored_background), YL_FIELD(yl_parts, non_finite),
    YL_SIZE(yl_summary), YL_FIELD(yl_summary, total), YL_FIELD(yl_summary, normaliser),
    YL_FIELD(yl_summary, objects), YL_FIELD(yl_summary, ignored), YL_FIELD(yl_summary, ignored_background),
    YL_FIELD(yl_summary, non_finite), YL_FIELD(yl_summary, boxes),
    YL_SIZE(yl_result), YL_FIELD(yl_result, struct_size), YL_FIELD(yl_result, summary), YL_FIELD(yl_result, layers),
    YL_FIELD(yl_result, rows),
    YL_SIZE(yl_head), YL_FIELD(yl_head, struct_size), YL_FIELD(yl_head, feats), YL_FIELD(yl_head, grid),
    YL_FIELD(yl_head, box_xy), YL_FIELD(yl_head, box_wh), YL_FIELD(yl_head, box_confidence),
    YL_FIELD(yl_head, box_class_probs), YL_FIELD(yl_head, layer), YL_FIELD(yl_head, batch),
};
// clang-format on
#undef YL_SIZE
#undef YL_FIELD

}  // namespace

extern "C" {

yl_status yl_plan_create(const yl_config *config, yl_plan **plan) {
  if (plan) *plan = nullptr;
  return guarded([&] {
    if (!plan) fail(YL_INVALID_ARGUMENT, "plan is NULL; a place for the new plan is expected");
    const auto given = yl::take_sized<yl_config>("config", config, YL_CONFIG_INIT);
    auto made = std::make_unique<yl_plan>();
    made->shape = yl::check_config(given);
    const auto layers = static_cast<size_t>(given.layer_count);
    made->layers.resize(layers);
    made->rows.resize(layers * static_cast<size_t>(given.max_batch));
    made->ranges.reserve(3 * layers + 5);
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

yl_status yl_loss_holding(yl_plan *plan, const yl_call *call, const yl_result *result, ...) {
  return loss(plan, call, result);
}

yl_status yl_loss_async(yl_plan *plan, const yl_call *, void *, const yl_result *) {
  return with_plan(plan, [](yl_plan &p) {
    fail(YL_UNSUPPORTED, "yl_loss_async needs a CUDA plan, this one is on %s; use yl_loss", p.device_name.c_str());
  });
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

const char *yl_last_error(void) { return last_error; }

const char *yl_status_name(int32_t status) {
  switch (status) {
    case YL_OK: return "YL_OK";
    case YL_INVALID_ARGUMENT: return "YL_INVALID_ARGUMENT";
    case YL_INVALID_BOXES: return "YL_INVALID_BOXES";
    case YL_UNSUPPORTED: return "YL_UNSUPPORTED";
    case YL_NO_DEVICE: return "YL_NO_DEVICE";
    case YL_OUT_OF_MEMORY: return "YL_OUT_OF_MEMORY";
    case YL_INTERNAL: return "YL_INTERNAL";
    default: return "unknown status";
  }
}

#define YL_TEXT_OF(x) #x
#define YL_TEXT(x) YL_TEXT_OF(x)
const char *yl_version_string(void) {
  return YL_TEXT(YL_VERSION_MAJOR) "." YL_TEXT(YL_VERSION_MINOR) "." YL_TEXT(YL_VERSION_PATCH);
}

int32_t yl_abi_version(void) { return YL_ABI_VERSION; }

int64_t yl_offset_of(const char *struct_name, const char *field) {
  if (!struct_name) return -1;
  for (const Field &known : kFields) {
    if (std::strcmp(known.struct_name, struct_name) != 0) continue;
    if (!field || !known.name ? !field && !known.name : !std::strcmp(known.name, field)) return known.offset;
  }
  return -1;
}

}  // extern "C"
