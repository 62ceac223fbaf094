// Feats and gradient of an image and layer: the kernels access them through Feats alone.
//
// Nearly all of what a call writes are the zeros of the background, so clear() is the part that decides a call's time.
// It stores vectors of 16 bytes (with YL_NHWC) and knows nothing of objects: what is not zero is written over the zeros
// later.
// layout.h says where a value is, dtype.h how it is converted. View, at the end, adds the lists and the targets of the
// objects; object.cuh and cells.cu use it.
#pragma once

#include <type_traits>

#include "cuda/kernel.cuh"
#include "dtype.h"
#include "layout.h"

namespace yl {

// Reads the logits and writes the gradient of one image in one layer, by cell (layout.h) and channel. Value is the type
// of feats; the gradient has that type, or is float32 (YL_GRAD_F32), which is decided at run time because it would
// double the number of kernels. For feats of float32 f32_grads_ is false at compile time, so the branch disappears.
template <class Value, bool kPlanar> class Feats {
 public:
  using Number = typename ArithmeticOf<Value>::Type;
  static constexpr bool kIsPlanar = kPlanar;

  __device__ Feats(const LayerTask &layer, int32_t channels, int32_t image, bool f32_grads)
      : order_(layer.anchors, layer.cells, channels),
        f32_grads_(!std::is_same<Value, float>::value && f32_grads),
        feats_(static_cast<const Value *>(layer.feats) + int64_t(image) * layer.cells * channels),
        grads_(layer.grads ? static_cast<char *>(layer.grads) +
                                 int64_t(image) * layer.cells * channels * (f32_grads_ ? sizeof(float) : sizeof(Value))
                           : nullptr) {}

  // Returns the cell of an index: a tile is a run of indices, so that its cells are adjacent in memory.
  __device__ int32_t cell_of(int32_t index) const { return order_.cell_of(index); }
  __device__ int32_t index_of(int32_t cell) const { return order_.index_of(cell); }

  // Returns a logit as a number of the arithmetic.
  __device__ Number read(int32_t cell, int32_t channel) const { return load(feats_[at(cell, channel)]); }
  // Returns the four box logits of a cell.
  __device__ Box<Number> box_logits(int32_t cell) const {
    return {read(cell, kX), read(cell, kY), read(cell, kW), read(cell, kH)};
  }

  // Writes an element of the gradient, or adds it to the one that is there (accumulate); returns whether the result is
  // finite as it is stored. A float32 may be finite and overflow in float16, so the stored value is what counts.
  __device__ bool write(int32_t cell, int32_t channel, Number slope, bool accumulate) const {
    if (f32_grads_) return put(reinterpret_cast<float *>(grads_) + at(cell, channel), slope, accumulate);
    return put(reinterpret_cast<Value *>(grads_) + at(cell, channel), slope, accumulate);
  }
  // Returns whether an element would be finite as it is stored, without accumulation.
  __device__ bool fits(Number slope) const {
    return f32_grads_ ? finite(load(Store<float>::from(slope))) : finite(load(Store<Value>::from(slope)));
  }

  // Stores zeros into the gradient of indices [first, first + count), by all threads of the block but those of warp 0:
  // that one takes the block's ticket later, and would wait for its stores before. With YL_NCHW every thread, also of
  // warp 0, stores the zeros of the index first + its number, except its objectness, which is written in any case.
  __device__ void clear(int32_t first, int32_t count) const {
    if (!kPlanar)
      clear_rows(first, count);
    else if (f32_grads_)
      clear_planes(reinterpret_cast<float *>(grads_), first, count);
    else
      clear_planes(reinterpret_cast<Value *>(grads_), first, count);
  }

 private:
  // Returns the offset of a channel of a cell from the start of the image.
  __device__ int64_t at(int32_t cell, int32_t channel) const { return order_.start(cell) + channel * order_.step(); }

  // Stores an element, or its sum with the element that is there; returns whether the stored value is finite. The sum
  // is rounded once, to the type of the gradient.
  template <class Grad> static __device__ bool put(Grad *place, Number slope, bool accumulate) {
    const Grad value = Store<Grad>::from(accumulate ? static_cast<Number>(load(*place)) + slope : slope);
    *place = value;
    return finite(load(value));
  }

  // Clears planes: in every plane the threads of a warp write adjacent values, which the hardware combines into whole
  // sectors.
  template <class Grad> __device__ void clear_planes(Grad *grads, int32_t first, int32_t count) const {
    const auto i = static_cast<int32_t>(threadIdx.x);
    if (i >= count) return;
    Grad *place = grads + order_.start(order_.cell_of(first + i));
    for (int32_t channel = 0; channel < order_.channels; ++channel, place += order_.step())
      if (channel != kObjectness) *place = Store<Grad>::from(Number(0));
  }

  // Clears rows. The rows of adjacent cells are adjacent, so they are one array of bytes: a head before the first
  // multiple of 16 bytes, whole vectors, a tail. Zero has the same bits in every type.
  __device__ void clear_rows(int32_t first, int32_t count) const {
    using Unit = typename std::conditional<sizeof(Value) == 2, uint16_t, uint32_t>::type;
    constexpr int32_t kVector = sizeof(uint4), kThreads = kTile - kWarp;
    const int32_t element = f32_grads_ ? sizeof(float) : sizeof(Value);
    const int64_t bytes = int64_t(count) * order_.channels * element;
    char *const start = grads_ + int64_t(first) * order_.channels * element;
    // A gradient is aligned to its own type, so head and tail consist of whole elements.
    auto head = static_cast<int32_t>(-reinterpret_cast<uintptr_t>(start) % kVector);
    if (head > bytes) head = static_cast<int32_t>(bytes);
    const auto tail = static_cast<int32_t>((bytes - head) % kVector);
    const auto thread = static_cast<int32_t>(threadIdx.x) - kWarp;
    if (thread < 0) return;
    char *at = global_address(start + head + thread * kVector);
    char *const end = global_address(start + bytes - tail);
    constexpr int32_t kStep = kThreads * kVector;
#pragma unroll 1
    for (; at + 7 * kStep < end; at += 8 * kStep) {
      store_zeros<0>(at);
      store_zeros<kStep>(at);
      store_zeros<2 * kStep>(at);
      store_zeros<3 * kStep>(at);
      store_zeros<4 * kStep>(at);
      store_zeros<5 * kStep>(at);
      store_zeros<6 * kStep>(at);
      store_zeros<7 * kStep>(at);
    }
#pragma unroll 1
    for (; at < end; at += kStep) store_zeros<0>(at);
    constexpr int32_t kUnit = sizeof(Unit);
    if (thread < head / kUnit) reinterpret_cast<Unit *>(start)[thread] = 0;
    if (thread < tail / kUnit) reinterpret_cast<Unit *>(start + bytes - tail)[thread] = 0;
  }

  const Order<kPlanar> order_;
  const bool f32_grads_;
  const Value *const feats_;
  char *const grads_;
};

// The functions of stage cells share this view of one image and layer of the call: its task, its lists, its feats and
// its formulas. It is passed by reference and inlined everywhere, so it costs no memory.
template <class F> struct View {
  using T = typename F::Number;

  __device__ View(const Task &call, int32_t image_number, int32_t l, const Lists &image_lists)
      : task(call),
        layer(call.layers[l]),
        lists(image_lists),
        feats(layer, call.channels, image_number, call.f32_grads),
        image(image_number) {}

  // Returns a cell as formula.h takes it.
  __device__ Cell<T> formula_cell(int32_t cell) const {
    return cell_at<T>(layer, static_cast<const T *>(layer.anchor_sizes), cell);
  }
  // Returns the mask or a class target of an object; see target_of. The box of an object is in its list.
  __device__ float target(int32_t cell, int32_t channel) const {
    return target_of(task, layer, lists, image, cell, channel);
  }

  const Task &task;
  const LayerTask &layer;
  const Lists lists;
  const F feats;
  const int32_t image;
};

// Returns a box as numbers of the arithmetic.
template <class T> __device__ inline Box<T> as(const Box<float> &box) {
  return {static_cast<T>(box.x), static_cast<T>(box.y), static_cast<T>(box.w), static_cast<T>(box.h)};
}

}  // namespace yl
