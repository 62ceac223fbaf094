// The reference backend: the data path in double precision, on the caller's thread, in plain order.
#include "cpu/cells_scalar.h"

namespace yl {
namespace {

class Reference final : public Backend {
 public:
  explicit Reference(const Shape &shape)
      : shape_(shape), truths_(shape, 1), scratch_(shape), extras_(shape.layers.size()) {}

  Outcome loss(const Call &call, yl_parts *rows) noexcept override {
    Outcome outcome{};
    for (int32_t image = 0; image < call.batch; ++image) gather(call, image, outcome.boxes);
    outcome.normaliser = normaliser_of(call.normaliser, call.normaliser_value, call.batch, truths_.total(call.batch));
    with_format(shape_, [&](auto format) {
      using F = decltype(format);
      if (call.extras(shape_.rules))
        visit<Cells<double, typename F::Value, typename F::Grad, F::kPlanar, true>>(call, outcome.normaliser, rows);
      else
        visit<Cells<double, typename F::Value, typename F::Grad, F::kPlanar, false>>(call, outcome.normaliser, rows);
    });
    if (call.grads) truths_.remember(call.batch);
    return outcome;
  }

  const Truths *truths() const override { return &truths_; }

  void yolo_head(const yl_head &head) noexcept override {
    head_grid(shape_, head);
    for (int32_t image = 0; image < head.batch; ++image)
      with_format(shape_, [&](auto format) {
        using F = decltype(format);
        head_cells<double, typename F::Value, F::kPlanar>(shape_, head, image, 0, shape_.layers[head.layer].cells);
      });
  }

  yl_box_counts build_y_true(int32_t batch, const yl_boxes &boxes, float *const *y_true) noexcept override {
    yl_box_counts counts{};
    for (int32_t image = 0; image < batch; ++image) {
      add(counts, truths_.gather_boxes(image, {boxes.data, nullptr, boxes.per_image, boxes.policy}, 0));
      for (int32_t l = 0; l < shape_.layer_count(); ++l) write_y_true(shape_, truths_, image, l, y_true[l]);
    }
    return counts;
  }

 private:
  // Stage 1.
  void gather(const Call &call, int32_t image, yl_box_counts &counts) noexcept {
    if (call.dense()) {
      for (int32_t l = 0; l < shape_.layer_count(); ++l) {
        const int64_t cells = shape_.layers[l].cells;
        truths_.clear(image, l);
        truths_.append(image, l, 0,
                       truths_.gather_dense(image, l, 0, cells, call.y_true[l] + image * cells * shape_.channels));
      }
    } else {
      add(counts, truths_.gather_boxes(image, rows_of(call), 0));
    }
  }

  // Stages 2 and 3.
  template <class CellsOf> void visit(const Call &call, double normaliser, yl_parts *rows) noexcept {
    const CellsOf cells(shape_, truths_, call, call.grad_scale / normaliser);
    std::fill(extras_.begin(), extras_.end(), Extra YL_NO_EXTRA);
    for (int32_t image = 0; image < call.batch; ++image)
      for (int32_t l = 0; l < shape_.layer_count(); ++l, ++rows) {
        *rows = {};
        for (int64_t first = 0, end = shape_.layers[l].cells; first < end; first += kRun)
          cells.visit(image, l, first, std::min(first + kRun, end), scratch_, *rows, extras_[l]);
      }
    give_extras(shape_, call, extras_.data());
  }

  const Shape &shape_;
  Truths truths_;
  Scratch scratch_;
  std::vector<Extra> extras_;  // (L)
};

}  // namespace

std::unique_ptr<Backend> make_reference(const Shape &shape) { return std::make_unique<Reference>(shape); }

}  // namespace yl
