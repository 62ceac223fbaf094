// yl_yolo_head against its formulas, written here again with the functions of the C library.
#include "compare.h"
#include "values.h"

namespace {

double sigmoid(double u) { return 1 / (1 + std::exp(-u)); }

// The outputs of yl_yolo_head for one layer.
struct Head {
  std::vector<float> grid, xy, wh, confidence, probs;

  Head(const Case &c, size_t l) {
    const size_t cells = c.cells(l);
    grid.assign(2 * c.layers[l].height * c.layers[l].width, NAN);
    xy.assign(2 * cells, NAN);
    wh.assign(2 * cells, NAN);
    confidence.assign(cells, NAN);
    probs.assign(cells * static_cast<size_t>(c.classes), NAN);
  }
};

// Checks all values; those of logits near 0 to the last digits of float32.
void check_head(const Case &c, size_t l, const Head &got, const Tolerance &tolerance, const std::string &where) {
  const Layer &layer = c.layers[l];
  const auto classes = static_cast<size_t>(c.classes);
  std::vector<double> grid, xy, wh, confidence, probs;
  for (size_t place = 0; place < layer.height * layer.width; ++place)
    grid.insert(grid.end(), {double(place % layer.width), double(place / layer.width)});
  for (size_t cell = 0; cell < c.cells(l); ++cell) {
    const double *t = &layer.feats[cell * c.channels()];
    const size_t place = cell / layer.anchors();
    const float *anchor = c.anchor_of(l, cell);
    xy.push_back((sigmoid(t[0]) + double(place % layer.width)) / double(layer.width));
    xy.push_back((sigmoid(t[1]) + double(place / layer.width % layer.height)) / double(layer.height));
    wh.push_back(std::exp(t[2]) * anchor[0] / c.input_width);
    wh.push_back(std::exp(t[3]) * anchor[1] / c.input_height);
    confidence.push_back(sigmoid(t[4]));
    for (size_t n = 0; n < classes; ++n) probs.push_back(sigmoid(t[5 + n]));
  }
  if (!std::isnan(got.grid[0])) CHECK_ALL_NEAR(got.grid, grid, tolerance, where + ", grid");
  CHECK_ALL_NEAR(got.xy, xy, tolerance, where + ", box_xy");
  CHECK_ALL_NEAR(got.wh, wh, tolerance, where + ", box_wh");
  CHECK_ALL_NEAR(got.confidence, confidence, tolerance, where + ", box_confidence");
  CHECK_ALL_NEAR(got.probs, probs, tolerance, where + ", box_class_probs");
}

}  // namespace

TEST(head, gives_the_boxes_of_its_formulas) {
  for (const std::string &name : golden_names({"a_small_3scale", "g_extreme_logits"})) {
    const Case c = golden(name);
    for (const Device &device : devices()) {
      Plan p(c, device);
      for (size_t l = 0; l < c.layers.size(); ++l) {
        const std::string where = name + ", " + device.name + ", layer " + std::to_string(l);
        Head got(c, l);
        yl_head head = YL_HEAD_INIT;
        head.feats = p.feats[l];
        head.layer = static_cast<int32_t>(l);
        head.batch = c.batch;
        CHECK_OK(p.yolo_head(head), where + ": no output is requested");
        head.grid = got.grid.data();
        head.box_xy = got.xy.data();
        head.box_wh = got.wh.data();
        head.box_confidence = got.confidence.data();
        head.box_class_probs = got.probs.data();
        CHECK_OK(p.yolo_head(head), where);
        CHECK(!std::isnan(got.grid[0]), where);
        check_head(c, l, got, {1e-6, 1e-30}, where);
      }
    }
  }
}

TEST(head, arguments_that_are_wrong_are_refused) {
  for (const std::string &name : golden_names({"a_small_3scale", "g_extreme_logits"})) {
    const Case c = golden(name);
    for (const Device &device : devices()) {
      Plan p(c, device);
      for (size_t l = 0; l < c.layers.size(); ++l) {
        Head got(c, l);
        yl_head head = YL_HEAD_INIT;
        head.feats = p.feats[l];
        head.layer = static_cast<int32_t>(l);
        head.batch = c.batch;
        head.box_xy = got.xy.data();
        head.box_wh = head.box_xy + 1;
        CHECK_REFUSED(yl_yolo_head(p.plan, &head), YL_INVALID_ARGUMENT, "overlap", device.name);
        head.box_wh = nullptr;
        head.layer = static_cast<int32_t>(c.layers.size());
        CHECK_REFUSED(yl_yolo_head(p.plan, &head), YL_INVALID_ARGUMENT, "head.layer is", device.name);
        head.layer = 0;
        head.feats = nullptr;
        CHECK_REFUSED(yl_yolo_head(p.plan, &head), YL_INVALID_ARGUMENT, "head.feats is NULL", device.name);
      }
    }
  }
}

TEST(head, takes_logits_of_every_type_and_order) {
  const Case given = golden("a_small_3scale");
  for (const Device &device : devices())
    for (const int32_t dtype : {YL_F32, YL_F16, YL_BF16, YL_F64})
      for (const int32_t layout : {YL_NHWC, YL_NCHW}) {
        const Case c = given.rounded_to(dtype);
        Options options;
        options.device = device;
        options.dtype = dtype;
        options.layout = layout;
        const std::string where = named(c, options);
        const std::unique_ptr<Config> made = config_of(c, options);
        if (!CHECK_OK(made->create(), where)) continue;
        const bool on_device = device.in_device_memory();
        for (size_t l = 0; l < c.layers.size(); ++l) {
          Head got(c, l);
          CallMemory feats(on_device, static_cast<int64_t>(c.elements(l)) * size_of(dtype));
          store_feats(c, l, options, feats.host());
          std::vector<std::unique_ptr<CallMemory>> memory;
          std::vector<float> *const outputs[] = {&got.xy, &got.wh, &got.confidence, &got.probs};
          for (const auto *output : outputs)
            memory.push_back(std::make_unique<CallMemory>(on_device, static_cast<int64_t>(4 * output->size())));
          yl_head head = YL_HEAD_INIT;
          head.layer = static_cast<int32_t>(l);
          head.batch = c.batch;
          head.feats = feats.upload();
          head.box_xy = static_cast<float *>(memory[0]->upload());
          head.box_wh = static_cast<float *>(memory[1]->upload());
          head.box_confidence = static_cast<float *>(memory[2]->upload());
          head.box_class_probs = static_cast<float *>(memory[3]->upload());
          CHECK_OK(yl_yolo_head(made->plan, &head), where);
          for (size_t o = 0; o < memory.size(); ++o) {
            memory[o]->download();
            std::memcpy(outputs[o]->data(), memory[o]->host(), 4 * outputs[o]->size());
          }
          check_head(c, l, got, {1e-6, 1e-7}, where);
        }
      }
}
