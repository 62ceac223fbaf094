// Stage truths on the host: dense y_true or boxes -> the objects of each (image, layer), in the order of cells.
//
// The cpu backend keeps its objects in Truths. place_boxes, the loop that gives boxes their cells, is shared by a call,
// yl_build_y_true, yl_audit and the reference device; boxes.h has the rules for one row. Read cpu/cells_simd.h next,
// which uses the objects, or cuda/truths.cuh, which does the same on a device.
#pragma once

#include <memory>

#include "backend.h"
#include "boxes.h"

namespace yl {

// An object in a list: its cell within the layer, its truth, and the weight of its box (1 for dense y_true).
struct Object {
  int32_t cell;
  int32_t flags;     // boxes: position of its class flags, which sorting a list leaves as it is
  Box<float> truth;  // as in y_true
  float weight;
};

// The boxes of a batch, as yl_boxes has them, in the caller's memory.
struct BoxRows {
  const float *data;     // (B, per_image, 5)
  const float *weights;  // (B, per_image), or NULL
  int32_t per_image;
  int32_t policy;  // YL_BOXES_...
};

inline BoxRows rows_of(const Call &call) {
  return {call.boxes, call.box_weights, call.boxes_per_image, call.boxes_policy};
}

// Returns the rules that a shape and a policy give for rows of boxes. They point into shape.
BoxRules rules_of(const Shape &shape, int32_t policy);
// Returns the reason why a row of boxes is not a valid object, for error messages; NULL if it is one, or if it is
// unused.
const char *fault_of(BoxKind kind);

// Returns the first used row of an image if its boxes look normalised, that is, like fractions of the input instead of
// pixels: at least one row is used, every coordinate of every used row is in 0..1, and at least one is not a whole
// number. Returns -1 otherwise. For boxes in pixels the first used row decides, so this costs nothing. Each image is
// judged alone, so that a batch that is computed in parts is judged as the whole.
int32_t find_normalised(const BoxRows &boxes, int32_t image);

// The state of a row of boxes while place_boxes places it, and what its callbacks are given.
struct PlacedRow {
  int32_t t;           // number of the row in its image
  BoxRow given, used;  // before and after the policy
  BoxKind kind;        // kind of given, before the policy
  bool admitted;       // used is an object
  bool clamped;        // the policy cut it to the input
  Box<float> truth;    // truth of used. This and the next fields are set only if it is admitted
  Match match;
  int32_t layers;  // number of layers that have its anchor
};

// Places the rows of an image, in order: the one loop over rows and layers on the host. Returns what became of the
// rows.
//
// Rows collide if they get the same cell of the same layer. The order of rows decides: the later box replaces the
// earlier one's coordinates and weight, and the classes of both stay set. marks detects that. It has a value for each
// cell of the image, -1 where the cell is free; what else it holds is up to the caller: the number of the row, or a
// position in a list. A row that collides in several layers counts once in collided. For each row that is not unused
// this calls
//   read(row)                    before it is placed, whether it is admitted or not
//   take(row, l, cell, mark)     for each cell that it gets: must set the mark of a free cell, and finds there what it
//                                left for a cell that an earlier row has
//   placed(row)                  at the end, if it is admitted
template <class Read, class Take, class Done>
yl_box_counts place_boxes(const Shape &shape, const BoxRows &boxes, int32_t image, int32_t *marks, const Read &read,
                          const Take &take, const Done &placed) {
  yl_box_counts counts{};
  const BoxRules rules = rules_of(shape, boxes.policy);
  for (int32_t t = 0; t < boxes.per_image; ++t) {
    PlacedRow row{};
    row.t = t;
    row.given = row.used = read_row(boxes.data, boxes.weights, int64_t(image) * boxes.per_image + t);
    row.kind = kind_of(rules, row.given);
    if (row.kind == BoxKind::kUnused) continue;
    row.admitted = admit(rules, row.used, row.clamped) == BoxKind::kObject;
    read(row);
    if (!row.admitted) {
      ++counts.skipped;
      continue;
    }
    ++counts.used;
    counts.clamped += row.clamped;
    row.truth = truth_of(rules, row.used.values);
    row.match = best_match(rules, row.used.values);
    bool collided = false;
    int64_t first_cell = 0;
    for (int32_t l = 0; l < shape.layer_count(); first_cell += shape.layers[l++].cells) {
      const int32_t cell = cell_of(row.truth, row.match.anchor, shape.layers[l]);
      if (cell < 0) continue;
      ++row.layers;
      int32_t &mark = marks[first_cell + cell];
      collided |= mark >= 0;
      take(row, l, cell, mark);
    }
    counts.dropped += row.layers == 0;
    counts.collided += collided;
    placed(row);
  }
  return counts;
}

// The objects of a batch, with those of the previous gradient. Memory is reserved for every cell, so that no number of
// objects overflows a list, and written only where there are objects: the operating system never provides the rest.
class Truths {
 public:
  Truths(const Shape &shape, int32_t workers);

  // Finds the objects of one image and layer of a dense y_true among cells [first, last), and returns their number.
  // y_true: the image's rows of the layer. The objects are left at position first of the list, where append expects
  // them. Different ranges of cells may be searched at the same time, because the position keeps them apart.
  int32_t find_in_y_true(int32_t image, int32_t layer, int64_t first, int64_t last, const float *y_true) noexcept;
  // Empties the list of an image and layer. Once all ranges have been searched, append is called for each in the order
  // of cells, from one thread.
  void clear(int32_t image, int32_t layer) noexcept { count(image, layer) = 0; }
  void append(int32_t image, int32_t layer, int64_t first, int32_t found) noexcept;
  // Fills the lists of one image from boxes. Different images may be filled at the same time by different workers;
  // worker chooses the marks, 0..workers-1.
  yl_box_counts fill_from_boxes(int32_t image, const BoxRows &boxes, int32_t worker) noexcept;

  // The list of an image and layer, in the order of cells.
  const Object *begin(int32_t image, int32_t layer) const { return &objects_[slot(image, layer)]; }
  const Object *end(int32_t image, int32_t layer) const {
    return begin(image, layer) + counts_[image * shape_.layer_count() + layer];
  }
  int64_t cells_per_image() const { return cells_per_image_; }
  // Returns the number of the layer's first cell within an image.
  int64_t first_cell(int32_t layer) const { return layer_start_[layer]; }
  // Returns the number of objects of the first batch images.
  int64_t total(int32_t batch) const;

  // Remembers the cells that are objects now, after a call with a gradient: the next YL_GRAD_REFRESH must clear their
  // rows.
  void remember(int32_t batch) noexcept;
  // The remembered cells of an image and layer, in order.
  const int32_t *previous_begin(int32_t image, int32_t layer) const { return &previous_[slot(image, layer)]; }
  const int32_t *previous_end(int32_t image, int32_t layer) const {
    return previous_begin(image, layer) + previous_counts_[image * shape_.layer_count() + layer];
  }

  // Returns the row of y_true (5 + C values) of an object: in y_true itself (the image's rows of the layer), or, for
  // boxes (y_true is NULL), composed in scratch, which has room for a row.
  const float *row(const Object &object, int32_t image, int32_t layer, const float *y_true, float *scratch) const;
  // Writes the dense truths of an image and layer from lists that were filled from boxes. y_true: the layer's array of
  // the whole batch; every element of the image is written.
  void write_y_true(int32_t image, int32_t layer, float *y_true) const;

 private:
  // Returns where the lists of an image and layer begin.
  int64_t slot(int32_t image, int32_t layer) const { return image * cells_per_image_ + layer_start_[layer]; }

  int32_t &count(int32_t image, int32_t layer) { return counts_[image * shape_.layer_count() + layer]; }

  const Shape &shape_;
  std::vector<int64_t> layer_start_;  // first cell of the layer within an image
  int64_t cells_per_image_;
  int64_t flag_words_;                       // words of 32 class flags
  std::unique_ptr<Object[]> objects_;        // (max_batch, cells_per_image): a list for each (image, layer)
  std::unique_ptr<uint32_t[]> class_flags_;  // (max_batch, cells_per_image, flag_words), by Object::flags
  std::vector<int32_t> counts_;              // (max_batch, L): lengths of the lists
  std::unique_ptr<int32_t[]> previous_;      // (max_batch, cells_per_image): cells, in lists as those of objects_
  std::vector<int32_t> previous_counts_;     // (max_batch, L)
  std::vector<int32_t> marks_;  // (workers, cells_per_image): index into the list of the layer; -1 between calls
};

}  // namespace yl
