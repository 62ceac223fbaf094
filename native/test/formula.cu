// Compiled, never run: the shared formula as device code.
#include "formula.h"

template <class T> __global__ void formula(const T *in, T *out) {
  const yl::Box<T> y{in[0], in[1], in[2], in[3]}, t{in[4], in[5], in[6], in[7]};
  const yl::Cell<T> cell{in[8], in[9], in[10], in[11], in[12], in[13]};
  const yl::BoxLoss<T> box = yl::box_loss(y, in[14], t, cell);
  const T k = yl::iou(yl::decode(t, cell), y) >= in[15] ? T(0) : T(1);
  out[0] = box.xy + box.wh + box.slope.x + yl::confidence_loss(in[14], k, in[16]).loss +
           yl::class_loss(in[14], in[17], in[18]).slope;
}

template __global__ void formula<float>(const float *, float *);
template __global__ void formula<double>(const double *, double *);
