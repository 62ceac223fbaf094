// yl_yolo_head: decodes raw outputs as keras-yolo3's yolo_head does. For host and device.
//
// write_head decodes one cell for cpu/head.cpp and for the kernel of cuda/cells.cu. The reference device writes the
// same values by a loop of its own. Read formula.h next for decode and sigmoid.
#pragma once

#include "dtype.h"
#include "layout.h"

namespace yl {

// Writes the outputs of head that are not NULL for one cell, except the grid. at: number of the cell in the batch; box:
// its decoded box; logit(c): its logit of channel c, called only for channels that are requested.
template <class T, class Logit>
YL_HOST_DEVICE inline void write_head(const yl_head &head, int64_t at, int32_t num_classes, const Box<T> &box,
                                      const Logit &logit) {
  if (head.box_xy) {
    head.box_xy[2 * at] = static_cast<float>(box.x);
    head.box_xy[2 * at + 1] = static_cast<float>(box.y);
  }
  if (head.box_wh) {
    head.box_wh[2 * at] = static_cast<float>(box.w);
    head.box_wh[2 * at + 1] = static_cast<float>(box.h);
  }
  if (head.box_confidence) head.box_confidence[at] = static_cast<float>(sigmoid(logit(kObjectness)));
  if (!head.box_class_probs) return;
  for (int32_t c = 0; c < num_classes; ++c)
    head.box_class_probs[at * num_classes + c] = static_cast<float>(sigmoid(logit(kFirstClass + c)));
}

// Writes the column and the row of a square of the grid.
YL_HOST_DEVICE inline void write_square(const yl_head &head, int64_t square, int32_t width) {
  head.grid[2 * square] = static_cast<float>(square % width);
  head.grid[2 * square + 1] = static_cast<float>(square / width);
}

// Writes the whole grid, if it is requested.
inline void write_grid(const yl_head &head, int32_t height, int32_t width) {
  for (int64_t square = 0; head.grid && square < int64_t(height) * width; ++square) write_square(head, square, width);
}

}  // namespace yl
