// Layout x type x device x options against the reference device in double, on the same (rounded) logits: rows, counts,
// gradient, statistics, maps.
#include "compare.h"
#include "values.h"

namespace {

// Returns the columns of the matrix.
std::vector<Options> option_sets(const Case &c, const float *class_weights, const float *threshes) {
  std::vector<Options> sets(8);
  sets[1].statistics = true;
  sets[2].gradient = false;
  sets[3].grad_mode = YL_GRAD_ACCUMULATE;
  sets[3].gradient_before = 0.375;
  sets[3].normaliser = YL_NORMALISER_OBJECTS;
  sets[4].grad_mode = YL_GRAD_REFRESH;
  sets[4].grad_scale = 16;
  sets[4].normaliser = YL_NORMALISER_NONE;
  for (size_t i = 5; i < 8; ++i) {
    yl_rules &r = sets[i].with_rules();
    r.class_weights = class_weights;
    r.ignore_threshes = threshes;
    r.weight_xy = 0.5f, r.weight_wh = 2, r.weight_object = 1.5f, r.weight_background = 0.25f, r.weight_class = 3;
    r.label_smoothing = 0.125f;
  }
  sets[5].rules.ignore_scope = YL_SCOPE_LAYER;
  sets[6].rules.ignore_scope = sets[7].rules.ignore_scope = YL_SCOPE_IMAGE;
  sets[6].statistics = true;
  sets[6].scan = YL_SCAN_ALL;
  sets[7].grad_mode = YL_GRAD_ACCUMULATE;
  if (c.has_boxes()) sets[6].truths = sets[7].truths = Truths::kBoxes;
  return sets;
}

Case with_box_weights(Case c) {
  for (size_t i = 0; i < c.boxes.size() / 5; ++i)
    c.box_weights.push_back(i % 4 == 2 ? 0.0f : 0.25f * static_cast<float>(1 + i % 7));
  return c;
}

// Checks that a gradient written over feats has the same bits.
void check_over_feats(const Case &c, Options options, const Output &want) {
  options.gradient_over_feats = true;
  const Output got = run(c, options);
  CHECK_SAME_BITS(got.rows, want.rows, named(c, options));
  for (size_t l = 0; l < want.grads.size(); ++l) CHECK_SAME_BITS(got.grads[l], want.grads[l], named(c, options));
}

// One type and one set of options on every device, in both orders, with both types of gradient.
void check_cell(const Case &c, Options options) {
  const Output want = run_on_reference(c, options);
  const bool can_be_over_feats = options.grad_mode == YL_GRAD_OVERWRITE && options.gradient;
  const Device *kind = nullptr;
  std::vector<yl_parts> rows;  // of the first device of its kind
  for (const Device &device : devices()) {
    if (device.kind == YL_DEVICE_CPU && device.threads == 2) continue;
    for (const int32_t layout : {YL_NHWC, YL_NCHW})
      for (const int32_t grad_dtype : {YL_GRAD_LIKE_FEATS, YL_GRAD_F32}) {
        options.device = device;
        options.layout = layout;
        options.grad_dtype = grad_dtype;
        const Output got = run(c, options);
        compare(c, options, got, want);
        // Neither the type of the gradient, nor threads, nor the way to a device change the rows; on the host nor the
        // layout. (Tiles of a CUDA device are cells in the order of memory.)
        if (!kind || !same_kind(*kind, device)) kind = &device, rows = got.rows;
        if (layout == YL_NHWC || device.kind != YL_DEVICE_CUDA) CHECK_SAME_BITS(got.rows, rows, named(c, options));
        if (can_be_over_feats && grad_dtype == YL_GRAD_LIKE_FEATS) check_over_feats(c, options, got);
      }
  }
}

void matrix_of(int32_t dtype) {
  for (const std::string &name : golden_names({"a_small_3scale", "f_soft_targets", "h_builder_edges"})) {
    Case c = with_box_weights(golden(name));
    std::vector<float> class_weights, threshes;
    for (int32_t i = 0; i < c.classes; ++i)
      class_weights.push_back(i % 3 == 1 ? 0.0f : 0.5f + static_cast<float>(i % 5));
    for (size_t l = 0; l < c.layers.size(); ++l) threshes.push_back(0.35f + 0.1f * static_cast<float>(l));
    if (dtype == YL_F64)  // logits that float32 cannot hold
      for (Layer &layer : c.layers)
        for (double &value : layer.feats) value += 1e-9;
    c = c.rounded_to(dtype);
    for (Options options : option_sets(c, class_weights.data(), threshes.data())) {
      options.dtype = dtype;
      check_cell(c, options);
    }
  }
}

}  // namespace

TEST_LABELLED(matrix, float32_equals_the_reference_with_all_options, kLong) { matrix_of(YL_F32); }
TEST_LABELLED(matrix, float16_equals_the_reference_with_all_options, kLong) { matrix_of(YL_F16); }
TEST_LABELLED(matrix, bfloat16_equals_the_reference_with_all_options, kLong) { matrix_of(YL_BF16); }
TEST_LABELLED(matrix, float64_equals_the_reference_with_all_options, kLong) { matrix_of(YL_F64); }
