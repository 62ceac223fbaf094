// Double-buffered transfers for host memory: a call is split into chunks of images that alternate between two slots,
// each with its own stream, so that one chunk is copied while the other is computed:
//
//   host      in 0   in 1   wait 0   out 0   in 2   wait 1   out 1   in 3   ...
//   stream 0         [copy 0, compute 0, copy 0]       [copy 2, compute 2, copy 2]
//   stream 1                [copy 1, compute 1, copy 1]                    [copy 3, compute 3, copy 3]
//
// Pinned memory of the caller is copied to and from the device directly. The driver would copy other memory through a
// small pinned buffer of its own, in the calling thread and without overlap; instead it is staged in a pinned buffer of
// the slot, which several threads fill and empty (in and out above). cuda.cpp calls run() with the arrays of a call.
// The chunk size changes no bit of loss or gradient, since each image has its own rows, and the normaliser is that of
// the whole call.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "cuda/runtime.h"
#include "pool.h"

namespace yl {

// The largest chunk: its inputs and outputs together. Large enough that copies reach the bandwidth of the bus, small
// enough that the first copy and the last, which nothing overlaps, are a small part of a large batch. A chunk has at
// least one image.
constexpr int64_t kChunkBytes = 16 << 20;
constexpr int64_t kChunkSlack = 64 << 10;  // space for the alignment of a chunk's arrays
constexpr int64_t kCopyPiece = 1 << 20;    // one item of a staging copy, which a thread takes
constexpr int64_t kAlignment = 256;        // of arrays on the device, as cudaMalloc aligns

// Returns bytes, rounded up to the alignment of arrays on the device.
inline int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// The direction of a transfer: to the device, from the device, or both.
enum class Way { kIn, kOut, kBoth };

// A caller-owned host array with a part for each image, of which a chunk takes the parts of its images.
struct Transfer {
  char *host;           // start of the array
  int64_t bytes;        // size of an image's part
  Way way;              // inputs, outputs, or outputs that are also read (accumulated gradients)
  bool pinned = false;  // set by Chunks::run
  Transfer(const void *at, int64_t image_bytes, Way which)
      : host(static_cast<char *>(const_cast<void *>(at))), bytes(image_bytes), way(which) {}
};

// Results that the kernels of a chunk write for the host, in pinned memory: the device writes them directly, so they
// need no copy of their own. summary, completion and offender are outputs of yl_loss; boxes and objects are those of
// finish_truths_kernel.
struct Written {
  yl_summary summary;
  yl_completion completion;
  yl_box_counts boxes;
  int64_t objects;
  yl_offender offender;
};

// One of the two places where a chunk is under way: a stream, buffers, and the images that they hold.
class Slot {
 public:
  Slot() = default;
  // Chunks has waited for the stream before. The buffers are members, and are freed after this.
  ~Slot() {
    if (done) cudaEventDestroy(done);
    if (stream) cudaStreamDestroy(stream);
  }
  Slot(const Slot &) = delete;
  Slot &operator=(const Slot &) = delete;

  cudaStream_t stream = nullptr;  // ordered behind the legacy default stream
  cudaEvent_t done = nullptr;
  PinnedBytes written_memory;    // a Written, then L yl_stats, then the rows of max_batch images
  DeviceBytes device;            // the arrays of a chunk, one after the other
  PinnedBytes pinned;            // at the same offsets, the arrays of the chunk whose host memory is not pinned
  int32_t first = 0, count = 0;  // images of the chunk that is under way; count 0: none is

  // Access to written_memory. The content is valid once the event done has been waited for.
  Written &written() const { return *reinterpret_cast<Written *>(written_memory.start()); }
  yl_stats *stats() const { return reinterpret_cast<yl_stats *>(written_memory.start() + sizeof(Written)); }
  yl_parts *rows() const { return reinterpret_cast<yl_parts *>(stats() + layers); }
  int64_t layers = 0;
};

// The two slots of a plan, and the loop that moves chunks through them.
class Chunks {
 public:
  // Makes two slots with buffers for the largest chunk; image_bytes is the size of all arrays of a call for one image.
  // A plan with device memory needs a stream and a place for results only: one slot without buffers. The streams are
  // ordered behind the legacy default stream, so that a caller that uses only that one needs no events.
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
  ~Chunks() {  // buffers must outlive what is enqueued
    for (const Slot &slot : slots_)
      if (slot.stream) cudaStreamSynchronize(slot.stream);
  }

  // Two slots suffice: one chunk can be copied while another is computed, and a third would only wait for the same bus
  // or the same multiprocessors.
  static constexpr int32_t kSlots = 2;
  // Returns the slot that a plan with device memory uses for its stream and results.
  Slot &first() { return slots_[0]; }
  // Returns the index of a slot, 0 or 1.
  int64_t number_of(const Slot &slot) const { return &slot - slots_.data(); }

  // Returns the number of images of a chunk, 1..batch: as many as fit in kChunkBytes.
  static int32_t chunk_of(const std::vector<Transfer> &transfers, int32_t batch) {
    int64_t image = 1;
    for (const Transfer &transfer : transfers) image += transfer.bytes;
    return static_cast<int32_t>(std::min<int64_t>(batch, std::max<int64_t>(1, kChunkBytes / image)));
  }

  // Runs a call in chunks. For each chunk, alternating between the slots, it enqueues the copies of its inputs, calls
  // enqueue(slot, arrays), where arrays are the chunk's on the device in the order of transfers, and enqueues the
  // copies of its outputs. Once they are done, and before the slot is used again, it calls collect(slot). slot.first
  // and slot.count are the chunk's images. If anything fails, it waits for both streams before it throws: the caller
  // may then free its memory.
  template <class Enqueue, class Collect>
  void run(int32_t batch, std::vector<Transfer> &transfers, const Enqueue &enqueue, const Collect &collect) {
    const RelaxedCapture relaxed;
    const int32_t chunk = chunk_of(transfers, batch);
    for (Transfer &transfer : transfers) {
      cudaPointerAttributes attributes{};
      // CUDA is queried in each call, because the caller may pin, unpin or exchange its memory between calls.
      transfer.pinned = transfer.bytes > 0 && cudaPointerGetAttributes(&attributes, transfer.host) == cudaSuccess &&
                        attributes.type != cudaMemoryTypeUnregistered;
    }
    at_.resize(transfers.size());
    int64_t bytes = kAlignment;
    for (const Transfer &transfer : transfers) bytes += aligned(transfer.bytes * chunk);
    // Prepares all buffers before the first copy: if that fails, nothing has been written.
    for (size_t s = 0; s < slots_.size() && int64_t(s) * chunk < batch; ++s) reserve(slots_[s], bytes);
    try {
      size_t s = 0;
      for (int32_t first = 0; first < batch; first += chunk, s = (s + 1) % slots_.size()) {
        // The slot's last chunk, two chunks before this one, must be done before its buffers are filled again.
        // Meanwhile the other slot's chunk keeps the device busy.
        Slot &slot = slots_[s];
        finish(slot, transfers, collect);
        slot.first = first;
        slot.count = std::min(chunk, batch - first);
        start(slot, transfers, enqueue);
      }
      // The last two chunks, in their order.
      for (size_t i = 0; i < slots_.size(); ++i, s = (s + 1) % slots_.size()) finish(slots_[s], transfers, collect);
    } catch (...) {
      // Copies and kernels may still use the caller's memory, so both streams are waited for, without a check: they may
      // be what has failed.
      for (Slot &slot : slots_) {
        cudaStreamSynchronize(slot.stream);
        slot.first = slot.count = 0;
      }
      throw;
    }
  }

 private:
  // Enqueues everything of the chunk slot.first, slot.count. An input that is not pinned is copied to the pinned buffer
  // here, on the host, while the device computes the chunk before.
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

  // Enqueues a copy between an array on the device and its host memory, or, if that is not pinned, its staging buffer.
  // The staging buffer has the same offsets as the buffer on the device.
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

  // Waits for the chunk of a slot, if there is one, copies its staged outputs to the caller's memory and collects it.
  // Afterwards the slot is free.
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

  // Copies on the host by several threads: one reaches only a part of the memory's bandwidth.
  void copy_by_threads(char *to, const char *from, int64_t bytes) {
    pool_.run((bytes + kCopyPiece - 1) / kCopyPiece, [&](int64_t piece, int32_t) {
      const int64_t at = piece * kCopyPiece;
      std::memcpy(to + at, from + at, static_cast<size_t>(std::min(kCopyPiece, bytes - at)));
    });
  }

  // Enlarges the buffers of a slot if they are smaller than bytes. The constructor has made them large enough for
  // everything whose size the config determines, so only large boxes can make them grow.
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
