// A yl_call and its yl_result -> Call. Also the checks of yl_audit, yl_yolo_head and yl_build_y_true, and the helpers
// that all files of check/ use.
//
// The order is: plain numbers, then pointers, then overlaps, then the gradient mode, then rows of boxes, so that the
// cheap checks come first and no array is read before all pointers are known to be valid. Nothing of the caller's
// memory is written, whatever the outcome.
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdio>

#include "check/check.h"
#include "dtype.h"
#include "truths.h"

namespace yl {

// Formats into a fixed buffer: the sentence is cut off rather than fail for its length.
void fail(yl_status status, const char *format, ...) {
  char sentence[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  throw Failure{status, sentence};
}

void check_between(const char *name, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most)
    fail(YL_INVALID_ARGUMENT, "%s is %lld, expected %lld..%lld", name, static_cast<long long>(value),
         static_cast<long long>(least), static_cast<long long>(most));
}

void check_at_least_one(const char *name, int32_t value) { check_between(name, value, 1, INT32_MAX); }

void check_zero(const char *name, int32_t value) {
  if (value != 0) fail(YL_INVALID_ARGUMENT, "%s is %d, expected 0; begin with the _INIT macro", name, value);
}

// Sizes are compared with PTRDIFF_MAX, because pointers of larger arrays could not be subtracted.
int64_t product(const char *what, std::initializer_list<int64_t> factors) {
  int64_t result = 1;
  for (const int64_t factor : factors)
    if (__builtin_mul_overflow(result, factor, &result) || result > PTRDIFF_MAX)
      fail(YL_INVALID_ARGUMENT, "%s would be too large to address; use a smaller max_batch, grid or class count", what);
  return result;
}

void check_array(const char *name, const void *start, int64_t bytes, size_t alignment) {
  if (!start) fail(YL_INVALID_ARGUMENT, "%s is NULL, %lld bytes are expected", name, static_cast<long long>(bytes));
  if (reinterpret_cast<uintptr_t>(start) % alignment)
    fail(YL_INVALID_ARGUMENT, "%s at %p is not aligned to %zu bytes", name, start, alignment);
}

void check_normaliser(int32_t normaliser, double value) {
  check_between("normaliser", normaliser, YL_NORMALISER_BATCH, YL_NORMALISER_VALUE);
  if (!std::isfinite(value) || !(value > 0))
    fail(YL_INVALID_ARGUMENT, "normaliser_value is %g, a finite number > 0 is expected", value);
}

namespace {

// Fails unless batch is in 1..max_batch.
void check_batch(const Shape &shape, int32_t batch) {
  if (batch < 1 || batch > shape.max_batch)
    fail(YL_INVALID_ARGUMENT, "batch is %d, this plan takes 1..%d; make a plan with a larger max_batch", batch,
         shape.max_batch);
}

// Returns the name of a range as a caller writes it, such as "grads[2]".
std::string text_of(const Range &range) {
  return range.layer < 0 ? range.name : range.name + ("[" + std::to_string(range.layer) + "]");
}

// Checks the pointer and the alignment of an array of the caller, and adds it to the ranges. The default alignment is
// that of 4-byte values; structs and other types pass their own. The name is composed for a bad array only: a call must
// not allocate, and a name such as "result.ignore_mask[0]" would.
void add_range(std::vector<Range> &ranges, const Range &range, size_t alignment = sizeof(float)) {
  const bool misaligned = reinterpret_cast<uintptr_t>(range.start) % alignment != 0;
  if (!range.start || misaligned) check_array(text_of(range).c_str(), range.start, range.bytes, alignment);
  ranges.push_back(range);
}

// Returns whether two ranges share a byte. Addresses are compared as integers, since comparing pointers into different
// arrays is undefined.
bool overlap(const Range &a, const Range &b) {
  const auto a0 = reinterpret_cast<uintptr_t>(a.start), b0 = reinterpret_cast<uintptr_t>(b.start);
  return a0 < b0 + static_cast<uintptr_t>(b.bytes) && b0 < a0 + static_cast<uintptr_t>(a.bytes);
}

// Fails if an output overlaps another output or an input. Ranges from first_output on are outputs; inputs may overlap
// each other. The only exception is a gradient in place: grads[l] may be exactly feats[l], because every backend reads
// the logits that it needs before it writes a gradient over them. A shifted overlap would not work, and neither would
// grads[l] over the feats of another layer.
//
// Each output is compared with all ranges before it, so each pair is compared once. There are a few dozen ranges for a
// usual network, so no sorting is needed.
void check_overlaps(const std::vector<Range> &ranges, size_t first_output) {
  for (size_t i = first_output; i < ranges.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const Range &a = ranges[i], &b = ranges[j];
      if (!overlap(a, b)) continue;
      // Layer -1 is excluded, since only arrays of layers can be in place. Sizes differ if the gradient is float32 and
      // feats are not; such a gradient cannot be in place.
      const bool in_place = a.start == b.start && a.bytes == b.bytes && a.layer == b.layer && a.layer >= 0 &&
                            !std::strcmp(a.name, "grads") && !std::strcmp(b.name, "feats");
      if (in_place) continue;
      fail(YL_INVALID_ARGUMENT,
           "%s and %s overlap; outputs need memory of their own (only grads[l] may be exactly feats[l])",
           text_of(a).c_str(), text_of(b).c_str());
    }
  }
}

// Returns the number of values of an array of a layer. check_config has checked the product for max_batch, so it cannot
// overflow.
int64_t layer_values(const Shape &shape, int32_t batch, int32_t l) {
  return batch * shape.layers[l].cells * shape.channels;
}
// Returns the size of y_true of a layer in bytes; its values are always float32.
int64_t truth_bytes(const Shape &shape, int32_t batch, int32_t l) {
  return layer_values(shape, batch, l) * int64_t(sizeof(float));
}

// Adds feats[l] or grads[l]; size is that of a value, and also its alignment.
void add_array(std::vector<Range> &ranges, const Shape &shape, int32_t batch, const void *const *arrays, int32_t l,
               const char *name, int64_t size) {
  add_range(ranges, {arrays[l], layer_values(shape, batch, l) * size, name, l}, static_cast<size_t>(size));
}

// Returns a checked copy of boxes. Without rows their data may be NULL. weights were added to yl_boxes after its first
// version.
yl_boxes check_boxes(int32_t batch, const yl_boxes *given, std::vector<Range> &ranges) {
  const yl_boxes boxes = take_sized<yl_boxes>("boxes", given, YL_BOXES_INIT, offsetof(yl_boxes, weights));
  check_between("boxes.per_image", boxes.per_image, 0, INT32_MAX);
  check_between("boxes.policy", boxes.policy, YL_BOXES_ERROR, YL_BOXES_CLAMP);
  if (boxes.per_image == 0) return boxes;
  add_range(ranges, {boxes.data, product("boxes", {batch, boxes.per_image, 5 * sizeof(float)}), "boxes.data", -1});
  if (boxes.weights)
    add_range(ranges, {boxes.weights, int64_t(batch) * boxes.per_image * int64_t(sizeof(float)), "boxes.weights", -1});
  return boxes;
}

// Fails if the policy is YL_BOXES_ERROR and the boxes of an image look normalised, or a row is not a valid object. The
// former comes first: a normalised box can be a valid object of less than a pixel, and if it is not one, its fault
// would mislead. The first image with a fault is reported, as it would be if each image were a call of its own. Boxes
// in device memory cannot be read here; the kernels check their rows.
void refuse_bad_boxes(const Shape &shape, int32_t batch, const yl_boxes &boxes) {
  if (boxes.policy != YL_BOXES_ERROR || shape.device_memory) return;
  const BoxRules rules = rules_of(shape, boxes.policy);
  for (int32_t image = 0; image < batch; ++image) {
    const int64_t first = int64_t(image) * boxes.per_image;
    const int32_t normalised = find_normalised({boxes.data, boxes.weights, boxes.per_image, boxes.policy}, image);
    if (normalised >= 0) {
      const float *v = boxes.data + (first + normalised) * kBoxValues;
      fail(YL_INVALID_BOXES,
           "boxes: all coordinates of image %d are in 0..1, as in row %d [%g, %g, %g, %g, %g]; pixels of the input are "
           "expected: multiply x by the width %d and y by the height %d",
           image, normalised, v[kXMin], v[kYMin], v[kXMax], v[kYMax], v[kBoxClass], shape.input_width,
           shape.input_height);
    }
    for (int32_t t = 0; t < boxes.per_image; ++t) {
      const BoxRow row = read_row(boxes.data, boxes.weights, first + t);
      if (fault_of(kind_of(rules, row))) fail_boxes(shape, image, t, row);
    }
  }
}

// Checks the truths of a call, dense or boxes but not both, and sets their fields in call.
void check_targets(const Shape &shape, const float *const *y_true, const yl_boxes *boxes, Call &call,
                   std::vector<Range> &ranges) {
  // Equal if both are NULL or neither is.
  if (!y_true == !boxes)
    fail(YL_INVALID_ARGUMENT, "%s; give exactly one of them",
         y_true ? "both y_true and boxes are given" : "neither y_true nor boxes is given");
  call.y_true = y_true;
  for (int32_t l = 0; y_true && l < shape.layer_count(); ++l)
    add_range(ranges, {y_true[l], truth_bytes(shape, call.batch, l), "y_true", l});
  if (!boxes) return;
  const yl_boxes checked = check_boxes(call.batch, boxes, ranges);
  call.boxes = checked.data;
  call.box_weights = checked.per_image > 0 ? checked.weights : nullptr;
  call.boxes_per_image = checked.per_image;
  call.boxes_policy = checked.policy;
}

// Fails if the mode needs more of grads than they can give. ACCUMULATE and REFRESH rely on what grads hold, so grads
// cannot be feats. REFRESH writes only the elements that differ from the last gradient, so the buffers must be those of
// the last call with a gradient, for at least as many images; the four sentences say which condition is violated.
void check_grad_mode(const Call &call, const LastGradient &last) {
  if (call.grad_mode == YL_GRAD_OVERWRITE) return;
  for (size_t l = 0; l < last.grads.size(); ++l) {
    if (call.grads[l] == call.feats[l])
      fail(YL_INVALID_ARGUMENT, "grad_mode is %s and grads[%zu] is feats[%zu]; overwrite is expected there",
           call.refresh() ? "refresh" : "accumulate", l, l);
    if (!call.refresh()) continue;
    if (last.batch < call.batch || call.grads[l] != last.grads[l])
      fail(YL_INVALID_ARGUMENT,
           "grad_mode is refresh, but %s; overwrite is expected for the first call with these buffers",
           last.batch == 0 && call.grads[l] == last.grads[l] ? "grads hold a sum of gradients, or one that was lost"
           : last.batch == 0                                 ? "no call has written a gradient with this plan"
           : last.batch < call.batch                         ? "the plan's last gradient had fewer images"
                                                             : "grads are not the buffers of the plan's last gradient");
  }
}

}  // namespace

void fail_boxes(const Shape &shape, int32_t image, int32_t t, const BoxRow &row) {
  // A row in device memory is read again for the sentence; if the caller has changed it meanwhile, it may have no
  // fault.
  const char *fault = fault_of(kind_of(rules_of(shape, YL_BOXES_ERROR), row));
  const float *v = row.values;
  char weight[40] = "";
  if (row.weight != 1) std::snprintf(weight, sizeof weight, " of weight %g", row.weight);
  fail(YL_INVALID_BOXES,
       "boxes: image %d, row %d [%g, %g, %g, %g, %g]%s has %s (input %dx%d, C = %d); correct the row or skip such rows "
       "by "
       "the policy",
       image, t, v[0], v[1], v[2], v[3], v[4], weight, fault ? fault : "changed during the call", shape.input_width,
       shape.input_height, shape.num_classes);
}

Call check_call(const Shape &shape, const yl_call &call, const yl_result &result, const LastGradient &last,
                std::vector<Range> &ranges) {
  check_batch(shape, call.batch);
  check_normaliser(call.normaliser, call.normaliser_value);
  check_between("grad_mode", call.grad_mode, YL_GRAD_OVERWRITE, YL_GRAD_ACCUMULATE);
  check_between("scan", call.scan, YL_SCAN_USED, YL_SCAN_ALL);
  if (!std::isfinite(call.grad_scale))
    fail(YL_INVALID_ARGUMENT, "grad_scale is %g, a finite number is expected", call.grad_scale);
  // Only kernels can read a value later than the call; on other devices the plain fields do the same.
  if ((call.normaliser_at || call.grad_scale_at) && !backend_of(shape.device, 0).memory)
    fail(YL_INVALID_ARGUMENT, "%s is given, which only a cuda plan reads; use %s",
         call.normaliser_at ? "normaliser_at" : "grad_scale_at",
         call.normaliser_at ? "normaliser_value" : "grad_scale");
  if (call.normaliser_at && call.normaliser != YL_NORMALISER_VALUE)
    fail(YL_INVALID_ARGUMENT, "normaliser_at is given and normaliser is %d, YL_NORMALISER_VALUE is expected",
         call.normaliser);
  if (!call.feats) fail(YL_INVALID_ARGUMENT, "feats is NULL, %d pointers are expected", shape.layer_count());

  ranges.clear();
  Call checked{};
  checked.batch = call.batch;
  checked.feats = call.feats;
  checked.grads = call.grads;
  checked.grad_mode = call.grad_mode;
  checked.scan_all = call.scan == YL_SCAN_ALL;
  checked.normaliser = call.normaliser;
  checked.normaliser_value = call.normaliser_value;
  checked.grad_scale = call.grad_scale;
  checked.normaliser_at = call.normaliser_at;
  checked.grad_scale_at = call.grad_scale_at;
  // Inputs first; all that follows first_output is written.
  const int64_t size = size_of(shape.dtype), grad_size = shape.f32_grads ? size_of(YL_F32) : size;
  for (int32_t l = 0; l < shape.layer_count(); ++l) add_array(ranges, shape, call.batch, call.feats, l, "feats", size);
  check_targets(shape, call.y_true, call.boxes, checked, ranges);
  if (call.normaliser_at) add_range(ranges, {call.normaliser_at, sizeof(float), "normaliser_at", -1});
  if (call.grad_scale_at) add_range(ranges, {call.grad_scale_at, sizeof(float), "grad_scale_at", -1});
  const size_t first_output = ranges.size();
  for (int32_t l = 0; call.grads && l < shape.layer_count(); ++l)
    add_array(ranges, shape, call.batch, call.grads, l, "grads", grad_size);
  // The parts of the result. Their memory must be aligned like the structs; with yl_loss_async it is memory of the
  // device, which is checked by the backend.
  const int64_t row = sizeof(yl_parts) * int64_t(shape.layer_count());
  if (result.summary)
    add_range(ranges, {result.summary, sizeof(yl_summary), "result.summary", -1}, alignof(yl_summary));
  if (result.layers) add_range(ranges, {result.layers, row, "result.layers", -1}, alignof(yl_parts));
  if (result.rows) add_range(ranges, {result.rows, row * call.batch, "result.rows", -1}, alignof(yl_parts));
  if (result.completion)
    add_range(ranges, {result.completion, sizeof(yl_completion), "result.completion", -1}, alignof(yl_completion));
  // The backend fills these itself; the others are written by api.cpp, or, for yl_loss_async, by the kernels.
  checked.stats = result.stats;
  checked.offender = result.offender;
  checked.ignore_mask = result.ignore_mask;
  checked.best_iou = result.best_iou;
  checked.cell_loss = result.cell_loss;
  if (result.stats)
    add_range(ranges, {result.stats, int64_t(sizeof(yl_stats)) * shape.layer_count(), "result.stats", -1},
              alignof(yl_stats));
  if (result.offender)
    add_range(ranges, {result.offender, sizeof(yl_offender), "result.offender", -1}, alignof(yl_offender));
  // The maps of cells.
  const struct {
    float *const *arrays;
    const char *name;
  } maps[] = {{result.ignore_mask, "result.ignore_mask"},
              {result.best_iou, "result.best_iou"},
              {result.cell_loss, "result.cell_loss"}};
  for (const auto &map : maps)
    for (int32_t l = 0; map.arrays && l < shape.layer_count(); ++l)
      add_range(ranges, {map.arrays[l], call.batch * shape.layers[l].cells * int64_t(sizeof(float)), map.name, l});
  check_overlaps(ranges, first_output);
  // Both of these need checked pointers.
  if (call.grads) check_grad_mode(checked, last);
  if (call.boxes)
    refuse_bad_boxes(shape, call.batch,
                     {0, checked.boxes, checked.boxes_per_image, checked.boxes_policy, checked.box_weights});
  return checked;
}

Call check_audit(const Shape &shape, int32_t batch, const float *const *y_true, const yl_boxes *boxes, float poor_iou,
                 const yl_audit_result &result, std::vector<Range> &ranges) {
  check_batch(shape, batch);
  // This form refuses a NaN too.
  if (!(poor_iou >= 0 && poor_iou <= 1)) fail(YL_INVALID_ARGUMENT, "poor_iou is %g, expected 0..1", poor_iou);
  ranges.clear();
  Call call{};
  call.batch = batch;
  check_targets(shape, y_true, boxes, call, ranges);
  const size_t first_output = ranges.size();
  // A capacity of 0 only counts.
  if (result.capacity < 0 || (result.capacity > 0 && !result.findings))
    fail(YL_INVALID_ARGUMENT, "capacity is %lld%s", static_cast<long long>(result.capacity),
         result.capacity < 0 ? ", at least 0 is expected" : " and findings is NULL");
  if (result.capacity > 0)
    add_range(ranges, {result.findings, product("findings", {result.capacity, sizeof(yl_finding)}), "findings", -1});
  if (result.counts)
    add_range(ranges, {result.counts, YL_REASON_COUNT * int64_t(sizeof(int64_t)), "counts", -1}, sizeof(int64_t));
  const auto anchors = static_cast<int64_t>(shape.anchors.size() / 2);
  if (result.anchor_use)
    add_range(ranges, {result.anchor_use, shape.layer_count() * anchors * int64_t(sizeof(int64_t)), "anchor_use", -1},
              sizeof(int64_t));
  // best_iou is not written for y_true, and has no elements without rows.
  if (result.best_iou && call.boxes_per_image > 0)
    add_range(ranges,
              {result.best_iou, int64_t(batch) * call.boxes_per_image * int64_t(sizeof(float)), "best_iou", -1});
  check_overlaps(ranges, first_output);
  return call;
}

void check_head(const Shape &shape, const yl_head &head, std::vector<Range> &ranges) {
  check_between("head.layer", head.layer, 0, shape.layer_count() - 1);
  check_batch(shape, head.batch);
  const Layer &layer = shape.layers[head.layer];
  const int64_t cells = head.batch * layer.cells, f = sizeof(float);
  ranges.clear();
  const int64_t size = size_of(shape.dtype);
  add_range(ranges, {head.feats, cells * shape.channels * size, "head.feats", -1}, static_cast<size_t>(size));
  const size_t first_output = ranges.size();
  // Every output is optional.
  if (head.grid) add_range(ranges, {head.grid, 2 * f * layer.height * layer.width, "head.grid", -1});
  if (head.box_xy) add_range(ranges, {head.box_xy, cells * 2 * f, "head.box_xy", -1});
  if (head.box_wh) add_range(ranges, {head.box_wh, cells * 2 * f, "head.box_wh", -1});
  if (head.box_confidence) add_range(ranges, {head.box_confidence, cells * f, "head.box_confidence", -1});
  if (head.box_class_probs)
    add_range(ranges, {head.box_class_probs, cells * shape.num_classes * f, "head.box_class_probs", -1});
  check_overlaps(ranges, first_output);
}

yl_boxes check_y_true(const Shape &shape, int32_t batch, const yl_boxes *boxes, float *const *y_true,
                      const yl_box_counts *counts, std::vector<Range> &ranges) {
  check_batch(shape, batch);
  if (!y_true) fail(YL_INVALID_ARGUMENT, "y_true is NULL, %d pointers are expected", shape.layer_count());
  ranges.clear();
  const yl_boxes checked = check_boxes(batch, boxes, ranges);
  // Dense truths cannot express weights, so they are refused instead of ignored.
  if (checked.weights) fail(YL_INVALID_ARGUMENT, "boxes.weights must be NULL: y_true has no field for weights");
  const size_t first_output = ranges.size();
  for (int32_t l = 0; l < shape.layer_count(); ++l)
    add_range(ranges, {y_true[l], truth_bytes(shape, batch, l), "y_true", l});
  if (counts) add_range(ranges, {counts, sizeof(yl_box_counts), "counts", -1}, alignof(yl_box_counts));
  check_overlaps(ranges, first_output);
  refuse_bad_boxes(shape, batch, checked);
  return checked;
}

}  // namespace yl
