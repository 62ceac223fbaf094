// A fixed set of threads that run the items of a loop. A plan owns one: threads are started once, and a call costs no
// more than waking them. Items go to whichever thread is free, so a result must not depend on which thread ran what;
// the backends give each item its own place for sums, and add those places afterwards in a fixed order. That is why the
// number of threads changes no bit.
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
  // Starts threads - 1 workers; the caller of run is the remaining thread. With spins, idle workers poll briefly for
  // the next loop before they sleep: use it when loops follow closely and there is a processor for each thread. Throws
  // std::system_error if a thread cannot be started.
  Pool(int32_t threads, bool spins);
  ~Pool();
  Pool(const Pool &) = delete;
  Pool &operator=(const Pool &) = delete;

  int32_t threads() const { return static_cast<int32_t>(workers_.size()) + 1; }

  // Calls body(item, worker) for every item in [0, count), with worker in [0, threads()), and returns when all calls
  // have returned. body must not throw. The caller takes items from the start, and waits only for workers that have
  // taken any: a thread that wakes up late costs nothing.
  template <class Body> void run(int64_t count, const Body &body) noexcept {
    if (workers_.empty() || count <= 1) return run_alone(count, body);
    share(
        count, [](const void *b, int64_t item, int32_t worker) { (*static_cast<const Body *>(b))(item, worker); },
        &body);
  }

  // Does the same on the caller's thread alone, for so little work that no worker would wake up in time to help.
  template <class Body> void run_alone(int64_t count, const Body &body) noexcept {
    for (int64_t item = 0; item < count; ++item) body(item, 0);
  }

 private:
  // run() hands the body over as a plain function and a pointer, which costs no allocation, unlike std::function.
  using Function = void (*)(const void *body, int64_t item, int32_t worker);
  void share(int64_t count, Function function, const void *body) noexcept;
  void take_items(int32_t worker) noexcept;
  void serve(int32_t worker) noexcept;
  void stop() noexcept;

  const bool spins_;
  // A round is one loop. A worker joins it under the mutex, while it is open, and only then reads function_, body_ and
  // count_: so the caller, which closes the round and waits until joined_ is 0, may reuse them.
  std::mutex mutex_;
  std::condition_variable start_, done_;
  std::atomic<uint64_t> round_{0};  // number of the round; written under mutex_, spinning workers read it without
  std::atomic<int32_t> joined_{0};  // workers in the round; written under mutex_, a spinning caller reads it without
  bool open_ = false;               // workers may join the round; guarded by mutex_
  bool waiting_ = false;            // the caller sleeps until joined_ is 0; guarded by mutex_
  bool stopping_ = false;           // workers must end; guarded by mutex_
  int32_t asleep_ = 0;              // workers that wait for start_; guarded by mutex_
  Function function_ = nullptr;     // of the round; written under mutex_, before it opens
  const void *body_ = nullptr;      // of the round, likewise
  int64_t count_ = 0;               // items of the round, likewise
  std::atomic<int64_t> next_{0};    // first item that nobody has taken
  std::vector<std::thread> workers_;
};

}  // namespace yl
