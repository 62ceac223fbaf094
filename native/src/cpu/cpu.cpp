// The cpu device: the stages in float32 (float64 for YL_F64), on several threads.
//
// Stage 1 searches y_true in pieces, or places the boxes of each image (truths.h). Stage 2 computes spans of cells
// (cells.h). Stage 3 adds their sums. Pieces and spans do not depend on the number of threads, and sums are added in
// the order of the spans, so that the bits are the same for any number of threads. Read cells_simd.h next.
#include <algorithm>
#include <string>

#include "backend.h"
#include "check/check.h"
#include "cpu/cells.h"
#include "cpu/isa.h"
#include "head.h"
#include "layer_sums.h"
#include "pool.h"

namespace yl {
namespace {

constexpr int64_t kPiece = 2048;  // cells of y_true that one item searches

// A larger gradient would not stay in the caches, so it is written past them.
constexpr int64_t kStreamedBytes = 8 << 20;

// The cells that one thread computes while another wakes up: a call with fewer stays on the caller's thread.
constexpr int64_t kFewCells = 512;

// A refresh of shorter rows would touch nearly every line, and have to read it: writing all past the caches is faster.
constexpr int64_t kShortRow = 128;

int64_t pieces_of(int64_t cells, int64_t piece) { return (cells + piece - 1) / piece; }

CellsFunction cells_for(const Shape &shape, const Isa &isa, bool extras) {
  return shape.dtype == YL_F64 ? double_cells(shape, extras) : isa.cells_of(shape, extras);
}

// Returns the spans of an image. Planes are few and of unequal size: the largest come first, so that threads that take
// them in turn end together. In double, spans of planes are spans of cells as in rows.
std::vector<Span> spans_of(const Shape &shape) {
  std::vector<Span> spans;
  for (int32_t l = 0; l < shape.layer_count(); ++l) {
    const Layer &layer = shape.layers[l];
    const bool planes = shape.layout == YL_NCHW && shape.dtype != YL_F64;
    const int64_t end = planes ? layer.cells / layer.anchors : layer.cells, run = planes ? kPlaneRun : kRun;
    for (int32_t anchor = 0; anchor < (planes ? layer.anchors : 1); ++anchor)
      for (int64_t first = 0; first < end; first += run)
        spans.push_back({l, anchor, first, std::min(first + run, end)});
  }
  const auto larger_first = [](const Span &a, const Span &b) { return a.last - a.first > b.last - b.first; };
  if (shape.layout == YL_NCHW) std::stable_sort(spans.begin(), spans.end(), larger_first);
  return spans;
}

// Returns the tables of all layers, which the vector code loads cells from.
std::vector<CellTable> tables_of(const Shape &shape) {
  constexpr int64_t kPadding = 64;
  std::vector<CellTable> result(shape.layers.size());
  for (size_t l = 0; l < result.size() && shape.dtype != YL_F64; ++l) {
    const Layer &layer = shape.layers[l];
    CellTable &table = result[l];
    for (auto *numbers : {&table.column, &table.row, &table.anchor_width, &table.anchor_height})
      numbers->resize(layer.cells + kPadding);
    const Order<true> planes(layer.anchors, layer.cells, 0);
    for (int32_t index = 0; index < layer.cells; ++index) {
      const Cell<float> cell =
          cell_at<float>(layer, layer.anchor_sizes.data(), shape.layout == YL_NCHW ? planes.cell_of(index) : index);
      table.column[index] = cell.column;
      table.row[index] = cell.row;
      table.anchor_width[index] = cell.anchor_width;
      table.anchor_height[index] = cell.anchor_height;
    }
  }
  return result;
}

class Cpu final : public Backend {
 public:
  explicit Cpu(const Shape &shape)
      : shape_(shape),
        isa_(usable_isa()),
        plain_cells_(cells_for(shape, isa_, false)),
        extras_cells_(cells_for(shape, isa_, true)),
        spans_(spans_of(shape)),
        tables_(tables_of(shape)),
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

  std::string description() const override {
    const std::string arithmetic = shape_.dtype == YL_F64 ? "float64" : std::string("float32, ") + isa_.name;
    return arithmetic + ", " + std::to_string(shape_.threads) + (shape_.threads == 1 ? " thread" : " threads");
  }

  Outcome loss(const Call &call, yl_parts *rows) noexcept override {
    Outcome outcome{};
    find_truths(call, outcome.boxes);
    outcome.normaliser = normaliser_of(call.normaliser, call.normaliser_value, call.batch, truths_.total(call.batch));
    const bool extras = call.extras(shape_.rules);
    compute_cells(call, outcome.normaliser, extras);
    if (call.grads) truths_.remember(call.batch);
    sum(call.batch, rows);
    if (extras) sum_extras(call);
    return outcome;
  }

  bool was_object(int32_t image, int32_t l, int32_t cell) const override {
    return std::binary_search(truths_.previous_begin(image, l), truths_.previous_end(image, l), cell);
  }

  void yolo_head(const yl_head &head) noexcept override {
    const Layer &layer = shape_.layers[head.layer];
    const int64_t runs = pieces_of(layer.cells, kRun);
    write_grid(head, layer.height, layer.width);
    pool_.run(head.batch * runs, [&](int64_t item, int32_t) {
      const int64_t first = item % runs * kRun;
      decode_cells(shape_, head, static_cast<int32_t>(item / runs), first, std::min(first + kRun, layer.cells));
    });
  }

  yl_box_counts build_y_true(int32_t batch, const yl_boxes &boxes, float *const *y_true) noexcept override {
    fill_from_boxes(batch, {boxes.data, nullptr, boxes.per_image, boxes.policy});
    const int32_t layers = shape_.layer_count();
    pool_.run(int64_t(batch) * layers, [&](int64_t item, int32_t) {
      const auto l = static_cast<int32_t>(item % layers);
      truths_.write_y_true(static_cast<int32_t>(item / layers), l, y_true[l]);
    });
    return total_box_counts(batch);
  }

 private:
  // ---- stage 1: truths ----------------------------------------------------------------------------------------------

  void find_truths(const Call &call, yl_box_counts &counts) noexcept {
    if (!call.dense()) {
      fill_from_boxes(call.batch, rows_of(call));
      counts = total_box_counts(call.batch);
      return;
    }
    const auto pieces = static_cast<int64_t>(pieces_.size());
    run(call.batch, call.batch * pieces, [&](int64_t item, int32_t) {
      const auto image = static_cast<int32_t>(item / pieces);
      const Span &piece = pieces_[item % pieces];
      const float *y_true = call.y_true[piece.layer] + image * shape_.layers[piece.layer].cells * shape_.channels;
      found_[item] = truths_.find_in_y_true(image, piece.layer, piece.first, piece.last, y_true);
    });
    for (int32_t image = 0; image < call.batch; ++image) {
      for (int32_t l = 0; l < shape_.layer_count(); ++l) truths_.clear(image, l);
      for (int64_t i = 0; i < pieces; ++i)
        truths_.append(image, pieces_[i].layer, pieces_[i].first, found_[image * pieces + i]);
    }
  }

  void fill_from_boxes(int32_t batch, const BoxRows &boxes) noexcept {
    run(batch, batch, [&](int64_t image, int32_t worker) {
      box_counts_[image] = truths_.fill_from_boxes(static_cast<int32_t>(image), boxes, worker);
    });
  }

  yl_box_counts total_box_counts(int32_t batch) const noexcept {
    yl_box_counts counts{};
    for (int32_t image = 0; image < batch; ++image) add(counts, box_counts_[image]);
    return counts;
  }

  // ---- stage 2: cells -----------------------------------------------------------------------------------------------

  void compute_cells(const Call &call, double normaliser, bool extras) noexcept {
    const CellsFunction function = extras ? extras_cells_ : plain_cells_;
    const bool stream = call.batch * image_bytes_ > kStreamedBytes;
    Call as_done = call;
    if (call.refresh() && stream && shape_.layout == YL_NHWC && row_bytes_ < kShortRow)
      as_done.grad_mode = YL_GRAD_OVERWRITE;
    const CellsCall cells{shape_,  shape_.rules.cell_rules(),    tables_, truths_,
                          as_done, call.grad_scale / normaliser, stream};
    const auto spans = static_cast<int64_t>(spans_.size());
    run(call.batch, call.batch * spans, [&](int64_t item, int32_t worker) {
      yl_parts sum{};
      Extra extra = YL_NO_EXTRA;
      function(cells, static_cast<int32_t>(item / spans), spans_[item % spans], *scratch_[worker], sum, extra);
      partial_sums_[item] = sum;
      if (extras) partial_extras_[item] = extra;
    });
  }

  // ---- stage 3: sum -------------------------------------------------------------------------------------------------

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
    Offence first = layer_extras_[0].first;
    for (int32_t l = 0; l < shape_.layer_count(); ++l) {
      meet(first, layer_extras_[l].first);
      if (call.stats) call.stats[l] = layer_extras_[l].stats;
    }
    if (call.offender)
      *call.offender = describe(first, shape_.layers, shape_.layer_count(), truths_.cells_per_image(), shape_.channels);
  }

  // Runs the items of a loop over the cells of a batch.
  template <class Body> void run(int32_t batch, int64_t count, const Body &body) noexcept {
    if (batch * truths_.cells_per_image() <= kFewCells)
      pool_.run_alone(count, body);
    else
      pool_.run(count, body);
  }

  const Shape &shape_;
  const Isa &isa_;
  const CellsFunction plain_cells_, extras_cells_;
  const std::vector<Span> spans_;  // of an image
  const std::vector<CellTable> tables_;
  const int64_t row_bytes_, image_bytes_;  // of the gradient
  Pool pool_;
  Truths truths_;
  std::vector<Span> pieces_;                       // of an image's y_true
  std::vector<int32_t> found_;                     // (max_batch, pieces): objects
  std::vector<yl_box_counts> box_counts_;          // (max_batch)
  std::vector<std::unique_ptr<Scratch>> scratch_;  // (threads)
  std::vector<yl_parts> partial_sums_;             // (max_batch, spans)
  std::unique_ptr<Extra[]> partial_extras_;        // (max_batch, spans)
  std::vector<Extra> layer_extras_;                // (L)
};

}  // namespace

const BackendEntry cpu_backend = {
    YL_DEVICE_CPU,
    "cpu",
    "host memory, which would cost a GPU more to copy",
    kMostLayers,
    check_not_numbered,
    [](const Shape &shape) -> std::unique_ptr<Backend> { return std::make_unique<Cpu>(shape); },
    nullptr,
};

}  // namespace yl
