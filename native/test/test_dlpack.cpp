// Calls over DLPack tensors: the same bits as over pointers, for every form of shape and strides that is the same memory; and
// the sentence for every other.
#include <functional>
#include <memory>

#include "plan.h"
#include "yololoss_dlpack.h"

namespace {

// A tensor that owns its shape and strides; the memory is the test's.
struct Tensor {
  std::vector<int64_t> shape, strides;
  DLTensor dl{};

  Tensor(void *data, std::vector<int64_t> extents, std::vector<int64_t> steps, DLDevice device)
      : shape(std::move(extents)), strides(std::move(steps)) {
    dl.data = data;
    dl.device = device;
    dl.ndim = static_cast<int32_t>(shape.size());
    dl.dtype = {kDLFloat, 32, 1};
    dl.shape = shape.data();
    dl.strides = strides.empty() ? nullptr : strides.data();
  }
  Tensor(const Tensor &) = delete;
};

// The forms of an array of a layout; {} as strides: C order.
struct Form {
  std::vector<int64_t> shape, strides;
};
std::vector<Form> forms(int32_t layout, int64_t b, int64_t h, int64_t w, int64_t a, int64_t d) {
  const int64_t all = a * d, image = h * w * all;
  if (layout == YL_NHWC)
    return {{{b, h, w, all}, {}},
            {{b, h, w, all}, {image, w * all, all, 1}},
            {{b, h, w, a, d}, {}},
            {{b, all, h, w}, {image, 1, w * all, all}}};
  return {{{b, all, h, w}, {}},
          {{b, all, h, w}, {image, h * w, w, 1}},
          {{b, a, d, h, w}, {}},
          {{b, h, w, all}, {image, w, 1, h * w}}};
}

std::vector<float> planes_of(const std::vector<float> &rows, int64_t b, int64_t places, int64_t channels) {
  std::vector<float> planes(rows.size());
  for (int64_t i = 0; i < b; ++i)
    for (int64_t p = 0; p < places; ++p)
      for (int64_t c = 0; c < channels; ++c)
        planes[(i * channels + c) * places + p] = rows[(i * places + p) * channels + c];
  return planes;
}

// Memory where a plan of the way takes it.
class Place {
 public:
  Place(const DeviceCase &device, std::vector<float> values)
      : host_(std::move(values)), on_device_(device.way != Way::kHost) {}
  void *start() { return on_device_ ? mirror_.upload(host_.data(), bytes()) : host_.data(); }
  const std::vector<float> &fetch() {
    if (on_device_) mirror_.download(host_.data(), bytes());
    return host_;
  }

 private:
  int64_t bytes() const { return int64_t(host_.size() * sizeof(float)); }
  std::vector<float> host_;
  const bool on_device_;
  Mirror mirror_;
};

void same_bits(const Golden &g, const DeviceCase &device, int32_t layout, bool dense, size_t form) {
  std::vector<yl_layer> layers;
  yl_config config = config_of(g, device, layers);
  config.layout = layout;
  yl_plan *plan = nullptr;
  CHECK(yl_plan_create(&config, &plan) == YL_OK, yl_last_error());
  const bool on_device = device.way != Way::kHost;
  const DLDevice where = {on_device ? kDLCUDA : kDLCPU, 0};
  const int64_t a = g.anchors_per_layer, d = 5 + g.classes;

  std::vector<std::unique_ptr<Place>> memory;
  std::vector<std::unique_ptr<Tensor>> tensors;
  std::vector<const DLTensor *> feats, grads, y_true;
  std::vector<const void *> feats_at;
  std::vector<const float *> y_true_at;
  std::vector<void *> grads_at;
  const auto tensor = [&](const std::vector<float> &values, const Form &f, void **start) {
    memory.push_back(std::make_unique<Place>(device, values));
    *start = memory.back()->start();
    char *const before = static_cast<char *>(*start) - 16 * (form % 2);  // byte_offset stands for the difference
    tensors.push_back(std::make_unique<Tensor>(before, f.shape, f.strides, where));
    tensors.back()->dl.byte_offset = 16 * (form % 2);
    return &tensors.back()->dl;
  };
  for (int32_t l = 0; l < g.layers; ++l) {
    const int64_t h = g.feats[l].shape[1], w = g.feats[l].shape[2];
    const Form f = forms(layout, g.batch, h, w, a, d)[form];
    const std::vector<float> &rows = g.feats[l].data;
    void *start;
    feats.push_back(tensor(layout == YL_NHWC ? rows : planes_of(rows, g.batch, h * w, a * d), f, &start));
    feats_at.push_back(start);
    grads.push_back(tensor(std::vector<float>(rows.size(), NAN), f, &start));
    grads_at.push_back(start);
    y_true.push_back(tensor(g.y_true[l].data,
                            form % 2 ? Form{{g.batch, h, w, a * d}, {}} : Form{{g.batch, h, w, a, d}, {}}, &start));
    y_true_at.push_back(static_cast<const float *>(start));
  }
  void *boxes_at = nullptr;
  const DLTensor *boxes = nullptr;
  if (!dense) boxes = tensor(g.boxes.data, {{g.batch, g.boxes_per_image, 5}, {}}, &boxes_at);

  yl_summary by_pointers{}, by_tensors{};
  yl_result result = YL_RESULT_INIT;
  yl_call call = YL_CALL_INIT;
  yl_boxes rows = YL_BOXES_INIT;
  rows.data = static_cast<const float *>(boxes_at);
  rows.per_image = g.boxes_per_image;
  call.batch = g.batch;
  call.feats = feats_at.data();
  call.grads = grads_at.data();
  call.y_true = dense ? y_true_at.data() : nullptr;
  call.boxes = dense ? nullptr : &rows;
  call.grad_scale = 3;
  result.summary = &by_pointers;
  CHECK(yl_loss(plan, &call, &result) == YL_OK, yl_last_error());
  std::vector<std::vector<float>> want;
  for (int32_t l = 0; l < g.layers; ++l) want.push_back(memory[3 * static_cast<size_t>(l) + 1]->fetch());

  yl_tensors given = YL_TENSORS_INIT;
  given.feats = feats.data();
  given.grads = grads.data();
  given.y_true = dense ? y_true.data() : nullptr;
  given.boxes = boxes;
  yl_call options = YL_CALL_INIT;
  options.grad_scale = 3;
  result.summary = &by_tensors;
  yl_status status;
  if (device.way == Way::kAsync) {
    void *stream = nullptr, *pinned = nullptr;
    CHECK(yl_stream_create(YL_DEVICE_CUDA, 0, &stream) == YL_OK && yl_device_malloc_host(YL_DEVICE_CUDA, sizeof by_tensors, &pinned) == YL_OK);
    result.summary = static_cast<yl_summary *>(pinned);
    status = yl_loss_dlpack_async(plan, &given, &options, stream, &result);
    CHECK(yl_stream_synchronize(YL_DEVICE_CUDA, 0, stream) == YL_OK);
    std::memcpy(&by_tensors, pinned, sizeof by_tensors);
    CHECK(yl_stream_destroy(YL_DEVICE_CUDA, 0, stream) == YL_OK && yl_device_free_host(YL_DEVICE_CUDA, pinned) == YL_OK);
  } else {
    status = yl_loss_dlpack(plan, &given, &options, &result);
  }
  const std::string where_text = g.name + " on " + device.name + ", form " + std::to_string(form);
  CHECK(status == YL_OK, where_text + ": " + yl_last_error());
  CHECK(std::memcmp(&by_pointers, &by_tensors, sizeof by_tensors) == 0, where_text);
  for (int32_t l = 0; l < g.layers; ++l) {
    const std::vector<float> &got = memory[3 * static_cast<size_t>(l) + 1]->fetch();
    CHECK(std::memcmp(got.data(), want[l].data(), 4 * got.size()) == 0, where_text + ": gradient");
  }
  yl_plan_destroy(plan);
}

// One layer of 2x2, one anchor, one class, two images at most: what a test changes is put back by the next.
void refused(int32_t layout, int32_t dtype,
             const std::function<void(yl_tensors &, Tensor &, Tensor &, Tensor &, yl_call &)> &change,
             const char *words) {
  const int32_t mask = 0;
  const float anchor[] = {16, 16};
  const yl_layer layer = {2, 3, &mask, 1, 0};
  yl_config config = YL_CONFIG_INIT;
  config.layers = &layer;
  config.anchors = anchor;
  config.layer_count = config.anchor_count = config.num_classes = 1;
  config.input_height = config.input_width = 32;
  config.max_batch = 2;
  config.layout = layout;
  config.dtype = dtype;
  config.device = YL_DEVICE_CPU;
  yl_plan *plan = nullptr;
  CHECK(yl_plan_create(&config, &plan) == YL_OK, yl_last_error());
  alignas(64) float feats[2 * 36] = {}, grads[2 * 36], boxes[10] = {2, 2, 18, 18, 0}, weights[2] = {1, 1};
  std::fill_n(grads, 72, 7.0f);
  const std::vector<int64_t> shape =
      layout == YL_NHWC ? std::vector<int64_t>{2, 2, 3, 6} : std::vector<int64_t>{2, 6, 2, 3};
  const DLDevice cpu = {kDLCPU, 0};
  Tensor f(feats, shape, {}, cpu), g(grads, shape, {}, cpu), b(boxes, {2, 1, 5}, {}, cpu), w(weights, {2, 1}, {}, cpu);
  const DLTensor *feats_of[] = {&f.dl}, *grads_of[] = {&g.dl};
  yl_tensors tensors = YL_TENSORS_INIT;
  tensors.feats = feats_of;
  tensors.grads = grads_of;
  tensors.boxes = &b.dl;
  tensors.box_weights = &w.dl;
  yl_call options = YL_CALL_INIT;
  yl_summary summary{};
  yl_result result = YL_RESULT_INIT;
  result.summary = &summary;
  if (change) change(tensors, f, g, b, options);
  const yl_status status = yl_loss_dlpack(plan, &tensors, &options, &result);
  if (words) {
    CHECK(status == YL_INVALID_ARGUMENT && says(words), yl_last_error());
    CHECK(std::all_of(grads, grads + 72, [](float v) { return v == 7.0f; }) && summary.total == 0, words);
  } else {
    CHECK(status == YL_OK && summary.total > 0, yl_last_error());
  }
  yl_plan_destroy(plan);
}

using T = yl_tensors;
using C = yl_call;

void refusals() {
  const auto rows = [](auto change, const char *words) { refused(YL_NHWC, YL_F32, change, words); };
  const auto planes = [](auto change, const char *words) { refused(YL_NCHW, YL_F32, change, words); };
  rows([](T &, Tensor &, Tensor &, Tensor &, C &) {}, nullptr);
  planes([](T &, Tensor &, Tensor &, Tensor &, C &) {}, nullptr);
  rows([](T &t, Tensor &, Tensor &, Tensor &, C &) { t.grads = nullptr; }, nullptr);
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.dl.device.device_type = kDLCUDAHost; }, nullptr);
  rows([](T &t, Tensor &, Tensor &, Tensor &, C &) { t.struct_size = 8; }, "tensors.struct_size is 8");
  rows([](T &t, Tensor &, Tensor &, Tensor &, C &) { t.reserved = 1; }, "tensors.reserved is 1");
  rows([](T &t, Tensor &, Tensor &, Tensor &, C &) { t.feats = nullptr; }, "tensors.feats is NULL, 1 tensors");
  rows([](T &t, Tensor &, Tensor &, Tensor &, C &) { t.boxes = nullptr, t.box_weights = nullptr; },
       "neither y_true nor boxes");
  rows([](T &t, Tensor &, Tensor &, Tensor &, C &) { t.boxes = nullptr, t.y_true = t.feats; },
       "box_weights is given without");
  rows([](T &t, Tensor &, Tensor &, Tensor &, C &) { t.y_true = t.feats; }, "both y_true and boxes");
  rows(
      [](T &t, Tensor &, Tensor &, Tensor &, C &) {
        static const DLTensor *const none[] = {nullptr};
        t.grads = none;
      },
      "grads[0] is NULL, a DLTensor");
  rows([](T &, Tensor &, Tensor &, Tensor &, C &c) { c.batch = 1; }, "options.batch is 1 and feats[0] has 2 images");
  rows(
      [](T &, Tensor &, Tensor &, Tensor &, C &c) {
        static void *none[1];
        c.grads = none;
      },
      "options has arrays of its own");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.dl.data = nullptr; }, "feats[0] has no memory");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.dl.shape = nullptr; }, "feats[0] has ndim 4 and shape");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.dl.ndim = -1; }, "feats[0] has ndim -1");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.shape[0] = 3; }, "a batch of 1..2 is expected first");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.dl.ndim = 0; }, "feats[0] has shape (), a batch");
  rows([](T &, Tensor &, Tensor &g, Tensor &, C &) { g.shape[0] = 1; },
       "grads[0] has shape (1, 2, 3, 6), expected (2, 2, 3, 6)");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.shape[3] = 7; },
       "feats[0] has shape (2, 2, 3, 7), expected (2, 2, 3, 6) (YL_NHWC)");
  planes([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.shape[1] = 7; }, "expected (2, 6, 2, 3) (YL_NCHW)");
  rows(
      [](T &, Tensor &f, Tensor &, Tensor &, C &) {
        f.shape = {2, 6, 2, 3};
        f.dl.shape = f.shape.data();
      },
      "feats[0] has strides of C order, which is YL_NCHW; this plan has YL_NHWC");
  planes(
      [](T &, Tensor &, Tensor &g, Tensor &, C &) {
        g.shape = {2, 2, 3, 6};
        g.dl.shape = g.shape.data();
      },
      "grads[0] has strides of C order, which is YL_NHWC; this plan has YL_NCHW");
  rows(
      [](T &, Tensor &f, Tensor &, Tensor &, C &) {
        f.strides = {36, 18, 6, 2};
        f.dl.strides = f.strides.data();
      },
      "feats[0] has strides (36, 18, 6, 2), which leaves gaps");
  rows(
      [](T &, Tensor &f, Tensor &, Tensor &, C &) {
        f.strides = {0, 18, 6, 1};
        f.dl.strides = f.strides.data();
      },
      "leaves gaps");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.dl.dtype.bits = 64; },
       "feats[0] is float64, float32 is expected; make a plan");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.dl.dtype = {kDLInt, 32, 1}; }, "feats[0] is int32, float32");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.dl.dtype.lanes = 4; }, "feats[0] is float32 x 4");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.dl.dtype.code = 9; }, "feats[0] is type 9 of bits 32");
  rows(
      [](T &, Tensor &f, Tensor &, Tensor &, C &) {
        f.dl.device = {kDLCUDA, 1};
      },
      "feats[0] is on cuda:1, this plan takes memory of the host");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.dl.device.device_type = static_cast<DLDeviceType>(8); },
       "a device of DLPack's type 8");
  rows([](T &, Tensor &, Tensor &, Tensor &b, C &) { b.shape[2] = 4; },
       "boxes has shape (2, 1, 4), expected (2, T, 5)");
  rows([](T &, Tensor &, Tensor &, Tensor &b, C &) { b.shape[0] = 1; },
       "boxes has shape (1, 1, 5), expected (2, T, 5)");
  rows(
      [](T &, Tensor &, Tensor &, Tensor &b, C &) {
        b.dl.dtype = {kDLInt, 64, 1};
      },
      "boxes is int64, float32 is expected");
  rows(
      [](T &, Tensor &, Tensor &, Tensor &b, C &) {
        b.strides = {5, 5, 2};
        b.dl.strides = b.strides.data();
      },
      "boxes has strides (5, 5, 2)");
  rows([](T &, Tensor &, Tensor &, Tensor &b, C &) { b.shape[1] = 2; },
       "box_weights has shape (2, 1), expected (2, 2)");
  rows([](T &, Tensor &f, Tensor &, Tensor &, C &) { f.dl.byte_offset = 2; }, "is not aligned to 4 bytes");
  rows([](T &t, Tensor &, Tensor &, Tensor &, C &) { t.boxes_policy = 9; }, "boxes.policy is 9");
  refused(YL_NHWC, YL_BF16, nullptr, "feats[0] is float32, bfloat16 is expected");
  const auto bf16 = [](T &, Tensor &f, Tensor &g, Tensor &, C &) { f.dl.dtype = g.dl.dtype = {kDLBfloat, 16, 1}; };
  refused(YL_NHWC, YL_BF16, bf16, nullptr);
  CHECK(yl_loss_dlpack(nullptr, nullptr, nullptr, nullptr) == YL_INVALID_ARGUMENT && says("plan is NULL"));
  refused(
      YL_NHWC, YL_F32,
      [](T &t, Tensor &, Tensor &, Tensor &, C &) {
        t.boxes = nullptr, t.box_weights = nullptr;
        static int64_t shape[] = {2, 2, 3, 1, 7};
        static float memory[84];
        static DLTensor y{};
        static const DLTensor *const all[] = {&y};
        y.data = memory, y.device = {kDLCPU, 0}, y.ndim = 5, y.dtype = {kDLFloat, 32, 1}, y.shape = shape;
        t.y_true = all;
      },
      "y_true[0] has shape (2, 2, 3, 1, 7), expected (2, 2, 3, 1, 6)");
}

void refused_on_a_device() {
  if (!has_cuda()) return;
  const Golden g = read_golden("a_small_3scale");
  Plan p(g, YL_DEVICE_CUDA, 0, 0, Way::kDevice);
  float memory[1] = {};
  std::vector<std::unique_ptr<Tensor>> tensors;
  std::vector<const DLTensor *> feats;
  for (int32_t l = 0; l < g.layers; ++l) {
    tensors.push_back(std::make_unique<Tensor>(memory, g.feats[l].shape, std::vector<int64_t>{}, DLDevice{kDLCPU, 0}));
    feats.push_back(&tensors.back()->dl);
  }
  Tensor boxes(memory, {g.batch, 0, 5}, {}, {kDLCUDA, 0});
  yl_tensors given = YL_TENSORS_INIT;
  given.feats = feats.data();
  given.boxes = &boxes.dl;
  REFUSED(yl_loss_dlpack(p.plan, &given, nullptr, nullptr), YL_INVALID_ARGUMENT,
          "feats[0] is on the CPU, this plan takes memory of cuda:0");
  tensors[0]->dl.device = {kDLCUDA, 1};
  REFUSED(yl_loss_dlpack(p.plan, &given, nullptr, nullptr), YL_INVALID_ARGUMENT, "feats[0] is on cuda:1, this plan");
}

}  // namespace

int main() {
  for (const char *name : {"a_small_3scale", "c_tiny_2scale"})
    for (const DeviceCase &device : kDevices) {
      if (device.threads > 1 && device.way == Way::kHost && device.device == YL_DEVICE_CPU)
        continue;  // as with pointers
      const Golden g = read_golden(name);
      for (size_t form = 0; form < 4; ++form)
        for (const bool dense : {false, true}) same_bits(g, device, form % 2 ? YL_NHWC : YL_NCHW, dense, form);
      same_bits(g, device, YL_NHWC, false, 2);
      same_bits(g, device, YL_NCHW, false, 3);
    }
  refusals();
  refused_on_a_device();
  return report("dlpack");
}
