// Tests what the golden cases do not show of the cpu device: every length of a tail, in memory whose neighbours must
// not be touched; gradients so large that they are written past the caches; and what the environment says.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "compare.h"
#include "values.h"

namespace {

// One layer; the seed follows from the shape.
Case one_layer(int32_t batch, size_t height, size_t width, size_t anchors, int32_t classes) {
  RandomCase wanted;
  wanted.seed = static_cast<uint32_t>(static_cast<size_t>(batch) + 7 * height + 131 * width + 1009 * anchors) +
                9176 * static_cast<uint32_t>(classes);
  wanted.batch = batch;
  wanted.classes = classes;
  wanted.grids = {{height, width, anchors}};
  wanted.logits = 4;
  wanted.object_share = 1.0 / 9;
  return random_case(wanted);
}

// The same with rows of boxes, each with a weight, in place of y_true.
Case with_boxes(Case c, int32_t per_image) {
  add_random_boxes(c, per_image, 3, 8, static_cast<uint32_t>(per_image));
  for (int32_t i = 0; i < c.batch * per_image; ++i) c.box_weights.push_back(static_cast<float>(i % 4) / 2);
  return c;
}

// The kinds of call that the cpu device computes by code of their own.
enum class Kind { kOverwrite, kOverFeats, kRefresh, kAccumulate, kLossOnly, kStatistics };
constexpr Kind kEachKind[] = {Kind::kOverwrite,  Kind::kOverFeats, Kind::kRefresh,
                              Kind::kAccumulate, Kind::kLossOnly,  Kind::kStatistics};

Options options_of(Kind kind) {
  Options options;
  switch (kind) {
    case Kind::kOverwrite: break;
    case Kind::kOverFeats: options.gradient_over_feats = true; break;
    case Kind::kRefresh: options.grad_mode = YL_GRAD_REFRESH; break;
    case Kind::kAccumulate: options.grad_mode = YL_GRAD_ACCUMULATE, options.gradient_before = 0.25; break;
    case Kind::kLossOnly: options.gradient = false; break;
    case Kind::kStatistics: options.statistics = true; break;
  }
  return options;
}

// The types, numbers of threads and kinds of call that a case is tried with.
struct Tried {
  std::vector<int32_t> dtypes = {YL_F32, YL_F16, YL_BF16};
  std::vector<int32_t> threads = {1};
  std::vector<Kind> kinds = {std::begin(kEachKind), std::end(kEachKind)};
};
Tried of_types(std::vector<int32_t> dtypes) {
  Tried tried;
  tried.dtypes = std::move(dtypes);
  return tried;
}

// Compares every way of calling the cpu device with the reference, on every instruction set and in both orders. The
// bits are those of the first number of threads.
void compare_every_way(const Case &given, const Tried &tried) {
  for (const int32_t dtype : tried.dtypes) {
    const Case c = given.rounded_to(dtype);
    for (const Kind kind : tried.kinds) {
      Options options = options_of(kind);
      if (!c.box_weights.empty()) options.truths = Truths::kBoxes;
      const Output want = run_on_reference(c, options);
      options.dtype = dtype;
      for (const char *isa : isas())
        for (const int32_t layout : {YL_NHWC, YL_NCHW}) {
          options.layout = layout;
          Output first;
          for (const int32_t threads : tried.threads) {
            options.device = cpu_device(threads, isa);
            const Output got = run(c, options);
            compare(c, options, got, want);
            if (first.rows.empty()) first = got;
            CHECK_SAME_BITS(got.rows, first.rows, named(c, options));
            CHECK_SAME_BITS(got.grads[0], first.grads[0], named(c, options));
          }
        }
    }
  }
}

// Runs the body with memory adjacent to the guard page behind it, and then to the one before it; prints the figure.
// Under a sanitizer once: they are slow, and AddressSanitizer has guards of its own.
template <class Body> void between_guard_pages(const Body &body) {
  for (const bool before : {false, true}) {
    if (before && kSanitizer != Sanitizer::kNone) continue;
    Guarded::guard_before = before;
    body();
  }
  Guarded::guard_before = false;
  std::string names;
  for (const char *isa : isas()) names += std::string(names.empty() ? "" : ", ") + isa;
  std::printf("guarantee: %lld buffers between guard pages, none touched beside them (%s)\n",
              static_cast<long long>(Guarded::made), names.c_str());
}

const int32_t kTypes[] = {YL_F32, YL_F16, YL_BF16};

}  // namespace

// ---- Tails ----------------------------------------------------------------------------------------------------------

TEST_LABELLED(cpu, grids_of_every_width_equal_the_reference, kLong | kNotThreadSanitized) {
  between_guard_pages([] {
    for (size_t width = 1; width <= 70; ++width)
      compare_every_way(one_layer(1, 1, width, 1, 1 + static_cast<int32_t>(width) * 7 % 41),
                        of_types({kTypes[width % 3]}));
    compare_every_way(one_layer(2, 3, 5, 2, 3), of_types({YL_F64}));
  });
}

TEST_LABELLED(cpu, every_number_of_classes_equals_the_reference, kLong | kNotThreadSanitized) {
  between_guard_pages([] {
    for (int32_t classes = 1; classes <= 36; ++classes) compare_every_way(one_layer(2, 2, 3, 2, classes), {});
  });
}

TEST_LABELLED(cpu, several_spans_of_rows_and_planes_equal_the_reference, kLong) {
  between_guard_pages([] {
    Tried tried;
    tried.threads = {1, 2};
    compare_every_way(one_layer(2, 5, 13, 3, 80), tried);
    tried.threads = {1, 3};
    compare_every_way(one_layer(1, 19, 19, 3, 4), tried);  // more than one span of rows
    tried.threads = {1, 8};
    tried.dtypes = {YL_F32};
    compare_every_way(one_layer(1, 92, 91, 1, 2), tried);  // and of planes
  });
}

namespace {

// The outputs of the calls without a gradient, each in memory of its own.
struct OtherOutputs {
  std::vector<std::vector<char>> exact;   // of yl_build_y_true and yl_audit
  std::vector<std::vector<float>> close;  // of yl_yolo_head
};

OtherOutputs other_calls(const Case &c, const Device &device) {
  OtherOutputs outputs;
  Options options;
  options.device = device;
  const std::string where = named(c, options);
  const std::unique_ptr<Config> made = config_of(c, options);
  CHECK_OK(made->create(), where);
  const size_t cells = c.cells(0), elements = c.elements(0), rows = c.boxes.size() / 5;
  Guarded boxes_memory(static_cast<int64_t>(rows * 20)), feats(static_cast<int64_t>(elements * 4));
  std::memcpy(boxes_memory.data(), c.boxes.data(), rows * 20);
  store_feats(c, 0, options, feats.data());
  yl_boxes boxes = YL_BOXES_INIT;
  boxes.data = boxes_memory.as<float>();
  boxes.per_image = c.boxes_per_image;

  std::vector<std::unique_ptr<Guarded>> out;
  const auto place = [&](size_t bytes) {
    out.push_back(std::make_unique<Guarded>(static_cast<int64_t>(bytes)));
    std::memset(out.back()->data(), 0, bytes);
    return out.back()->data();
  };
  float *const y_true[] = {reinterpret_cast<float *>(place(elements * 4))};
  auto *const counts = reinterpret_cast<yl_box_counts *>(place(sizeof(yl_box_counts)));
  CHECK_OK(yl_build_y_true(made->plan, c.batch, &boxes, y_true, counts), where);
  yl_audit_result audit = YL_AUDIT_RESULT_INIT;
  audit.capacity = static_cast<int64_t>(rows / 2);
  audit.findings = reinterpret_cast<yl_finding *>(place(sizeof(yl_finding) * (rows / 2)));
  audit.counts = reinterpret_cast<int64_t *>(place(8 * YL_REASON_COUNT));
  audit.anchor_use = reinterpret_cast<int64_t *>(place(8 * c.layers[0].anchors()));
  audit.best_iou = reinterpret_cast<float *>(place(4 * rows));
  CHECK_OK(yl_audit(made->plan, c.batch, nullptr, &boxes, 0.9f, &audit), where);
  for (const auto &memory : out) outputs.exact.emplace_back(memory->data(), memory->data() + memory->size());

  out.clear();
  yl_head head = YL_HEAD_INIT;
  head.feats = feats.data();
  head.batch = c.batch;
  head.grid = reinterpret_cast<float *>(place(8 * c.layers[0].height * c.layers[0].width));
  head.box_xy = reinterpret_cast<float *>(place(8 * cells));
  head.box_wh = reinterpret_cast<float *>(place(8 * cells));
  head.box_confidence = reinterpret_cast<float *>(place(4 * cells));
  head.box_class_probs = reinterpret_cast<float *>(place(4 * cells * static_cast<size_t>(c.classes)));
  CHECK_OK(yl_yolo_head(made->plan, &head), where);
  for (const auto &memory : out)
    outputs.close.emplace_back(memory->as<float>(), memory->as<float>() + memory->size() / 4);
  return outputs;
}

}  // namespace

TEST_LABELLED(cpu, every_number_of_boxes_equals_the_reference, kLong | kNotThreadSanitized) {
  between_guard_pages([] {
    for (int32_t per_image = 1; per_image <= 20; ++per_image) {
      const auto n = static_cast<size_t>(per_image);
      const Case c = with_boxes(one_layer(2, 1 + n % 3, n, 2, per_image), per_image);
      Tried tried = of_types({kTypes[n % 3]});
      tried.kinds = {Kind::kOverwrite, Kind::kOverFeats};
      compare_every_way(c, tried);

      const OtherOutputs want = other_calls(c, reference_device());
      for (const char *isa : isas()) {
        const OtherOutputs got = other_calls(c, cpu_device(1, isa));
        for (size_t o = 0; o < want.exact.size(); ++o)
          CHECK_SAME_BITS(got.exact[o], want.exact[o], c.name + ", " + isa + ", output " + std::to_string(o));
        for (size_t o = 0; o < want.close.size(); ++o)
          CHECK_ALL_NEAR(got.close[o], want.close[o], {1e-6, 0}, c.name + ", " + isa + ", output of yl_yolo_head");
      }
    }
  });
}

// A gradient of more than 8 MiB.
TEST_LABELLED(cpu, gradients_larger_than_the_caches_equal_the_reference, kLong | kFull) {
  between_guard_pages([] {
    Tried tried = of_types({YL_F32});
    tried.threads = {3};
    tried.kinds = {Kind::kOverwrite, Kind::kOverFeats, Kind::kRefresh};
    compare_every_way(one_layer(200, 13, 13, 3, 20), tried);
    tried.dtypes = {Guarded::guard_before ? YL_BF16 : YL_F16};
    compare_every_way(one_layer(751, 3, 7, 3, 90), tried);
    tried.dtypes = {YL_F32};
    tried.kinds = {Kind::kOverwrite, Kind::kOverFeats};
    compare_every_way(one_layer(4, 92, 91, 1, 64), tried);
  });
}

// Processes that touch a guard page end; those that write beside memory count a failure. It forks.
TEST_LABELLED(cpu, guard_pages_detect_what_is_beside_memory, kNotThreadSanitized) {
  for (const bool before : {false, true})
    for (const int64_t place : {-4097, -1, 100, 4096}) {
      const pid_t child = fork();
      if (child == 0) {
        std::fclose(stdout);
        std::fclose(stderr);
        const int64_t known = test::failures;
        Guarded::guard_before = before;
        {
          Guarded memory(100);
          memory.data()[place] = 1;
        }
        _exit(test::failures > known ? 1 : 0);
      }
      int status = 0;
      CHECK(child > 0 && waitpid(child, &status, 0) == child);
      CHECK(status != 0, "byte " + std::to_string(place));
    }
}

// ---- The environment ------------------------------------------------------------------------------------------------

namespace {

void refresh_with_debug(const char *debug) {
  const Case c = golden("a_small_3scale");
  set_environment("YOLOLOSS_DEBUG", debug);
  for (const Device &device : devices()) {
    if (device.kind == YL_DEVICE_CUDA) continue;
    Plan p(c, device);
    CHECK_OK(p.run(Truths::kYTrue), device.name);
    p.call.grad_mode = YL_GRAD_REFRESH;
    CHECK_OK(p.run(Truths::kYTrue), device.name);
    const size_t channels = c.channels(), background = c.first_background(1), object = c.first_object(1);
    for (const size_t channel : {size_t(0), size_t(4), channels - 1}) {  // a refresh writes these
      p.gradient[1][object * channels + channel] = 7;
      p.gradient[1][background * channels + 4] = 7;
    }
    CHECK_OK(p.run(Truths::kYTrue), device.name);
    const auto right = p.gradient;
    p.gradient[1][background * channels + 6] = 0.5f;  // and not this
    const auto changed = p.gradient;
    if (*debug == '0') {
      CHECK_OK(p.run(Truths::kYTrue), device.name);
      continue;
    }
    const Address at = address_of(c, 1, background * channels + 6);
    const std::string words = "grads[1] holds 0.5 at image 0, row " + std::to_string(at.row) + ", column " +
                              std::to_string(at.column) + ", anchor " + std::to_string(at.anchor) + ", channel 6";
    CHECK_REFUSED(p.run(Truths::kYTrue), YL_INVALID_ARGUMENT, words.c_str(), device.name);
    for (size_t l = 0; l < changed.size(); ++l) CHECK_SAME_BITS(p.gradient[l], changed[l], device.name);
    p.call.grad_mode = YL_GRAD_OVERWRITE;
    CHECK_OK(p.run(Truths::kYTrue), device.name);
    CHECK_SAME_BITS(p.gradient[1], right[1], device.name);
  }
  set_environment("YOLOLOSS_DEBUG", nullptr);
}

// Creates a plan of the cpu device with one variable set, and checks that its reason contains the words.
void check_why(Config &c, const char *name, const char *value, const char *words) {
  set_environment(name, value);
  CHECK_OK(c.create());
  CHECK(std::strstr(yl_device_why(c.plan), words), yl_device_why(c.plan));
  set_environment(name, nullptr);
}

}  // namespace

TEST(cpu, debug_refuses_a_refresh_of_a_gradient_that_was_changed) { refresh_with_debug("1"); }
TEST(cpu, without_debug_a_changed_gradient_is_not_read) { refresh_with_debug("0"); }

TEST(cpu, an_environment_that_is_wrong_is_refused) {
  Config c;
  c.config.device = YL_DEVICE_CPU;
  const auto refused = [&](const char *name, const char *value, const char *words) {
    set_environment(name, value);
    CHECK_REFUSED(c.create(), YL_INVALID_ARGUMENT, words);
    set_environment(name, nullptr);
  };
#if defined(__x86_64__)
  refused("YOLOLOSS_ISA", "sse9", "YOLOLOSS_ISA is \"sse9\", expected one of avx512, avx2, baseline");
#else
  refused("YOLOLOSS_ISA", "sse9", "YOLOLOSS_ISA is \"sse9\", expected one of baseline");
#endif
  refused("YOLOLOSS_ISA", "AVX2", "YOLOLOSS_ISA");
  for (const char *threads : {"0", "-1", "1025", "two", "2x", "1e1"})
    refused("YOLOLOSS_THREADS", threads, "YOLOLOSS_THREADS is");
  refused("YOLOLOSS_DEBUG", "yes", "YOLOLOSS_DEBUG is \"yes\", 0 or 1 is expected");
}

TEST(cpu, the_environment_chooses_threads_and_instruction_set) {
  CHECK(!isas().empty());
  if (!is_one_isa_requested()) CHECK_EQUAL(isas().back(), "baseline");
  Config c;
  c.config.device = YL_DEVICE_CPU;
  check_why(c, "YOLOLOSS_THREADS", "3", "3 threads");
  c.config.threads = 2;  // the config comes first
  check_why(c, "YOLOLOSS_THREADS", "3", "2 threads");
  for (const char *name : {"YOLOLOSS_ISA", "YOLOLOSS_DEBUG"})  // empty is unset
    check_why(c, name, "", is_one_isa_requested() ? "float32" : isas()[0]);
  for (const char *isa : isas()) check_why(c, "YOLOLOSS_ISA", isa, isa);
}
