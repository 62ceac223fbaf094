// The cpu backend: the data path in float32 (float64 for YL_F64), on several threads. Work is cut into spans of cells that
// do not depend on the number of threads, and their sums are added in the order of the cells: the same bits for any number.
#include "cpu/cells_scalar.h"
#include "cpu/isa.h"
#include "cpu/pool.h"

namespace yl {
namespace {

constexpr int64_t kPiece = 2048;  // cells of y_true that are looked through together

// The gradient does not stay in the caches if it is larger than this: then it is written past them.
constexpr int64_t kStreamedBytes = 8 << 20;

// As many cells are visited while a thread wakes up: a call with fewer stays on the caller's thread.
constexpr int64_t kFewCells = 512;

// A refresh of shorter rows touches nearly every line, and must read it: writing all of them past the caches is faster.
constexpr int64_t kShortRow = 128;

int64_t pieces_of(int64_t cells, int64_t piece) { return (cells + piece - 1) / piece; }

// A visit in double, a cell at a time.
template <class Grad, bool kPlanar, bool kExtras>
void double_visit(const Visiting &v, int32_t image, const Span &span, Scratch &scratch, yl_parts &sum, Extra &extra) {
  const Cells<double, double, Grad, kPlanar, kExtras> cells(v.shape, v.truths, v.call, v.factor);
  cells.visit(image, span.layer, span.first, span.last, scratch, sum, extra);
}

Visit visit_for(const Shape &shape, bool extras) {
  if (shape.dtype != YL_F64) return usable_isa().visit_of(shape, extras);
  Visit result = nullptr;
  with_format_of<double>(shape, [&](auto format) {
    using F = decltype(format);
    using Grad = typename F::Grad;
    result = extras ? Visit(double_visit<Grad, F::kPlanar, true>) : Visit(double_visit<Grad, F::kPlanar, false>);
  });
  return result;
}

// The spans of an image, a layer's side by side. Planes are few and of unequal size: the largest come first, so that threads
// that take them in turn end together. In double planes are visited in the order of the cells.
std::vector<Span> spans_of(const Shape &shape) {
  std::vector<Span> spans;
  for (int32_t l = 0; l < shape.layer_count(); ++l) {
    const Layer &layer = shape.layers[l];
    const bool planes = shape.layout == YL_NCHW && shape.dtype != YL_F64;
    const int64_t end = planes ? layer.cells / layer.anchors : layer.cells, run = planes ? kPlaneRun : kRun;
    for (int32_t anchor = 0; anchor < (planes ? layer.anchors : 1); ++anchor)
      for (int64_t first = 0; first < end; first += run) spans.push_back({l, anchor, first, std::min(first + run, end)});
  }
  const auto larger_first = [](const Span &a, const Span &b) { return a.last - a.first > b.last - b.first; };
  if (shape.layout == YL_NCHW) std::stable_sort(spans.begin(), spans.end(), larger_first);
  return spans;
}

std::vector<Places> places_of(const Shape &shape) {
  constexpr int64_t kMore = 64;
  std::vector<Places> result(shape.layers.size());
  for (size_t l = 0; l < result.size() && shape.dtype != YL_F64; ++l) {
    const Layer &layer = shape.layers[l];
    Places &places = result[l];
    for (auto *numbers : {&places.column, &places.row, &places.anchor_width, &places.anchor_height})
      numbers->resize(layer.cells + kMore);
    for (int64_t i = 0; i < layer.cells; ++i) {
      const auto index = static_cast<int32_t>(i);
      const Cell<float> cell = cell_at<float>(
          layer, shape.layout == YL_NCHW ? Order<true>(layer.anchors, layer.cells, 0).cell_of(index) : index);
      places.column[i] = cell.column;
      places.row[i] = cell.row;
      places.anchor_width[i] = cell.anchor_width;
      places.anchor_height[i] = cell.anchor_height;
    }
  }
  return result;
}

class Cpu final : public Backend {
 public:
  explicit Cpu(const Shape &shape)
      : shape_(shape),
        plain_visit_(visit_for(shape, false)),
        extras_visit_(visit_for(shape, true)),
        spans_(spans_of(shape)),
        places_(places_of(shape)),
        row_bytes_(shape.channels * (shape.f32_grads ? 4 : size_of(shape.dtype))),
        image_bytes_(shape.cells_per_image() * row_bytes_),
        pool_(shape.threads, shape.threads <= shape.processors),
        truths_(shape, shape.threads),
        box_counts_(shape.max_batch),
        partial_sums_(shape.max_batch * spans_.size()),
        partial_extras_(new Extra[partial_sums_.size()]),
        layer_extras_(shape.layers.size()) {
    for (int32_t worker = 0; worker < shape.threads; ++worker) scratch_.push_back(std::make_unique<Scratch>(shape));
    for (int32_t l = 0; l < shape.layer_count(); ++l)
      for (int64_t first = 0; first < shape.layers[l].cells; first += kPiece)
        pieces_.push_back({l, 0, first, std::min(first + kPiece, shape.layers[l].cells)});
    found_.resize(shape.max_batch * pieces_.size());
  }

  Outcome loss(const Call &call, yl_parts *rows) noexcept override {
    Outcome outcome{};
    gather(call, outcome.boxes);
    outcome.normaliser = normaliser_of(call.normaliser, call.normaliser_value, call.batch, truths_.total(call.batch));
    const bool extras = call.extras(shape_.rules);
    visit(call, outcome.normaliser, extras);
    if (call.grads) truths_.remember(call.batch);
    sum(call.batch, rows);
    if (extras) sum_extras(call);
    return outcome;
  }

  const Truths *truths() const override { return &truths_; }

  void yolo_head(const yl_head &head) noexcept override {
    const Layer &layer = shape_.layers[head.layer];
    const int64_t runs = pieces_of(layer.cells, kRun);
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
  // Stage 1.
  void gather(const Call &call, yl_box_counts &counts) noexcept {
    if (!call.dense()) {
      gather_boxes(call.batch, rows_of(call));
      counts = total_box_counts(call.batch);
      return;
    }
    const auto pieces = static_cast<int64_t>(pieces_.size());
    run(call.batch, call.batch * pieces, [&](int64_t item, int32_t) {
      const auto image = static_cast<int32_t>(item / pieces);
      const Span &piece = pieces_[item % pieces];
      const float *y_true = call.y_true[piece.layer] + image * shape_.layers[piece.layer].cells * shape_.channels;
      found_[item] = truths_.gather_dense(image, piece.layer, piece.first, piece.last, y_true);
    });
    for (int32_t image = 0; image < call.batch; ++image) {
      for (int32_t l = 0; l < shape_.layer_count(); ++l) truths_.clear(image, l);
      for (int64_t i = 0; i < pieces; ++i)
        truths_.append(image, pieces_[i].layer, pieces_[i].first, found_[image * pieces + i]);
    }
  }

  void gather_boxes(int32_t batch, const BoxRows &boxes) noexcept {
    run(batch, batch, [&](int64_t image, int32_t worker) {
      box_counts_[image] = truths_.gather_boxes(static_cast<int32_t>(image), boxes, worker);
    });
  }

  yl_box_counts total_box_counts(int32_t batch) const noexcept {
    yl_box_counts counts{};
    for (int32_t image = 0; image < batch; ++image) add(counts, box_counts_[image]);
    return counts;
  }

  // Stage 2.
  void visit(const Call &call, double normaliser, bool extras) noexcept {
    const Visit function = extras ? extras_visit_ : plain_visit_;
    const bool stream = call.batch * image_bytes_ > kStreamedBytes;
    Call as_done = call;
    if (call.refresh() && stream && shape_.layout == YL_NHWC && row_bytes_ < kShortRow) as_done.grad_mode = YL_GRAD_OVERWRITE;
    const Visiting visiting{shape_, places_, truths_, as_done, call.grad_scale / normaliser, stream};
    const auto spans = static_cast<int64_t>(spans_.size());
    run(call.batch, call.batch * spans, [&](int64_t item, int32_t worker) {
      yl_parts sum{};
      Extra extra = YL_NO_EXTRA;
      function(visiting, static_cast<int32_t>(item / spans), spans_[item % spans], *scratch_[worker], sum, extra);
      partial_sums_[item] = sum;
      if (extras) partial_extras_[item] = extra;
    });
  }

  // Stage 3.
  void sum(int32_t batch, yl_parts *rows) const noexcept {
    const yl_parts *partial = partial_sums_.data();
    for (int32_t image = 0; image < batch; ++image) {
      yl_parts *row = rows + int64_t(image) * shape_.layer_count();
      std::fill(row, row + shape_.layer_count(), yl_parts{});
      for (const Span &span : spans_) add(row[span.layer], *partial++);
    }
  }

  void sum_extras(const Call &call) noexcept {
    std::fill(layer_extras_.begin(), layer_extras_.end(), Extra YL_NO_EXTRA);
    const Extra *partial = partial_extras_.get();
    for (int32_t image = 0; image < call.batch; ++image)
      for (const Span &span : spans_) add(layer_extras_[span.layer], *partial++);
    give_extras(shape_, call, layer_extras_.data());
  }

  // The items of a loop over the cells of a batch.
  template <class Body> void run(int32_t batch, int64_t count, const Body &body) noexcept {
    if (batch * truths_.cells_per_image() <= kFewCells)
      pool_.run_alone(count, body);
    else
      pool_.run(count, body);
  }

  const Shape &shape_;
  const Visit plain_visit_, extras_visit_;
  const std::vector<Span> spans_;  // of an image
  const std::vector<Places> places_;
  const int64_t row_bytes_, image_bytes_;  // of the gradient
  Pool pool_;
  Truths truths_;
  std::vector<Span> pieces_;                       // of an image's y_true
  std::vector<int32_t> found_;                     // (max_batch, pieces): objects
  std::vector<yl_box_counts> box_counts_;          // (max_batch)
  std::vector<std::unique_ptr<Scratch>> scratch_;  // (threads)
  std::vector<yl_parts> partial_sums_;             // (max_batch, spans)
  std::unique_ptr<Extra[]> partial_extras_;        // alike
  std::vector<Extra> layer_extras_;                // (L)
};

}  // namespace

std::unique_ptr<Backend> make_cpu(const Shape &shape) { return std::make_unique<Cpu>(shape); }

}  // namespace yl
