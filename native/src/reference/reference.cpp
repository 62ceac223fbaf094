// The reference backend: the data path in double precision, on the caller's thread, in plain order.
#include "cells.h"

namespace yl {
namespace {

class Reference final : public Backend {
 public:
  explicit Reference(const Shape &shape) : shape_(shape), truths_(shape, 1), scratch_(shape.channels) {}

  Outcome loss(const Call &call, yl_parts *rows) noexcept override {
    Outcome outcome{};
    for (int32_t image = 0; image < call.batch; ++image) gather(call, image, outcome.boxes);
    outcome.normaliser = normaliser_of(call.normaliser, call.normaliser_value, call.batch, truths_.total(call.batch));
    const Cells<double> cells(shape_, truths_, call, call.grad_scale / outcome.normaliser);
    for (int32_t image = 0; image < call.batch; ++image)
      for (int32_t l = 0; l < shape_.layer_count(); ++l)
        *rows++ = cells.visit(image, l, 0, shape_.layers[l].cells, scratch_.data());
    if (call.grads) truths_.remember(call.batch);
    return outcome;
  }

  void yolo_head(const yl_head &head) noexcept override {
    head_grid(shape_, head);
    for (int32_t image = 0; image < head.batch; ++image)
      head_cells<double>(shape_, head, image, 0, shape_.layers[head.layer].cells);
  }

  yl_box_counts build_y_true(int32_t batch, const yl_boxes &boxes, float *const *y_true) noexcept override {
    yl_box_counts counts{};
    for (int32_t image = 0; image < batch; ++image) {
      add(counts, truths_.gather_boxes(image, boxes.data + int64_t(image) * boxes.per_image * 5, boxes.per_image, 0));
      for (int32_t l = 0; l < shape_.layer_count(); ++l) write_y_true(shape_, truths_, image, l, y_true[l]);
    }
    return counts;
  }

 private:
  // Stage 1.
  void gather(const Call &call, int32_t image, yl_box_counts &counts) noexcept {
    if (call.dense()) {
      for (int32_t l = 0; l < shape_.layer_count(); ++l)
        truths_.gather_dense(image, l, call.y_true[l] + image * shape_.layers[l].cells * shape_.channels);
    } else {
      add(counts,
          truths_.gather_boxes(image, call.boxes + int64_t(image) * call.boxes_per_image * 5, call.boxes_per_image, 0));
    }
  }

  const Shape &shape_;
  Truths truths_;
  std::vector<float> scratch_;
};

}  // namespace

std::unique_ptr<Backend> make_reference(const Shape &shape) { return std::make_unique<Reference>(shape); }

}  // namespace yl
