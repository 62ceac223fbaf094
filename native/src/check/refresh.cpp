// YOLOLOSS_DEBUG=1: verifies that the gradient buffers of a YL_GRAD_REFRESH call were not modified since the plan's
// last call. It reads all of grads, so it is off by default.
#include "check/check.h"
#include "dtype.h"
#include "layout.h"

namespace yl {
namespace {

template <class Grad, bool kPlanar>
void check_refreshed_as(const Shape &shape, const Backend &backend, const Call &call) {
  for (int32_t image = 0; image < call.batch; ++image)
    for (int32_t l = 0; l < shape.layer_count(); ++l) {
      const Layer &layer = shape.layers[l];
      const Order<kPlanar> order(layer.anchors, layer.cells, shape.channels);
      const auto *grad = static_cast<const Grad *>(call.grads[l]) + image * layer.cells * shape.channels;
      for (int32_t cell = 0; cell < layer.cells; ++cell) {
        if (backend.was_object(image, l, cell)) continue;  // all of its row is written again
        for (int32_t channel = 0; channel < shape.channels; ++channel) {
          const double value = load(grad[order.start(cell) + channel * order.step()]);
          if (channel == kObjectness || value == 0) continue;
          const CellPlace place = place_of(cell, layer.width, layer.anchors);
          fail(YL_INVALID_ARGUMENT,
               "grad_mode is refresh, but grads[%d] holds %g at image %d, row %d, column %d, anchor %d, channel %d, "
               "where the plan's last gradient is 0; overwrite is expected when the buffer was used for something else",
               l, value, image, place.row, place.column, place.anchor, channel);
        }
      }
    }
}

}  // namespace

void check_refreshed(const Shape &shape, const Backend &backend, const Call &call) {
  const bool planar = shape.layout == YL_NCHW;
  const auto check = [&](auto grad) {
    using Grad = decltype(grad);
    planar ? check_refreshed_as<Grad, true>(shape, backend, call)
           : check_refreshed_as<Grad, false>(shape, backend, call);
  };
  switch (shape.f32_grads ? YL_F32 : shape.dtype) {
    case YL_F16: return check(Half{});
    case YL_BF16: return check(Bfloat16{});
    case YL_F64: return check(double{});
    default: return check(float{});
  }
}

}  // namespace yl
