// The objects of dense truths and of boxes; see truths.h.
//
// Dense y_true is as large as feats, and nearly all of its masks are 0, so the search for objects is bound by memory:
// it reads one value of each row, ahead of time, and tests 16 of them at once. Boxes are few; their cost is the class
// flags, a bit for each class, so that a cell needs no row of floats until the cell is computed. Read cpu/cells_simd.h
// next.
#include "truths.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/prefetch.h"
#include "dtype.h"
#include "layout.h"

namespace yl {

// Points to the shape's anchors instead of copying them: a plan keeps its shape as long as it lives.
BoxRules rules_of(const Shape &shape, int32_t policy) {
  return {shape.anchors.data(), static_cast<int32_t>(shape.anchors.size() / 2),
          shape.input_height,   shape.input_width,
          shape.num_classes,    policy};
}

const char *fault_of(BoxKind kind) {
  switch (kind) {
    case BoxKind::kNotFinite: return "a value that is not finite";
    case BoxKind::kNoArea: return "no area (x_max <= x_min or y_max <= y_min)";
    case BoxKind::kBadClass: return "a class that is not a whole number in 0..C-1";
    case BoxKind::kTooLarge: return "a size too large for float32";
    case BoxKind::kOutside: return "a centre outside the input";
    case BoxKind::kBadWeight: return "a weight that is not a finite number >= 0";
    default: return nullptr;
  }
}

// A NaN is not in 0..1, so that the fault of its row is reported instead.
int32_t find_normalised(const BoxRows &boxes, int32_t image) {
  const float *rows = boxes.data + int64_t(image) * boxes.per_image * kBoxValues;
  int32_t first = -1;
  bool fraction = false;
  for (int32_t t = 0; t < boxes.per_image; ++t) {
    const float *row = rows + int64_t(t) * kBoxValues;
    if (row[kXMin] == 0 && row[kYMin] == 0 && row[kXMax] == 0 && row[kYMax] == 0) continue;
    if (first < 0) first = t;
    for (int32_t c = kXMin; c <= kYMax; ++c) {
      if (!(row[c] >= 0 && row[c] <= 1)) return -1;
      fraction |= row[c] != std::floor(row[c]);
    }
  }
  return fraction ? first : -1;
}

// Allocates without initialising (new Object[n] of a trivial type), so that pages without objects are never touched.
// marks_ is the exception: it must be -1.
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
  previous_.reset(new int32_t[cells]);
  previous_counts_ = counts_;
  marks_.assign(static_cast<size_t>(workers) * cells_per_image_, -1);
}

// Nearly all masks are 0, so the bits of 16 of them are combined and tested once. The shift drops the sign bit, because
// a mask of -0 is 0 too; any other bit, that of a NaN included, leads to the loop that decides for each cell. So do the
// last cells of a range, if they are fewer than 16.
int32_t Truths::find_in_y_true(int32_t image, int32_t layer, int64_t first, int64_t last,
                               const float *y_true) noexcept {
  constexpr int64_t kTogether = 16;
  const int64_t step = shape_.channels;
  const float *const masks = y_true + kObjectness;
  // A range of n cells has at most n objects, so they fit between first and last, and no search writes to another's
  // part.
  Object *const list = &objects_[slot(image, layer) + first];
  int32_t found = 0;
  for (int64_t cell = first; cell < last;) {
    const int64_t count = std::min(kTogether, last - cell);
    const float *mask = masks + cell * step;
    uint32_t set = 0;
    if (count == kTogether) {
      fetch<kTogether>(mask + kAhead * step, step);
      for (int64_t i = 0; i < kTogether; ++i) set |= bits_of(mask[i * step]);
      if (set << 1 == 0) {  // all are 0 or -0
        cell += kTogether;
        continue;
      }
    }
    for (const int64_t end = cell + count; cell < end; ++cell) {
      const float *y = y_true + cell * step;
      if (y[kObjectness] == 0) continue;  // a NaN is not 0: its cell is an object
      list[found++] = {static_cast<int32_t>(cell), 0, {y[kX], y[kY], y[kW], y[kH]}, 1};
    }
  }
  return found;
}

// Moves the objects that a search has left at position first to the end of the list. Searches are appended in the order
// of cells, and none has found more objects than it has cells, so the list ends at or before first: objects move down,
// and never over those of a search that has not been appended.
void Truths::append(int32_t image, int32_t layer, int64_t first, int32_t found) noexcept {
  Object *const list = &objects_[slot(image, layer)];
  int32_t &length = count(image, layer);
  if (found > 0 && length != first)
    std::memmove(list + length, list + first, static_cast<size_t>(found) * sizeof(Object));
  length += found;
}

// Builds the lists in the order in which rows take cells, then sorts them by cell. marks has the index of a cell's
// object in its list, or -1; it is only valid until the sort, and is cleared before it, by walking the lists instead of
// all cells. Class flags do not move with the objects: Object::flags keeps their position.
yl_box_counts Truths::fill_from_boxes(int32_t image, const BoxRows &boxes, int32_t worker) noexcept {
  // counts are the lengths of this image's lists, layer by layer.
  int32_t *const marks = &marks_[worker * cells_per_image_], *const counts = &count(image, 0);
  std::fill_n(counts, shape_.layer_count(), 0);
  const auto flags_of = [&](int32_t l, int32_t index) { return &class_flags_[(slot(image, l) + index) * flag_words_]; };
  const auto take = [&](const PlacedRow &row, int32_t l, int32_t cell, int32_t &index) {
    Object *const list = &objects_[slot(image, l)];
    if (index < 0) {
      index = counts[l]++;
      list[index] = {cell, index, row.truth, row.used.weight};
      // Flags of an earlier call may still be there.
      std::fill_n(flags_of(l, index), flag_words_, 0u);
    } else {  // the later row wins, but the class flags of both stay
      list[index].truth = row.truth;
      list[index].weight = row.used.weight;
    }
    const auto c = static_cast<int32_t>(row.used.values[kBoxClass]);
    flags_of(l, index)[c / 32] |= 1u << (c % 32);
  };
  const auto nothing = [](const PlacedRow &) {};
  const yl_box_counts seen = place_boxes(shape_, boxes, image, marks, nothing, take, nothing);
  for (int32_t l = 0; l < shape_.layer_count(); ++l) {
    Object *const list = &objects_[slot(image, l)];
    for (int32_t i = 0; i < counts[l]; ++i) marks[layer_start_[l] + list[i].cell] = -1;
    std::sort(list, list + counts[l], [](const Object &a, const Object &b) { return a.cell < b.cell; });
  }
  return seen;
}

int64_t Truths::total(int32_t batch) const {
  int64_t sum = 0;
  for (int64_t i = 0; i < int64_t(batch) * shape_.layer_count(); ++i) sum += counts_[i];
  return sum;
}

// Copies only the cells, since that is all that a refresh needs.
void Truths::remember(int32_t batch) noexcept {
  for (int32_t image = 0; image < batch; ++image)
    for (int32_t l = 0; l < shape_.layer_count(); ++l) {
      int32_t *cell = &previous_[slot(image, l)];
      for (const Object *o = begin(image, l); o != end(image, l); ++o) *cell++ = o->cell;
      previous_counts_[image * shape_.layer_count() + l] = counts_[image * shape_.layer_count() + l];
    }
}

// A row that is composed from a box holds the values of yl_build_y_true: mask 1, and 1 for each class flag.
const float *Truths::row(const Object &object, int32_t image, int32_t layer, const float *y_true,
                         float *scratch) const {
  if (y_true) return y_true + int64_t(object.cell) * shape_.channels;
  const uint32_t *flags = &class_flags_[(slot(image, layer) + object.flags) * flag_words_];
  scratch[kX] = object.truth.x;
  scratch[kY] = object.truth.y;
  scratch[kW] = object.truth.w;
  scratch[kH] = object.truth.h;
  scratch[kObjectness] = 1;
  for (int32_t c = 0; c < shape_.num_classes; ++c)
    scratch[kFirstClass + c] = static_cast<float>(flags[c / 32] >> (c % 32) & 1);
  return scratch;
}

// Clears the image's part, then writes the rows of objects straight to their cells, with the cell's row as scratch.
void Truths::write_y_true(int32_t image, int32_t layer, float *y_true) const {
  const int64_t values = shape_.layers[layer].cells * shape_.channels;
  float *const out = y_true + image * values;
  std::fill_n(out, values, 0.0f);
  for (const Object *o = begin(image, layer); o != end(image, layer); ++o)
    row(*o, image, layer, nullptr, out + int64_t(o->cell) * shape_.channels);
}

}  // namespace yl
