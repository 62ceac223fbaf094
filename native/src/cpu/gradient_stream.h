// The gradient in whole lines.
#pragma once

#include <vector>

#include "cpu/prefetch.h"
#include "cpu/simd.h"

namespace yl {
inline namespace YL_ISA {

// Rows of background on their way to memory: zeros but for the objectness. Composed in a tile that is kept zero,
// written in whole lines past the caches.
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

// Planes on their way to memory, piece by piece. past_caches: in whole lines; no line is read, or written twice, where
// the next piece goes on where the last ended.
class PlaneStream {
 public:
  explicit PlaneStream(bool past_caches) : past_caches_(past_caches) {}

  void go_to(void *to) {
    if (to == at_) return;
    finish();
    at_ = static_cast<char *>(to);
    kept_ = first_ = past_caches_ ? static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kLine) : 0;
  }

  void put(const void *from, int64_t bytes) {
    pieces(bytes, static_cast<const char *>(from),
           [](char *to, const char *piece, int64_t count) { std::memcpy(to, piece, of_any_size(count)); });
  }

  void zeros(int64_t bytes) {
    pieces(bytes, nullptr, [](char *to, const char *, int64_t count) { std::memset(to, 0, of_any_size(count)); });
  }

  void finish() {
    if (kept_ > first_) std::memcpy(at_ - (kept_ - first_), line_ + first_, of_any_size(kept_ - first_));
    first_ = kept_;
  }

 private:
  template <class Move> YL_SIMD void pieces(int64_t bytes, const char *from, const Move &move) {
    static constexpr char kZeros[kLine] = {};
    if (!past_caches_) {
      move(at_, from, bytes);
      at_ += bytes;
      return;
    }
    while (bytes > 0) {
      const int64_t count = yl::smaller(kLine - kept_, bytes);
      if (count == kLine) {
        stream_line(at_, from ? from : kZeros);
      } else {
        move(line_ + kept_, from, count);
        kept_ += count;
      }
      at_ += count;
      bytes -= count;
      if (from) from += count;
      if (kept_ < kLine) continue;
      if (first_ == 0)
        stream_line(at_ - kLine, line_);
      else
        finish();
      kept_ = first_ = 0;
    }
  }

  const bool past_caches_;
  char *at_ = nullptr;               // the next byte goes here
  alignas(kLine) char line_[kLine];  // of the line that at_ is in: bytes [first_, kept_)
  int64_t first_ = 0, kept_ = 0;
};

}  // namespace YL_ISA
}  // namespace yl
