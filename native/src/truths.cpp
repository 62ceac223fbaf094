#include "truths.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace yl {
namespace {

// The steps of yl_build_y_true in yololoss.h. Step 1: whole-pixel centre, one rounding to float.
Box<float> truth_of(const Shape &shape, const float *row) {
  const auto width = static_cast<float>(shape.input_width), height = static_cast<float>(shape.input_height);
  return {std::floor((row[0] + row[2]) / 2) / width, std::floor((row[1] + row[3]) / 2) / height,
          (row[2] - row[0]) / width, (row[3] - row[1]) / height};
}

bool unused(const float *row) { return row[0] == 0 && row[1] == 0 && row[2] == 0 && row[3] == 0; }

// Step 2: the first of all anchors with the largest IoU at a common centre.
int32_t best_anchor(const Shape &shape, const float *row) {
  const double width = row[2] - row[0], height = row[3] - row[1];
  int32_t best = 0;
  double best_iou = -1;
  for (size_t n = 0; n < shape.anchors.size() / 2; ++n) {
    const Box<double> box{0, 0, width, height}, anchor{0, 0, shape.anchors[2 * n], shape.anchors[2 * n + 1]};
    const double overlap = iou(box, anchor);
    if (overlap > best_iou) {
      best_iou = overlap;
      best = static_cast<int32_t>(n);
    }
  }
  return best;
}

// Step 3: the product in double, so that a centre on a cell border falls as in keras-yolo3.
int32_t grid_index(float centre, int32_t size) { return static_cast<int32_t>(std::floor(double(centre) * size)); }

}  // namespace

const char *fault_of(const Shape &shape, const float *row) {
  if (unused(row)) return nullptr;
  for (int i = 0; i < 5; ++i)
    if (!std::isfinite(row[i])) return "a value that is not finite";
  if (!(row[2] > row[0]) || !(row[3] > row[1])) return "no area (x_max <= x_min or y_max <= y_min)";
  if (row[4] != std::floor(row[4]) || row[4] < 0 || !(row[4] < static_cast<float>(shape.num_classes)))
    return "a class that is not a whole number in 0..C-1";
  const Box<float> truth = truth_of(shape, row);
  if (!std::isfinite(truth.w) || !std::isfinite(truth.h)) return "a size too large for float32";
  if (!(truth.x >= 0 && truth.x < 1 && truth.y >= 0 && truth.y < 1)) return "a centre outside the input";
  return nullptr;
}

Truths::Truths(const Shape &shape, int32_t workers) : shape_(shape), cells_per_image_(0) {
  for (const Layer &layer : shape.layers) {
    layer_start_.push_back(cells_per_image_);
    cells_per_image_ += layer.cells;
  }
  flag_words_ = (shape.num_classes + 31) / 32;
  const auto cells = static_cast<size_t>(shape.max_batch) * cells_per_image_;
  objects_.reset(new Object[cells]);
  class_flags_.reset(new uint32_t[cells * flag_words_]);
  counts_.assign(static_cast<size_t>(shape.max_batch) * shape.layers.size(), 0);
  object_at_.assign(static_cast<size_t>(workers) * cells_per_image_, -1);
}

void Truths::gather_dense(int32_t image, int32_t layer, const float *y_true) noexcept {
  Object *list = &objects_[slot(image, layer)];
  int32_t count = 0;
  const auto cells = static_cast<int32_t>(shape_.layers[layer].cells);
  for (int32_t cell = 0; cell < cells; ++cell) {
    const float *y = y_true + int64_t(cell) * shape_.channels;
    if (y[4] != 0) list[count++] = {cell, 0, {y[0], y[1], y[2], y[3]}};  // NaN is not 0 either
  }
  counts_[image * shape_.layer_count() + layer] = count;
}

yl_box_counts Truths::gather_boxes(int32_t image, const float *boxes, int32_t per_image, int32_t worker) noexcept {
  yl_box_counts seen{};
  int32_t *object_at = &object_at_[worker * cells_per_image_];
  int32_t *counts = &counts_[image * shape_.layer_count()];
  std::fill(counts, counts + shape_.layer_count(), 0);
  for (int32_t t = 0; t < per_image; ++t) {
    float row[5];  // read once: what was checked is what is used, even if the caller writes boxes meanwhile
    std::copy_n(boxes + int64_t(t) * 5, 5, row);
    if (unused(row)) continue;
    if (fault_of(shape_, row)) {
      ++seen.skipped;
      continue;
    }
    ++seen.used;
    const Box<float> truth = truth_of(shape_, row);
    const int32_t anchor = best_anchor(shape_, row);
    bool placed = false, collided = false;
    for (int32_t l = 0; l < shape_.layer_count(); ++l) {
      const Layer &layer = shape_.layers[l];
      const auto at = std::find(layer.anchor_mask.begin(), layer.anchor_mask.end(), anchor);
      if (at == layer.anchor_mask.end()) continue;
      placed = true;
      const int32_t column = grid_index(truth.x, layer.width), line = grid_index(truth.y, layer.height);
      const auto cell = static_cast<int32_t>((int64_t(line) * layer.width + column) * layer.anchors +
                                             (at - layer.anchor_mask.begin()));
      int32_t &index = object_at[layer_start_[l] + cell];
      Object *list = &objects_[slot(image, l)];
      if (index < 0) {
        index = counts[l]++;
        list[index] = {cell, index, truth};
        std::memset(&class_flags_[(slot(image, l) + index) * flag_words_], 0, flag_words_ * sizeof(uint32_t));
      } else {
        collided = true;
        list[index].truth = truth;  // the later row wins, the class flags of both stay
      }
      const auto c = static_cast<int32_t>(row[4]);
      class_flags_[(slot(image, l) + index) * flag_words_ + c / 32] |= 1u << (c % 32);
    }
    seen.dropped += !placed;
    seen.collided += collided;
  }
  for (int32_t l = 0; l < shape_.layer_count(); ++l) {
    Object *list = &objects_[slot(image, l)];
    for (int32_t i = 0; i < counts[l]; ++i) object_at[layer_start_[l] + list[i].cell] = -1;
    std::sort(list, list + counts[l], [](const Object &a, const Object &b) { return a.cell < b.cell; });
  }
  return seen;
}

int64_t Truths::total(int32_t batch) const {
  int64_t sum = 0;
  for (int64_t i = 0; i < int64_t(batch) * shape_.layer_count(); ++i) sum += counts_[i];
  return sum;
}

const float *Truths::row(const Object &object, int32_t image, int32_t layer, const float *y_true,
                         float *scratch) const {
  if (y_true) return y_true + int64_t(object.cell) * shape_.channels;
  const uint32_t *flags = &class_flags_[(slot(image, layer) + object.flags) * flag_words_];
  scratch[0] = object.truth.x;
  scratch[1] = object.truth.y;
  scratch[2] = object.truth.w;
  scratch[3] = object.truth.h;
  scratch[4] = 1;
  for (int32_t c = 0; c < shape_.num_classes; ++c) scratch[5 + c] = static_cast<float>(flags[c / 32] >> (c % 32) & 1);
  return scratch;
}

}  // namespace yl
