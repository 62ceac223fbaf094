// A long run: a million calls on several plans, with changing batches, truths, options and threads, and 100,000 plans made and
// destroyed. Every result has the bits of the first of its kind; memory, threads and open files do not grow. Arguments: calls,
// plans.
#include <dirent.h>
#include <unistd.h>

#include <mutex>
#include <thread>

#include "plan.h"

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kCalls = 20000, kPlans = 500;
#else
constexpr int64_t kCalls = 1000000, kPlans = 100000;
#endif

int64_t resident_kilobytes() {
  std::ifstream in("/proc/self/statm");
  int64_t size = 0, resident = 0;
  in >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE) / 1024;
}

int64_t entries(const char *folder) {
  int64_t count = 0;
  DIR *const open = opendir(folder);
  while (open && readdir(open)) ++count;
  if (open) closedir(open);
  return count;
}

struct Usage {
  int64_t kilobytes = resident_kilobytes(), files = entries("/proc/self/fd"), threads = entries("/proc/self/task");
};

// From the last of the warm-up on.
void require_flat(const char *what, int64_t count, const Usage &before) {
  const Usage after;
  std::printf("guarantee: %lld %s: %+lld kB of memory, %+lld threads, %+lld files\n", static_cast<long long>(count), what,
              static_cast<long long>(after.kilobytes - before.kilobytes),
              static_cast<long long>(after.threads - before.threads), static_cast<long long>(after.files - before.files));
  CHECK(after.files == before.files && after.threads == before.threads, what);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which keep what was freed
  CHECK(after.kilobytes - before.kilobytes <= 2048, what);
#endif
}

// What a call of a kind gave.
struct Kept {
  yl_summary summary;
  std::vector<yl_parts> rows;
  std::vector<std::vector<float>> grads;
};

// One caller, with plans of its own.
void call_often(const Golden &g, int64_t calls, std::vector<Kept> &first, std::atomic<int64_t> &wrong) {
  std::vector<std::unique_ptr<Plan>> plans;
  static std::mutex making;  // the instruction set is asked for in the environment
  for (const char *isa : kIsas)
    for (const int32_t threads : {1, 2}) {
      const std::lock_guard<std::mutex> lock(making);
      plans.push_back(std::make_unique<Plan>(g, DeviceCase{"", YL_DEVICE_CPU, threads, Way::kHost, isa}));
    }
  for (int64_t i = 0; i < calls; ++i) {
    const auto kind = static_cast<size_t>(i * 7919 % 1009 % 8), which = static_cast<size_t>(i) % plans.size();
    Plan &p = *plans[which];
    p.call.batch = 1 + static_cast<int32_t>(kind & 1);
    p.call.grads = kind & 2 ? p.grads.data() : nullptr;
    p.call.scan = kind & 4 ? YL_SCAN_ALL : YL_SCAN_USED;
    if (p.run(i % 3 != 0) != YL_OK) ++wrong;
    p.summary.boxes = {};
    const auto rows = static_cast<size_t>(p.call.batch) * p.feats.size();
    Kept &kept = first[which / 2 * 8 + kind];  // the bits of an instruction set do not depend on the threads
    if (kept.rows.empty()) kept = {p.summary, {p.rows.begin(), p.rows.begin() + static_cast<int64_t>(rows)}, p.call.grads ? p.grad_data : kept.grads};
    bool same = std::memcmp(&p.summary, &kept.summary, sizeof p.summary) == 0 &&
                std::memcmp(p.rows.data(), kept.rows.data(), rows * sizeof(yl_parts)) == 0;
    for (size_t l = 0; p.call.grads && l < p.grads.size(); ++l)
      same &= std::memcmp(p.grads[l], kept.grads[l].data(), static_cast<size_t>(p.bytes_of(l))) == 0;
    if (!same) ++wrong;
  }
}

void calls(int64_t count) {
  Golden g = read_golden("a_small_3scale");
  std::atomic<int64_t> wrong{0};
  std::vector<Kept> first(8 * kIsas.size());
  call_often(g, 2000, first, wrong);  // by one caller: this fills first
  const auto together = [&](int64_t each) {
    std::vector<std::thread> callers;
    for (int t = 0; t < 2; ++t) callers.emplace_back([&] { call_often(g, each, first, wrong); });
    for (std::thread &caller : callers) caller.join();
  };
  together(count / 20);
  const Usage before;
  together(count / 2);
  require_flat("calls", count, before);
  CHECK(wrong == 0, std::to_string(wrong));
}

void plans(int64_t count) {
  Config c;
  const auto make = [&](int64_t i) {
    c.config.device = i % 5 == 0 ? YL_DEVICE_REFERENCE : YL_DEVICE_CPU;
    c.config.threads = 1 + static_cast<int32_t>(i % 3);
    c.config.max_batch = 1 + static_cast<int32_t>(i % 7);
    c.config.dtype = static_cast<int32_t>(i % 4);
    c.config.num_classes = i % 11 == 0 ? 0 : 2;  // and refused ones between
    CHECK((c.create() == YL_OK) == (i % 11 != 0), yl_last_error());
  };
  for (int64_t i = 0; i < count / 20; ++i) make(i);
  c.config.num_classes = 0;
  c.create();
  const Usage before;
  for (int64_t i = 0; i < count; ++i) make(i);
  c.config.num_classes = 0;
  c.create();
  require_flat("plans made and destroyed", count, before);
}

}  // namespace

int main(int argc, char **argv) {
  calls(argc > 1 ? std::atoll(argv[1]) : kCalls);
  plans(argc > 2 ? std::atoll(argv[2]) : kPlans);
  return report("soak");
}
