// Stage 1, truths, on the host: dense y_true or sparse boxes -> the objects of each (image, layer), by cell.
#pragma once

#include <memory>

#include "backend.h"
#include "boxes.h"

namespace yl {

struct Object {
  int32_t cell;
  int32_t flags;     // boxes: which class flags, see Truths::row
  Box<float> truth;  // as in y_true
  float weight;
};

// The rows of a batch's boxes.
struct BoxRows {
  const float *data;     // (B, per_image, 5)
  const float *weights;  // (B, per_image), or NULL
  int32_t per_image;
  int32_t policy;  // YL_BOXES_...
};

inline BoxRows rows_of(const Call &call) {
  return {call.boxes, call.box_weights, call.boxes_per_image, call.boxes_policy};
}

BoxRules rules_of(const Shape &shape, int32_t policy);
// Why a row of boxes names no object; nullptr if it does, or if it is unused (all four coordinates zero).
const char *fault_of(BoxKind kind);

class Truths {
 public:
  // Reserves for every cell of max_batch images; memory is touched only where there are objects.
  Truths(const Shape &shape, int32_t workers);

  // The objects of one image and layer of a dense y_true, given piece by piece: how many there are among cells [first,
  // last), kept at their place. Different pieces at the same time are allowed.
  int32_t gather_dense(int32_t image, int32_t layer, int64_t first, int64_t last, const float *y_true) noexcept;
  // When all pieces are there, each is added to the list of its image and layer, in the order of the cells.
  void clear(int32_t image, int32_t layer) noexcept { count(image, layer) = 0; }
  void append(int32_t image, int32_t layer, int64_t first, int32_t found) noexcept;
  // The objects of one image in all layers. At the same time: different images, different workers.
  yl_box_counts gather_boxes(int32_t image, const BoxRows &boxes, int32_t worker) noexcept;

  const Object *begin(int32_t image, int32_t layer) const { return &objects_[slot(image, layer)]; }
  const Object *end(int32_t image, int32_t layer) const {
    return begin(image, layer) + counts_[image * shape_.layer_count() + layer];
  }
  int64_t cells_per_image() const { return cells_per_image_; }
  int64_t first_cell(int32_t layer) const { return layer_start_[layer]; }  // of the layer within an image
  // All objects of the first batch images.
  int64_t total(int32_t batch) const;

  // The cells that were objects of an image and layer at the last call of remember for them: the rows that a refreshed
  // gradient must clear.
  void remember(int32_t batch) noexcept;
  const int32_t *previous_begin(int32_t image, int32_t layer) const { return &previous_[slot(image, layer)]; }
  const int32_t *previous_end(int32_t image, int32_t layer) const {
    return previous_begin(image, layer) + previous_counts_[image * shape_.layer_count() + layer];
  }

  // The row of y_true (5 + C values) of an object: in y_true itself, or, with boxes, made in scratch.
  const float *row(const Object &object, int32_t image, int32_t layer, const float *y_true, float *scratch) const;

 private:
  int64_t slot(int32_t image, int32_t layer) const { return image * cells_per_image_ + layer_start_[layer]; }

  int32_t &count(int32_t image, int32_t layer) { return counts_[image * shape_.layer_count() + layer]; }

  const Shape &shape_;
  std::vector<int64_t> layer_start_;  // first cell of the layer within an image
  int64_t cells_per_image_;
  int64_t flag_words_;                       // words of 32 class flags
  std::unique_ptr<Object[]> objects_;        // (max_batch, cells_per_image): a list for each (image, layer)
  std::unique_ptr<uint32_t[]> class_flags_;  // (max_batch, cells_per_image, flag_words), by Object::flags
  std::vector<int32_t> counts_;              // (max_batch, L): lengths of the lists
  std::unique_ptr<int32_t[]> previous_;      // cells; (max_batch, cells_per_image), as objects_
  std::vector<int32_t> previous_counts_;     // (max_batch, L)
  std::vector<int32_t> object_at_;           // (workers, cells_per_image): index into the list, or -1 between calls
};

}  // namespace yl
