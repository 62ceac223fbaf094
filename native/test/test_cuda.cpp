// Tests what only the cuda device has: devices, memory and streams; pointers that it cannot reach; boxes that it
// refuses itself; normaliser and scale in its memory; chunks of host memory; shapes and alignments of every kind
// against the cpu device; failures of the device.
#include <algorithm>
#include <cstdlib>
#include <thread>

#include "plan.h"
#include "test.h"

#define CUDA_TEST(behaviour) TEST_LABELLED(cuda, behaviour, kNeedsCuda)

namespace {

const Way kWays[] = {Way::kHost, Way::kDevice, Way::kAsync};

bool is_same(const yl_summary &a, const yl_summary &b) { return std::memcmp(&a, &b, sizeof a) == 0; }

}  // namespace

// ---- Devices, memory and streams ------------------------------------------------------------------------------------

CUDA_TEST(devices_have_properties) {
  int32_t count = -1;
  CHECK_OK(yl_device_count(YL_DEVICE_CUDA, &count));
  CHECK(count >= 1, std::to_string(count));
  CHECK_REFUSED(yl_device_count(YL_DEVICE_CUDA, nullptr), YL_INVALID_ARGUMENT, "count is NULL");
  yl_device_properties info = YL_DEVICE_PROPERTIES_INIT;
  for (int32_t i = 0; i < count; ++i) {
    CHECK_OK(yl_device_get_properties(YL_DEVICE_CUDA, i, &info));
    CHECK(info.name[0]);
    CHECK(info.free_memory > 0);
    CHECK(info.multiprocessors > 0);
    CHECK(info.free_memory <= info.total_memory);
    CHECK_EQUAL(info.struct_size, sizeof info);
  }
  CHECK_REFUSED(yl_device_get_properties(YL_DEVICE_CUDA, count, &info), YL_NO_DEVICE, "numbered from 0");
  CHECK_REFUSED(yl_device_get_properties(YL_DEVICE_CUDA, -1, &info), YL_NO_DEVICE, "cuda:-1 cannot be used");
  CHECK_REFUSED(yl_device_get_properties(YL_DEVICE_CUDA, 0, nullptr), YL_INVALID_ARGUMENT, "properties is NULL");
}

CUDA_TEST(memory_is_allocated_copied_and_freed) {
  void *device = nullptr, *pinned = nullptr, *stream = nullptr;
  CHECK_OK(yl_device_malloc(YL_DEVICE_CUDA, 0, 1000, &device));
  CHECK_OK(yl_device_malloc_host(YL_DEVICE_CUDA, 1000, &pinned));
  CHECK_EQUAL(reinterpret_cast<uintptr_t>(device) % 256, uintptr_t(0));
  const std::vector<char> out(1000, 1);
  std::vector<char> back(1000, 0);
  CHECK_OK(yl_device_copy(YL_DEVICE_CUDA, 0, device, out.data(), 1000));
  CHECK_OK(yl_stream_create(YL_DEVICE_CUDA, 0, &stream));
  CHECK_OK(yl_device_copy_async(YL_DEVICE_CUDA, 0, pinned, device, 1000, stream));
  CHECK_OK(yl_stream_synchronize(YL_DEVICE_CUDA, 0, stream));
  CHECK_OK(yl_device_copy(YL_DEVICE_CUDA, 0, back.data(), pinned, 1000));
  CHECK_SAME_BITS(back, out);
  CHECK_REFUSED(yl_device_copy(YL_DEVICE_CUDA, 0, nullptr, device, 8), YL_INVALID_ARGUMENT, "to is NULL");
  CHECK_REFUSED(yl_device_copy(YL_DEVICE_CUDA, 0, device, nullptr, 8), YL_INVALID_ARGUMENT, "from is NULL");
  CHECK_REFUSED(yl_device_copy(YL_DEVICE_CUDA, 0, device, pinned, 0), YL_INVALID_ARGUMENT, "bytes is 0");
  CHECK_OK(yl_stream_destroy(YL_DEVICE_CUDA, 0, stream));
  CHECK_OK(yl_device_free(YL_DEVICE_CUDA, device));
  CHECK_OK(yl_device_free_host(YL_DEVICE_CUDA, pinned));
  CHECK_OK(yl_device_free(YL_DEVICE_CUDA, nullptr));
  CHECK_OK(yl_device_free_host(YL_DEVICE_CUDA, nullptr));
}

CUDA_TEST(memory_and_streams_that_cannot_be_had_are_refused) {
  char on_host[8];
  void *device = on_host, *pinned = on_host, *stream = on_host;
  CHECK_REFUSED(yl_device_malloc(YL_DEVICE_CUDA, 0, 0, &device), YL_INVALID_ARGUMENT, "bytes is 0");
  CHECK(device == nullptr);
  CHECK_REFUSED(yl_device_malloc(YL_DEVICE_CUDA, 0, int64_t(1) << 60, &device), YL_OUT_OF_MEMORY, "out of memory");
  CHECK_REFUSED(yl_device_malloc(YL_DEVICE_CUDA, 0, 8, nullptr), YL_INVALID_ARGUMENT, "memory is NULL");
  CHECK_REFUSED(yl_device_malloc_host(YL_DEVICE_CUDA, -1, &pinned), YL_INVALID_ARGUMENT, "bytes is -1");
  CHECK_REFUSED(yl_stream_create(YL_DEVICE_CUDA, 99, &stream), YL_NO_DEVICE, "cuda:99");
  CHECK(stream == nullptr);
  CHECK_OK(yl_stream_destroy(YL_DEVICE_CUDA, 0, nullptr));
  CHECK_OK(yl_stream_synchronize(YL_DEVICE_CUDA, 0, nullptr));
  CHECK_REFUSED(yl_device_free(YL_DEVICE_CUDA, on_host), YL_INVALID_ARGUMENT, "is not memory of CUDA's");
  CHECK_REFUSED(yl_device_free_host(YL_DEVICE_CUDA, on_host), YL_INVALID_ARGUMENT, "is not memory of CUDA's");
}

CUDA_TEST(plans_have_sixteen_layers_at_most) {
  Config c;
  c.config.device = YL_DEVICE_CUDA;
  const std::vector<yl_layer> layers(17, c.layers[0]);
  c.config.layers = layers.data();
  c.config.layer_count = 17;
  CHECK_REFUSED(c.create(), YL_UNSUPPORTED, "layer_count is 17, the cuda device takes 1..16");
  c.config.layer_count = 16;
  CHECK_OK(c.create());
  CHECK_EQUAL(yl_device_name(c.plan), "cuda:0");
  c.config.device = YL_DEVICE_AUTO;
  c.config.memory = YL_MEMORY_DEVICE;
  CHECK_OK(c.create());
  CHECK(std::strstr(yl_device_why(c.plan), "auto: device memory"), yl_device_why(c.plan));
}

// ---- Against the cpu device -----------------------------------------------------------------------------------------

namespace {

// Random layers, classes, batch, logits and truths, some of them soft.
Case any_case(uint32_t seed) {
  Random random(seed);
  RandomCase wanted;
  wanted.seed = seed;
  wanted.batch = random.pick(1, 4);
  wanted.classes = random.pick(1, seed % 3 ? 9 : 90);
  const int32_t anchors = random.pick(1, 4);
  for (int32_t l = random.pick(1, 4); l > 0; --l)
    wanted.grids.push_back({static_cast<size_t>(random.pick(1, 13)), static_cast<size_t>(random.pick(1, 13)),
                            static_cast<size_t>(anchors)});
  wanted.input_height = 32 * random.pick(1, 5);
  wanted.input_width = 32 * random.pick(1, 5);
  wanted.thresh = seed % 7 == 0 ? 0.0f : static_cast<float>(random.uniform(0.05, 0.95));
  wanted.object_share = seed % 5 ? 0.03 : 0.5;
  wanted.sizes_near_predictions = true;
  wanted.soft = true;
  return random_case(wanted);
}

}  // namespace

CUDA_TEST(random_shapes_and_alignments_equal_the_cpu) {
  const Tolerance close{2e-5, 1e-5};
  int64_t ignored = 0, objects = 0;
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    const Case c = any_case(seed);
    Plan want(c, cpu_device(2)), got(c, cuda_device(Way::kDevice), c.batch + static_cast<int32_t>(seed % 2));
    for (size_t i = 0; i < got.mirrors.size(); ++i) got.mirrors[i].shift = 4 * static_cast<int64_t>((seed + i) % 4);
    CHECK_OK(want.run(Truths::kYTrue), c.name);
    CHECK_OK(got.run(Truths::kYTrue), c.name);
    CHECK_NEAR(got.summary.total, want.summary.total, close, c.name);
    CHECK_EQUAL(got.summary.objects, want.summary.objects, c.name);
    CHECK_EQUAL(got.summary.ignored, want.summary.ignored, c.name);
    ignored += want.summary.ignored_background;
    objects += want.summary.objects;
    for (size_t row = 0; row < want.rows.size(); ++row) {
      const yl_parts &a = got.rows[row], &b = want.rows[row];
      CHECK_NEAR(a.xy, b.xy, close, c.name);
      CHECK_NEAR(a.wh, b.wh, close, c.name);
      CHECK_NEAR(a.class_, b.class_, close, c.name);
      CHECK_NEAR(a.confidence_object, b.confidence_object, close, c.name);
      CHECK_NEAR(a.confidence_background, b.confidence_background, close, c.name);
      CHECK_EQUAL(a.ignored_background, b.ignored_background, c.name);
      CHECK_EQUAL(a.non_finite, 0, c.name);
    }
    for (size_t l = 0; l < c.layers.size(); ++l) CHECK_ALL_NEAR(got.gradient[l], want.gradient[l], close, c.name);

    for (const Way way : kWays) {  // the same bits again, and by the other ways
      Plan again(c, cuda_device(way, 2));
      CHECK_OK(again.run(Truths::kYTrue), c.name);
      CHECK_SAME_BITS(again.layers, got.layers, c.name);
      for (size_t l = 0; l < c.layers.size(); ++l) CHECK_SAME_BITS(again.gradient[l], got.gradient[l], c.name);
    }
  }
  CHECK(ignored > 1000, std::to_string(ignored));
  CHECK(objects > 1000, std::to_string(objects));
}

// ---- Chunks of host memory ------------------------------------------------------------------------------------------

// A batch of more bytes than a chunk: from pageable and pinned memory the bits of device memory, for every normaliser.
CUDA_TEST(host_memory_in_chunks_has_the_bits_of_device_memory) {
  RandomCase wanted;
  wanted.batch = 5;
  wanted.classes = 80;
  wanted.grids = {{13, 13, 3}, {26, 26, 3}, {52, 52, 3}};
  wanted.thresh = 0.5f;
  wanted.logits = 2;
  wanted.object_share = 0.003;
  wanted.sizes_near_predictions = true;
  const Case c = random_case(wanted);
  Plan device(c, cuda_device(Way::kDevice)), host(c, cuda_device(Way::kHost, 3));
  for (const int32_t normaliser : {YL_NORMALISER_BATCH, YL_NORMALISER_NONE, YL_NORMALISER_OBJECTS}) {
    const std::string where = "normaliser " + std::to_string(normaliser);
    device.call.normaliser = host.call.normaliser = normaliser;
    CHECK_OK(device.run(Truths::kYTrue), where);
    CHECK_OK(host.run(Truths::kYTrue), where);
    CHECK(is_same(host.summary, device.summary), where);
    CHECK_SAME_BITS(host.rows, device.rows, where);
    for (size_t l = 0; l < 3; ++l) CHECK_SAME_BITS(host.gradient[l], device.gradient[l], where);
  }
  CHECK(host.summary.objects > 50, std::to_string(host.summary.objects));
  CHECK_EQUAL(host.summary.normaliser, double(host.summary.objects));
  std::vector<std::unique_ptr<Pinned>> pinned;
  for (size_t l = 0; l < 3; ++l) {  // logits and gradient pinned, over one another
    pinned.push_back(std::make_unique<Pinned>(host.bytes_of(l)));
    std::memcpy(pinned[l]->as(), host.logits[l].data(), static_cast<size_t>(host.bytes_of(l)));
    host.feats[l] = host.grads[l] = pinned[l]->as<void>();
  }
  CHECK_OK(host.run(Truths::kYTrue));
  CHECK_SAME_BITS(host.rows, device.rows);
  for (size_t l = 0; l < 3; ++l) {
    const float *const got = pinned[l]->as<float>();
    CHECK_SAME_BITS(std::vector<float>(got, got + device.gradient[l].size()), device.gradient[l]);
  }
}

// ---- Boxes, pointers and values in device memory --------------------------------------------------------------------

namespace {

// A plan whose last row of boxes has no area.
struct BadLastRow {
  Plan p;
  std::vector<float> boxes;
  std::vector<yl_parts> rows;
  std::vector<std::vector<float>> gradient;

  BadLastRow(const Case &c, Way way) : p(c, cuda_device(way)), boxes(c.boxes) {
    CHECK_OK(p.run(Truths::kBoxes));
    rows = p.rows;
    gradient = p.gradient;
    const std::vector<float> row{10, 20, 10, 50, 1};
    std::copy(row.begin(), row.end(), boxes.end() - 5);
    p.boxes.data = boxes.data();
  }
};

const Way kDeviceWays[] = {Way::kDevice, Way::kAsync};

}  // namespace

// They are in device memory: the device itself reads and refuses them.
CUDA_TEST(a_bad_box_is_refused_by_the_device_and_nothing_is_written) {
  const Case c = golden("e_empty_and_crowded");
  for (const Way way : kDeviceWays) {
    BadLastRow bad(c, way);
    Plan &p = bad.p;
    p.summary.total = -7;
    for (auto &grad : p.gradient) std::fill(grad.begin(), grad.end(), -7.0f);
    const yl_status status = p.run(Truths::kBoxes);
    CHECK_EQUAL(status, YL_INVALID_BOXES, p.device.name);
    CHECK_EQUAL(p.summary.total, -7, p.device.name);
    if (way == Way::kDevice) {
      const std::string place =
          "image " + std::to_string(c.batch - 1) + ", row " + std::to_string(c.boxes_per_image - 1);
      CHECK_REFUSED(status, YL_INVALID_BOXES, (place + " [10, 20, 10, 50, 1] has no area").c_str());
    }
    for (size_t l = 0; l < p.gradient.size(); ++l) {
      p.mirrors[3 * l + 2].download(p.gradient[l].data(), p.bytes_of(l));
      CHECK_ALL_EQUAL(p.gradient[l], -7, p.device.name);
    }
    std::vector<std::vector<float>> y_true;
    for (const Layer &layer : c.layers) y_true.emplace_back(layer.y_true.size(), -7.0f);
    yl_box_counts counts;
    CHECK_REFUSED(p.build_y_true(y_true, &counts), YL_INVALID_BOXES, "has no area", p.device.name);
  }
}

CUDA_TEST(a_bad_box_is_skipped_by_the_device) {
  const Case c = golden("e_empty_and_crowded");
  for (const Way way : kDeviceWays) {
    BadLastRow bad(c, way);
    Plan &p = bad.p;
    CHECK_EQUAL(p.run(Truths::kBoxes), YL_INVALID_BOXES, p.device.name);
    p.boxes.policy = YL_BOXES_SKIP;
    CHECK_OK(p.run(Truths::kBoxes), p.device.name);
    CHECK_SAME_BITS(p.rows, bad.rows, p.device.name);
    CHECK_EQUAL(p.summary.boxes.skipped, 1, p.device.name);
    for (size_t l = 0; l < p.gradient.size(); ++l) CHECK_SAME_BITS(p.gradient[l], bad.gradient[l], p.device.name);
    std::vector<std::vector<float>> y_true;
    for (const Layer &layer : c.layers) y_true.emplace_back(layer.y_true.size(), -7.0f);
    yl_box_counts counts;
    CHECK_OK(p.build_y_true(y_true, &counts), p.device.name);
    CHECK_EQUAL(counts.skipped, 1, p.device.name);
    for (size_t l = 0; l < y_true.size(); ++l) CHECK_SAME_BITS(y_true[l], c.layers[l].y_true, p.device.name);

    p.boxes.policy = YL_BOXES_ERROR;  // and no boxes at all
    p.boxes.per_image = 0;
    p.boxes.data = nullptr;
    CHECK_OK(p.run(Truths::kBoxes), p.device.name);
    CHECK_EQUAL(p.summary.objects, 0, p.device.name);
    CHECK_EQUAL(p.summary.boxes.used, 0, p.device.name);
  }
}

CUDA_TEST(pointers_that_it_cannot_reach_are_refused) {
  Plan p(golden("a_small_3scale"), cuda_device(Way::kDevice));
  CHECK_OK(p.run(Truths::kYTrue));
  CHECK_REFUSED(yl_loss(p.plan, &p.call, &p.result), YL_INVALID_ARGUMENT, "feats[0] at");
  CHECK(says("is host memory, which cuda:0 cannot reach"), yl_last_error());
  const std::unique_ptr<Plan::OnDevice> there = p.upload();
  CHECK_OK(yl_loss(p.plan, &there->call, &p.result));
  CHECK_REFUSED(yl_loss_async(p.plan, &there->call, nullptr, &p.result), YL_INVALID_ARGUMENT, "result.summary at");
  const float on_stack = 1;
  there->call.grad_scale_at = &on_stack;
  CHECK_REFUSED(yl_loss(p.plan, &there->call, &p.result), YL_INVALID_ARGUMENT, "grad_scale_at at");
  there->call.grad_scale_at = nullptr;
  int32_t count = 0;
  CHECK_OK(yl_device_count(YL_DEVICE_CUDA, &count));
  if (count < 2) return;
  void *elsewhere = nullptr;
  CHECK_OK(yl_device_malloc(YL_DEVICE_CUDA, 1, p.bytes_of(0), &elsewhere));
  there->feats[0] = elsewhere;
  CHECK_REFUSED(yl_loss(p.plan, &there->call, &p.result), YL_INVALID_ARGUMENT,
                "is memory of cuda:1, this plan is on cuda:0");
  CHECK_OK(yl_device_free(YL_DEVICE_CUDA, elsewhere));
}

// The device reads them when it runs.
CUDA_TEST(normaliser_and_scale_are_read_from_device_memory) {
  const Case c = golden("a_small_3scale");
  DeviceMemory memory;
  for (const Way way : kWays) {
    Plan want(c, cuda_device(way, 1)), got(c, cuda_device(way, 1));
    const std::string &where = got.device.name;
    want.call.normaliser = got.call.normaliser = YL_NORMALISER_VALUE;
    for (const float value : {2.5f, 7.0f}) {
      const float host[] = {value, -3 * value};
      const auto *values = static_cast<const float *>(memory.upload(host, sizeof host));
      want.call.normaliser_value = value;
      want.call.grad_scale = -3 * value;
      got.call.normaliser_at = values;
      got.call.grad_scale_at = values + 1;
      CHECK_OK(want.run(Truths::kYTrue), where);
      CHECK_OK(got.run(Truths::kYTrue), where);
      CHECK_EQUAL(got.summary.normaliser, value, where);
      CHECK_EQUAL(got.summary.total, want.summary.total, where);
      CHECK(is_same(got.summary, want.summary), where);
      for (size_t l = 0; l < want.gradient.size(); ++l) CHECK_SAME_BITS(got.gradient[l], want.gradient[l], where);
    }
    got.call.normaliser = YL_NORMALISER_BATCH;
    CHECK_REFUSED(got.run(Truths::kYTrue), YL_INVALID_ARGUMENT, "normaliser_at is given and normaliser is 0", where);
  }
}

// ---- Several callers and devices ------------------------------------------------------------------------------------

CUDA_TEST(plans_and_streams_of_several_threads_do_not_disturb_each_other) {
  const Case c = golden("a_small_3scale");
  Plan want(c, cuda_device(Way::kDevice));
  CHECK_OK(want.run(Truths::kYTrue));
  std::vector<std::thread> threads;
  std::vector<int> wrong(3, 0);
  for (size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      Plan own(c, cuda_device(kWays[t], 1));
      for (int i = 0; i < 10; ++i) {
        const bool ok = own.run(i % 2 || !c.has_boxes() ? Truths::kYTrue : Truths::kBoxes) == YL_OK;
        wrong[t] +=
            !ok || std::memcmp(own.rows.data(), want.rows.data(), want.rows.size() * sizeof(yl_parts)) != 0 ||
            std::memcmp(own.gradient[0].data(), want.gradient[0].data(), want.gradient[0].size() * sizeof(float)) != 0;
      }
    });
  for (std::thread &thread : threads) thread.join();
  for (const int w : wrong) CHECK_EQUAL(w, 0);
}

CUDA_TEST(every_device_computes_the_same_loss) {
  int32_t count = 0;
  CHECK_OK(yl_device_count(YL_DEVICE_CUDA, &count));
  double first = 0;
  for (int32_t i = 0; i < count; ++i) {
    Config c;
    c.config.device = YL_DEVICE_CUDA;
    c.config.device_index = i;
    CHECK_OK(c.create());
    CHECK_EQUAL(std::string(yl_device_name(c.plan)), "cuda:" + std::to_string(i));
    const std::vector<float> feats(2 * 4 * 4 * 3 * 7, 0.5f), box{10, 20, 70, 80, 1, 0, 0, 0, 0, 0};
    const void *feats_at[] = {feats.data()};
    yl_boxes boxes = YL_BOXES_INIT;
    boxes.data = box.data();
    boxes.per_image = 1;
    yl_call call = YL_CALL_INIT;
    call.batch = 2;
    call.feats = feats_at;
    call.boxes = &boxes;
    yl_summary summary{};
    yl_result result = YL_RESULT_INIT;
    result.summary = &summary;
    CHECK_OK(yl_loss(c.plan, &call, &result));
    CHECK_EQUAL(summary.objects, 1);
    if (i == 0) first = summary.total;
    CHECK(summary.total > 0, number(summary.total));
    CHECK_NEAR(summary.total, first, {1e-6, 0});
  }
}

// ---- Failures of the device -----------------------------------------------------------------------------------------
// A GPU does not fail on request; the kernels on the host do.

namespace {

int64_t free_memory() {
  yl_device_properties info = YL_DEVICE_PROPERTIES_INIT;
  CHECK_OK(yl_device_get_properties(YL_DEVICE_CUDA, 0, &info));
  return info.free_memory;
}

void fail(const char *variable, int call, bool and_all_that_follow = false) {
  setenv(variable, std::to_string(call).c_str(), 1);
  if (and_all_that_follow) setenv("SIMT_STICKY", "1", 1);
}

void mend() {
  for (const char *variable : {"SIMT_FAIL_CALL", "SIMT_FAIL_ALLOCATION", "SIMT_STICKY"}) unsetenv(variable);
  void *memory = nullptr;  // what succeeds is counted from 0 again
  CHECK_OK(yl_device_malloc(YL_DEVICE_CUDA, 0, 1, &memory));
  CHECK_OK(yl_device_free(YL_DEVICE_CUDA, memory));
}

void print_failures(int failed) {
  std::printf("guarantee: %d failures of the device, each a status; no memory lost; the process goes on\n", failed);
}

}  // namespace

// In pinned memory first and then on the device.
CUDA_TEST(boxes_that_no_buffer_can_hold_are_refused_and_the_plan_goes_on) {
  if (!is_cuda_on_the_host()) return;
  const Case c = golden("a_small_3scale");
  Plan p(c, cuda_device(Way::kHost, 1));
  CHECK_OK(p.run(Truths::kBoxes));
  const auto rows = p.rows;
  const std::vector<float> many(static_cast<size_t>(c.batch) * 5 << 20);
  for (const char *allocation : {"0", "1"}) {
    setenv("SIMT_FAIL_ALLOCATION", allocation, 1);
    p.boxes.data = many.data();
    p.boxes.per_image = 1 << 20;
    p.boxes.policy = YL_BOXES_SKIP;
    CHECK_REFUSED(p.run(Truths::kBoxes), YL_OUT_OF_MEMORY, "out of memory");
    unsetenv("SIMT_FAIL_ALLOCATION");
    p.boxes.data = c.boxes.data();
    p.boxes.per_image = c.boxes_per_image;
    CHECK_OK(p.run(Truths::kBoxes));
    CHECK_SAME_BITS(p.rows, rows);
  }
}

CUDA_TEST(a_kernel_that_does_not_start_is_a_status_and_the_plan_goes_on) {
  if (!is_cuda_on_the_host()) return;
  const Case c = golden("a_small_3scale");
  for (const Way way : kWays)
    for (const char *launch : {"0", "1"}) {
      Plan p(c, cuda_device(way, 1));
      const std::string where = p.device.name + ", launch " + launch;
      CHECK_OK(p.run(Truths::kBoxes), where);
      const auto rows = p.rows;
      const yl_summary summary = p.summary;
      setenv("SIMT_FAIL_LAUNCH", launch, 1);
      CHECK_REFUSED(p.run(Truths::kBoxes), YL_DEVICE_FAILED, "CUDA failed while starting a kernel", where);
      unsetenv("SIMT_FAIL_LAUNCH");
      p.call.grad_mode = YL_GRAD_REFRESH;
      CHECK_REFUSED(p.run(Truths::kBoxes), YL_INVALID_ARGUMENT, "grad_mode is refresh", where);
      p.call.grad_mode = YL_GRAD_OVERWRITE;
      CHECK_OK(p.run(Truths::kBoxes), where);
      CHECK_SAME_BITS(p.rows, rows, where);
      CHECK(is_same(p.summary, summary), where);
      CHECK_OK(p.run(Truths::kYTrue), where);
      CHECK_SAME_BITS(p.rows, rows, where);
    }
}

CUDA_TEST(each_call_of_the_runtime_that_fails_in_yl_plan_create_is_a_status) {
  if (!is_cuda_on_the_host()) return;
  const int64_t before = free_memory();
  int failed = 0;
  for (const char *variable : {"SIMT_FAIL_CALL", "SIMT_FAIL_ALLOCATION"})
    for (const int32_t memory : {YL_MEMORY_HOST, YL_MEMORY_DEVICE})
      for (int call = 0; call < 1000; ++call) {
        const std::string where = std::string(variable) + " " + std::to_string(call);
        Config c;
        c.config.device = YL_DEVICE_CUDA;
        c.config.memory = memory;
        c.config.threads = 2;
        fail(variable, call);
        const yl_status status = c.create();
        const std::string sentence = yl_last_error();
        mend();
        if (status == YL_OK) {
          CHECK(call >= 2, where);
          break;
        }
        ++failed;
        CHECK(!c.plan, where);
        CHECK(status == YL_OUT_OF_MEMORY || status == YL_DEVICE_FAILED, where + ": " + yl_status_name(status));
        CHECK(sentence.find("while") != std::string::npos, where + ": " + sentence);
        CHECK_EQUAL(free_memory(), before, where);
      }
  print_failures(failed);
}

namespace {

// Fails each call of the runtime in yl_loss, once or with all that follow, as after a fault in a kernel.
void fail_each_call_of_a_loss(bool and_all_that_follow) {
  const Case c = golden("a_small_3scale");
  const int64_t before = free_memory();
  Plan on_cpu(c, cpu_device(2));
  CHECK_OK(on_cpu.run(Truths::kYTrue));
  const auto cpu_rows = on_cpu.rows;
  int failed = 0;
  for (int call = 0; call < 1000; ++call) {
    const std::string where = "call " + std::to_string(call);
    Plan p(c, cuda_device(Way::kHost, 1));
    CHECK_OK(p.run(Truths::kBoxes), where);
    const auto rows = p.rows;
    fail("SIMT_FAIL_CALL", call, and_all_that_follow);
    const yl_status status = p.run(Truths::kBoxes);
    if (status == YL_OK) {
      mend();
      CHECK_SAME_BITS(p.rows, rows, where);
      CHECK(call > 3, where);
      break;
    }
    ++failed;
    CHECK_REFUSED(status, YL_DEVICE_FAILED, "CUDA failed while", where);
    if (!and_all_that_follow) {
      mend();
      CHECK_OK(p.run(Truths::kBoxes), where);
      CHECK_SAME_BITS(p.rows, rows, where);
      continue;
    }
    CHECK_REFUSED(p.run(Truths::kBoxes), YL_DEVICE_FAILED, "CUDA failed while", where);
    Config other(c, cuda_device(Way::kHost, 1));
    CHECK_EQUAL(other.create(), YL_DEVICE_FAILED, where);
    CHECK(!other.plan, where);
    CHECK_OK(on_cpu.run(Truths::kYTrue), where);
    CHECK_SAME_BITS(on_cpu.rows, cpu_rows, where);
    if (call % 2 == 0) {
      mend();
    } else {  // the plan is destroyed while the device is broken
      yl_plan_destroy(p.made.plan);
      p.made.plan = nullptr;
      mend();
    }
  }
  CHECK_EQUAL(free_memory(), before, "device memory is lost");
  print_failures(failed);
}

}  // namespace

CUDA_TEST(each_call_of_the_runtime_that_fails_once_in_yl_loss_is_a_status_and_the_plan_goes_on) {
  if (is_cuda_on_the_host()) fail_each_call_of_a_loss(false);
}
CUDA_TEST(a_device_that_stays_broken_is_a_status_and_the_cpu_goes_on) {
  if (is_cuda_on_the_host()) fail_each_call_of_a_loss(true);
}
