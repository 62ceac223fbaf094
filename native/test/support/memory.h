// Memory of the tests' calls: on the host between guard pages, on a device, or both.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

// Device memory that mirrors host memory of a test: uploaded before a call, downloaded after it.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory &) = delete;

  // Returns where the bytes are on the device; NULL for none.
  void *upload(const void *host, int64_t bytes);
  void download(void *host, int64_t bytes) const;

  int64_t shift = 0;  // bytes from an aligned address

 private:
  char *start() const { return static_cast<char *>(memory_) + shift; }
  void *memory_ = nullptr;
  int64_t bytes_ = 0;
};

// Pinned host memory, and a stream.
class Pinned {
 public:
  explicit Pinned(int64_t bytes);
  ~Pinned();
  Pinned(const Pinned &) = delete;
  template <class T = char> T *as() const { return static_cast<T *>(memory_); }

 private:
  void *memory_ = nullptr;
};

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream &) = delete;
  void synchronize() const;
  void *get() const { return stream_; }

 private:
  void *stream_ = nullptr;
};

// Host memory between two pages whose touch ends the program. It is adjacent to the page behind it, or to the one
// before it; the gap to the other page holds a pattern, which must still be there at the end.
class Guarded {
 public:
  explicit Guarded(int64_t bytes);
  ~Guarded();
  Guarded(const Guarded &) = delete;
  char *data() { return start_; }
  template <class T> T *as() { return reinterpret_cast<T *>(start_); }
  size_t size() const { return bytes_; }

  static bool guard_before;          // which of the pages
  static std::atomic<int64_t> made;  // in this process

 private:
  const size_t bytes_;
  size_t inner_;
  char *mapped_, *first_, *start_;
};

// An array of a call: guarded on the host, and for a device call mirrored on the device.
class CallMemory {
 public:
  CallMemory(bool on_device, int64_t bytes) : host_(bytes), on_device_(on_device) {}
  CallMemory(bool on_device, const void *values, int64_t bytes);

  char *host() { return host_.data(); }
  void *upload() {
    return on_device_ ? mirror_.upload(host_.data(), static_cast<int64_t>(host_.size())) : host_.data();
  }
  void download() {
    if (on_device_) mirror_.download(host_.data(), static_cast<int64_t>(host_.size()));
  }

 private:
  Guarded host_;
  const bool on_device_;
  DeviceMemory mirror_;
};
