// A long run: a million calls on several plans, with changing batches, truths, options and threads, and 100,000 plans
// made and destroyed. Every result has the bits of the first of its kind; memory, threads and open files do not grow.
// The environment's YOLOLOSS_TEST_CALLS and YOLOLOSS_TEST_PLANS choose other numbers.
#include <dirent.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <thread>

#include "plan.h"
#include "test.h"

namespace {

int64_t count_of(const char *variable, int64_t usual, int64_t under_a_sanitizer) {
  const char *const wanted = std::getenv(variable);
  return wanted ? std::atoll(wanted) : kSanitizer == Sanitizer::kNone ? usual : under_a_sanitizer;
}

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

// Checks that nothing has grown since the end of the warm-up.
void require_flat(const char *what, int64_t count, const Usage &before) {
  const Usage after;
  std::printf("guarantee: %lld %s: %+lld kB of memory, %+lld threads, %+lld files\n", static_cast<long long>(count),
              what, static_cast<long long>(after.kilobytes - before.kilobytes),
              static_cast<long long>(after.threads - before.threads),
              static_cast<long long>(after.files - before.files));
  CHECK_EQUAL(after.files, before.files, what);
  CHECK_EQUAL(after.threads, before.threads, what);
  if (kSanitizer == Sanitizer::kNone)  // the sanitizers keep what was freed
    CHECK_AT_MOST(static_cast<double>(after.kilobytes - before.kilobytes), 2048, what);
}

// The outputs of the first call of a kind.
struct Kept {
  yl_summary summary;
  std::vector<yl_parts> rows;
  std::vector<std::vector<float>> gradient;
};

// The plans of one caller: each instruction set with one thread and with two.
using Plans = std::vector<std::unique_ptr<Plan>>;
Plans make_plans(const Case &c) {
  Plans plans;
  for (const char *isa : isas())
    for (const int32_t threads : {1, 2}) plans.push_back(std::make_unique<Plan>(c, cpu_device(threads, isa)));
  return plans;
}

// Calls each of the plans in turn.
void call_often(const Plans &plans, int64_t calls, std::vector<Kept> &first, std::atomic<int64_t> &wrong) {
  for (int64_t i = 0; i < calls; ++i) {
    const auto kind = static_cast<size_t>(i * 7919 % 1009 % 8), which = static_cast<size_t>(i) % plans.size();
    Plan &p = *plans[which];
    p.call.batch = 1 + static_cast<int32_t>(kind & 1);
    p.call.grads = kind & 2 ? p.grads.data() : nullptr;
    p.call.scan = kind & 4 ? YL_SCAN_ALL : YL_SCAN_USED;
    if (p.run(i % 3 != 0 ? Truths::kYTrue : Truths::kBoxes) != YL_OK) ++wrong;
    p.summary.boxes = {};
    const auto rows = static_cast<size_t>(p.call.batch) * p.layer_count();
    Kept &kept = first[which / 2 * 8 + kind];  // the bits of an instruction set do not depend on the threads
    if (kept.rows.empty()) {
      kept.summary = p.summary;
      kept.rows.assign(p.rows.begin(), p.rows.begin() + static_cast<int64_t>(rows));
      if (p.call.grads) kept.gradient = p.gradient;
    }
    bool same = std::memcmp(&p.summary, &kept.summary, sizeof p.summary) == 0 &&
                std::memcmp(p.rows.data(), kept.rows.data(), rows * sizeof(yl_parts)) == 0;
    for (size_t l = 0; p.call.grads && l < p.layer_count(); ++l)
      same &= std::memcmp(p.grads[l], kept.gradient[l].data(), static_cast<size_t>(p.bytes_of(l))) == 0;
    if (!same) ++wrong;
  }
}

}  // namespace

TEST_LABELLED(soak, a_million_calls_have_the_bits_of_the_first_and_keep_nothing, kLong | kFull) {
  const int64_t count = count_of("YOLOLOSS_TEST_CALLS", 1000000, 20000);
  const Case c = golden("a_small_3scale");
  std::atomic<int64_t> wrong{0};
  std::vector<Kept> first(8 * isas().size());
  const Plans plans[] = {make_plans(c), make_plans(c)};
  call_often(plans[0], 2000, first, wrong);  // by one caller: this fills first
  const auto together = [&](int64_t each) {
    std::vector<std::thread> callers;
    for (const Plans &own : plans) callers.emplace_back([&] { call_often(own, each, first, wrong); });
    for (std::thread &caller : callers) caller.join();
  };
  together(count / 20);
  const Usage before;
  together(count / 2);
  require_flat("calls", count, before);
  CHECK_EQUAL(wrong.load(), 0);
}

TEST_LABELLED(soak, plans_that_are_made_and_destroyed_keep_nothing, kLong | kFull) {
  const int64_t count = count_of("YOLOLOSS_TEST_PLANS", 100000, 500);
  Config c;
  const auto make = [&](int64_t i) {
    c.config.device = i % 5 == 0 ? YL_DEVICE_REFERENCE : YL_DEVICE_CPU;
    c.config.threads = 1 + static_cast<int32_t>(i % 3);
    c.config.max_batch = 1 + static_cast<int32_t>(i % 7);
    c.config.dtype = static_cast<int32_t>(i % 4);
    c.config.num_classes = i % 11 == 0 ? 0 : 2;  // some are refused
    CHECK_EQUAL(c.create() == YL_OK, i % 11 != 0);
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
