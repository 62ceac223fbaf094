// What the environment variable YOLOLOSS_DEBUG adds to the checks of a call: reading what a promise speaks of.
#include "cpu/cells_scalar.h"
#include "check/check.h"

namespace yl {

void check_refreshed(const Shape &shape, const Truths &truths, const Call &call) {
  with_format(shape, [&](auto format) {
    using F = decltype(format);
    for (int32_t image = 0; image < call.batch; ++image)
      for (int32_t l = 0; l < shape.layer_count(); ++l) {
        const Layer &layer = shape.layers[l];
        const Order<F::kPlanar> order(layer.anchors, layer.cells, shape.channels);
        const auto *grad = static_cast<const typename F::Grad *>(call.grads[l]) + image * layer.cells * shape.channels;
        const int32_t *written = truths.previous_begin(image, l), *const end = truths.previous_end(image, l);
        for (int32_t cell = 0; cell < layer.cells; ++cell) {
          if (written != end && *written == cell) {  // all of its row is written anew
            ++written;
            continue;
          }
          for (int32_t channel = 0; channel < shape.channels; ++channel) {
            const double value = load(grad[order.start(cell) + channel * order.step()]);
            if (channel == 4 || value == 0) continue;
            fail(YL_INVALID_ARGUMENT,
                 "grad_mode is refresh, but grads[%d] holds %g at image %d, row %d, column %d, anchor %d, channel %d, "
                 "where the plan's last gradient is 0; overwrite is expected when the buffer was used for something else",
                 l, value, image, cell / layer.anchors / layer.width, cell / layer.anchors % layer.width,
                 cell % layer.anchors, channel);
          }
        }
      }
  });
}

}  // namespace yl
