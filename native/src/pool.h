// A fixed set of threads that run the items of a loop. Items go to whichever thread is free, so a result must not
// depend on who did what.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace yl {

class Pool {
 public:
  // The caller of run is one of the threads. spins: after a loop the others look out for the next one for a moment before
  // they sleep; for loops that follow each other, where each thread can have a processor of its own. Throws
  // std::system_error if a thread cannot be started.
  Pool(int32_t threads, bool spins);
  ~Pool();
  Pool(const Pool &) = delete;
  Pool &operator=(const Pool &) = delete;

  int32_t threads() const { return static_cast<int32_t>(workers_.size()) + 1; }

  // body(item, worker) for items [0, count), worker in [0, threads()); returns when all are done. body must not throw.
  // The caller begins at once and waits for none that has not begun: a thread that wakes up late costs nothing.
  template <class Body> void run(int64_t count, const Body &body) noexcept {
    if (workers_.empty() || count <= 1) return run_alone(count, body);
    share(
        count, [](const void *b, int64_t item, int32_t worker) { (*static_cast<const Body *>(b))(item, worker); },
        &body);
  }

  // The same on the caller's thread, for so little work that no other would have woken up in time.
  template <class Body> void run_alone(int64_t count, const Body &body) noexcept {
    for (int64_t item = 0; item < count; ++item) body(item, 0);
  }

 private:
  using Function = void (*)(const void *body, int64_t item, int32_t worker);
  void share(int64_t count, Function function, const void *body) noexcept;
  void take_items(int32_t worker) noexcept;
  void serve(int32_t worker) noexcept;
  void stop() noexcept;

  const bool spins_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  std::atomic<uint64_t> round_{0};  // of run; changed under mutex_, as the next five
  std::atomic<int32_t> joined_{0};  // workers that take items of the round
  bool open_ = false;               // workers may join the round
  bool waiting_ = false;            // the caller sleeps until none is left
  bool stopping_ = false;
  int32_t asleep_ = 0;  // workers
  Function function_ = nullptr;  // of the round
  const void *body_ = nullptr;
  int64_t count_ = 0;
  std::atomic<int64_t> next_{0};
  std::vector<std::thread> workers_;
};

}  // namespace yl
