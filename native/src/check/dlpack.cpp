// The same memory can be described by many shapes and strides: with or without an axis for the anchors, with axes
// permuted, as a view. So array_of does not interpret the axes of a tensor; it lists the descriptions that mean the
// plan's layout and the ones that mean the other, and compares. The order of the checks is the order in which a caller
// can act on them: device, type, shape, strides. If only the layout is wrong, the sentence says so instead of
// complaining about strides.
#include "check/dlpack.h"

#include <string>

#include "dtype.h"

namespace yl {
namespace {

// One axis of a description: its extent, and the distance between neighbours in elements.
struct Axis {
  int64_t extent, stride;
};

// A tensor, and how error messages name it.
struct View {
  const char *name;
  int32_t layer;  // -1: not of a layer
  const DLTensor &tensor;

  std::string text() const { return layer < 0 ? name : name + ("[" + std::to_string(layer) + "]"); }
};

// Writes numbers as Python does a tuple.
std::string list(const int64_t *values, int32_t count) {
  std::string text = "(";
  for (int32_t i = 0; i < count; ++i) text += (i ? ", " : "") + std::to_string(values[i]);
  return text + ")";
}

template <size_t N> std::string shape_of(const Axis (&axes)[N]) {
  int64_t extents[N];
  for (size_t i = 0; i < N; ++i) extents[i] = axes[i].extent;
  return list(extents, N);
}

bool has_shape(const DLTensor &tensor, const Axis *axes, int32_t count) {
  bool same = tensor.ndim == count;
  for (int32_t i = 0; same && i < count; ++i) same = tensor.shape[i] == axes[i].extent;
  return same;
}

// Compares strides; no strides mean C order. The stride of an axis of extent 1 is ignored, since it is never multiplied
// by anything but 0, and libraries put arbitrary values there.
bool has_strides(const DLTensor &tensor, const Axis *axes, int32_t count) {
  int64_t compact = 1;
  for (int32_t i = count; i-- > 0; compact *= tensor.shape[i])
    if (tensor.shape[i] > 1 && (tensor.strides ? tensor.strides[i] : compact) != axes[i].stride) return false;
  return true;
}

template <size_t N> bool is(const DLTensor &tensor, const Axis (&axes)[N]) {
  return has_shape(tensor, axes, N) && has_strides(tensor, axes, N);
}

const char *type_name(int32_t dtype) {
  switch (dtype) {
    case YL_F16: return "float16";
    case YL_BF16: return "bfloat16";
    case YL_F64: return "float64";
    default: return "float32";
  }
}

// Names a type as NumPy would; the index of a name is DLPack's code of its kind.
std::string type_name(const DLDataType &dtype) {
  static const char *const kinds[] = {"int", "uint", "float", "opaque", "bfloat"};
  const std::string kind = dtype.code < 5 ? kinds[dtype.code] : "type " + std::to_string(dtype.code) + " of bits ";
  return kind + std::to_string(dtype.bits) + (dtype.lanes == 1 ? "" : " x " + std::to_string(dtype.lanes));
}

std::string device_name(const DLDevice &device) {
  switch (static_cast<int32_t>(device.device_type)) {
    case kDLCPU: return "the CPU";
    case kDLCUDA: return "cuda:" + std::to_string(device.device_id);
    case kDLCUDAHost: return "pinned memory";
    case kDLCUDAManaged: return "managed memory";
    default: return "a device of DLPack's type " + std::to_string(device.device_type);
  }
}

// Refuses memory that the plan cannot use. Pinned memory can be reached from both sides, so every plan takes it.
void check_device(const Shape &shape, const View &view) {
  const DLDevice &device = view.tensor.device;
  const auto type = static_cast<int32_t>(device.device_type);
  if (type == kDLCUDAHost) return;
  if (!shape.device_memory) {
    if (type != kDLCPU)
      fail(YL_INVALID_ARGUMENT,
           "%s is on %s, this plan takes memory of the host; make one with memory YL_MEMORY_DEVICE",
           view.text().c_str(), device_name(device).c_str());
  } else if (type != kDLCUDAManaged && !(type == kDLCUDA && device.device_id == shape.device_index)) {
    fail(YL_INVALID_ARGUMENT, "%s is on %s, this plan takes memory of cuda:%d; move it there", view.text().c_str(),
         device_name(device).c_str(), shape.device_index);
  }
}

// Refuses other types than dtype (YL_F32 ...). For feats and grads the plan can be made with the tensor's type instead;
// y_true and boxes must be float32.
void check_type(const View &view, int32_t dtype) {
  const DLDataType &type = view.tensor.dtype;
  const bool right =
      type.lanes == 1 && type.bits == 8 * size_of(dtype) && type.code == (dtype == YL_BF16 ? kDLBfloat : kDLFloat);
  if (!right)
    fail(YL_INVALID_ARGUMENT, "%s is %s, %s is expected%s", view.text().c_str(), type_name(type).c_str(),
         type_name(dtype),
         view.layer >= 0 && view.name[0] != 'y' ? "; make a plan with that dtype, or convert it" : "");
}

// Returns the tensor after the checks that must precede any reading of its shape.
const DLTensor &given(const char *name, int32_t layer, const DLTensor *tensor) {
  if (!tensor)
    fail(YL_INVALID_ARGUMENT, "%s%s is NULL, a DLTensor is expected", name,
         layer < 0 ? "" : ("[" + std::to_string(layer) + "]").c_str());
  const View view = {name, layer, *tensor};
  if (tensor->ndim < 0 || (tensor->ndim > 0 && !tensor->shape))
    fail(YL_INVALID_ARGUMENT, "%s has ndim %d and shape %p; a DLTensor that is filled is expected", view.text().c_str(),
         tensor->ndim, static_cast<const void *>(tensor->shape));
  return *tensor;
}

// Returns the address of the first element of a tensor that has passed the other checks; NULL is allowed if it is
// empty.
void *address_of(const View &view, bool empty = false) {
  if (!view.tensor.data && !empty) fail(YL_INVALID_ARGUMENT, "%s has no memory (data is NULL)", view.text().c_str());
  return view.tensor.data ? static_cast<char *>(view.tensor.data) + view.tensor.byte_offset : nullptr;
}

[[noreturn]] void fail_shape(const View &view, const std::string &expected) {
  fail(YL_INVALID_ARGUMENT, "%s has shape %s, expected %s", view.text().c_str(),
       list(view.tensor.shape, view.tensor.ndim).c_str(), expected.c_str());
}

[[noreturn]] void fail_strides(const View &view, const char *advice) {
  fail(YL_INVALID_ARGUMENT, "%s has strides %s, which %s", view.text().c_str(),
       view.tensor.strides ? list(view.tensor.strides, view.tensor.ndim).c_str() : "of C order", advice);
}

// Checks feats[l] or grads[l] and returns its address. Each Axis list is one way to describe (B, H, W, A*(5+C)): rows
// as such, with an axis for the anchors (apart), or as (B, A*(5+C), H, W) with the strides of rows (last), which is how
// PyTorch shows channels_last memory. The three lists of planes mirror them for NCHW.
void *array_of(const Shape &shape, const View &view, int64_t batch, int32_t dtype) {
  const Layer &layer = shape.layers[view.layer];
  const int64_t h = layer.height, w = layer.width, a = layer.anchors, d = shape.channels, all = a * d;
  const Axis rows[] = {{batch, h * w * all}, {h, w * all}, {w, all}, {all, 1}};
  const Axis rows_apart[] = {{batch, h * w * all}, {h, w * all}, {w, all}, {a, d}, {d, 1}};
  const Axis rows_last[] = {{batch, h * w * all}, {all, 1}, {h, w * all}, {w, all}};
  const Axis planes[] = {{batch, h * w * all}, {all, h * w}, {h, w}, {w, 1}};
  const Axis planes_apart[] = {{batch, h * w * all}, {a, d * h * w}, {d, h * w}, {h, w}, {w, 1}};
  const Axis planes_first[] = {{batch, h * w * all}, {h, w}, {w, 1}, {all, h * w}};
  const DLTensor &t = view.tensor;
  const bool in_rows = is(t, rows) || is(t, rows_apart) || is(t, rows_last);
  const bool in_planes = is(t, planes) || is(t, planes_apart) || is(t, planes_first);
  const bool nhwc = shape.layout == YL_NHWC;
  check_device(shape, view);
  check_type(view, dtype);
  if (nhwc ? in_rows : in_planes) return address_of(view);
  if (nhwc ? in_planes : in_rows)
    fail_strides(view, nhwc ? "is YL_NCHW; this plan has YL_NHWC: make one with the other layout"
                            : "is YL_NHWC; this plan has YL_NCHW: make one with the other layout");
  // Here the tensor has neither layout. If its shape is one of the plan's or of the other layout, the strides are at
  // fault.
  const bool known =
      has_shape(t, rows, 4) || has_shape(t, rows_apart, 5) || has_shape(t, planes, 4) || has_shape(t, planes_apart, 5);
  if (!known) fail_shape(view, nhwc ? shape_of(rows) + " (YL_NHWC)" : shape_of(planes) + " (YL_NCHW)");
  fail_strides(view, "leaves gaps or mixes axes; make it contiguous");
}

// Checks y_true[l] and returns its address.
void *truth_of(const Shape &shape, const View &view, int64_t batch) {
  const Layer &layer = shape.layers[view.layer];
  const int64_t h = layer.height, w = layer.width, a = layer.anchors, d = shape.channels, all = a * d;
  const Axis apart[] = {{batch, h * w * all}, {h, w * all}, {w, all}, {a, d}, {d, 1}};
  const Axis rows[] = {{batch, h * w * all}, {h, w * all}, {w, all}, {all, 1}};
  check_device(shape, view);
  check_type(view, YL_F32);
  if (!has_shape(view.tensor, apart, 5) && !has_shape(view.tensor, rows, 4)) fail_shape(view, shape_of(apart));
  if (!is(view.tensor, apart) && !is(view.tensor, rows)) fail_strides(view, "is not C order; make it contiguous");
  return address_of(view);
}

// Checks boxes and their weights and returns them as yl_boxes. T is the second extent; 0 rows need no memory.
yl_boxes boxes_of(const Shape &shape, const yl_tensors &tensors, int64_t batch) {
  yl_boxes boxes = YL_BOXES_INIT;
  boxes.policy = tensors.boxes_policy;
  const View view = {"boxes", -1, given("boxes", -1, tensors.boxes)};
  check_device(shape, view);
  check_type(view, YL_F32);
  const int64_t t = view.tensor.ndim == 3 ? view.tensor.shape[1] : 0;
  const Axis axes[] = {{batch, t * 5}, {t, 5}, {5, 1}};
  if (!has_shape(view.tensor, axes, 3) || t < 0 || t > INT32_MAX)
    fail_shape(view, "(" + std::to_string(batch) + ", T, 5)");
  if (!has_strides(view.tensor, axes, 3)) fail_strides(view, "is not C order; make it contiguous");
  boxes.per_image = static_cast<int32_t>(t);
  boxes.data = static_cast<const float *>(address_of(view, t == 0));
  if (!tensors.box_weights) return boxes;
  const View weights = {"box_weights", -1, given("box_weights", -1, tensors.box_weights)};
  check_device(shape, weights);
  check_type(weights, YL_F32);
  const Axis pair[] = {{batch, t}, {t, 1}};
  if (!has_shape(weights.tensor, pair, 2)) fail_shape(weights, shape_of(pair));
  if (!has_strides(weights.tensor, pair, 2)) fail_strides(weights, "is not C order; make it contiguous");
  boxes.weights = static_cast<const float *>(address_of(weights, t == 0));
  return boxes;
}

}  // namespace

// Reads B from feats[0] before anything else, since every other shape is compared with it. Only pointers that are given
// are filled in; the rest of the call is that of options.
TensorCall::TensorCall(const Shape &shape, const yl_tensors *tensors, const yl_call *options) {
  const yl_call defaults = YL_CALL_INIT;
  const auto t = take_sized<yl_tensors>("tensors", tensors, YL_TENSORS_INIT);
  call_ = take_sized<yl_call>("options", options ? options : &defaults, YL_CALL_INIT, offsetof(yl_call, normaliser_at));
  check_zero("tensors.reserved", t.reserved);
  if (call_.feats || call_.grads || call_.y_true || call_.boxes)
    fail(YL_INVALID_ARGUMENT, "options has arrays of its own; NULL is expected there, the tensors are given");
  if (!t.feats) fail(YL_INVALID_ARGUMENT, "tensors.feats is NULL, %d tensors are expected", shape.layer_count());
  if (!t.y_true == !t.boxes)
    fail(YL_INVALID_ARGUMENT, "%s; give exactly one of them",
         t.boxes ? "both y_true and boxes are given" : "neither y_true nor boxes is given");
  if (t.box_weights && !t.boxes) fail(YL_INVALID_ARGUMENT, "box_weights is given without boxes; give both or neither");
  const DLTensor &first = given("feats", 0, t.feats[0]);
  const int64_t batch = first.ndim > 0 ? first.shape[0] : 0;
  if (batch < 1 || batch > shape.max_batch)
    fail(YL_INVALID_ARGUMENT,
         "feats[0] has shape %s, a batch of 1..%d is expected first; make a plan with a larger max_batch",
         list(first.shape, first.ndim).c_str(), shape.max_batch);
  if (call_.batch != 0 && call_.batch != batch)
    fail(YL_INVALID_ARGUMENT, "options.batch is %d and feats[0] has %lld images; 0 is expected, or the same",
         call_.batch, static_cast<long long>(batch));
  call_.batch = static_cast<int32_t>(batch);

  const int32_t layers = shape.layer_count();
  const int32_t grad_dtype = shape.f32_grads ? YL_F32 : shape.dtype;
  pointers_.resize(3 * static_cast<size_t>(layers));
  void **const feats = pointers_.data(), **const grads = feats + layers, **const y_true = grads + layers;
  for (int32_t l = 0; l < layers; ++l) {
    feats[l] = array_of(shape, {"feats", l, given("feats", l, t.feats[l])}, batch, shape.dtype);
    if (t.grads) grads[l] = array_of(shape, {"grads", l, given("grads", l, t.grads[l])}, batch, grad_dtype);
    if (t.y_true) y_true[l] = truth_of(shape, {"y_true", l, given("y_true", l, t.y_true[l])}, batch);
  }
  call_.feats = feats;
  if (t.grads) call_.grads = grads;
  if (t.y_true) call_.y_true = reinterpret_cast<const float *const *>(y_true);
  if (t.boxes) {
    boxes_ = boxes_of(shape, t, batch);
    call_.boxes = &boxes_;
  }
}

}  // namespace yl
