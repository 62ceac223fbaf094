// The reference device: the loss as plain loops in double precision, on the caller's thread. Begin reading here.
//
// It follows the formulas of section 7 of yololoss.h line by line and is the oracle of the tests, so it shares with the
// other backends only formula.h (the terms and their composition), boxes.h and place_boxes of truths.h (valid rows of
// boxes and their cells), place_of of layout.h (the row, column and anchor of a cell), and the types. Nothing is
// vectorised, blocked or remembered between cells, and one thread computes the cells in the order of their numbers.
// Positions in memory are computed in this file, so that the tests also verify those of layout.h. From here,
// cpu/cells_simd.h and cuda/cells.cu do the same work fast.
#include <algorithm>

#include "backend.h"
#include "check/check.h"
#include "dtype.h"
#include "layer_sums.h"
#include "layout.h"
#include "truths.h"

namespace yl {
namespace {

// The cell that is being computed: its image and layer, its number within them, and its row, column and anchor.
struct At {
  int32_t image, l, cell;
  CellPlace place;
};

// A plan on the reference device. Its workspace holds the truths of a single image, in rows_, weights_ and objects_:
// loss() and build_y_true() find them again for each image. Only was_object_ outlives a call.
class Reference final : public Backend {
 public:
  explicit Reference(const Shape &shape)
      : shape_(shape),
        rules_(shape.rules.cell_rules()),
        cells_(shape.cells_per_image()),
        rows_(new const float *[cells_]),
        weights_(new float[cells_]),
        objects_(new Truth[cells_]),
        box_rows_(new float[cells_ * shape.channels]),
        marks_(new int32_t[cells_]),
        was_object_(static_cast<size_t>(shape.max_batch) * cells_),
        stats_(shape.layers.size()) {
    int64_t first = 0;
    for (const Layer &layer : shape.layers) {
      first_cell_.push_back(first);
      first += layer.cells;
    }
  }

  std::string description() const override { return "double precision, 1 thread"; }

  // Computes a call. The truths are found twice: YL_NORMALISER_OBJECTS divides by the number of objects of the whole
  // call, so all images must be counted before the first element of the gradient is written. Keeping the truths of all
  // images between the two passes would be faster, but would need a list for each image. The counts of boxes are added
  // in the first pass only.
  Outcome loss(const Call &call, yl_parts *rows) noexcept override {
    Outcome outcome{};
    int64_t objects = 0;
    for (int32_t image = 0; image < call.batch; ++image) {
      add(outcome.boxes, find_truths(call, image));
      objects += object_count_;
    }
    outcome.normaliser = normaliser_of(call.normaliser, call.normaliser_value, call.batch, objects);
    factor_ = call.grad_scale / outcome.normaliser;
    first_ = {};
    std::fill(stats_.begin(), stats_.end(), yl_stats{});
    for (int32_t image = 0; image < call.batch; ++image) {
      find_truths(call, image);
      for (int32_t l = 0; l < shape_.layer_count(); ++l, ++rows) {
        const Layer &layer = shape_.layers[l];
        *rows = {};
        for (int32_t cell = 0; cell < layer.cells; ++cell)
          compute_cell(call, {image, l, cell, place_of(cell, layer.width, layer.anchors)}, *rows);
      }
      // Only after the image's last visit, because visit() needs the objects of the previous call to clear their rows.
      for (int64_t cell = 0; cell < cells_ && call.grads; ++cell)
        was_object_[image * cells_ + cell] = rows_[cell] != nullptr;
    }
    if (call.stats) std::copy(stats_.begin(), stats_.end(), call.stats);
    if (call.offender) *call.offender = first_;
    return outcome;
  }

  // Describes the last call with a gradient: visit() uses it for YL_GRAD_REFRESH, and check/refresh.cpp for its check.
  bool was_object(int32_t image, int32_t l, int32_t cell) const override {
    return was_object_[image * cells_ + first_cell_[l] + cell];
  }

  // Decodes every cell in double and rounds once to float32 at the end.
  void yolo_head(const yl_head &head) noexcept override {
    const Layer &layer = shape_.layers[head.layer];
    for (int32_t i = 0; head.grid && i < layer.height * layer.width; ++i) {
      head.grid[2 * i] = static_cast<float>(i % layer.width);
      head.grid[2 * i + 1] = static_cast<float>(i / layer.width);
    }
    for (int32_t image = 0; image < head.batch; ++image)
      for (int32_t cell = 0; cell < layer.cells; ++cell) {
        const At at{image, head.layer, cell, place_of(cell, layer.width, layer.anchors)};
        const auto logit = [&](int32_t channel) { return value_at(head.feats, shape_.dtype, position(at, channel)); };
        const Box<double> box = decode<double>({logit(kX), logit(kY), logit(kW), logit(kH)}, formula_cell(at));
        const int64_t i = image * layer.cells + cell;
        if (head.box_xy) head.box_xy[2 * i] = static_cast<float>(box.x);
        if (head.box_xy) head.box_xy[2 * i + 1] = static_cast<float>(box.y);
        if (head.box_wh) head.box_wh[2 * i] = static_cast<float>(box.w);
        if (head.box_wh) head.box_wh[2 * i + 1] = static_cast<float>(box.h);
        if (head.box_confidence) head.box_confidence[i] = static_cast<float>(sigmoid(logit(kObjectness)));
        for (int32_t c = 0; head.box_class_probs && c < shape_.num_classes; ++c)
          head.box_class_probs[i * shape_.num_classes + c] = static_cast<float>(sigmoid(logit(kFirstClass + c)));
      }
  }

  // Copies the rows that find_boxes composes; every other cell becomes a row of zeros. Weights of boxes are left out,
  // because y_true has no field for them.
  yl_box_counts build_y_true(int32_t batch, const yl_boxes &boxes, float *const *y_true) noexcept override {
    yl_box_counts counts{};
    for (int32_t image = 0; image < batch; ++image) {
      add(counts, find_boxes(image, {boxes.data, nullptr, boxes.per_image, boxes.policy}));
      for (int32_t l = 0; l < shape_.layer_count(); ++l) {
        float *out = y_true[l] + image * shape_.layers[l].cells * shape_.channels;
        for (int64_t cell = 0; cell < shape_.layers[l].cells; ++cell)
          for (int32_t channel = 0; channel < shape_.channels; ++channel) {
            const float *row = rows_[first_cell_[l] + cell];
            *out++ = row ? row[channel] : 0.0f;
          }
      }
    }
    return counts;
  }

 private:
  // ---- truths -------------------------------------------------------------------------------------------------------

  // An object of the current image. Its cell is not needed: the ignore factor compares boxes, wherever their cells are.
  struct Truth {
    int32_t l;
    Box<double> truth;
  };

  // Finds the objects of an image: fills rows_ and weights_ for each of its cells, then lists them in objects_, layer
  // by layer. Returns what became of the boxes; all 0 for dense y_true.
  yl_box_counts find_truths(const Call &call, int32_t image) noexcept {
    yl_box_counts counts{};
    if (call.dense())
      find_in_y_true(call, image);
    else
      counts = find_boxes(image, rows_of(call));
    object_count_ = 0;
    for (int32_t l = 0; l < shape_.layer_count(); ++l)
      for (int64_t cell = 0; cell < shape_.layers[l].cells; ++cell)
        if (const float *y = rows_[first_cell_[l] + cell])
          objects_[object_count_++] = {l, {y[kX], y[kY], y[kW], y[kH]}};
    return counts;
  }

  // Points rows_ at the rows of y_true whose mask is not 0. A NaN differs from 0, so its cell is an object; -0 does
  // not. Dense truths have no weights of boxes, so every weight is 1.
  void find_in_y_true(const Call &call, int32_t image) noexcept {
    for (int32_t l = 0; l < shape_.layer_count(); ++l) {
      const int64_t cells = shape_.layers[l].cells;
      for (int64_t cell = 0; cell < cells; ++cell) {
        const float *y = call.y_true[l] + (image * cells + cell) * shape_.channels;
        rows_[first_cell_[l] + cell] = y[kObjectness] != 0 ? y : nullptr;
        weights_[first_cell_[l] + cell] = 1;
      }
    }
  }

  // Composes the rows that yl_build_y_true would write, in box_rows_, and points rows_ at them. If two boxes share a
  // cell, the later one replaces the coordinates and the weight, but the row is cleared only for the first, so the
  // class flags of both stay set, as in keras-yolo3.
  yl_box_counts find_boxes(int32_t image, const BoxRows &boxes) noexcept {
    std::fill_n(rows_.get(), cells_, nullptr);
    std::fill_n(marks_.get(), cells_, -1);
    const auto take = [&](const PlacedRow &row, int32_t l, int32_t cell, int32_t &mark) {
      const int64_t i = first_cell_[l] + cell;
      float *const y = &box_rows_[i * shape_.channels];
      if (mark < 0) std::fill_n(y, shape_.channels, 0.0f);
      mark = row.t;
      y[kX] = row.truth.x;
      y[kY] = row.truth.y;
      y[kW] = row.truth.w;
      y[kH] = row.truth.h;
      y[kObjectness] = 1;
      y[kFirstClass + static_cast<int32_t>(row.used.values[kBoxClass])] = 1;
      rows_[i] = y;
      weights_[i] = row.used.weight;
    };
    const auto nothing = [](const PlacedRow &) {};
    return place_boxes(shape_, boxes, image, marks_.get(), nothing, take, nothing);
  }

  // ---- cells --------------------------------------------------------------------------------------------------------

  // Adds the loss of a cell to the sums of its image and layer, and writes its row of the gradient. Everything that
  // reads box or class logits of a background cell comes before the first write, because the gradient may lie over
  // feats.
  void compute_cell(const Call &call, const At &at, yl_parts &sum) noexcept {
    const float *const y = rows_[first_cell_[at.l] + at.cell];
    const double k = ignore_factor(call, at);
    sum.ignored += k == 0;
    if (call.scan_all) scan(call, at, sum);
    if (call.refresh() && was_object(at.image, at.l, at.cell)) clear_gradient(call, at);
    const double loss = y ? object(call, at, k, y, sum) : background(call, at, k, sum);
    put(call.ignore_mask, at, k);
    put(call.cell_loss, at, loss);
  }

  // Returns k: 0 if the prediction of the cell has an IoU of at least ignore_thresh with some object of its image and
  // layer, or, with YL_SCOPE_IMAGE, of its image; else 1.
  double ignore_factor(const Call &call, const At &at) const noexcept {
    const Box<double> box = decode(box_logits(call, at), formula_cell(at));
    double k = 1, best = 0;
    for (int64_t i = 0; i < object_count_; ++i) {
      if (objects_[i].l != at.l && !rules_.image_scope) continue;
      if (reaches(box, objects_[i].truth, double(shape_.layers[at.l].ignore_thresh))) k = 0;
      best = larger(iou(box, objects_[i].truth), best);
    }
    put(call.best_iou, at, best);
    return k;
  }

  // Adds a background cell, and returns its loss. A NaN or infinity of the gradient is reported as an overflow only if
  // the logit is finite: otherwise the logit is the cause. The statistics sum squares of the gradient before it is
  // rounded to the type of grads.
  double background(const Call &call, const At &at, double k, yl_parts &sum) noexcept {
    const double to = logit(call, at, kObjectness);
    const Term<double> confidence = background_term<true>(rules_, k, to);
    sum.confidence_background += confidence.loss;
    sum.ignored_background += k == 0;
    if (!call.scan_all) sum.non_finite += !finite(to);

    const double slope = confidence.slope * factor_;
    if (call.grads && call.grad_mode == YL_GRAD_OVERWRITE) clear_gradient(call, at);
    const double stored = call.grads ? write(call, at, kObjectness, slope, sum) : 0;
    if (!finite(to))
      note(at, kObjectness, YL_CAUSE_FEATS, to, 0);
    else if (!finite(stored))
      note(at, kObjectness, YL_CAUSE_OVERFLOW, to, slope);

    yl_stats &stats = stats_[at.l];
    ++stats.background;
    stats.objectness_background += sigmoid(to);
    stats.grad_background += call.grads ? slope * slope : 0;
    return confidence.loss;
  }

  // Adds an object, and returns the sum of its parts. y is its row of y_true, or the row that find_boxes composed.
  double object(const Call &call, const At &at, double k, const float *y, yl_parts &sum) noexcept {
    const bool sound = inspect(call, at, y, sum);
    const double m = y[kObjectness], v = weights_[first_cell_[at.l] + at.cell], to = logit(call, at, kObjectness);
    const Box<double> truth{y[kX], y[kY], y[kW], y[kH]}, t = box_logits(call, at);
    const auto [box, confidence] = object_terms<true>(rules_, truth, m, v, k, t, to, formula_cell(at));
    sum.xy += box.xy;
    sum.wh += box.wh;
    sum.confidence_object += confidence.loss;
    ++sum.objects;
    double loss = box.xy + box.wh + confidence.loss;

    yl_stats &stats = stats_[at.l];
    const double own_iou = iou(decode(t, formula_cell(at)), truth);
    ++stats.objects;
    stats.iou += own_iou >= 0 ? own_iou : 0;  // a NaN counts as 0
    stats.iou_50 += own_iou > 0.5;
    stats.iou_75 += own_iou > 0.75;
    stats.objectness_object += sigmoid(to);

    // lost is the channel whose xy or wh part is not finite although its input is, or -1. give() writes one element of
    // the gradient and returns its square. It reports an overflow if the loss of the channel or the element as stored
    // is not finite, but only for sound input: inspect() has reported the value that is to blame otherwise. Each logit
    // is read before its element is written, again because the gradient may lie over feats.
    const int32_t lost = overflow_channel(box, t);
    const auto give = [&](int32_t channel, double slope, bool loss_is_finite) {
      const double element = call.grads ? slope * factor_ : 0, value = logit(call, at, channel);
      const bool stored = !call.grads || finite(write(call, at, channel, element, sum));
      if (sound && !(loss_is_finite && stored)) note(at, channel, YL_CAUSE_OVERFLOW, value, element);
      return element * element;
    };
    stats.grad_xy += give(kX, box.slope.x, lost != kX);
    stats.grad_xy += give(kY, box.slope.y, lost != kY);
    stats.grad_wh += give(kW, box.slope.w, lost != kW);
    stats.grad_wh += give(kH, box.slope.h, lost != kH);
    stats.grad_object += give(kObjectness, confidence.slope, finite(confidence.loss));
    for (int32_t c = 0; c < shape_.num_classes; ++c) {
      const auto class_weight = [&] { return double(rules_.class_weights[c]); };
      const Term<double> term =
          class_term<true>(rules_, m, double(y[kFirstClass + c]), v, class_weight, logit(call, at, kFirstClass + c));
      sum.class_ += term.loss;
      loss += term.loss;
      stats.grad_class += give(kFirstClass + c, term.slope, finite(term.loss));
    }
    return loss;
  }

  // ---- values that are not finite -----------------------------------------------------------------------------------

  // Counts the values of an object that are not finite, and returns true if its input is sound: all logits are finite,
  // and no value of y_true poisons the loss. The two differ for a width or height <= 0, which is finite and not
  // counted, but has no finite logarithm. With YL_SCAN_ALL, scan() has counted the values already.
  bool inspect(const Call &call, const At &at, const float *y, yl_parts &sum) noexcept {
    bool sound = true;
    for (int32_t channel = 0; channel < shape_.channels; ++channel) {
      const double value = logit(call, at, channel);
      if (!call.scan_all) sum.non_finite += !finite(value) + !finite(y[channel]);
      if (!finite(value)) note(at, channel, YL_CAUSE_FEATS, value, 0);
      if (poisons(channel, y[channel])) note(at, channel, YL_CAUSE_TRUTH, y[channel], 0);
      sound &= finite(value) && !poisons(channel, y[channel]);
    }
    return sound;
  }

  // YL_SCAN_ALL: counts every value of a cell that is not finite, whether it enters the loss or not. Boxes have no
  // y_true to be scanned.
  void scan(const Call &call, const At &at, yl_parts &sum) noexcept {
    const int64_t cells = shape_.layers[at.l].cells;
    for (int32_t channel = 0; channel < shape_.channels; ++channel) {
      const double value = logit(call, at, channel);
      const float y = call.dense() ? call.y_true[at.l][(at.image * cells + at.cell) * shape_.channels + channel] : 0;
      sum.non_finite += !finite(value) + !finite(y);
      if (!finite(value)) note(at, channel, YL_CAUSE_FEATS, value, 0);
      if (!finite(y)) note(at, channel, YL_CAUSE_TRUTH, y, 0);
    }
  }

  // Keeps the first offender. Cells are visited in order, so an offender of an earlier cell stays; within a cell the
  // lowest channel comes first, then the lowest cause.
  void note(const At &at, int32_t channel, int32_t cause, double value, double gradient) noexcept {
    if (first_.cause != YL_CAUSE_NONE) {
      const bool same_cell = first_.image == at.image && first_.layer == at.l && first_.row == at.place.row &&
                             first_.column == at.place.column && first_.anchor == at.place.anchor;
      if (!same_cell || first_.channel < channel || (first_.channel == channel && first_.cause <= cause)) return;
    }
    first_ = {cause, at.image, at.l, at.place.row, at.place.column, at.place.anchor, channel, 0, value, gradient};
  }

  // ---- memory -------------------------------------------------------------------------------------------------------

  // Returns the position of a channel of a cell in feats[l] and grads[l], counted in values. layout.h computes the same
  // for the fast backends.
  int64_t position(const At &at, int32_t channel) const {
    const Layer &layer = shape_.layers[at.l];
    const int64_t h = layer.height, w = layer.width, square_channels = layer.anchors * shape_.channels;
    const int64_t in_square = at.place.anchor * shape_.channels + channel;
    if (shape_.layout == YL_NHWC)
      return ((at.image * h + at.place.row) * w + at.place.column) * square_channels + in_square;
    return ((at.image * square_channels + in_square) * h + at.place.row) * w + at.place.column;
  }

  // Reads a value of a YL_F32 ... type. The conversion to double is exact for all of them.
  static double value_at(const void *values, int32_t dtype, int64_t position) {
    switch (dtype) {
      case YL_F64: return static_cast<const double *>(values)[position];
      case YL_F16: return load(static_cast<const Half *>(values)[position]);
      case YL_BF16: return load(static_cast<const Bfloat16 *>(values)[position]);
      default: return static_cast<const float *>(values)[position];
    }
  }

  double logit(const Call &call, const At &at, int32_t channel) const {
    return value_at(call.feats[at.l], shape_.dtype, position(at, channel));
  }
  Box<double> box_logits(const Call &call, const At &at) const {
    return {logit(call, at, kX), logit(call, at, kY), logit(call, at, kW), logit(call, at, kH)};
  }
  Cell<double> formula_cell(const At &at) const {
    return cell_at<double>(shape_.layers[at.l], shape_.layers[at.l].anchor_sizes.data(), at.cell);
  }

  // Returns the type of grads: YL_GRAD_F32 makes it float32 whatever the type of feats is.
  int32_t grad_dtype() const { return shape_.f32_grads ? YL_F32 : shape_.dtype; }

  // Stores a value in the type of grads, and returns it as it is stored. The 16-bit types are rounded from float32, as
  // the contract defines them, so that value is rounded twice.
  double store(const Call &call, const At &at, int32_t channel, double value) const noexcept {
    void *const grads = call.grads[at.l];
    const int64_t i = position(at, channel);
    switch (grad_dtype()) {
      case YL_F64: return static_cast<double *>(grads)[i] = value;
      case YL_F16: return load(static_cast<Half *>(grads)[i] = Store<Half>::from(value));
      case YL_BF16: return load(static_cast<Bfloat16 *>(grads)[i] = Store<Bfloat16>::from(value));
      default: return static_cast<float *>(grads)[i] = static_cast<float>(value);
    }
  }

  // Writes an element of the gradient, or adds it to what is there (YL_GRAD_ACCUMULATE), and returns it as it is
  // stored. found_inf counts elements that are not finite in the type of grads, so a finite gradient that overflows
  // float16 counts.
  double write(const Call &call, const At &at, int32_t channel, double slope, yl_parts &sum) const noexcept {
    const bool accumulate = call.grad_mode == YL_GRAD_ACCUMULATE;
    const double before = accumulate ? value_at(call.grads[at.l], grad_dtype(), position(at, channel)) : 0;
    const double stored = store(call, at, channel, accumulate ? before + slope : slope);
    sum.found_inf += !finite(stored);
    return stored;
  }

  // Sets the gradient of a cell to 0. Every logit of the cell that is needed must have been read: the gradient may lie
  // over feats.
  void clear_gradient(const Call &call, const At &at) const noexcept {
    for (int32_t channel = 0; channel < shape_.channels; ++channel) store(call, at, channel, 0);
  }

  // Writes a cell's value into a map of the result, unless the map is not requested (NULL). Maps are (B, H, W, A), with
  // YL_NCHW (B, A, H, W), in the plan's memory.
  void put(float *const *maps, const At &at, double value) const noexcept {
    if (!maps) return;
    const Layer &layer = shape_.layers[at.l];
    const int64_t squares = int64_t(layer.height) * layer.width, square = at.cell / layer.anchors;
    const int64_t in_image = shape_.layout == YL_NHWC ? at.cell : at.place.anchor * squares + square;
    maps[at.l][at.image * layer.cells + in_image] = static_cast<float>(value);
  }

  const Shape &shape_;
  const CellRules rules_;
  const int64_t cells_;              // cells of an image
  std::vector<int64_t> first_cell_;  // (L): number of the layer's first cell in an image
  // For each cell of the current image: its row of y_true, or NULL if it is background; and the weight of its box.
  std::unique_ptr<const float *[]> rows_;
  std::unique_ptr<float[]> weights_;
  std::unique_ptr<Truth[]> objects_;
  int64_t object_count_ = 0;
  std::unique_ptr<float[]> box_rows_;  // rows of y_true for boxes, one for each cell
  std::unique_ptr<int32_t[]> marks_;   // (cells): the last row of boxes that took the cell, or -1
  std::vector<bool> was_object_;       // (max_batch, cells): at the last call with a gradient
  double factor_ = 0;                  // factor of every slope: grad_scale / normaliser
  std::vector<yl_stats> stats_;        // (L)
  yl_offender first_{};
};

}  // namespace

const BackendEntry reference_backend = {
    YL_DEVICE_REFERENCE,
    "reference",
    "",  // YL_DEVICE_AUTO never takes it
    kMostLayers,
    check_not_numbered,
    [](const Shape &shape) -> std::unique_ptr<Backend> { return std::make_unique<Reference>(shape); },
    nullptr,
};

}  // namespace yl
