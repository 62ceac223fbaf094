// yl_yolo_head on the cpu device: decodes cells one by one, in the arithmetic of the plan's type.
//
// It is for inspecting predictions and not for every step of a training, so it has no SIMD version. ../head.h writes
// one cell; cpu.cpp splits the cells among the threads.
#include "head.h"

#include "cpu/view.h"

namespace yl {

// Decodes cells [first, last) of an image, counted in the order of cells. The outputs are in that order in both
// layouts; only the position of a logit depends on the layout.
void decode_cells(const Shape &shape, const yl_head &head, int32_t image, int64_t first, int64_t last) {
  const Layer &layer = shape.layers[head.layer];
  const auto decode_as = [&](auto format) {
    using Value = typename decltype(format)::Value;
    using T = typename ArithmeticOf<Value>::Type;
    const Order<decltype(format)::kPlanar> order(layer.anchors, layer.cells, shape.channels);
    const Value *feats = static_cast<const Value *>(head.feats) + image * layer.cells * shape.channels;
    for (int64_t i = first; i < last; ++i) {
      const auto cell = static_cast<int32_t>(i);
      const auto logit = [&](int32_t channel) { return T(load(feats[order.start(cell) + channel * order.step()])); };
      const Cell<T> place = cell_at<T>(layer, layer.anchor_sizes.data(), cell);
      const Box<T> box = decode<T>({logit(kX), logit(kY), logit(kW), logit(kH)}, place);
      write_head(head, image * layer.cells + cell, shape.num_classes, box, logit);
    }
  };
  switch (shape.dtype) {
    case YL_F16: return with_format_of<Half>(shape, decode_as);
    case YL_BF16: return with_format_of<Bfloat16>(shape, decode_as);
    case YL_F64: return with_format_of<double>(shape, decode_as);
    default: return with_format_of<float>(shape, decode_as);
  }
}

}  // namespace yl
