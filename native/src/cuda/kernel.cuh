// The parts that all kernels share: tiles, lists, warp sums, launches. Begin reading the CUDA code here. A call is two
// launches:
//
//   truths.cu   stage truths: y_true or boxes -> the objects of each image and layer, a list in no particular order
//   cells.cu    stage cells: each cell once, a tile for each block; object.cuh has the row of an object
//   sum.cuh     stages sum and result, in the same launch: the last block of an image and layer adds its tiles, the
//               last block of all adds the layers, writes the result, and leaves the counters as the next call needs
//               them
//
// A tile is a run of cells of one image and layer, one thread for each. The workspace holds lists of objects and sums,
// and nothing of the size of the input: y_true is read for its masks and its objects, feats for the objectness of every
// cell, for the box logits of the cells that a truth can reach, and for the rows of objects.
//
// Blocks may run in any order, and the bits of the result do not depend on it. Terms are added in double along fixed
// trees (lanes, warps, tiles, images). Lists of objects may be in any order, because a cell asks only whether some
// object reaches it and which object it is itself. Counters are integers, which add up to the same in any order.
#pragma once

#include <cuda_runtime.h>

#include "cuda/task.h"
#include "layer_sums.h"
#include "layout.h"

// Declares an array in the memory of the block. The host SIMT runner of the tests (native/test/simt) checks each access
// to it. The runner names an array by its line alone, so two arrays of one size that one kernel uses must not be on
// lines of the same number in different files.
#if defined(YL_SIMT)
#define YL_SHARED(Type, name, count) auto &name = simt::shared<Type, (count)>(__LINE__)
#else
#define YL_SHARED(Type, name, count) __shared__ Type name[count]
#endif

namespace yl {

// Stores 16 bytes in one instruction. An assignment would do on the host, but nvcc 13.0 turns it into three stores.
__device__ inline void store_whole(uint4 *at, uint4 bits) {
#if defined(YL_SIMT)
  *at = bits;
#else
  asm("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(bits.x), "r"(bits.y), "r"(bits.z), "r"(bits.w)
      : "memory");
#endif
}

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int32_t kWarp = 32;

// Returns the sum of a warp's values in every lane, along the same tree every time: lanes exchange values at distances
// 16, 8, 4, 2, 1. Both lanes of a pair add the same two numbers, and addition is commutative, so all lanes end with the
// same bits. All lanes must call it.
template <class T> __device__ inline T warp_sum(T value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

// The cells of one block: count cells of one image and layer from index first on (layout.h).
struct Tile {
  int32_t image, layer;
  int32_t first, count;  // cells
  int32_t tiles;         // of this (image, layer)
};

// Returns the number of tiles of a layer. The last one may be smaller than the others; tiles never span two layers or
// images, so a sum of a tile belongs to one row.
__host__ __device__ inline int32_t tiles_of(int32_t cells, int32_t size) { return (cells - 1) / size + 1; }

// Returns the tile of this block: blocks are numbered image by image, layer by layer, tile by tile. A loop over at most
// 16 layers replaces a table, which would have to be stored and read.
__device__ inline Tile tile_of_block(const Task &task, int32_t blocks_per_image, int32_t size) {
  const auto image = static_cast<int32_t>(blockIdx.x) / blocks_per_image;
  int32_t index = static_cast<int32_t>(blockIdx.x) % blocks_per_image;
  int32_t l = 0, tiles = tiles_of(task.layers[0].cells, size);
  while (index >= tiles) {
    index -= tiles;
    tiles = tiles_of(task.layers[++l].cells, size);
  }
  const int32_t first = index * size, left = task.layers[l].cells - first;
  return {image, l, first, left < size ? left : size, tiles};
}

// The lists and counters of an image and layer: pointers into the workspace. A list has room for every cell of the
// layer, so it cannot overflow, whatever the truths are.
struct Lists {
  int32_t *cells;
  Box<float> *truths;
  float *weights;
  uint32_t *class_flags;
  int32_t *previous;
  int32_t *count, *previous_count;
  unsigned long long *tiles_done;

  __device__ Lists(const Task &task, int32_t image, int32_t l) {
    const int64_t at = image * task.cells_per_image + task.layers[l].first_cell,
                  row = int64_t(image) * task.layer_count + l;
    const Workspace &work = task.work;
    cells = work.cells + at;
    truths = work.truths + at;
    weights = work.weights + at;
    class_flags = work.class_flags + at * task.flag_words;
    previous = work.previous + at;
    count = work.counts + row;
    previous_count = work.previous_counts + row;
    tiles_done = work.tiles_done + row;
  }

  // Adds an object to the list, at whatever index the counter returns: threads of many blocks append at the same time.
  // The list is read in the next launch only, which is ordered behind this one, so no fence is needed.
  __device__ void append(const Task &task, int32_t cell, const Box<float> &truth, float weight) const {
    const int32_t at = atomicAdd(count, 1);
    cells[at] = cell;
    truths[at] = truth;
    weights[at] = weight;
    atomicAdd(&task.work.control->objects, 1ull);
  }
};

// Returns the counts of boxes as the API has them.
__device__ inline yl_box_counts box_counts(const Control &control) {
#define YL_READ_COUNTER(owner, type, field, offset) static_cast<int64_t>(control.field),
  return { YL_FIELDS_OF_yl_box_counts(YL_READ_COUNTER) };
#undef YL_READ_COUNTER
}

// Reports the outcome of the call and resets the counters for the next one. Called by one thread when all is done. An
// enqueued call cannot return YL_INVALID_BOXES, because it returns before the boxes are read; the caller finds it, with
// image and row of the first bad box, in result.completion once the stream has executed the call.
__device__ inline void complete(const Task &task) {
  Control &control = *task.work.control;
  if (task.result.completion) {
    const auto row = static_cast<int64_t>(control.first_bad);
    yl_completion completion{YL_OK, -1, -1, 0};
    if (control.first_bad != kNoBadRow)
      completion = {YL_INVALID_BOXES, static_cast<int32_t>(row / task.boxes_per_image),
                    static_cast<int32_t>(row % task.boxes_per_image), 0};
    *task.result.completion = completion;
  }
  control = YL_CLEARED_CONTROL;
}

// Returns the mask or a class target of an object: from its row of y_true, or from the row that its boxes stand for.
// The channels of the box are in the list of objects instead.
__device__ inline float target_of(const Task &task, const LayerTask &layer, const Lists &lists, int32_t image,
                                  int32_t cell, int32_t channel) {
  if (layer.y_true) return layer.y_true[(int64_t(image) * layer.cells + cell) * task.channels + channel];
  if (channel == kObjectness) return 1;
  const int32_t c = channel - kFirstClass;
  return static_cast<float>(lists.class_flags[int64_t(cell) * task.flag_words + c / 32] >> (c % 32) & 1);
}

// Launches a kernel and returns a cudaError_t. A launch of no blocks is an error in CUDA and a success here: boxes may
// be empty. Arguments are converted to the kernel's parameters by cudaLaunchKernelEx, which copies them, so they may be
// temporary.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), int64_t blocks, int32_t threads, void *stream,
           const Arguments &...arguments) {
  if (blocks == 0) return cudaSuccess;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = static_cast<cudaStream_t>(stream);
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace yl
