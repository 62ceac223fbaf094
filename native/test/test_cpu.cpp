// What the cpu device does beside the golden cases: every length of a tail, in memory whose neighbours must not be touched;
// gradients so large that they are written past the caches; and what the environment says.
#include <sys/wait.h>

#include <random>

#include "compare.h"

namespace {

// The side of a guard page that memory lies against. The sanitizers are slow, and AddressSanitizer has guards of its own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
const std::vector<bool> kGuards = {false};
#else
const std::vector<bool> kGuards = {false, true};
#endif

// One layer of random logits; objects in the first and the last cell and some between.
Case random_case(int32_t batch, int32_t height, int32_t width, int32_t anchors, int32_t classes) {
  std::mt19937 random(static_cast<uint32_t>(batch + 7 * height + 131 * width + 1009 * anchors + 9176 * classes));
  const auto uniform = [&](double low, double high) { return low + (high - low) * random() / 4294967295.0; };
  Golden g;
  g.name = std::to_string(height) + "x" + std::to_string(width) + "x" + std::to_string(anchors) +
           ", C=" + std::to_string(classes) + ", B=" + std::to_string(batch);
  g.batch = batch;
  g.classes = classes;
  g.input_height = 32 * height;
  g.input_width = 32 * width;
  g.layers = 1;
  g.anchors_per_layer = anchors;
  g.thresh = 0.4f;
  for (int32_t a = 0; a < anchors; ++a) {
    g.anchors.insert(g.anchors.end(), {static_cast<float>(9 * width + a), static_cast<float>(11 * height - a)});
    g.masks.push_back(a);
  }
  const int64_t channels = 5 + classes, cells = int64_t(height) * width * anchors;
  Array feats, y_true;
  feats.shape = {batch, height, width, anchors * channels};
  y_true.shape = {batch, height, width, anchors, channels};
  for (int64_t i = 0; i < batch * cells * channels; ++i)
    feats.data.push_back(static_cast<float>(uniform(-1, 1) * uniform(0, 4)));
  y_true.data.resize(feats.data.size());
  for (int64_t i = 0; i < batch * cells; ++i) {
    const int64_t cell = i % cells, place = cell / anchors;
    if (cell != 0 && cell != cells - 1 && random() % 9 != 0) continue;
    float *row = &y_true.data[static_cast<size_t>(i * channels)];
    row[0] = static_cast<float>((double(place % width) + uniform(0.1, 0.9)) / width);
    row[1] = static_cast<float>((double(place / width) + uniform(0.1, 0.9)) / height);
    row[2] = static_cast<float>(uniform(0.1, 0.6));
    row[3] = static_cast<float>(uniform(0.1, 0.6));
    row[4] = 1;
    row[5 + random() % static_cast<uint32_t>(classes)] = 1;
  }
  g.feats.push_back(feats);
  g.y_true.push_back(y_true);
  return Case(g);
}

// The same with rows of boxes, each with a weight, in place of y_true.
Case with_boxes(Case c, int32_t per_image) {
  std::mt19937 random(static_cast<uint32_t>(per_image));
  Golden &g = c.g;
  g.boxes_per_image = per_image;
  g.boxes = {{g.batch, per_image, 5}, {}};
  for (int32_t i = 0; i < g.batch * per_image; ++i) {
    const auto x = static_cast<float>(random() % static_cast<uint32_t>(g.input_width - 8)),
               y = static_cast<float>(random() % static_cast<uint32_t>(g.input_height - 8));
    const auto kind = static_cast<float>(random() % static_cast<uint32_t>(g.classes));
    g.boxes.data.insert(g.boxes.data.end(), {x, y, x + 3 + static_cast<float>(i % 5), y + 7, kind});
    c.box_weights.push_back(static_cast<float>(i % 4) / 2);
  }
  return c;
}

// All that the cpu device can be asked of a case, against the reference. The bits are those of one thread.
void every_way(const Case &given, const std::vector<int32_t> &dtypes, const std::vector<int32_t> &threads,
               size_t set_count = 6) {
  for (const int32_t dtype : dtypes) {
    Case c = given;
    const bool boxes = !c.box_weights.empty();
    for (auto &layer : c.feats)
      for (double &value : layer) value = rounded(dtype, value);
    std::vector<Setup> sets(6);
    sets[1].in_place = true;
    sets[2].grad_mode = YL_GRAD_REFRESH;
    sets[3].grad_mode = YL_GRAD_ACCUMULATE;
    sets[3].before = 0.25;
    sets[4].gradient = false;
    sets[5].extras = true;
    sets.resize(set_count);
    for (Setup &s : sets) {
      s.boxes = boxes;
      s.device = {"reference", YL_DEVICE_REFERENCE, 0};
      s.dtype = YL_F64;
      const Output want = run(c, s);
      s.dtype = dtype;
      for (const char *isa : kIsas)
        for (const int32_t layout : {YL_NHWC, YL_NCHW}) {
          s.layout = layout;
          Output first;
          for (const int32_t count : threads) {
            s.device = {std::string("cpu ") + isa, YL_DEVICE_CPU, count, Way::kHost, isa};
            const Output got = run(c, s);
            compare(c, s, got, want);
            if (first.rows.empty()) first = got;
            CHECK(same_bits(got.rows, first.rows) && same_bits(got.grads[0], first.grads[0]), named(c, s));
          }
        }
    }
  }
}

// The calls that have no gradient, each array in memory of its own; against the reference.
void other_calls(const Case &c) {
  const Golden &g = c.g;
  const auto cells = static_cast<size_t>(g.batch * c.cells(0)), count = c.feats[0].size();
  const auto rows = static_cast<size_t>(g.batch * g.boxes_per_image);
  std::vector<std::vector<char>> want;
  for (const char *isa : kIsas)
    for (const int32_t device : {YL_DEVICE_REFERENCE, YL_DEVICE_CPU}) {
      if (device == YL_DEVICE_REFERENCE && !want.empty()) continue;
      Setup s;
      s.device = {"", device, 1, Way::kHost, isa};
      yl_plan *const plan = plan_of(c, s);
      Guarded boxes_memory(static_cast<int64_t>(rows * 20)), feats(static_cast<int64_t>(count * 4));
      std::memcpy(boxes_memory.data(), g.boxes.data.data(), rows * 20);
      for (size_t i = 0; i < count; ++i) feats.as<float>()[i] = static_cast<float>(c.feats[0][i]);
      yl_boxes boxes = YL_BOXES_INIT;
      boxes.data = boxes_memory.as<float>();
      boxes.per_image = g.boxes_per_image;

      std::vector<std::unique_ptr<Guarded>> out;
      const auto place = [&](size_t bytes) {
        out.push_back(std::make_unique<Guarded>(static_cast<int64_t>(bytes)));
        std::memset(out.back()->data(), 0, bytes);
        return out.back()->data();
      };
      float *const y_true[] = {reinterpret_cast<float *>(place(count * 4))};
      auto *const counts = reinterpret_cast<yl_box_counts *>(place(sizeof(yl_box_counts)));
      CHECK(yl_build_y_true(plan, g.batch, &boxes, y_true, counts) == YL_OK, yl_last_error());
      yl_audit_result audit = YL_AUDIT_RESULT_INIT;
      audit.capacity = static_cast<int64_t>(rows / 2);
      audit.findings = reinterpret_cast<yl_finding *>(place(sizeof(yl_finding) * (rows / 2)));
      audit.counts = reinterpret_cast<int64_t *>(place(8 * YL_REASON_COUNT));
      audit.anchor_use = reinterpret_cast<int64_t *>(place(8 * g.masks.size()));
      audit.best_iou = reinterpret_cast<float *>(place(4 * rows));
      CHECK(yl_audit(plan, g.batch, nullptr, &boxes, 0.9f, &audit) == YL_OK, yl_last_error());
      const size_t exact = out.size();
      yl_head head = YL_HEAD_INIT;
      head.feats = feats.data();
      head.batch = g.batch;
      head.grid = reinterpret_cast<float *>(place(cells / static_cast<size_t>(g.batch * g.anchors_per_layer) * 8));
      head.box_xy = reinterpret_cast<float *>(place(8 * cells));
      head.box_wh = reinterpret_cast<float *>(place(8 * cells));
      head.box_confidence = reinterpret_cast<float *>(place(4 * cells));
      head.box_class_probs = reinterpret_cast<float *>(place(4 * cells * static_cast<size_t>(g.classes)));
      CHECK(yl_yolo_head(plan, &head) == YL_OK, yl_last_error());
      yl_plan_destroy(plan);
      for (size_t o = 0; o < out.size(); ++o) {
        const std::vector<char> got(out[o]->data(), out[o]->data() + out[o]->size());
        if (device == YL_DEVICE_REFERENCE) {
          want.push_back(got);
        } else if (o < exact) {
          CHECK(got == want[o], g.name + ", " + isa + ": output " + std::to_string(o));
        } else {
          for (size_t i = 0; i < got.size() / 4; ++i) {
            const float a = out[o]->as<float>()[i], b = reinterpret_cast<const float *>(want[o].data())[i];
            if (!(std::fabs(a - b) <= 1e-6f * std::fabs(b)))
              CHECK(false, g.name + ": head " + number(a) + " for " + number(b));
          }
        }
      }
    }
}

// That the guards are seen: processes that touch them end, those that write beside memory count a failure.
void guards() {
  for (const bool before : {false, true})
    for (const int64_t place : {-4097, -1, 100, 4096}) {
      const pid_t child = fork();
      if (child == 0) {
        std::fclose(stdout);
        std::fclose(stderr);
        const int known = failures;
        Guarded::guard_before = before;
        {
          Guarded memory(100);
          memory.data()[place] = 1;
        }
        _exit(failures > known ? 1 : 0);
      }
      int status = 0;
      CHECK(child > 0 && waitpid(child, &status, 0) == child && status != 0, "byte " + std::to_string(place));
    }
}

void tails() {
  const std::vector<int32_t> dtypes = {YL_F32, YL_F16, YL_BF16};
  for (const bool before : kGuards) {
    Guarded::guard_before = before;
#if !defined(__SANITIZE_THREAD__)  // on one thread
    for (int32_t width = 1; width <= 70; ++width)
      every_way(random_case(1, 1, width, 1, 1 + width * 7 % 41), {dtypes[width % 3]}, {1});
    for (int32_t classes = 1; classes <= 36; ++classes) every_way(random_case(2, 2, 3, 2, classes), dtypes, {1});
    for (int32_t per_image = 1; per_image <= 20; ++per_image) {
      const Case c = with_boxes(random_case(2, 1 + per_image % 3, per_image, 2, per_image), per_image);
      every_way(c, {dtypes[per_image % 3]}, {1}, 2);
      other_calls(c);
    }
    every_way(random_case(2, 3, 5, 2, 3), {YL_F64}, {1});
#endif
    every_way(random_case(2, 5, 13, 3, 80), dtypes, {1, 2});
    every_way(random_case(1, 19, 19, 3, 4), dtypes, {1, 3});    // more than one span of rows
    every_way(random_case(1, 92, 91, 1, 2), {YL_F32}, {1, 8});  // and of planes
  }
  Guarded::guard_before = false;
}

// Gradients of more than 8 MiB.
void past_the_caches() {
  for (const bool before : kGuards) {
    Guarded::guard_before = before;
    every_way(random_case(200, 13, 13, 3, 20), {YL_F32}, {3}, 3);
    every_way(random_case(751, 3, 7, 3, 90), {before ? YL_BF16 : YL_F16}, {3}, 3);
    every_way(random_case(4, 92, 91, 1, 64), {YL_F32}, {3}, 2);
  }
  Guarded::guard_before = false;
}

void changed_before_a_refresh() {
  const Golden g = read_golden("a_small_3scale");
  for (const char *debug : {"1", "0"}) {
    set_environment("YOLOLOSS_DEBUG", debug);
    for (const DeviceCase &device : kDevices) {
      if (device.device == YL_DEVICE_CUDA) continue;
      Plan p(g, device);
      CHECK(p.run(true) == YL_OK, yl_last_error());
      p.call.grad_mode = YL_GRAD_REFRESH;
      CHECK(p.run(true) == YL_OK, yl_last_error());
      const auto channels = static_cast<size_t>(5 + g.classes);
      const auto &y = g.y_true[1].data;
      size_t background = 0, object = 0;  // cells
      while (y[background * channels + 4] != 0) ++background;
      while (y[object * channels + 4] == 0) ++object;
      for (const size_t channel : {size_t(0), size_t(4), channels - 1}) {
        p.grad_data[1][object * channels + channel] = 7;  // written anew
        p.grad_data[1][background * channels + 4] = 7;
      }
      CHECK(p.run(true) == YL_OK, yl_last_error());
      const auto right = p.grad_data;
      p.grad_data[1][background * channels + 6] = 0.5f;
      const auto changed = p.grad_data;
      if (*debug == '0') {
        CHECK(p.run(true) == YL_OK, yl_last_error());
        continue;
      }
      const std::string words = "grads[1] holds 0.5 at image 0, row " +
                                std::to_string(background / 3 / static_cast<size_t>(g.feats[1].shape[2])) +
                                ", column " +
                                std::to_string(background / 3 % static_cast<size_t>(g.feats[1].shape[2])) +
                                ", anchor " + std::to_string(background % 3) + ", channel 6";
      REFUSED(p.run(true), YL_INVALID_ARGUMENT, words.c_str());
      for (size_t l = 0; l < changed.size(); ++l) CHECK(same_bits(p.grad_data[l], changed[l]), "nothing is written");
      p.call.grad_mode = YL_GRAD_OVERWRITE;
      CHECK(p.run(true) == YL_OK && same_bits(p.grad_data[1], right[1]), yl_last_error());
    }
  }
  set_environment("YOLOLOSS_DEBUG", nullptr);
}

void environment() {
  Config c;
  c.config.device = YL_DEVICE_CPU;
  const auto refused = [&](const char *name, const char *value, const char *words) {
    set_environment(name, value);
    REFUSED(c.create(), YL_INVALID_ARGUMENT, words);
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
  const auto why = [&](const char *words) {
    CHECK(c.create() == YL_OK && std::strstr(yl_device_why(c.plan), words), yl_device_why(c.plan));
  };
  set_environment("YOLOLOSS_THREADS", "3");
  why("3 threads");
  c.config.threads = 2;  // what the caller says comes first
  why("2 threads");
  set_environment("YOLOLOSS_THREADS", nullptr);
  for (const char *name : {"YOLOLOSS_ISA", "YOLOLOSS_DEBUG"}) {  // empty is unset
    set_environment(name, "");
    why(kOnlyIsa ? "float32" : kIsas[0]);
    set_environment(name, nullptr);
  }
  for (const char *isa : kIsas) {
    set_environment("YOLOLOSS_ISA", isa);
    why(isa);
  }
  set_environment("YOLOLOSS_ISA", nullptr);
  CHECK(!kIsas.empty() && (kOnlyIsa || std::string(kIsas.back()) == "baseline"));
}

}  // namespace

int main() {
  environment();
  changed_before_a_refresh();
#if !defined(__SANITIZE_THREAD__)  // which does not fork while there are threads
  guards();
#endif
  tails();
  past_the_caches();
  std::string isas;
  for (const char *isa : kIsas) isas += std::string(isas.empty() ? "" : ", ") + isa;
  std::printf("guarantee: %lld buffers between guard pages, none touched beside them (%s)\n",
              static_cast<long long>(Guarded::made), isas.c_str());
  return report("cpu");
}
