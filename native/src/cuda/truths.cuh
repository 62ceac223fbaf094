// Stage truths of boxes on the device: fills the list of objects of an image and layer, by one block. Used by the
// kernel of this stage (truths.cu), and by that of stage cells, whose blocks place the few boxes of one image
// themselves.
//
// place_boxes of ../truths.h is a loop: a row takes a cell, and a later row of the same cell replaces its box. Here
// each row has a thread, which compares it with all rows of the image: the first row of a cell owns it, the last one
// gives the box, and all give their class. That is the same rule without an order in time, so it needs no atomic
// operation on cells, and no memory of the size of the grid.
//
// A row is read several times; each time it is admitted again, so that a caller who writes boxes meanwhile gets a
// meaningless result, but no access out of bounds.
#pragma once

#include "cuda/kernel.cuh"

namespace yl {

// Holds what other rows of the image must know of a row of boxes to find out whether both have the same cell.
struct Placed {
  int32_t anchor;  // -1: no object
  int32_t class_;
  float x, y;
};

// Reads the row at index at of all boxes, applies the policy and matches it with the anchors. Returns anchor -1 for a
// row that is unused or not admitted.
__device__ inline Placed place(const Task &task, int64_t at) {
  BoxRow row = read_row(task.boxes, task.box_weights, at);
  bool clamped;
  if (admit(task.box_rules, row, clamped) != BoxKind::kObject) return {-1, 0, 0, 0};
  const Box<float> truth = truth_of(task.box_rules, row.values);
  return {best_match(task.box_rules, row.values).anchor, static_cast<int32_t>(row.values[kBoxClass]), truth.x, truth.y};
}

// Returns the cell of a layer that a row takes, or -1 if it takes none.
__device__ inline int32_t cell_in(const LayerTask &layer, const Placed &placed) {
  if (placed.anchor < 0) return -1;
  return cell_of({placed.x, placed.y, 0, 0}, placed.anchor, layer);
}

// Compares all rows of an image with all rows, kBoxRows at a time. The thread that has a row t calls start(t, its
// place), then other(t, j, place of row j) for every row j in order, then done(t). rows is the index of the image's
// first row among all boxes. All threads of the block must call it; kBoxRows of them have rows. T rows cost T*T
// comparisons, of a few instructions each unless the anchors are the same; images have few boxes, and the comparisons
// of an image are spread over the threads of a block.
//
// Each row is placed by one thread and passed to the others through shared memory. A thread whose row is no object
// still takes part, since it stages rows for the others.
template <class Start, class Other, class Done>
__device__ inline void for_pairs(const Task &task, int64_t rows, const Start &start, const Other &other,
                                 const Done &done) {
  YL_SHARED(Placed, staged, kBoxRows);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  for (int32_t base = 0; base < task.boxes_per_image; base += kBoxRows) {
    const int32_t t = base + thread;
    const bool inside = thread < kBoxRows && t < task.boxes_per_image;
    const Placed own = inside ? place(task, rows + t) : Placed{-1, 0, 0, 0};
    if (inside) start(t, own);
    for (int32_t first = 0; first < task.boxes_per_image; first += kBoxRows) {
      const int32_t count = task.boxes_per_image - first < kBoxRows ? task.boxes_per_image - first : kBoxRows;
      // Orders the reads of the rows that were staged before, by all threads, before they are overwritten. The loop
      // bounds depend on boxes_per_image alone, so all threads of the block reach both barriers.
      __syncthreads();
      if (thread < count) staged[thread] = first == base ? own : place(task, rows + first + thread);
      // Orders the staging of these rows before the calls of other.
      __syncthreads();
      if (inside && own.anchor >= 0)
        for (int32_t j = 0; j < count; ++j) other(t, first + j, staged[j]);
    }
    if (inside) done(t);
  }
}

// Fills the list of an image and layer, by all threads of a block, and with counts also counts what became of the
// image's rows (yl_box_counts), of which one block of each image is enough. Both go to where lists points.
//
// Each thread finds out, while it meets the rows in order, whether its row is the first of its cell (no earlier row has
// the cell) and which row is the last. Only the thread of the first row goes on: it clears and sets the class flags of
// the cell, so no two threads write the same words, and appends the cell with the box of the last row.
// keeps_flags(cell) says whether this block writes the flags of a cell. The atomic operations are on integers, and
// atomicMin keeps the smallest row number, so nothing depends on the order of threads and blocks.
template <class KeepsFlags>
__device__ inline void list_boxes(const Task &task, int32_t image, int32_t l, const Lists &lists, bool counts,
                                  const KeepsFlags &keeps_flags) {
  const int64_t rows = int64_t(image) * task.boxes_per_image;
  const LayerTask &layer = task.layers[l];
  Control &control = *lists.control;
  Placed own{};
  int32_t cell = -1, last = 0;
  bool collided = false;
  uint32_t *flags = nullptr;
  for_pairs(
      task, rows,
      [&](int32_t t, const Placed &placed) {
        own = placed;
        collided = false;
        cell = cell_in(layer, own);
        flags = cell >= 0 && keeps_flags(cell) ? lists.class_flags + int64_t(cell) * task.flag_words : nullptr;
        if (!counts) return;
        BoxRow row = read_row(task.boxes, task.box_weights, rows + t);
        bool clamped;
        const BoxKind kind = admit(task.box_rules, row, clamped);
        if (own.anchor < 0) {
          if (kind == BoxKind::kUnused) return;
          atomicAdd(&control.skipped, 1ull);
          if (task.refuse_bad_boxes) atomicMin(&control.first_bad, static_cast<unsigned long long>(rows + t));
          return;
        }
        atomicAdd(&control.used, 1ull);
        if (clamped) atomicAdd(&control.clamped, 1ull);
        bool has_cell = false;
        for (int32_t i = 0; i < task.layer_count; ++i) has_cell |= cell_in(task.layers[i], own) >= 0;
        if (!has_cell) atomicAdd(&control.dropped, 1ull);
      },
      [&](int32_t t, int32_t j, const Placed &there) {
        if (there.anchor != own.anchor) return;
        if (counts && j < t && !collided)
          for (int32_t i = 0; i < task.layer_count; ++i) {
            const int32_t at = cell_in(task.layers[i], own);
            collided |= at >= 0 && at == cell_in(task.layers[i], there);
          }
        if (cell < 0 || cell_in(layer, there) != cell) return;
        if (j < t) {
          cell = -1;  // an earlier row owns it
          return;
        }
        last = j;
        if (!flags) return;
        // All later rows of the cell follow j == t, so the flags are cleared before any is set.
        if (j == t)
          for (int32_t word = 0; word < task.flag_words; ++word) flags[word] = 0;
        flags[there.class_ / 32] |= 1u << (there.class_ % 32);
      },
      [&](int32_t) {
        if (collided) atomicAdd(&control.collided, 1ull);
        if (cell < 0) return;
        // The box and the weight are those of the cell's last row, which is read again.
        BoxRow row = read_row(task.boxes, task.box_weights, rows + last);
        bool clamped;
        admit(task.box_rules, row, clamped);
        lists.append(cell, truth_of(task.box_rules, row.values), row.weight);
      });
}

}  // namespace yl
