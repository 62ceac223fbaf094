// The parts that all kernels share: tiles, lists, warp sums, launches. Begin reading the CUDA code here. A call is two
// launches, or only the second for few boxes of one image:
//
//   truths.cu   stage truths: y_true or boxes -> the objects of each image and layer, a list in no particular order;
//               truths.cuh has the boxes
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
#define YL_SHARED(Type, name, count) __shared__ __align__(16) Type name[count]
#endif
// The same for an array that is accessed through pointers, which the runner does not check.
#if defined(YL_SIMT)
#define YL_SHARED_UNCHECKED(Type, name, count) \
  Type *const name = static_cast<Type *>(simt::shared_memory(__LINE__, (count) * sizeof(Type)))
#else
#define YL_SHARED_UNCHECKED(Type, name, count) __shared__ __align__(16) Type name[count]
#endif

namespace yl {

// Stores 16 bytes of zeros at a multiple of 16 in global memory, kOffset bytes behind at, in one instruction.
template <int32_t kOffset> __device__ inline void store_zeros(char *at) {
#if defined(YL_SIMT)
  memset(at + kOffset, 0, 16);
#else
  asm volatile("st.global.v4.u32 [%0+%2], {%1, %1, %1, %1};" ::"l"(at), "r"(0), "n"(kOffset) : "memory");
#endif
}

// Returns an address of global memory as such: PTX has several spaces, and addresses of one may differ from those of
// all.
__device__ inline char *global_address(char *at) {
#if defined(YL_SIMT)
  return at;
#else
  return reinterpret_cast<char *>(__cvta_generic_to_global(at));
#endif
}

// Adds 1 to a counter in global memory and returns what it was. Whatever this thread wrote before, and what other
// threads of its block wrote before a barrier that this thread has passed, is visible to the device before the counter
// changes; and reads that follow, in this thread or behind one more barrier of the block, see what those wrote whose
// counts came earlier. One instruction with both orders costs less than fences before and after one without.
__device__ inline unsigned long long count_up(unsigned long long *counter) {
#if defined(YL_SIMT)
  return atomicAdd(counter, 1ull);
#else
  unsigned long long before;
  asm volatile("atom.acq_rel.gpu.global.add.u64 %0, [%1], 1;"
               : "=l"(before)
               : "l"(__cvta_generic_to_global(counter))
               : "memory");
  return before;
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
__host__ __device__ inline int32_t tiles_of(int32_t cells, int32_t size) {
  return static_cast<int32_t>((static_cast<uint32_t>(cells) - 1) / static_cast<uint32_t>(size)) + 1;
}

// Returns the tile of this block: blocks are numbered image by image, layer by layer, tile by tile. A loop over at most
// 16 layers replaces a table, which would have to be stored and read.
__device__ inline Tile tile_of_block(const Task &task, int32_t blocks_per_image, int32_t size) {
  const auto image = static_cast<int32_t>(blockIdx.x / static_cast<uint32_t>(blocks_per_image));
  int32_t index = static_cast<int32_t>(blockIdx.x) - image * blocks_per_image;
  const LayerTask *layer = task.layers;
  int32_t l = 0, tiles = tiles_of(layer->cells, size);
  for (; index >= tiles; ++l) {
    index -= tiles;
    tiles = tiles_of((++layer)->cells, size);
  }
  const int32_t first = index * size, left = layer->cells - first;
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
  int32_t *count;
  int32_t capacity;
  RowCounters *counters;
  Control *control;

  __device__ Lists(const Task &task, int32_t image, int32_t l) {
    const int64_t at = image * task.cells_per_image + task.layers[l].first_cell,
                  row = int64_t(image) * task.layer_count + l;
    const Workspace &work = task.work;
    cells = work.cells + at;
    truths = work.truths + at;
    weights = work.weights + at;
    class_flags = work.class_flags + at * task.flag_words;
    previous = work.previous + at;
    counters = work.row_counters + row;
    count = &counters->count;
    capacity = task.layers[l].cells;
    control = work.control;
  }

  // Adds an object to the list, at whatever index the counter returns: threads of many blocks append at the same time.
  // The list is read in the next launch, which is ordered behind this one, or is in shared memory and read behind a
  // barrier; so no fence is needed. A caller who writes boxes meanwhile could make two rows take one cell: what does
  // not fit is left out.
  __device__ void append(int32_t cell, const Box<float> &truth, float weight) const {
    const int32_t at = atomicAdd(count, 1);
    if (at >= capacity) {
      atomicAdd(count, -1);
      return;
    }
    cells[at] = cell;
    truths[at] = truth;
    weights[at] = weight;
    atomicAdd(&control->objects, 1ull);
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
// image and row of the first bad box, in result.completion once the stream has executed the call. counters: those of
// the call, which may be in shared memory. bad: the call is refused.
__device__ inline void complete(const Task &task, const Control &counters, bool bad) {
  if (task.result.completion) {
    const auto row = bad ? static_cast<int64_t>(counters.first_bad) : 0;
    yl_completion completion{YL_OK, -1, -1, 0};
    if (bad)
      completion = {YL_INVALID_BOXES, static_cast<int32_t>(row / task.boxes_per_image),
                    static_cast<int32_t>(row % task.boxes_per_image), 0};
    *task.result.completion = completion;
  }
  *task.work.control = YL_CLEARED_CONTROL;
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

#if !defined(YOLOLOSS_CUDA_PDL)
#define YOLOLOSS_CUDA_PDL 0
#endif
// Programmatic dependent launch, a build option (YOLOLOSS_CUDA_PDL) for GPUs of compute capability 9.0 and later: the
// blocks of stage cells start while stage truths still runs, and wait for its results where they need them.
//
// Lets the blocks of the next launch start, if it allows that.
__device__ inline void start_next_launch() {
#if YOLOLOSS_CUDA_PDL && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// Waits until the launch before has ended and its results are visible.
__device__ inline void wait_for_launch_before() {
#if YOLOLOSS_CUDA_PDL && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Launches a kernel and returns a cudaError_t. A launch of no blocks is an error in CUDA and a success here: boxes may
// be empty. Arguments are converted to the kernel's parameters by cudaLaunchKernelEx, which copies them, so they may be
// temporary.
// overlaps: the kernel calls wait_for_launch_before, so its blocks may start before the launch before has ended.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), int64_t blocks, int32_t threads, bool overlaps, void *stream,
           const Arguments &...arguments) {
  if (blocks == 0) return cudaSuccess;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = static_cast<cudaStream_t>(stream);
#if YOLOLOSS_CUDA_PDL
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early;
  config.numAttrs = overlaps ? 1 : 0;
#else
  static_cast<void>(overlaps);
#endif
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace yl
