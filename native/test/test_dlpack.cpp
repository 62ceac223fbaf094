// Calls over DLPack tensors: the same bits as over pointers, for every form of shape and strides that is the same
// memory; and the sentence for every other.
#include <algorithm>
#include <functional>

#include "plan.h"
#include "test.h"
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

// A form of an array: shape and strides; no strides are those of C order.
struct Form {
  std::vector<int64_t> shape, strides;
};
// Returns the forms that are the same memory in a layout.
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

std::vector<float> planes_of(const std::vector<double> &rows, int64_t b, int64_t places, int64_t channels) {
  std::vector<float> planes(rows.size());
  for (int64_t i = 0; i < b; ++i)
    for (int64_t p = 0; p < places; ++p)
      for (int64_t c = 0; c < channels; ++c)
        planes[(i * channels + c) * places + p] = static_cast<float>(rows[(i * places + p) * channels + c]);
  return planes;
}

// One call by pointers and one by tensors of a form, over the same memory.
void check_form(const Case &c, const Device &device, int32_t layout, Truths truths, size_t form) {
  const std::string where = c.name + " on " + device.name + (layout == YL_NCHW ? ", NCHW" : ", NHWC") + ", form " +
                            std::to_string(form) + (truths == Truths::kBoxes ? ", boxes" : ", y_true");
  Config made(c, device);
  made.config.layout = layout;
  if (!CHECK_OK(made.create(), where)) return;
  const bool on_device = device.in_device_memory(), dense = truths == Truths::kYTrue;
  const DLDevice home = {on_device ? kDLCUDA : kDLCPU, 0};

  std::vector<std::unique_ptr<CallMemory>> memory;
  std::vector<std::unique_ptr<Tensor>> tensors;
  std::vector<const DLTensor *> feats, grads, y_true;
  std::vector<const void *> feats_at;
  std::vector<const float *> y_true_at;
  std::vector<void *> grads_at;
  const auto tensor = [&](const std::vector<float> &values, const Form &f, void **start) {
    memory.push_back(std::make_unique<CallMemory>(on_device, values.data(), static_cast<int64_t>(4 * values.size())));
    *start = memory.back()->upload();
    const uint64_t offset = 16 * (form % 2);  // byte_offset makes up for a pointer that is before the data
    tensors.push_back(std::make_unique<Tensor>(static_cast<char *>(*start) - offset, f.shape, f.strides, home));
    tensors.back()->dl.byte_offset = offset;
    return &tensors.back()->dl;
  };
  for (size_t l = 0; l < c.layers.size(); ++l) {
    const Layer &layer = c.layers[l];
    const auto h = static_cast<int64_t>(layer.height), w = static_cast<int64_t>(layer.width),
               a = static_cast<int64_t>(layer.anchors()), d = static_cast<int64_t>(c.channels());
    const Form f = forms(layout, c.batch, h, w, a, d)[form];
    void *start;
    feats.push_back(tensor(layout == YL_NHWC ? std::vector<float>(layer.feats.begin(), layer.feats.end())
                                             : planes_of(layer.feats, c.batch, h * w, a * d),
                           f, &start));
    feats_at.push_back(start);
    grads.push_back(tensor(std::vector<float>(layer.feats.size(), NAN), f, &start));
    grads_at.push_back(start);
    y_true.push_back(
        tensor(layer.y_true, form % 2 ? Form{{c.batch, h, w, a * d}, {}} : Form{{c.batch, h, w, a, d}, {}}, &start));
    y_true_at.push_back(static_cast<const float *>(start));
  }
  const auto gradient = [&](size_t l) {
    CallMemory &grad = *memory[3 * l + 1];
    grad.download();
    const auto *const values = reinterpret_cast<const float *>(grad.host());
    return std::vector<float>(values, values + c.elements(l));
  };
  void *boxes_at = nullptr;
  const DLTensor *boxes = dense ? nullptr : tensor(c.boxes, {{c.batch, c.boxes_per_image, 5}, {}}, &boxes_at);

  yl_summary by_pointers{}, by_tensors{};
  yl_result result = YL_RESULT_INIT;
  yl_call call = YL_CALL_INIT;
  yl_boxes rows = YL_BOXES_INIT;
  rows.data = static_cast<const float *>(boxes_at);
  rows.per_image = c.boxes_per_image;
  call.batch = c.batch;
  call.feats = feats_at.data();
  call.grads = grads_at.data();
  call.y_true = dense ? y_true_at.data() : nullptr;
  call.boxes = dense ? nullptr : &rows;
  call.grad_scale = 3;
  result.summary = &by_pointers;
  CHECK_OK(yl_loss(made.plan, &call, &result), where);
  std::vector<std::vector<float>> want;
  for (size_t l = 0; l < c.layers.size(); ++l) want.push_back(gradient(l));

  yl_tensors given = YL_TENSORS_INIT;
  given.feats = feats.data();
  given.grads = grads.data();
  given.y_true = dense ? y_true.data() : nullptr;
  given.boxes = boxes;
  yl_call options = YL_CALL_INIT;
  options.grad_scale = 3;
  if (device.way == Way::kAsync) {
    const Stream stream;
    const Pinned pinned(sizeof by_tensors);
    result.summary = pinned.as<yl_summary>();
    CHECK_OK(yl_loss_dlpack_async(made.plan, &given, &options, stream.get(), &result), where);
    stream.synchronize();
    by_tensors = *result.summary;
  } else {
    result.summary = &by_tensors;
    CHECK_OK(yl_loss_dlpack(made.plan, &given, &options, &result), where);
  }
  CHECK_EQUAL(by_tensors.total, by_pointers.total, where);
  CHECK(std::memcmp(&by_pointers, &by_tensors, sizeof by_tensors) == 0, where + ": summary");
  for (size_t l = 0; l < c.layers.size(); ++l) CHECK_SAME_BITS(gradient(l), want[l], where);
}

void check_forms(int32_t layout, const std::vector<std::pair<size_t, Truths>> &of) {
  for (const std::string &name : golden_names({"a_small_3scale", "c_tiny_2scale"})) {
    const Case c = golden(name);
    for (const Device &device : devices()) {
      if (device.threads > 1 && device.kind == YL_DEVICE_CPU) continue;  // as with pointers
      for (const auto &[form, truths] : of) check_form(c, device, layout, truths, form);
    }
  }
}

}  // namespace

TEST(dlpack, every_form_of_nhwc_has_the_bits_of_pointers) {
  check_forms(YL_NHWC, {{0, Truths::kYTrue},
                        {0, Truths::kBoxes},
                        {1, Truths::kYTrue},
                        {1, Truths::kBoxes},
                        {2, Truths::kYTrue},
                        {2, Truths::kBoxes},
                        {3, Truths::kYTrue},
                        {3, Truths::kBoxes}});
}
TEST(dlpack, every_form_of_nchw_has_the_bits_of_pointers) {
  check_forms(YL_NCHW, {{0, Truths::kYTrue},
                        {0, Truths::kBoxes},
                        {1, Truths::kYTrue},
                        {1, Truths::kBoxes},
                        {2, Truths::kYTrue},
                        {2, Truths::kBoxes},
                        {3, Truths::kYTrue},
                        {3, Truths::kBoxes}});
}

// ---- Refusals -------------------------------------------------------------------------------------------------------

namespace {

// A call with one layer of 2x3, one anchor and one class, two images; a test changes its tensors.
struct Call {
  static Case one_layer() {
    RandomCase wanted;
    wanted.batch = 2;
    wanted.grids = {{2, 3, 1}};
    wanted.input_height = wanted.input_width = 32;
    Case c = random_case(wanted);
    c.anchors = {16, 16};
    return c;
  }

  int32_t layout, dtype;
  std::vector<float> feats_memory = std::vector<float>(72, 0.0f), grads_memory = std::vector<float>(72, 7.0f);
  float boxes_memory[10] = {2, 2, 18, 18, 0}, weights_memory[2] = {1, 1};
  Tensor feats{feats_memory.data(), shape(), {}, {kDLCPU, 0}}, grads{grads_memory.data(), shape(), {}, {kDLCPU, 0}},
      boxes{boxes_memory, {2, 1, 5}, {}, {kDLCPU, 0}}, weights{weights_memory, {2, 1}, {}, {kDLCPU, 0}};
  const DLTensor *feats_of[1] = {&feats.dl}, *grads_of[1] = {&grads.dl};
  yl_tensors tensors = YL_TENSORS_INIT;
  yl_call options = YL_CALL_INIT;

  Call(int32_t in_layout, int32_t of_dtype) : layout(in_layout), dtype(of_dtype) {
    tensors.feats = feats_of;
    tensors.grads = grads_of;
    tensors.boxes = &boxes.dl;
    tensors.box_weights = &weights.dl;
  }
  std::vector<int64_t> shape() const {
    return layout == YL_NHWC ? std::vector<int64_t>{2, 2, 3, 6} : std::vector<int64_t>{2, 6, 2, 3};
  }
  static void set_shape(Tensor &tensor, std::vector<int64_t> extents) {
    tensor.shape = std::move(extents);
    tensor.dl.shape = tensor.shape.data();
  }
  static void set_strides(Tensor &tensor, std::vector<int64_t> steps) {
    tensor.strides = std::move(steps);
    tensor.dl.strides = tensor.strides.data();
  }
  // NULL as words: the call is accepted.
  void run(const char *words) {
    Config made(one_layer(), cpu_device(0));
    made.config.layout = layout;
    made.config.dtype = dtype;
    CHECK_OK(made.create());
    yl_summary summary{};
    yl_result result = YL_RESULT_INIT;
    result.summary = &summary;
    const yl_status status = yl_loss_dlpack(made.plan, &tensors, &options, &result);
    if (!words) {
      CHECK_OK(status);
      CHECK(summary.total > 0, number(summary.total));
      return;
    }
    CHECK_REFUSED(status, YL_INVALID_ARGUMENT, words);
    CHECK_ALL_EQUAL(grads_memory, 7, words);
    CHECK_EQUAL(summary.total, 0, words);
  }
};

using Change = std::function<void(Call &)>;
void accepted(int32_t layout, const Change &change) {
  Call call(layout, YL_F32);
  change(call);
  call.run(nullptr);
}
void rows(const Change &change, const char *words) {
  Call call(YL_NHWC, YL_F32);
  change(call);
  call.run(words);
}
void planes(const Change &change, const char *words) {
  Call call(YL_NCHW, YL_F32);
  change(call);
  call.run(words);
}

}  // namespace

TEST(dlpack, tensors_as_they_should_be_are_accepted) {
  accepted(YL_NHWC, [](Call &) {});
  accepted(YL_NCHW, [](Call &) {});
  accepted(YL_NHWC, [](Call &c) { c.tensors.grads = nullptr; });
  accepted(YL_NHWC, [](Call &c) { c.feats.dl.device.device_type = kDLCUDAHost; });
}

TEST(dlpack, tensors_that_are_missing_or_too_many_are_refused) {
  CHECK_REFUSED(yl_loss_dlpack(nullptr, nullptr, nullptr, nullptr), YL_INVALID_ARGUMENT, "plan is NULL");
  rows([](Call &c) { c.tensors.struct_size = 8; }, "tensors.struct_size is 8");
  rows([](Call &c) { c.tensors.reserved = 1; }, "tensors.reserved is 1");
  rows([](Call &c) { c.tensors.feats = nullptr; }, "tensors.feats is NULL, 1 tensors");
  rows([](Call &c) { c.tensors.boxes = nullptr, c.tensors.box_weights = nullptr; }, "neither y_true nor boxes");
  rows([](Call &c) { c.tensors.boxes = nullptr, c.tensors.y_true = c.feats_of; }, "box_weights is given without");
  rows([](Call &c) { c.tensors.y_true = c.feats_of; }, "both y_true and boxes");
  rows([](Call &c) { c.grads_of[0] = nullptr; }, "grads[0] is NULL, a DLTensor");
  rows([](Call &c) { c.feats.dl.data = nullptr; }, "feats[0] has no memory");
}

TEST(dlpack, options_that_contradict_the_tensors_are_refused) {
  rows([](Call &c) { c.options.batch = 1; }, "options.batch is 1 and feats[0] has 2 images");
  static void *none[1];
  rows([](Call &c) { c.options.grads = none; }, "options has arrays of its own");
  rows([](Call &c) { c.tensors.boxes_policy = 9; }, "boxes.policy is 9");
}

TEST(dlpack, shapes_that_do_not_fit_are_refused) {
  rows([](Call &c) { c.feats.dl.shape = nullptr; }, "feats[0] has ndim 4 and shape");
  rows([](Call &c) { c.feats.dl.ndim = -1; }, "feats[0] has ndim -1");
  rows([](Call &c) { c.feats.shape[0] = 3; }, "a batch of 1..2 is expected first");
  rows([](Call &c) { c.feats.dl.ndim = 0; }, "feats[0] has shape (), a batch");
  rows([](Call &c) { c.grads.shape[0] = 1; }, "grads[0] has shape (1, 2, 3, 6), expected (2, 2, 3, 6)");
  rows([](Call &c) { c.feats.shape[3] = 7; }, "feats[0] has shape (2, 2, 3, 7), expected (2, 2, 3, 6) (YL_NHWC)");
  planes([](Call &c) { c.feats.shape[1] = 7; }, "expected (2, 6, 2, 3) (YL_NCHW)");
  rows([](Call &c) { c.boxes.shape[2] = 4; }, "boxes has shape (2, 1, 4), expected (2, T, 5)");
  rows([](Call &c) { c.boxes.shape[0] = 1; }, "boxes has shape (1, 1, 5), expected (2, T, 5)");
  rows([](Call &c) { c.boxes.shape[1] = 2; }, "box_weights has shape (2, 1), expected (2, 2)");
}

TEST(dlpack, truths_of_another_shape_are_refused) {
  std::vector<float> memory(84);
  Tensor y_true(memory.data(), {2, 2, 3, 1, 7}, {}, {kDLCPU, 0});
  const DLTensor *const all[] = {&y_true.dl};
  rows([&](Call &c) { c.tensors.boxes = nullptr, c.tensors.box_weights = nullptr, c.tensors.y_true = all; },
       "y_true[0] has shape (2, 2, 3, 1, 7), expected (2, 2, 3, 1, 6)");
}

TEST(dlpack, the_other_layout_and_strides_with_gaps_are_refused) {
  rows([](Call &c) { Call::set_shape(c.feats, {2, 6, 2, 3}); },
       "feats[0] has strides of C order, which is YL_NCHW; this plan has YL_NHWC");
  planes([](Call &c) { Call::set_shape(c.grads, {2, 2, 3, 6}); },
         "grads[0] has strides of C order, which is YL_NHWC; this plan has YL_NCHW");
  rows([](Call &c) { Call::set_strides(c.feats, {36, 18, 6, 2}); },
       "feats[0] has strides (36, 18, 6, 2), which leaves gaps");
  rows([](Call &c) { Call::set_strides(c.feats, {0, 18, 6, 1}); }, "leaves gaps");
  rows([](Call &c) { Call::set_strides(c.boxes, {5, 5, 2}); }, "boxes has strides (5, 5, 2)");
  rows([](Call &c) { c.feats.dl.byte_offset = 2; }, "is not aligned to 4 bytes");
}

TEST(dlpack, types_that_are_not_the_plans_are_refused) {
  rows([](Call &c) { c.feats.dl.dtype.bits = 64; }, "feats[0] is float64, float32 is expected; make a plan");
  rows([](Call &c) { c.feats.dl.dtype = {kDLInt, 32, 1}; }, "feats[0] is int32, float32");
  rows([](Call &c) { c.feats.dl.dtype.lanes = 4; }, "feats[0] is float32 x 4");
  rows([](Call &c) { c.feats.dl.dtype.code = 9; }, "feats[0] is type 9 of bits 32");
  rows([](Call &c) { c.boxes.dl.dtype = {kDLInt, 64, 1}; }, "boxes is int64, float32 is expected");
  Call bfloat16(YL_NHWC, YL_BF16);
  bfloat16.run("feats[0] is float32, bfloat16 is expected");
  bfloat16.feats.dl.dtype = bfloat16.grads.dl.dtype = {kDLBfloat, 16, 1};
  bfloat16.run(nullptr);
}

TEST(dlpack, tensors_of_another_device_are_refused) {
  rows([](Call &c) { c.feats.dl.device = {kDLCUDA, 1}; }, "feats[0] is on cuda:1, this plan takes memory of the host");
  rows([](Call &c) { c.feats.dl.device.device_type = static_cast<DLDeviceType>(8); }, "a device of DLPack's type 8");
}

TEST_LABELLED(dlpack, host_tensors_are_refused_by_a_plan_with_device_memory, kNeedsCuda) {
  const Case c = golden("a_small_3scale");
  Plan p(c, cuda_device(Way::kDevice));
  float memory[1] = {};
  std::vector<std::unique_ptr<Tensor>> tensors;
  std::vector<const DLTensor *> feats;
  for (const Layer &layer : c.layers) {
    const std::vector<int64_t> shape = {c.batch, int64_t(layer.height), int64_t(layer.width),
                                        int64_t(layer.anchors() * c.channels())};
    tensors.push_back(std::make_unique<Tensor>(memory, shape, std::vector<int64_t>{}, DLDevice{kDLCPU, 0}));
    feats.push_back(&tensors.back()->dl);
  }
  Tensor boxes(memory, {c.batch, 0, 5}, {}, {kDLCUDA, 0});
  yl_tensors given = YL_TENSORS_INIT;
  given.feats = feats.data();
  given.boxes = &boxes.dl;
  CHECK_REFUSED(yl_loss_dlpack(p.plan, &given, nullptr, nullptr), YL_INVALID_ARGUMENT,
                "feats[0] is on the CPU, this plan takes memory of cuda:0");
  tensors[0]->dl.device = {kDLCUDA, 1};
  CHECK_REFUSED(yl_loss_dlpack(p.plan, &given, nullptr, nullptr), YL_INVALID_ARGUMENT,
                "feats[0] is on cuda:1, this plan");
}
