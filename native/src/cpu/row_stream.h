// Gradients past the caches.
#pragma once

#include <vector>

#include "lines.h"
#include "simd.h"

namespace yl {
inline namespace YL_ISA {

// Rows of background on their way to memory: zeros but for the objectness. Composed in a tile that is kept zero, written in
// whole lines past the caches.
template <class Grad> class RowStream {
 public:
  RowStream(std::vector<char> &tile, int32_t channels)
      : tile_(reinterpret_cast<Grad *>(
            reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(tile.data()) + kLine - 1) / kLine * kLine))),
        channels_(channels) {}

  // The next rows go to another place.
  void start(Grad *to) {
    const auto address = reinterpret_cast<uintptr_t>(to), beyond = address % kLine;
    line_ = reinterpret_cast<char *>(address - beyond);
    skipped_ = filled_ = static_cast<int32_t>(beyond / sizeof(Grad));
    std::memset(static_cast<void *>(tile_), 0, of_any_size(int64_t(kGroup) * channels_ * sizeof(Grad) + kLine));
  }

  void rows(const Grad *slopes, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      tile_[filled_ + 4] = slopes[i];
      filled_ += channels_;
      if (filled_ < kGroup * channels_) continue;
      write(kGroup * channels_);
      filled_ -= kGroup * channels_;
      std::memcpy(static_cast<void *>(tile_), static_cast<const void *>(tile_ + kGroup * channels_), kLine);
    }
  }

  void finish() {
    const int32_t whole = filled_ / kOfLine * kOfLine;
    write(whole);
    const int32_t from = yl::larger(whole, skipped_);
    if (filled_ > from)
      std::memcpy(line_ + int64_t(from - whole) * sizeof(Grad), static_cast<const void *>(tile_ + from),
                  of_any_size((filled_ - from) * int64_t(sizeof(Grad))));
    skipped_ = filled_ = 0;
  }

 private:
  static constexpr int32_t kOfLine = kLine / sizeof(Grad);
  static constexpr int32_t kGroup = kOfLine;  // so many rows are whole lines

  void write(int32_t count) {
    const char *from = reinterpret_cast<const char *>(tile_);
    const char *const end = from + int64_t(count) * sizeof(Grad);
    if (skipped_ > 0 && from < end) {  // what lies before the first row belongs to others
      const int64_t bytes = skipped_ * int64_t(sizeof(Grad));
      std::memcpy(line_ + bytes, from + bytes, of_any_size(kLine - bytes));
      line_ += kLine;
      from += kLine;
      skipped_ = 0;
    }
    for (; from < end; from += kLine, line_ += kLine) stream_line(line_, from);
  }

  Grad *const tile_;
  const int32_t channels_;
  char *line_ = nullptr;  // where the first line of the tile goes
  int32_t skipped_ = 0;   // elements of it that are not to be written
  int32_t filled_ = 0;    // elements of the tile
};

// Zeros past the caches.
template <class Grad> void stream_zeros(Grad *to, int64_t count) {
  char *at = reinterpret_cast<char *>(to), *const end = reinterpret_cast<char *>(to + count);
  const auto beyond = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(at) % kLine);
  char *const aligned = yl::smaller(at + beyond, end);
  std::memset(at, 0, of_any_size(aligned - at));
  static constexpr char kZeros[kLine] = {};
  for (at = aligned; end - at >= kLine; at += kLine) stream_line(at, kZeros);
  std::memset(at, 0, of_any_size(end - at));
}

}  // namespace YL_ISA
}  // namespace yl
