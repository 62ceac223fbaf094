// How feats and gradients lie in memory. A layout or a type of number is a class like Nhwc: the kernels touch feats and
// gradients through it alone.
#pragma once

#include "cuda/device.h"

namespace yl {

// Values that are stored at once, in one instruction of 16 bytes: at must be a multiple of that.
template <class Value> struct Pack {
  static constexpr int32_t kSize = sizeof(uint4) / sizeof(Value);
  Value values[kSize];
  __device__ void store(Value *at) const {
    uint4 bits;
    memcpy(&bits, values, sizeof bits);
    store_whole(reinterpret_cast<uint4 *>(at), bits);
  }
};

// (B, H, W, A*(5+C)): the channels of a cell side by side, cells in their numbering.
template <class Value> class Nhwc {
 public:
  __device__ Nhwc(const LayerTask &layer, int32_t channels, int32_t image)
      : channels_(channels),
        feats_(static_cast<const Value *>(layer.feats) + int64_t(image) * layer.cells * channels),
        grads_(layer.grads ? static_cast<Value *>(layer.grads) + int64_t(image) * layer.cells * channels : nullptr) {}

  __device__ float read(int32_t cell, int32_t channel) const {
    return static_cast<float>(feats_[int64_t(cell) * channels_ + channel]);
  }
  __device__ void write(int32_t cell, int32_t channel, float slope) const {
    grads_[int64_t(cell) * channels_ + channel] = static_cast<Value>(slope);
  }

  // By all threads of the block: the gradient of background cells [first, first + count), whole rows in 16-byte stores:
  // slopes[i] for the objectness of cell first + i, else 0. A row whose bit is set in left_out is left as it is.
  template <class Slopes, class Bits>
  __device__ void write_background(int32_t first, int32_t count, const Slopes &slopes, bool any_left_out,
                                   const Bits &left_out) const {
    constexpr int32_t kSize = Pack<Value>::kSize;
    Value *const start = grads_ + int64_t(first) * channels_;
    const int64_t size = int64_t(count) * channels_;
    const auto misaligned = static_cast<int32_t>(reinterpret_cast<uintptr_t>(start) % sizeof(uint4));
    int64_t head = (static_cast<int32_t>(sizeof(uint4)) - misaligned) % static_cast<int32_t>(sizeof(uint4)) /
                   static_cast<int32_t>(sizeof(Value));
    if (head > size) head = size;
    const int64_t tail = size - (size - head) % kSize;  // where whole packs end
    const auto step = static_cast<int32_t>(blockDim.x) * kSize;
    const int32_t step_rows = step / channels_, step_channels = step % channels_;

    const int64_t at = head + int64_t(threadIdx.x) * kSize;
    auto row = static_cast<int32_t>(at / channels_), channel = static_cast<int32_t>(at % channels_);
    for (Value *place = start + at, *const end = start + tail; place < end; place += step) {
      const bool two_rows = channel + kSize > channels_;
      if (any_left_out && (is_set(left_out, row) || (two_rows && is_set(left_out, row + 1)))) {
        write_values(place - channel, row, channel, kSize, slopes, left_out);
      } else {
        const bool in_next = channel > 4;
        const int32_t objectness = in_next ? channels_ + 4 - channel : 4 - channel;
        Pack<Value> out;
        const float slope = objectness < kSize ? slopes[in_next ? row + 1 : row] : 0.0f;
#pragma unroll
        for (int32_t i = 0; i < kSize; ++i) out.values[i] = static_cast<Value>(i == objectness ? slope : 0.0f);
        static_assert(kSize <= 6, "a pack may then hold the objectness of two rows of 5 + C values");
        out.store(place);
      }
      row += step_rows;
      channel += step_channels;
      if (channel >= channels_) {
        channel -= channels_;
        ++row;
      }
    }
    if (threadIdx.x == 0) write_values(start, 0, 0, static_cast<int32_t>(head), slopes, left_out);
    if (threadIdx.x == kWarp) {
      const auto last_row = static_cast<int32_t>(tail / channels_);
      write_values(start + int64_t(last_row) * channels_, last_row, static_cast<int32_t>(tail % channels_),
                   static_cast<int32_t>(size - tail), slopes, left_out);
    }
  }

 private:
  template <class Bits> static __device__ bool is_set(const Bits &bits, int32_t i) {
    return bits[i / 32] >> (i % 32) & 1;
  }

  // count values one by one, from a channel of a row on; values is where the row begins.
  template <class Slopes, class Bits>
  __device__ void write_values(Value *values, int32_t row, int32_t channel, int32_t count, const Slopes &slopes,
                               const Bits &left_out) const {
    for (; count > 0; --count) {
      if (!is_set(left_out, row)) values[channel] = static_cast<Value>(channel == 4 ? slopes[row] : 0.0f);
      if (++channel < channels_) continue;
      channel = 0;
      ++row;
      values += channels_;
    }
  }

  const int32_t channels_;
  const Value *const feats_;
  Value *const grads_;
};

}  // namespace yl
