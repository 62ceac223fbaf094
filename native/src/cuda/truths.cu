// Stage truths on the device: y_true or boxes -> the lists of objects. And yl_build_y_true, the dense truths of those
// lists.
//
// place_boxes of ../truths.h is a loop: a row takes a cell, and a later row of the same cell replaces its box. Here
// each row has a thread, which compares it with all rows of the image: the first row of a cell owns it, the last one
// gives the box, and all give their class. That is the same rule without an order in time, so it needs no atomic
// operation on cells, and no memory of the size of the grid.
//
// A row is read several times; each time it is admitted again, so that a caller who writes boxes meanwhile gets a
// meaningless result, but no access out of bounds. Read cells.cu next.
#include "cuda/kernel.cuh"

namespace yl {
// A named namespace, because the mangled name of an anonymous one changes from build to build.
inline namespace truths_kernels {

// Appends the cells of dense y_true whose mask is not 0 to the lists: one block for each tile of kTruthsTile cells.
// Masks are 4 * (5 + C) bytes apart, so each load brings in a sector of memory of which one value is used: the kernel
// is bound by memory. A thread therefore starts the loads of four cells before it needs the first of them. The objects
// that it finds are rare, and are read one at a time.
__global__ void __launch_bounds__(kTile)
    dense_truths_kernel(const __grid_constant__ Task task, int32_t blocks_per_image) {
  const Tile tile = tile_of_block(task, blocks_per_image, kTruthsTile);
  const LayerTask &layer = task.layers[tile.layer];
  const float *y_true = layer.y_true + (int64_t(tile.image) * layer.cells + tile.first) * task.channels;
  constexpr int32_t kCells = kTruthsTile / kTile;  // of a thread, whose loads are under way together
  float masks[kCells];
#pragma unroll
  for (int32_t i = 0; i < kCells; ++i) {
    const auto cell = static_cast<int32_t>(threadIdx.x) + i * kTile;
    masks[i] = cell < tile.count ? y_true[int64_t(cell) * task.channels + kObjectness] : 0.0f;
  }
#pragma unroll
  for (int32_t i = 0; i < kCells; ++i) {
    if (masks[i] == 0.0f) continue;  // a NaN is not 0: its cell is an object
    const auto cell = static_cast<int32_t>(threadIdx.x) + i * kTile;
    const float *y = y_true + int64_t(cell) * task.channels;
    Lists(task, tile.image, tile.layer).append(task, tile.first + cell, {y[kX], y[kY], y[kW], y[kH]}, 1);
  }
}

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
// first row among all boxes. All threads of the block must call it. T rows cost T*T comparisons, of a few instructions
// each unless the anchors are the same; images have few boxes, and the comparisons of an image are spread over the
// threads of a block.
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
    const bool inside = t < task.boxes_per_image;
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

// Fills the list of an image and layer, by all threads of a block. Each thread finds out, while it meets the rows in
// order, whether its row is the first of its cell (no earlier row has the cell) and which row is the last. Only the
// thread of the first row goes on: it clears and sets the class flags of the cell, so no two threads write the same
// words, and appends the cell with the box of the last row.
__device__ inline void list_boxes(const Task &task, int64_t rows, int32_t image, int32_t l) {
  const LayerTask &layer = task.layers[l];
  const Lists lists(task, image, l);
  int32_t cell = -1, anchor = -1, last = 0;
  uint32_t *flags = nullptr;
  for_pairs(
      task, rows,
      [&](int32_t, const Placed &own) {
        cell = cell_in(layer, own);
        anchor = own.anchor;
        flags = lists.class_flags + int64_t(cell < 0 ? 0 : cell) * task.flag_words;
      },
      [&](int32_t t, int32_t j, const Placed &there) {
        if (cell < 0 || there.anchor != anchor || cell_in(layer, there) != cell) return;
        if (j < t) {
          cell = -1;  // an earlier row owns it
          return;
        }
        // All later rows of the cell follow j == t, so the flags are cleared before any is set.
        if (j == t)
          for (int32_t word = 0; word < task.flag_words; ++word) flags[word] = 0;
        flags[there.class_ / 32] |= 1u << (there.class_ % 32);
        last = j;
      },
      [&](int32_t) {
        if (cell < 0) return;
        // The box and the weight are those of the cell's last row, which is read again.
        BoxRow row = read_row(task.boxes, task.box_weights, rows + last);
        bool clamped;
        admit(task.box_rules, row, clamped);
        lists.append(task, cell, truth_of(task.box_rules, row.values), row.weight);
      });
}

// Counts what became of an image's rows (yl_box_counts), and finds the first row that the policy refuses. Called by all
// threads of a block of its own, once for each image, since the blocks of list_boxes see one layer each and would count
// a row several times. The atomic operations are on integers, and atomicMin keeps the smallest row number, so the
// result does not depend on the order of blocks.
__device__ inline void count_boxes(const Task &task, int64_t rows, int32_t image) {
  Control &control = *task.work.control;
  Placed own{};
  bool collided = false;
  for_pairs(
      task, rows,
      [&](int32_t t, const Placed &placed_row) {
        own = placed_row;
        collided = false;
        BoxRow row = read_row(task.boxes, task.box_weights, rows + t);
        bool clamped;
        const BoxKind kind = admit(task.box_rules, row, clamped);
        if (own.anchor < 0) {
          if (kind == BoxKind::kUnused) return;
          atomicAdd(&control.skipped, 1ull);
          if (task.refuse_bad_boxes)
            atomicMin(&control.first_bad, static_cast<unsigned long long>(image) * task.boxes_per_image + t);
          return;
        }
        atomicAdd(&control.used, 1ull);
        if (clamped) atomicAdd(&control.clamped, 1ull);
        bool placed = false;
        for (int32_t l = 0; l < task.layer_count; ++l) placed |= cell_in(task.layers[l], own) >= 0;
        if (!placed) atomicAdd(&control.dropped, 1ull);
      },
      [&](int32_t t, int32_t j, const Placed &there) {
        if (j >= t || collided || there.anchor != own.anchor) return;
        for (int32_t l = 0; l < task.layer_count; ++l) {
          const int32_t cell = cell_in(task.layers[l], own);
          collided |= cell >= 0 && cell == cell_in(task.layers[l], there);
        }
      },
      [&](int32_t) {
        if (collided) atomicAdd(&control.collided, 1ull);
      });
}

// Fills the lists of all images from boxes. An image has a block for each layer, and one more that counts.
__global__ void __launch_bounds__(kBoxRows, 4)
    box_truths_kernel(const __grid_constant__ Task task, int32_t blocks_per_image) {
  const auto image = static_cast<int32_t>(blockIdx.x) / blocks_per_image;
  const int32_t l = static_cast<int32_t>(blockIdx.x) % blocks_per_image;
  const int64_t rows = int64_t(image) * task.boxes_per_image;
  if (l < task.layer_count)
    list_boxes(task, rows, image, l);
  else
    count_boxes(task, rows, image);
}

// ---- dense truths of the lists --------------------------------------------------------------------------------------

// The L pointers of yl_build_y_true, as a parameter of the kernel.
struct Outputs {
  float *y_true[kMaxCudaLayers];
};

// Writes the rows of y_true of a tile, whole. A block first inverts the list of objects: owners[i] is the index in the
// list of the object at the tile's cell i, or -1. Then it writes all values of its rows in the order of memory, so that
// adjacent threads write adjacent values. Cells of a list are distinct, so no two threads write the same owner. Nothing
// is written if the policy refuses a row.
__global__ void __launch_bounds__(kTile)
    write_y_true_kernel(const __grid_constant__ Task task, const __grid_constant__ Outputs outputs,
                        int32_t blocks_per_image) {
  YL_SHARED(int32_t, owners, kTile);  // places in the list, or -1
  const Tile tile = tile_of_block(task, blocks_per_image, kTile);
  const Lists lists(task, tile.image, tile.layer);
  const LayerTask &layer = task.layers[tile.layer];
  if (task.work.control->first_bad != kNoBadRow) return;
  owners[threadIdx.x] = -1;
  // Orders the clearing of all owners before they are set.
  __syncthreads();
  for (auto i = static_cast<int32_t>(threadIdx.x); i < *lists.count; i += kTile) {
    const int32_t at = lists.cells[i] - tile.first;
    if (at >= 0 && at < tile.count) owners[at] = i;
  }
  // Orders the owners before they are read.
  __syncthreads();
  float *out = outputs.y_true[tile.layer] + (int64_t(tile.image) * layer.cells + tile.first) * task.channels;
  for (int64_t i = threadIdx.x; i < int64_t(tile.count) * task.channels; i += kTile) {
    const auto at = static_cast<int32_t>(i / task.channels), channel = static_cast<int32_t>(i % task.channels);
    const int32_t owner = owners[at];
    float value = 0;
    if (owner >= 0)
      value = channel >= kBoxChannels ? target_of(task, layer, lists, tile.image, tile.first + at, channel)
                                      : channel_of(lists.truths[owner], channel);
    out[i] = value;
  }
}

// Ends a call after which stage cells does not follow: reports what stage truths counted, and leaves lists and counters
// as the next call needs them. One block. It follows in the same stream, so it needs no ticket.
__global__ void __launch_bounds__(kTile)
    finish_truths_kernel(const __grid_constant__ Task task, yl_box_counts *counts, int64_t *objects) {
  for (int64_t i = threadIdx.x; i < int64_t(task.batch) * task.layer_count; i += kTile) task.work.counts[i] = 0;
  if (threadIdx.x != 0) return;
  *counts = box_counts(*task.work.control);
  *objects = static_cast<int64_t>(task.work.control->objects);
  complete(task);
}

}  // namespace truths_kernels

// The functions of task.h, which the host calls.
int64_t tiles_per_image(const Task &task, int32_t size) {
  int64_t tiles = 0;
  for (int32_t l = 0; l < task.layer_count; ++l) tiles += tiles_of(task.layers[l].cells, size);
  return tiles;
}

// Asking for the attributes of a kernel makes the runtime load it now; otherwise its first launch would, which is not
// allowed while a stream is captured. It also fails if this build has no code for the device.
int load_truths() {
  cudaFuncAttributes attributes;
  const int error = cudaFuncGetAttributes(&attributes, dense_truths_kernel);
  return error ? error : cudaFuncGetAttributes(&attributes, box_truths_kernel);
}

int launch_truths(const Task &task, void *stream) {
  if (task.layers[0].y_true) {
    const auto blocks = static_cast<int32_t>(tiles_per_image(task, kTruthsTile));
    return launch(dense_truths_kernel, int64_t(task.batch) * blocks, kTile, stream, task, blocks);
  }
  // Without rows there is nothing to launch: the lists are empty and the counts are 0 between calls.
  const int32_t blocks = task.boxes_per_image > 0 ? task.layer_count + 1 : 0;
  return launch(box_truths_kernel, int64_t(task.batch) * blocks, kBoxRows, stream, task, blocks);
}

int launch_write_y_true(const Task &task, float *const *y_true, void *stream) {
  Outputs outputs{};
  for (int32_t l = 0; l < task.layer_count; ++l) outputs.y_true[l] = y_true[l];
  const auto blocks = static_cast<int32_t>(tiles_per_image(task, kTile));
  return launch(write_y_true_kernel, int64_t(task.batch) * blocks, kTile, stream, task, outputs, blocks);
}

int launch_finish_truths(const Task &task, yl_box_counts *counts, int64_t *objects, void *stream) {
  return launch(finish_truths_kernel, 1, kTile, stream, task, counts, objects);
}

}  // namespace yl
