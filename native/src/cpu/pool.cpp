#include "pool.h"

namespace yl {

Pool::Pool(int32_t threads) {
  try {
    for (int32_t worker = 1; worker < threads; ++worker) workers_.emplace_back([this, worker] { serve(worker); });
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  start_.notify_all();
  for (std::thread &worker : workers_) worker.join();
  workers_.clear();
}

void Pool::run(int64_t count, Function function, const void *body) noexcept {
  if (workers_.empty() || count == 1) {
    for (int64_t item = 0; item < count; ++item) function(body, item, 0);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    function_ = function;
    body_ = body;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    busy_ = static_cast<int32_t>(workers_.size());
    ++round_;
  }
  start_.notify_all();
  take_items(0);
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [this] { return busy_ == 0; });
}

void Pool::take_items(int32_t worker) noexcept {
  for (int64_t item; (item = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) function_(body_, item, worker);
}

void Pool::serve(int32_t worker) noexcept {
  uint64_t served = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    start_.wait(lock, [&] { return stopping_ || round_ != served; });
    if (stopping_) return;
    served = round_;
    lock.unlock();
    take_items(worker);
    lock.lock();
    if (--busy_ == 0) done_.notify_one();
  }
}

}  // namespace yl
