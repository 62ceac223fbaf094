// The cpu backend: the data path in float32, on several threads. Work is cut into runs of cells that do not depend on the
// number of threads, and their sums are added in the order of the cells: the same bits for any number.
#include "cells.h"
#include "pool.h"

namespace yl {
namespace {

int64_t runs_of(const Layer &layer) { return (layer.cells + kRun - 1) / kRun; }

class Cpu final : public Backend {
 public:
  explicit Cpu(const Shape &shape)
      : shape_(shape),
        pool_(shape.threads),
        truths_(shape, shape.threads),
        box_counts_(shape.max_batch),
        scratch_(static_cast<size_t>(shape.threads), Scratch(shape)),
        layer_extras_(shape.layers.size()) {
    for (int32_t l = 0; l < shape.layer_count(); ++l)
      for (int64_t i = 0; i < runs_of(shape.layers[l]); ++i) runs_.push_back({l, i * kRun});
    partial_sums_.resize(shape.max_batch * runs_.size());
    partial_extras_.reset(new Extra[partial_sums_.size()]);
  }

  Outcome loss(const Call &call, yl_parts *rows) noexcept override {
    Outcome outcome{};
    gather(call, outcome.boxes);
    outcome.normaliser = normaliser_of(call.normaliser, call.normaliser_value, call.batch, truths_.total(call.batch));
    const bool extras = call.extras(shape_.rules);
    with_format(shape_, [&](auto format) {
      using F = decltype(format);
      using T = typename ArithmeticOf<typename F::Value>::Type;
      if (extras)
        visit<Cells<T, typename F::Value, typename F::Grad, F::kPlanar, true>>(call, outcome.normaliser);
      else
        visit<Cells<T, typename F::Value, typename F::Grad, F::kPlanar, false>>(call, outcome.normaliser);
    });
    if (call.grads) truths_.remember(call.batch);
    sum(call.batch, rows);
    if (extras) sum_extras(call);
    return outcome;
  }

  void yolo_head(const yl_head &head) noexcept override {
    const Layer &layer = shape_.layers[head.layer];
    const int64_t runs = runs_of(layer);
    head_grid(shape_, head);
    with_format(shape_, [&](auto format) {
      using F = decltype(format);
      using T = typename ArithmeticOf<typename F::Value>::Type;
      pool_.run(head.batch * runs, [&](int64_t item, int32_t) {
        const int64_t first = item % runs * kRun;
        head_cells<T, typename F::Value, F::kPlanar>(shape_, head, static_cast<int32_t>(item / runs), first,
                                                     std::min(first + kRun, layer.cells));
      });
    });
  }

  yl_box_counts build_y_true(int32_t batch, const yl_boxes &boxes, float *const *y_true) noexcept override {
    gather_boxes(batch, {boxes.data, nullptr, boxes.per_image, boxes.policy});
    const int32_t layers = shape_.layer_count();
    pool_.run(int64_t(batch) * layers, [&](int64_t item, int32_t) {
      const auto l = static_cast<int32_t>(item % layers);
      write_y_true(shape_, truths_, static_cast<int32_t>(item / layers), l, y_true[l]);
    });
    return total_box_counts(batch);
  }

 private:
  struct Run {
    int32_t layer;
    int64_t first;  // cell
  };

  // Stage 1.
  void gather(const Call &call, yl_box_counts &counts) noexcept {
    if (!call.dense()) {
      gather_boxes(call.batch, rows_of(call));
      counts = total_box_counts(call.batch);
      return;
    }
    const int32_t layers = shape_.layer_count();
    pool_.run(int64_t(call.batch) * layers, [&](int64_t item, int32_t) {
      const auto image = static_cast<int32_t>(item / layers), l = static_cast<int32_t>(item % layers);
      truths_.gather_dense(image, l, call.y_true[l] + image * shape_.layers[l].cells * shape_.channels);
    });
  }

  void gather_boxes(int32_t batch, const BoxRows &boxes) noexcept {
    pool_.run(batch, [&](int64_t image, int32_t worker) {
      box_counts_[image] = truths_.gather_boxes(static_cast<int32_t>(image), boxes, worker);
    });
  }

  yl_box_counts total_box_counts(int32_t batch) const noexcept {
    yl_box_counts counts{};
    for (int32_t image = 0; image < batch; ++image) add(counts, box_counts_[image]);
    return counts;
  }

  // Stage 2.
  template <class CellsOf> void visit(const Call &call, double normaliser) noexcept {
    const CellsOf cells(shape_, truths_, call, call.grad_scale / normaliser);
    const auto runs = static_cast<int64_t>(runs_.size());
    pool_.run(call.batch * runs, [&](int64_t item, int32_t worker) {
      const Run &run = runs_[item % runs];
      const int64_t last = std::min(run.first + kRun, shape_.layers[run.layer].cells);
      yl_parts sum{};
      Extra extra = YL_NO_EXTRA;
      cells.visit(static_cast<int32_t>(item / runs), run.layer, run.first, last, scratch_[worker], sum, extra);
      partial_sums_[item] = sum;
      if (CellsOf::kHasExtras) partial_extras_[item] = extra;
    });
  }

  // Stage 3.
  void sum(int32_t batch, yl_parts *rows) const noexcept {
    const yl_parts *partial = partial_sums_.data();
    for (int32_t image = 0; image < batch; ++image) {
      yl_parts *row = rows + int64_t(image) * shape_.layer_count();
      std::fill(row, row + shape_.layer_count(), yl_parts{});
      for (const Run &run : runs_) add(row[run.layer], *partial++);
    }
  }

  void sum_extras(const Call &call) noexcept {
    std::fill(layer_extras_.begin(), layer_extras_.end(), Extra YL_NO_EXTRA);
    const Extra *partial = partial_extras_.get();
    for (int32_t image = 0; image < call.batch; ++image)
      for (const Run &run : runs_) add(layer_extras_[run.layer], *partial++);
    give_extras(shape_, call, layer_extras_.data());
  }

  const Shape &shape_;
  Pool pool_;
  Truths truths_;
  std::vector<yl_box_counts> box_counts_;    // (max_batch)
  std::vector<Scratch> scratch_;             // (threads)
  std::vector<Run> runs_;                    // of an image
  std::vector<yl_parts> partial_sums_;       // (max_batch, runs)
  std::unique_ptr<Extra[]> partial_extras_;  // alike
  std::vector<Extra> layer_extras_;          // (L)
};

}  // namespace

std::unique_ptr<Backend> make_cpu(const Shape &shape) { return std::make_unique<Cpu>(shape); }

}  // namespace yl
