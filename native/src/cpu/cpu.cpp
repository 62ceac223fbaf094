// The cpu backend: the data path in float32, on several threads. Work is cut into chunks that do not depend on the
// number of threads, and their sums are added in the order of the cells: the same bits for any number.
#include "cells.h"
#include "pool.h"

namespace yl {
namespace {

constexpr int64_t kChunk = 1024;  // cells

int64_t chunks_of(const Layer &layer) { return (layer.cells + kChunk - 1) / kChunk; }

class Cpu final : public Backend {
 public:
  explicit Cpu(const Shape &shape)
      : shape_(shape),
        pool_(shape.threads),
        truths_(shape, shape.threads),
        box_counts_(shape.max_batch),
        scratch_(static_cast<size_t>(shape.threads) * shape.channels) {
    for (int32_t l = 0; l < shape.layer_count(); ++l)
      for (int64_t i = 0; i < chunks_of(shape.layers[l]); ++i) chunks_.push_back({l, i * kChunk});
    partial_sums_.resize(shape.max_batch * chunks_.size());
  }

  Outcome loss(const Call &call, yl_parts *rows) noexcept override {
    Outcome outcome{};
    gather(call, outcome.boxes);
    outcome.normaliser = normaliser_of(call.normaliser, call.normaliser_value, call.batch, truths_.total(call.batch));
    visit(call, call.grad_scale / outcome.normaliser);
    if (call.grads) truths_.remember(call.batch);
    sum(call.batch, rows);
    return outcome;
  }

  void yolo_head(const yl_head &head) noexcept override {
    const Layer &layer = shape_.layers[head.layer];
    const int64_t chunks = chunks_of(layer);
    head_grid(shape_, head);
    pool_.run(head.batch * chunks, [&](int64_t item, int32_t) {
      const int64_t first = item % chunks * kChunk;
      head_cells<float>(shape_, head, static_cast<int32_t>(item / chunks), first,
                        std::min(first + kChunk, layer.cells));
    });
  }

  yl_box_counts build_y_true(int32_t batch, const yl_boxes &boxes, float *const *y_true) noexcept override {
    gather_boxes(batch, boxes.data, boxes.per_image);
    const int32_t layers = shape_.layer_count();
    pool_.run(int64_t(batch) * layers, [&](int64_t item, int32_t) {
      const auto l = static_cast<int32_t>(item % layers);
      write_y_true(shape_, truths_, static_cast<int32_t>(item / layers), l, y_true[l]);
    });
    return total_box_counts(batch);
  }

 private:
  struct Chunk {
    int32_t layer;
    int64_t first;  // cell
  };

  // Stage 1.
  void gather(const Call &call, yl_box_counts &counts) noexcept {
    if (!call.dense()) {
      gather_boxes(call.batch, call.boxes, call.boxes_per_image);
      counts = total_box_counts(call.batch);
      return;
    }
    const int32_t layers = shape_.layer_count();
    pool_.run(int64_t(call.batch) * layers, [&](int64_t item, int32_t) {
      const auto image = static_cast<int32_t>(item / layers), l = static_cast<int32_t>(item % layers);
      truths_.gather_dense(image, l, call.y_true[l] + image * shape_.layers[l].cells * shape_.channels);
    });
  }

  void gather_boxes(int32_t batch, const float *boxes, int32_t per_image) noexcept {
    pool_.run(batch, [&](int64_t image, int32_t worker) {
      box_counts_[image] =
          truths_.gather_boxes(static_cast<int32_t>(image), boxes + image * per_image * 5, per_image, worker);
    });
  }

  yl_box_counts total_box_counts(int32_t batch) const noexcept {
    yl_box_counts counts{};
    for (int32_t image = 0; image < batch; ++image) add(counts, box_counts_[image]);
    return counts;
  }

  // Stage 2.
  void visit(const Call &call, double gradient_factor) noexcept {
    const Cells<float> cells(shape_, truths_, call, gradient_factor);
    const auto chunks = static_cast<int64_t>(chunks_.size());
    pool_.run(call.batch * chunks, [&](int64_t item, int32_t worker) {
      const Chunk &chunk = chunks_[item % chunks];
      const int64_t last = std::min(chunk.first + kChunk, shape_.layers[chunk.layer].cells);
      partial_sums_[item] = cells.visit(static_cast<int32_t>(item / chunks), chunk.layer, chunk.first, last,
                                        &scratch_[static_cast<size_t>(worker) * shape_.channels]);
    });
  }

  // Stage 3.
  void sum(int32_t batch, yl_parts *rows) const noexcept {
    const yl_parts *partial = partial_sums_.data();
    for (int32_t image = 0; image < batch; ++image) {
      yl_parts *row = rows + int64_t(image) * shape_.layer_count();
      std::fill(row, row + shape_.layer_count(), yl_parts{});
      for (const Chunk &chunk : chunks_) add(row[chunk.layer], *partial++);
    }
  }

  const Shape &shape_;
  Pool pool_;
  Truths truths_;
  std::vector<yl_box_counts> box_counts_;  // (max_batch)
  std::vector<float> scratch_;             // (threads, 5 + C)
  std::vector<Chunk> chunks_;              // of an image
  std::vector<yl_parts> partial_sums_;     // (max_batch, chunks)
};

}  // namespace

std::unique_ptr<Backend> make_cpu(const Shape &shape) { return std::make_unique<Cpu>(shape); }

}  // namespace yl
