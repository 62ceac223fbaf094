// How a loop is shared: the caller opens a round, wakes sleeping workers and takes items itself until none is left,
// then closes the round and waits for the workers that joined. Two choices keep small loops cheap. Nobody waits for a
// worker that has not joined: with a barrier of all threads, each loop would take as long as the slowest thread needs
// to wake up. And waiting starts by spinning for about as long as a sleep and a wake-up take, so that loops that follow
// closely, as the stages of a call do, need no system call.
#include "pool.h"

#include <algorithm>
#include <chrono>

namespace yl {
namespace {

// Tells the processor that this is a spin loop: it saves power, and gives way to the other thread of its core.
void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Polls until condition() is true, but no longer than a sleep and a wake-up would take. Yields in between, in case the
// thread that it waits for has no processor.
template <class Condition> void spin(const Condition &condition) noexcept {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
  do {
    for (int i = 0; i < 32; ++i) {
      if (condition()) return;
      relax();
    }
    std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < end);
}

}  // namespace

Pool::Pool(int32_t threads, bool spins) : spins_(spins) {
  try {
    for (int32_t worker = 1; worker < threads; ++worker) workers_.emplace_back([this, worker] { serve(worker); });
  } catch (...) {  // the destructor does not run: end the workers that were started
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    ++round_;
  }
  start_.notify_all();
  for (std::thread &worker : workers_) worker.join();
  workers_.clear();
}

void Pool::share(int64_t count, Function function, const void *body) noexcept {
  bool wake;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    function_ = function;
    body_ = body;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);  // ordered by mutex_, which every worker takes before it reads next_
    open_ = true;
    ++round_;
    wake = asleep_ > 0;
  }
  if (wake) start_.notify_all();
  take_items(0);
  std::unique_lock<std::mutex> lock(mutex_);
  open_ = false;
  if (joined_ == 0) return;  // nobody can join any more
  if (spins_) {
    lock.unlock();
    spin([this] { return joined_ == 0; });
    lock.lock();
  }
  waiting_ = true;
  done_.wait(lock, [this] { return joined_ == 0; });
  waiting_ = false;
}

// Takes a quarter of a thread's equal share of what is left, and again, until nothing is: large pieces first, which
// costs few operations on next_, small ones last, so that threads end together. Relaxed order is enough, since next_
// guards no other memory: results are published by joined_ under mutex_.
void Pool::take_items(int32_t worker) noexcept {
  int64_t first = next_.load(std::memory_order_relaxed);
  while (first < count_) {
    const int64_t last = first + std::max<int64_t>(1, (count_ - first) / (4 * threads()));
    if (!next_.compare_exchange_weak(first, last, std::memory_order_relaxed)) continue;
    for (; first < last; ++first) function_(body_, first, worker);
    first = next_.load(std::memory_order_relaxed);
  }
}

// Is the loop of a worker: waits for a round that it has not served and that is still open, joins it, takes items,
// leaves.
void Pool::serve(int32_t worker) noexcept {
  uint64_t served = 0;
  for (;;) {
    if (spins_) spin([&] { return round_ != served; });
    std::unique_lock<std::mutex> lock(mutex_);
    // A worker counts as asleep from here on: share() reads asleep_ under the mutex and so never misses one to wake.
    ++asleep_;
    start_.wait(lock, [&] { return stopping_ || (open_ && round_ != served); });
    --asleep_;
    if (stopping_) return;
    served = round_;
    ++joined_;
    lock.unlock();
    take_items(worker);
    lock.lock();
    if (--joined_ == 0 && waiting_) done_.notify_one();  // else the caller still takes items, or spins
  }
}

}  // namespace yl
