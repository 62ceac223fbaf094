// A call whose arrays are DLPack tensors.
#pragma once

#include "check/check.h"
#include "yololoss_dlpack.h"

namespace yl {

// The call that tensors stand for; refers to itself, to tensors and to what options points to.
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
