// The way of host memory to the device and back: a call is cut into chunks of images, each on one of two streams; while one
// is computed, the next is copied. Memory that is not pinned goes through pinned buffers, copied by several threads.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "pool.h"
#include "cuda/runtime.h"

namespace yl {

constexpr int64_t kChunkBytes = 16 << 20;  // of a chunk's inputs and outputs together, but at least an image
constexpr int64_t kChunkSlack = 64 << 10;  // for the alignment of its arrays
constexpr int64_t kCopyPiece = 1 << 20;    // of a copy to or from pinned memory, for a thread
constexpr int64_t kAlignment = 256;

inline int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

enum class Way { kIn, kOut, kBoth };  // to the device, from it

// An array of the caller's on the host, of which a chunk takes some images.
struct Transfer {
  char *host;
  int64_t bytes;  // of an image
  Way way;
  bool pinned = false;
  Transfer(const void *at, int64_t image_bytes, Way which)
      : host(static_cast<char *>(const_cast<void *>(at))), bytes(image_bytes), way(which) {}
};

// What the kernels of a chunk write for the host, in pinned memory.
struct Written {
  yl_summary summary;
  yl_completion completion;
  yl_box_counts boxes;
  int64_t objects;
  yl_offender offender;
};

class Slot {
 public:
  Slot() = default;
  ~Slot() {
    if (done) cudaEventDestroy(done);
    if (stream) cudaStreamDestroy(stream);
  }
  Slot(const Slot &) = delete;
  Slot &operator=(const Slot &) = delete;

  cudaStream_t stream = nullptr;  // ordered behind the legacy default stream
  cudaEvent_t done = nullptr;
  PinnedBytes written_memory;   // Written, then statistics, then rows
  DeviceBytes device;           // of a chunk
  PinnedBytes pinned;           // alike
  int32_t first = 0, count = 0;  // images of the chunk that is on its way; count 0: none

  Written &written() const { return *reinterpret_cast<Written *>(written_memory.start()); }
  yl_stats *stats() const { return reinterpret_cast<yl_stats *>(written_memory.start() + sizeof(Written)); }
  yl_parts *rows() const { return reinterpret_cast<yl_parts *>(stats() + layers); }
  int64_t layers = 0;
};

class Chunks {
 public:
  // Two slots, or one, where a plan of device memory needs a stream and a place for results alone. image_bytes: of all
  // arrays of the largest call.
  Chunks(int32_t device_index, int32_t threads, bool host_memory, int32_t max_batch, int64_t layers,
         int64_t image_bytes)
      : device_(device_index), pool_(host_memory ? threads : 1, false) {
    const int64_t bytes = std::min(max_batch * image_bytes, std::max(kChunkBytes, image_bytes)) + kChunkSlack;
    for (size_t s = 0; s < (host_memory ? slots_.size() : 1); ++s) {
      Slot &slot = slots_[s];
      require(cudaStreamCreateWithFlags(&slot.stream, cudaStreamDefault), "making a stream");
      require(cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming), "making an event");
      slot.written_memory.allocate(static_cast<int64_t>(sizeof(Written)) + layers * int64_t(sizeof(yl_stats)) +
                                       max_batch * layers * int64_t(sizeof(yl_parts)),
                                   cuda_malloc_host);
      slot.layers = layers;
      if (host_memory) reserve(slot, bytes);
    }
  }
  ~Chunks() {
    for (const Slot &slot : slots_)
      if (slot.stream) cudaStreamSynchronize(slot.stream);
  }

  static constexpr int32_t kSlots = 2;
  Slot &first() { return slots_[0]; }
  int64_t number_of(const Slot &slot) const { return &slot - slots_.data(); }

  static int32_t chunk_of(const std::vector<Transfer> &transfers, int32_t batch) {
    int64_t image = 1;
    for (const Transfer &transfer : transfers) image += transfer.bytes;
    return static_cast<int32_t>(std::min<int64_t>(batch, std::max<int64_t>(1, kChunkBytes / image)));
  }

  // For each chunk, in turn on the slots: inputs to the device, enqueue(slot, the chunk's arrays on the device), outputs
  // back; when they are there, collect(slot). slot.first and slot.count say which images.
  template <class Enqueue, class Collect>
  void run(int32_t batch, std::vector<Transfer> &transfers, const Enqueue &enqueue, const Collect &collect) {
    const int32_t chunk = chunk_of(transfers, batch);
    for (Transfer &transfer : transfers) {
      cudaPointerAttributes attributes{};
      transfer.pinned = transfer.bytes > 0 && cudaPointerGetAttributes(&attributes, transfer.host) == cudaSuccess &&
                        attributes.type != cudaMemoryTypeUnregistered;
    }
    at_.resize(transfers.size());
    int64_t bytes = kAlignment;
    for (const Transfer &transfer : transfers) bytes += aligned(transfer.bytes * chunk);
    for (size_t s = 0; s < slots_.size() && int64_t(s) * chunk < batch; ++s)
      reserve(slots_[s], bytes);  // or nothing is written
    try {
      size_t s = 0;
      for (int32_t first = 0; first < batch; first += chunk, s = (s + 1) % slots_.size()) {
        Slot &slot = slots_[s];
        finish(slot, transfers, collect);
        slot.first = first;
        slot.count = std::min(chunk, batch - first);
        start(slot, transfers, enqueue);
      }
      for (size_t i = 0; i < slots_.size(); ++i, s = (s + 1) % slots_.size()) finish(slots_[s], transfers, collect);
    } catch (...) {
      for (Slot &slot : slots_) {  // the caller's memory is free when this returns
        cudaStreamSynchronize(slot.stream);
        slot.first = slot.count = 0;
      }
      throw;
    }
  }

 private:
  template <class Enqueue> void start(Slot &slot, const std::vector<Transfer> &transfers, const Enqueue &enqueue) {
    int64_t offset = 0;
    for (size_t i = 0; i < transfers.size(); ++i) {
      at_[i] = slot.device.start() + offset;
      offset += aligned(transfers[i].bytes * slot.count);
      if (transfers[i].way != Way::kOut) copy(slot, transfers[i], at_[i], true);
    }
    enqueue(slot, at_.data());
    for (size_t i = 0; i < transfers.size(); ++i)
      if (transfers[i].way != Way::kIn) copy(slot, transfers[i], at_[i], false);
    require(cudaEventRecord(slot.done, slot.stream), "marking a chunk");
  }

  // Between the host, or the place in pinned memory that stands for it, and the device.
  void copy(const Slot &slot, const Transfer &transfer, char *device, bool in) {
    const auto bytes = static_cast<size_t>(transfer.bytes * slot.count);
    if (bytes == 0) return;
    char *host = transfer.host + slot.first * transfer.bytes;
    if (!transfer.pinned) {
      char *staged = slot.pinned.start() + (device - slot.device.start());
      if (in) copy_by_threads(staged, host, static_cast<int64_t>(bytes));
      host = staged;
    }
    require(cudaMemcpyAsync(in ? device : host, in ? host : device, bytes,
                            in ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, slot.stream),
            "copying a chunk");
  }

  template <class Collect> void finish(Slot &slot, const std::vector<Transfer> &transfers, const Collect &collect) {
    if (slot.count == 0) return;
    require(cudaEventSynchronize(slot.done), "computing a chunk");
    int64_t offset = 0;
    for (const Transfer &transfer : transfers) {
      const int64_t bytes = transfer.bytes * slot.count;
      if (transfer.way != Way::kIn && !transfer.pinned)
        copy_by_threads(transfer.host + slot.first * transfer.bytes, slot.pinned.start() + offset, bytes);
      offset += aligned(bytes);
    }
    collect(slot);
    slot.first = slot.count = 0;
  }

  void copy_by_threads(char *to, const char *from, int64_t bytes) {
    pool_.run((bytes + kCopyPiece - 1) / kCopyPiece, [&](int64_t piece, int32_t) {
      const int64_t at = piece * kCopyPiece;
      std::memcpy(to + at, from + at, static_cast<size_t>(std::min(kCopyPiece, bytes - at)));
    });
  }

  void reserve(Slot &slot, int64_t bytes) const {
    if (slot.pinned.bytes() < bytes) slot.pinned.allocate(bytes, cuda_malloc_host);
    if (slot.device.bytes() < bytes)
      slot.device.allocate(bytes, [&](int64_t size) { return cuda_malloc(device_, size); });
  }

  const int32_t device_;
  Pool pool_;
  std::array<Slot, kSlots> slots_;
  std::vector<char *> at_;  // the arrays of a chunk on the device
};

}  // namespace yl
