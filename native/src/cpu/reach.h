// The objects that the cells of a span can reach: only those cells need their box logits.
//
// A property of all cells of a block of 64 is one word. reach() marks, from formula.h's zone_of, the cells from which
// each object can be reached; blocks without a mark are never decoded.
#pragma once

#include "cpu/view.h"

namespace yl {
inline namespace YL_ISA {

constexpr int32_t kBlock = 64;

// Returns a word with the lowest count bits set.
inline __attribute__((always_inline)) uint64_t first_bits(int64_t count) {
  return count >= 64 ? ~uint64_t(0) : (uint64_t(1) << count) - 1;
}

// The cells of a span, numbered from 0.
struct SpanCells {
  int32_t count;
  int64_t origin;     // cell 0
  int32_t step;       // from cell to cell
  int64_t square;     // of cell 0: row * width + column
  int64_t index;      // of cell 0, see layout.h
  int32_t of_square;  // cells of the span in a square

  SpanCells(const Span &span, const Layer &layer, bool planar)
      : count(static_cast<int32_t>(span.last - span.first)),
        origin(planar ? span.first * layer.anchors + span.anchor : span.first),
        step(planar ? layer.anchors : 1),
        square(planar ? span.first : span.first / layer.anchors),
        index(planar ? span.anchor * (layer.cells / layer.anchors) + span.first : span.first),
        of_square(planar ? 1 : layer.anchors) {}

  int64_t cell(int32_t i) const { return origin + i * int64_t(step); }

  // Calls body(i, item) for the items of a list, ordered by cell, whose cell is in the span.
  template <class Item, class CellOf, class Body>
  void for_each(const Item *begin, const Item *end, const CellOf &cell_of, const Body &body) const {
    int64_t low = 0, high = end - begin;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (cell_of(begin[middle]) < origin)
        low = middle + 1;
      else
        high = middle;
    }
    for (const Item *item = begin + low; item != end; ++item) {
      const int64_t away = cell_of(*item) - origin;
      if (away >= int64_t(count) * step) break;
      if (away % step == 0) body(static_cast<int32_t>(away / step), *item);
    }
  }
};

template <bool kPlanar> class Reach {
 public:
  explicit Reach(Reachable *objects) : objects_(objects) {}

  // Finds the objects of the layer, or with YL_SCOPE_IMAGE of all layers, that cells of the span can reach.
  template <class ViewOf> void find(const ViewOf &view, const SpanCells &span, bool whole_image) {
    for (int32_t l = 0; l < view.shape.layer_count(); ++l) {
      if (l != view.l && !whole_image) continue;
      for (const Object *o = view.truths.begin(view.image, l); o != view.truths.end(view.image, l); ++o) {
        Reachable found{box_of<float>(*o), span.count, -1};
        mark(view.layer, span, found);
        if (found.last >= found.first) objects_[count_++] = found;
      }
    }
  }

  // The same where the best IoU of every cell is requested: every cell is compared with every object.
  template <class ViewOf> void find_all(const ViewOf &view, const SpanCells &span, bool whole_image) {
    for (int32_t b = 0; b * kBlock < span.count; ++b) cells_[b] = first_bits(span.count - b * kBlock);
    for (int32_t l = 0; l < view.shape.layer_count(); ++l) {
      if (l != view.l && !whole_image) continue;
      for (const Object *o = view.truths.begin(view.image, l); o != view.truths.end(view.image, l); ++o)
        objects_[count_++] = {box_of<float>(*o), 0, span.count - 1};
    }
  }

  // Returns the cells of a block that may reach an object.
  uint64_t cells(int32_t block) const { return cells_[block]; }
  const Reachable *begin() const { return objects_; }
  const Reachable *end() const { return objects_ + count_; }

 private:
  // Marks the cells of the object's zone, row by row of the grid.
  void mark(const Layer &layer, const SpanCells &span, Reachable &object) {
    const int32_t width = layer.width, height = layer.height;
    const Zone<float> zone = zone_of(object.truth, layer.ignore_thresh, float(width), float(height));
    const int64_t first_row = span.square / width;
    const int64_t last_row = (span.square + (span.count - 1) / span.of_square + 1) / width;
    const float left = yl::larger(zone.left, 0.0f), right = yl::smaller(zone.right, float(width - 1));
    const float top = yl::larger(zone.top, float(first_row)), bottom = yl::smaller(zone.bottom, float(last_row));
    if (!(left <= right && top <= bottom)) return;  // nor is a truth with a NaN reached
    const auto left_column = static_cast<int64_t>(-yl::floor(-left));
    const auto right_column = static_cast<int64_t>(yl::floor(right));
    const int64_t before = kPlanar ? span.square : span.origin;  // at most of_square * square of the first cell
    for (auto row = static_cast<int64_t>(-yl::floor(-top)); row <= static_cast<int64_t>(yl::floor(bottom)); ++row) {
      const int64_t from = yl::larger(int64_t(0), (row * width + left_column) * span.of_square - before);
      const int64_t to = yl::smaller(int64_t(span.count), (row * width + right_column + 1) * span.of_square - before);
      if (from >= to) continue;
      object.first = yl::smaller(object.first, static_cast<int32_t>(from));
      object.last = yl::larger(object.last, static_cast<int32_t>(to - 1));
      for (int64_t b = from / kBlock; b * kBlock < to; ++b)
        cells_[b] |= first_bits(to - b * kBlock) & ~first_bits(yl::larger(int64_t(0), from - b * kBlock));
    }
  }

  Reachable *const objects_;
  int64_t count_ = 0;
  uint64_t cells_[(kPlanar ? kPlaneRun : kRun) / kBlock] = {};
};

}  // namespace YL_ISA
}  // namespace yl
