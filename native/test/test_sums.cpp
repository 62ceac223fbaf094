// The error bound of a sum that yololoss.h states, on a sum of 10^8 cells.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "plan.h"
#include "test.h"

namespace {

// Memory that repeats the same bytes, which exist once.
class Repeated {
 public:
  Repeated(int64_t bytes, int count) : bytes_(static_cast<size_t>(bytes)), size_(bytes_ * static_cast<size_t>(count)) {
    const int file = memfd_create("feats", 0);
    void *const at = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (file < 0 || ftruncate(file, bytes) != 0 || at == MAP_FAILED) std::abort();
    start_ = static_cast<char *>(at);
    for (int i = 0; i < count; ++i)
      if (mmap(start_ + bytes_ * static_cast<size_t>(i), bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
               0) == MAP_FAILED)
        std::abort();
    close(file);
  }
  ~Repeated() { munmap(start_, size_); }
  Repeated(const Repeated &) = delete;
  float *floats() { return reinterpret_cast<float *>(start_); }

 private:
  const size_t bytes_, size_;
  char *start_;
};

}  // namespace

// 608x608 and 4,608 images: 1.05 * 10^8 cells of background, whose losses are known exactly. (The shadow that
// ThreadSanitizer has of this memory takes 10 GB.)
TEST_LABELLED(numerics, a_sum_of_a_hundred_million_cells_is_within_its_bound, kLong | kNotThreadSanitized) {
  constexpr int kImages = 512, kTimes = 9, kBatch = kImages * kTimes;
  const int64_t sides[] = {19, 38, 76};
  Config c;
  std::vector<yl_layer> layers;
  std::vector<std::unique_ptr<Repeated>> memory;
  std::vector<const void *> feats;
  int64_t cells = 0;
  for (const int64_t side : sides) {
    layers.push_back({static_cast<int32_t>(side), static_cast<int32_t>(side), c.masks[0].data(), 3, 0});
    memory.push_back(std::make_unique<Repeated>(kImages * side * side * 3 * 6 * 4, kTimes));
    feats.push_back(memory.back()->floats());
    cells += side * side * 3;
  }
  c.config.layers = layers.data();
  c.config.layer_count = 3;
  c.config.input_height = c.config.input_width = 608;
  c.config.num_classes = 1;
  c.config.max_batch = kBatch;
  c.config.device = YL_DEVICE_CPU;
  // From 20 on the loss of background is the logit itself, in float32. All are multiples of 2^-19, so that whole
  // numbers add up to the exact sum; in double it does not fit.
  Random random(608);
  long double exact[3];
  for (int l = 0; l < 3; ++l) {
    int64_t sum = 0;  // up to 5e17
    for (int64_t i = 0; i < kImages * sides[l] * sides[l] * 3; ++i) {
      const auto logit = static_cast<float>(random.uniform(20, 10000));
      memory[static_cast<size_t>(l)]->floats()[6 * i + 4] = logit;
      sum += static_cast<int64_t>(double(logit) * 0x1p19);
    }
    exact[l] = static_cast<long double>(sum * kTimes) * 0x1p-19L;
  }
  for (const char *isa : isas()) {
    set_environment("YOLOLOSS_ISA", isa);
    if (!CHECK_OK(c.create(), isa)) continue;
    const yl_boxes none = YL_BOXES_INIT;
    yl_call call = YL_CALL_INIT;
    call.feats = feats.data();
    call.boxes = &none;
    call.batch = kBatch;
    call.normaliser = YL_NORMALISER_NONE;
    yl_summary summary;
    yl_parts parts[3];
    yl_result result = YL_RESULT_INIT;
    result.summary = &summary;
    result.layers = parts;
    CHECK_OK(yl_loss(c.plan, &call, &result), isa);
    const long double all = exact[0] + exact[1] + exact[2];
    auto worst = static_cast<double>(std::fabs(summary.total - all) / all);
    for (int l = 0; l < 3; ++l)
      worst = std::max(worst, static_cast<double>(std::fabs(parts[l].confidence_background - exact[l]) / exact[l]));
    CHECK_AT_MOST(worst, double(cells) * kBatch * 0x1p-53, isa);
    CHECK_AT_MOST(worst, 1e-12, isa);
    std::printf("guarantee: sum of %lld cells (%s): relative error %.2g, bound %.2g\n",
                static_cast<long long>(cells) * kBatch, isa, worst, double(cells) * kBatch * 0x1p-53);
  }
  set_environment("YOLOLOSS_ISA", nullptr);
}
