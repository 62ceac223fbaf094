// Streams that write the gradient in whole cache lines.
//
// The gradient is as large as feats and almost all 0. An ordinary store to a line that is not cached first reads the
// line from memory, which doubles the traffic, and then evicts something useful. A store of a whole line past the
// caches (stream_line of simd.h) does neither, but it needs 64 bytes at a multiple of 64, and rows and planes begin
// anywhere. The two classes here cut them into lines: RowStream for NHWC, PlaneStream for NCHW. cells_simd.h uses both,
// and calls streamed() after them.
#pragma once

#include <vector>

#include "cpu/prefetch.h"
#include "cpu/simd.h"
#include "layout.h"

namespace yl {
inline namespace YL_ISA {

// Rows of background: zeros except the objectness. They are composed in a tile that stays in the caches, and go on to
// the gradient in whole lines. The tile is aligned as the gradient is: its byte 0 belongs at line_, a multiple of 64.
//
//     line_                                                              filled_
//     v                                                                  v
//     | skipped | . . . . o . . . . | . . . . o . . . . | . . . . o . . .|
//     |<------ 64 bytes ------>|<------ 64 bytes ------>|<---- 64 bytes ---->|
//
// The skipped elements before the first row belong to another span or to an object, and are not written. kGroup rows
// are a multiple of 64 bytes whatever the number of channels. Once kGroup * channels elements are there, they are
// written, and the tail, which is less than a line, moves to the front. From then on the objectness (o) of every row
// falls on a position where an earlier row had its own, so storing the new slopes is all there is to do: everything
// else in the tile is still 0.
template <class Grad> class RowStream {
 public:
  // tile has room for 64 * channels bytes, a line for the tail, and a line to align it.
  RowStream(std::vector<char> &tile, int32_t channels)
      : tile_(reinterpret_cast<Grad *>(
            reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(tile.data()) + kLine - 1) / kLine * kLine))),
        channels_(channels) {}

  // Begins a run of rows at to, and clears the tile. finish() must have been called since the last row.
  void start(Grad *to) {
    const auto address = reinterpret_cast<uintptr_t>(to), beyond = address % kLine;
    line_ = reinterpret_cast<char *>(address - beyond);
    skipped_ = filled_ = static_cast<int32_t>(beyond / sizeof(Grad));
    std::memset(static_cast<void *>(tile_), 0, of_any_size(int64_t(kGroup) * channels_ * sizeof(Grad) + kLine));
  }

  // Appends count rows with the given slopes of the objectness.
  void rows(const Grad *slopes, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      tile_[filled_ + kObjectness] = slopes[i];
      filled_ += channels_;
      if (filled_ < kGroup * channels_) continue;
      write(kGroup * channels_);
      filled_ -= kGroup * channels_;
      std::memcpy(static_cast<void *>(tile_), static_cast<const void *>(tile_ + kGroup * channels_), kLine);
    }
  }

  // Writes what is left in the tile. The last line is shared with whatever follows, so only its own bytes are copied.
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
  static constexpr int32_t kGroup = kOfLine;  // this number of rows is a whole number of lines

  // Writes the first count elements of the tile, which are whole lines.
  void write(int32_t count) {
    const char *from = reinterpret_cast<const char *>(tile_);
    const char *const end = from + int64_t(count) * sizeof(Grad);
    if (skipped_ > 0 && from < end) {  // a line that is shared with what precedes the first row
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
  char *line_ = nullptr;  // destination of the first line of the tile
  int32_t skipped_ = 0;   // elements at its start that must not be written
  int32_t filled_ = 0;    // elements in the tile, skipped ones included
};

// Bytes of planes, given piece by piece: copies or zeros of any length at any alignment.
//
//     pieces  |0000000000000000000000x000000000y000000000|
//     lines   |1st|streamed |collected|collected|last    |
//
// Lines that lie within one piece are streamed from it directly. A line that several pieces share is collected in line_
// and streamed when it is full. Only the first and the last line of a stretch can be partial; they are copied by
// ordinary stores, because the rest of the line belongs to another span, which another thread may be writing. A piece
// that begins where the last one ended continues the stretch, as the planes of an anchor do. Without past_caches every
// piece is written at once by ordinary stores.
class PlaneStream {
 public:
  explicit PlaneStream(bool past_caches) : past_caches_(past_caches) {}

  // Sets the address of the next piece; does nothing if that is where the last piece ended.
  void go_to(void *to) {
    if (to == at_) return;
    finish();
    at_ = static_cast<char *>(to);
    kept_ = first_ = past_caches_ ? static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kLine) : 0;
  }

  // Writes a copy of bytes at from.
  void put(const void *from, int64_t bytes) {
    pieces(bytes, static_cast<const char *>(from),
           [](char *to, const char *piece, int64_t count) { std::memcpy(to, piece, of_any_size(count)); });
  }

  // Writes zeros.
  void zeros(int64_t bytes) {
    pieces(bytes, nullptr, [](char *to, const char *, int64_t count) { std::memset(to, 0, of_any_size(count)); });
  }

  // Writes the collected bytes of a partial line. at_ stays: more bytes of the same line may follow.
  void finish() {
    if (kept_ > first_) std::memcpy(at_ - (kept_ - first_), line_ + first_, of_any_size(kept_ - first_));
    first_ = kept_;
  }

 private:
  // Cuts a piece at the ends of lines; from is NULL for zeros. move(to, from, count) copies or clears a part of a line.
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
  char *at_ = nullptr;               // address of the next byte
  alignas(kLine) char line_[kLine];  // bytes [first_, kept_) of the line that holds at_
  int64_t first_ = 0, kept_ = 0;
};

}  // namespace YL_ISA
}  // namespace yl
