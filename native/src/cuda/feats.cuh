// Feats and gradient of an image and layer: the kernels access them through Feats alone.
//
// The gradient of the background is nearly all of what a call writes, so write_background is the part that decides a
// call's time: whole rows go out in 16-byte stores whatever their length and alignment, planes in stores of adjacent
// threads. layout.h says where a value is, dtype.h how it is converted.
#pragma once

#include <type_traits>

#include "cuda/kernel.cuh"
#include "dtype.h"
#include "layout.h"

namespace yl {

// Values that one instruction of 16 bytes stores; the address must be a multiple of 16.
template <class Value> struct Pack {
  static constexpr int32_t kSize = sizeof(uint4) / sizeof(Value);
  Value values[kSize];
  __device__ void store(Value *at) const {
    uint4 bits;
    memcpy(&bits, values, sizeof bits);
    store_whole(reinterpret_cast<uint4 *>(at), bits);
  }
};

// Value is the type of feats; the gradient has that type or is float32.
template <class Value, bool kPlanar> class Feats {
 public:
  using Number = typename ArithmeticOf<Value>::Type;

  __device__ Feats(const LayerTask &layer, int32_t channels, int32_t image, bool f32_grads)
      : order_(layer.anchors, layer.cells, channels),
        f32_grads_(!std::is_same<Value, float>::value && f32_grads),
        feats_(static_cast<const Value *>(layer.feats) + int64_t(image) * layer.cells * channels),
        grads_(layer.grads ? static_cast<char *>(layer.grads) +
                                 int64_t(image) * layer.cells * channels * (f32_grads_ ? sizeof(float) : sizeof(Value))
                           : nullptr) {}

  // Returns the cell of an index: a tile is a run of indices, so that its cells are adjacent in memory.
  __device__ int32_t cell_of(int32_t index) const { return order_.cell_of(index); }

  __device__ Number read(int32_t cell, int32_t channel) const { return load(feats_[at(cell, channel)]); }
  __device__ Box<Number> box_logits(int32_t cell) const {
    return {read(cell, kX), read(cell, kY), read(cell, kW), read(cell, kH)};
  }

  // Writes an element of the gradient, or adds it; returns whether it is finite as it is stored.
  __device__ bool write(int32_t cell, int32_t channel, Number slope, bool accumulate) const {
    if (f32_grads_) return put(reinterpret_cast<float *>(grads_) + at(cell, channel), slope, accumulate);
    return put(reinterpret_cast<Value *>(grads_) + at(cell, channel), slope, accumulate);
  }
  // Returns whether an element would be finite as it is stored, without accumulation.
  __device__ bool fits(Number slope) const {
    return f32_grads_ ? finite(load(Store<float>::from(slope))) : finite(load(Store<Value>::from(slope)));
  }

  // Writes the gradient of the background of indices [first, first + count): slopes[i] for the objectness of index
  // first + i, else 0. Skips the indices whose bit is set in left_out. All threads of the block take part.
  template <class Slopes, class Bits>
  __device__ void write_background(int32_t first, int32_t count, const Slopes &slopes, bool any_left_out,
                                   const Bits &left_out) const {
    if (f32_grads_)
      write_as<float>(first, count, slopes, any_left_out, left_out);
    else
      write_as<Value>(first, count, slopes, any_left_out, left_out);
  }

 private:
  __device__ int64_t at(int32_t cell, int32_t channel) const { return order_.start(cell) + channel * order_.step(); }

  template <class Grad> static __device__ bool put(Grad *place, Number slope, bool accumulate) {
    const Grad value = Store<Grad>::from(accumulate ? static_cast<Number>(load(*place)) + slope : slope);
    *place = value;
    return finite(load(value));
  }

  template <class Bits> static __device__ bool is_set(const Bits &bits, int32_t i) {
    return bits[i / 32] >> (i % 32) & 1;
  }

  template <class Grad, class Slopes, class Bits>
  __device__ void write_as(int32_t first, int32_t count, const Slopes &slopes, bool any_left_out,
                           const Bits &left_out) const {
    Grad *const grads = reinterpret_cast<Grad *>(grads_);
    if (kPlanar)
      write_planes(grads, first, count, slopes, left_out);
    else
      write_rows(grads + order_.start(first), count, slopes, any_left_out, left_out);
  }

  // Each thread writes its index in plane after plane, so that adjacent threads write adjacent values.
  template <class Grad, class Slopes, class Bits>
  __device__ void write_planes(Grad *grads, int32_t first, int32_t count, const Slopes &slopes,
                               const Bits &left_out) const {
    const auto i = static_cast<int32_t>(threadIdx.x);
    if (i >= count || is_set(left_out, i)) return;
    Grad *place = grads + order_.start(order_.cell_of(first + i));
    for (int32_t channel = 0; channel < order_.channels; ++channel, place += order_.step())
      *place = Store<Grad>::from(channel == kObjectness ? slopes[i] : Number(0));
  }

  // Writes whole rows in 16-byte stores, whatever their length: a store may span two rows.
  template <class Grad, class Slopes, class Bits>
  __device__ void write_rows(Grad *start, int32_t count, const Slopes &slopes, bool any_left_out,
                             const Bits &left_out) const {
    constexpr int32_t kSize = Pack<Grad>::kSize;
    const int32_t channels = order_.channels;
    const int64_t size = int64_t(count) * channels;
    const auto misaligned = static_cast<int32_t>(reinterpret_cast<uintptr_t>(start) % sizeof(uint4));
    int64_t head = (static_cast<int32_t>(sizeof(uint4)) - misaligned) % static_cast<int32_t>(sizeof(uint4)) /
                   static_cast<int32_t>(sizeof(Grad));
    if (head > size) head = size;
    const int64_t tail = size - (size - head) % kSize;  // where whole packs end
    const auto step = static_cast<int32_t>(blockDim.x) * kSize;
    const int32_t step_rows = step / channels, step_channels = step % channels;

    const int64_t from = head + int64_t(threadIdx.x) * kSize;
    auto row = static_cast<int32_t>(from / channels), channel = static_cast<int32_t>(from % channels);
    for (Grad *place = start + from, *const end = start + tail; place < end; place += step) {
      const bool two_rows = channel + kSize > channels;
      const bool in_next = channel > kObjectness;
      const int32_t objectness = in_next ? channels + kObjectness - channel : kObjectness - channel;
      // A row has at least 6 values, so only a pack of 8 can hold the objectness of two rows, or reach a third row.
      const bool many = kSize > 6 && (objectness + channels < kSize || channel + kSize > 2 * channels);
      if (many || (any_left_out && (is_set(left_out, row) || (two_rows && is_set(left_out, row + 1))))) {
        write_values(place - channel, row, channel, kSize, slopes, left_out);
      } else {
        Pack<Grad> out;
        const Number slope = objectness < kSize ? slopes[in_next ? row + 1 : row] : Number(0);
#pragma unroll
        for (int32_t i = 0; i < kSize; ++i) out.values[i] = Store<Grad>::from(i == objectness ? slope : Number(0));
        out.store(place);
      }
      row += step_rows;
      channel += step_channels;
      if (channel >= channels) {
        channel -= channels;
        ++row;
      }
    }
    if (threadIdx.x == 0) write_values(start, 0, 0, static_cast<int32_t>(head), slopes, left_out);
    if (threadIdx.x == kWarp) {
      const auto last_row = static_cast<int32_t>(tail / channels);
      write_values(start + int64_t(last_row) * channels, last_row, static_cast<int32_t>(tail % channels),
                   static_cast<int32_t>(size - tail), slopes, left_out);
    }
  }

  // Writes count values one by one, from a channel of a row on; values is where the row begins.
  template <class Grad, class Slopes, class Bits>
  __device__ void write_values(Grad *values, int32_t row, int32_t channel, int32_t count, const Slopes &slopes,
                               const Bits &left_out) const {
    for (; count > 0; --count) {
      if (!is_set(left_out, row)) values[channel] = Store<Grad>::from(channel == kObjectness ? slopes[row] : Number(0));
      if (++channel < order_.channels) continue;
      channel = 0;
      ++row;
      values += order_.channels;
    }
  }

  const Order<kPlanar> order_;
  const bool f32_grads_;
  const Value *const feats_;
  char *const grads_;
};

// What the functions of stage 2 share: an (image, layer) of the call.
template <class F> struct View {
  using T = typename F::Number;

  __device__ View(const Task &call, int32_t image_number, int32_t l)
      : task(call),
        layer(call.layers[l]),
        lists(call, image_number, l),
        feats(layer, call.channels, image_number, call.f32_grads),
        image(image_number) {}

  __device__ Cell<T> formula_cell(int32_t cell) const {
    return cell_at<T>(layer, static_cast<const T *>(layer.anchor_sizes), cell);
  }
  // Returns a target of an object; see target_of for channels other than those of the box.
  __device__ float target(int32_t cell, int32_t channel) const {
    return target_of(task, layer, lists, image, cell, channel);
  }

  const Task &task;
  const LayerTask &layer;
  const Lists lists;
  const F feats;
  const int32_t image;
};

template <class T> __device__ inline Box<T> as(const Box<float> &box) {
  return {static_cast<T>(box.x), static_cast<T>(box.y), static_cast<T>(box.w), static_cast<T>(box.h)};
}

}  // namespace yl
