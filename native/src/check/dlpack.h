// Part of stage check: turns DLPack tensors into a yl_call. Type, device, shape and strides of every tensor are
// compared with the plan, and nothing is copied; the call that comes out is then checked like any other
// (check/call.cpp).
#pragma once

#include "check/check.h"
#include "yololoss_dlpack.h"

namespace yl {

// Owns the call that tensors describe, and the arrays of pointers that it refers to. The constructor throws a Failure
// that names the first tensor that does not fit. The call refers to this object, to the tensors' memory, and to what
// options points to; all of them must live while it is used.
class TensorCall {
 public:
  TensorCall(const Shape &shape, const yl_tensors *tensors, const yl_call *options);
  TensorCall(const TensorCall &) = delete;
  const yl_call *call() const { return &call_; }

 private:
  yl_call call_;
  yl_boxes boxes_ = YL_BOXES_INIT;
  std::vector<void *> pointers_;  // L each: feats, grads, y_true
};

}  // namespace yl
