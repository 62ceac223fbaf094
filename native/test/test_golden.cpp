// Every golden case over every device: loss, parts, counts, gradient and truths are keras-yolo3's. Bits do not depend
// on threads, on the position in the batch, on the form of the truths or on where the gradient goes.
#include <algorithm>
#include <functional>

#include "compare.h"

namespace {

constexpr Tolerance kFloat32{1e-5, 1e-6};

// Runs the body for every golden case on every device; where names both.
void on_every_device(const std::function<void(const Case &, const Device &, const std::string &where)> &body) {
  for (const std::string &name : golden_names()) {
    const Case c = golden(name);
    for (const Device &device : devices()) body(c, device, name + ", " + device.name);
  }
}

void check_gradient(const Case &c, size_t layer, const std::vector<double> &got, const std::string &where) {
  float largest = 0;
  for (const float w : c.layers[layer].expected.grad) largest = std::fmax(largest, std::fabs(w));
  CHECK_ALL_NEAR(got, c.layers[layer].expected.grad, {0, 1e-6 + 1e-5 * largest}, where);
}

void check_same_gradient(const Plan &p, const std::vector<std::vector<float>> &want, const std::string &where) {
  for (size_t l = 0; l < want.size(); ++l)
    CHECK_SAME_BITS(p.gradient[l], want[l], where + ", gradient of layer " + std::to_string(l));
}

}  // namespace

TEST(golden, loss_parts_and_gradient_are_those_of_keras_yolo3) {
  on_every_device([](const Case &c, const Device &device, const std::string &where) {
    Plan p(c, device);
    if (!CHECK_OK(p.run(Truths::kYTrue), where)) return;
    compare_with_golden(c, p.summary, p.layers, kFloat32, where);
    for (size_t l = 0; l < p.layer_count(); ++l)
      check_gradient(c, l, {p.gradient[l].begin(), p.gradient[l].end()}, where);
  });
}

TEST_LABELLED(golden, planes_and_float64_give_the_same_figures, kLong) {
  on_every_device([](const Case &c, const Device &device, const std::string &) {
    for (const int32_t dtype : {YL_F32, YL_F64})
      for (const Truths truths : {Truths::kYTrue, Truths::kBoxes}) {
        if (truths == Truths::kBoxes && !c.has_boxes()) continue;
        Options options;
        options.device = device;
        options.dtype = dtype;
        options.layout = YL_NCHW;
        options.truths = truths;
        const Output got = run(c, options);
        const std::string where = named(c, options);
        if (!CHECK_OK(got.status, where)) continue;
        compare_with_golden(c, got.summary, got.layers, dtype == YL_F64 ? Tolerance{1e-12, 1e-12} : kFloat32, where);
        for (size_t l = 0; l < got.grads.size(); ++l) check_gradient(c, l, got.grads[l], where);
      }
  });
}

TEST(golden, threads_and_ways_to_a_device_change_no_bit) {
  for (const std::string &name : golden_names()) {
    const Case c = golden(name);
    const Device *kind = nullptr;
    std::vector<yl_parts> rows;
    std::vector<std::vector<float>> gradient;
    for (const Device &device : devices()) {
      const std::string where = name + ", " + device.name;
      Plan p(c, device);
      CHECK_OK(p.run(Truths::kYTrue), where);
      if (!kind || !same_kind(*kind, device)) kind = &device, rows = p.rows, gradient = p.gradient;
      CHECK_SAME_BITS(p.rows, rows, where);
      check_same_gradient(p, gradient, where);
    }
  }
}

TEST(golden, loss_without_a_gradient_has_the_same_rows) {
  on_every_device([](const Case &c, const Device &device, const std::string &where) {
    Plan p(c, device);
    CHECK_OK(p.run(Truths::kYTrue), where);
    const std::vector<yl_parts> rows = p.rows;
    p.call.grads = nullptr;
    CHECK_OK(p.run(Truths::kYTrue), where);
    CHECK_SAME_BITS(p.rows, rows, where);
  });
}

TEST(golden, gradient_may_be_written_over_feats) {
  on_every_device([](const Case &c, const Device &device, const std::string &where) {
    Plan p(c, device);
    CHECK_OK(p.run(Truths::kYTrue), where);
    const std::vector<yl_parts> rows = p.rows;
    std::vector<std::vector<float>> over = p.logits;
    for (size_t l = 0; l < over.size(); ++l) p.feats[l] = p.grads[l] = over[l].data();
    CHECK_OK(p.run(Truths::kYTrue), where);
    CHECK_SAME_BITS(p.rows, rows, where);
    for (size_t l = 0; l < over.size(); ++l) CHECK_SAME_BITS(over[l], p.gradient[l], where);
  });
}

TEST(golden, boxes_have_the_bits_of_y_true) {
  on_every_device([](const Case &c, const Device &device, const std::string &where) {
    if (!c.has_boxes()) return;
    Plan p(c, device);
    CHECK_OK(p.run(Truths::kYTrue), where);
    const std::vector<yl_parts> rows = p.rows;
    const auto gradient = p.gradient;
    for (auto &layer : p.gradient) layer.assign(layer.size(), NAN);
    CHECK_OK(p.run(Truths::kBoxes), where);
    CHECK_SAME_BITS(p.rows, rows, where);
    check_same_gradient(p, gradient, where);
  });
}

TEST(golden, truths_built_from_boxes_are_y_true) {
  on_every_device([](const Case &c, const Device &device, const std::string &where) {
    if (!c.has_boxes()) return;
    Plan p(c, device);
    CHECK_OK(p.run(Truths::kBoxes), where);
    std::vector<std::vector<float>> built;
    for (const Layer &layer : c.layers) built.emplace_back(layer.y_true.size(), NAN);
    yl_box_counts counts;
    CHECK_OK(p.build_y_true(built, &counts), where);
    CHECK_EQUAL(counts.used, p.summary.boxes.used, where);
    CHECK_EQUAL(counts.dropped, p.summary.boxes.dropped, where);
    CHECK_EQUAL(counts.collided, p.summary.boxes.collided, where);
    CHECK_EQUAL(counts.skipped, 0, where);
    for (size_t l = 0; l < built.size(); ++l) CHECK_SAME_BITS(built[l], c.layers[l].y_true, where);
  });
}

// The plan of the parts is larger than the batch.
TEST(golden, images_one_by_one_have_the_rows_and_gradients_of_the_batch) {
  on_every_device([](const Case &c, const Device &device, const std::string &where) {
    Plan whole(c, device), part(c, device, c.batch + 3);
    CHECK_OK(whole.run(Truths::kYTrue), where);
    // The gradient is divided by the normaliser: the parts keep that of the whole batch.
    part.call.normaliser = YL_NORMALISER_VALUE;
    part.call.normaliser_value = c.batch;
    part.call.batch = 1;
    const size_t layers = c.layers.size();
    double sum = 0;
    for (size_t image = 0; image < c.images(); ++image) {
      for (size_t l = 0; l < layers; ++l) {
        const size_t size = c.layers[l].feats.size() / c.images();
        part.feats[l] = part.logits[l].data() + image * size;
        part.y_true[l] = c.layers[l].y_true.data() + image * size;
        part.grads[l] = part.gradient[l].data() + (c.images() - 1 - image) * size;  // in reverse
      }
      CHECK_OK(part.run(Truths::kYTrue), where);
      const auto row = static_cast<int64_t>(image * layers);
      part.rows.resize(layers);
      CHECK_SAME_BITS(part.rows,
                      std::vector<yl_parts>(whole.rows.begin() + row, whole.rows.begin() + row + int64_t(layers)),
                      where);
      part.rows.resize(layers * static_cast<size_t>(c.batch + 3));
      sum += part.summary.total;
      for (size_t l = 0; l < layers; ++l) {
        const auto size = static_cast<int64_t>(c.layers[l].feats.size() / c.images());
        const auto *const got = static_cast<const float *>(part.grads[l]);
        const auto want = whole.gradient[l].begin() + static_cast<int64_t>(image) * size;
        CHECK_SAME_BITS(std::vector<float>(got, got + size), std::vector<float>(want, want + size), where);
      }
    }
    CHECK_NEAR(sum, whole.summary.total, {1e-12, 0}, where);
  });
}

TEST(golden, images_in_reverse_order_have_the_same_rows) {
  on_every_device([](const Case &c, const Device &device, const std::string &where) {
    Plan whole(c, device), part(c, device, c.batch + 3);
    CHECK_OK(whole.run(Truths::kYTrue), where);
    const size_t layers = c.layers.size();
    std::vector<std::vector<float>> feats(layers), y_true(layers);
    for (size_t l = 0; l < layers; ++l) {
      const auto size = static_cast<int64_t>(c.layers[l].feats.size() / c.images());
      for (int64_t image = c.batch - 1; image >= 0; --image) {
        const auto &f = part.logits[l], &y = c.layers[l].y_true;
        feats[l].insert(feats[l].end(), f.begin() + image * size, f.begin() + (image + 1) * size);
        y_true[l].insert(y_true[l].end(), y.begin() + image * size, y.begin() + (image + 1) * size);
      }
      part.feats[l] = feats[l].data();
      part.y_true[l] = y_true[l].data();
    }
    CHECK_OK(part.run(Truths::kYTrue), where);
    std::vector<yl_parts> got, want;
    for (size_t image = 0; image < c.images(); ++image)
      for (size_t l = 0; l < layers; ++l) {
        got.push_back(part.rows[(c.images() - 1 - image) * layers + l]);
        want.push_back(whole.rows[image * layers + l]);
      }
    CHECK_SAME_BITS(got, want, where);
  });
}

// ---- YL_GRAD_REFRESH ------------------------------------------------------------------------------------------------

namespace {

// A plan whose truths move: each object to the next cell, and the last one vanishes.
struct Refreshed {
  Plan p;
  std::string where;
  std::vector<std::vector<float>> moved;

  Refreshed(const Case &c, const Device &device, const std::string &text) : p(c, device), where(text + ", refresh") {
    const auto channels = static_cast<int64_t>(c.channels());
    for (const Layer &layer : c.layers) {
      std::vector<float> m = layer.y_true;
      std::rotate(m.begin(), m.end() - channels, m.end());
      for (auto row = m.end() - channels; row >= m.begin(); row -= channels)
        if (row[4] != 0) {
          std::fill_n(row, channels, 0.0f);
          break;
        }
      moved.push_back(m);
    }
  }

  void call(const char *truths, int32_t batch, int32_t mode) {
    const bool are_moved = std::string(truths) == "moved truths";
    for (size_t l = 0; l < p.layer_count(); ++l)
      p.y_true[l] = are_moved ? moved[l].data() : p.c.layers[l].y_true.data();
    p.call.batch = batch;
    p.call.grad_mode = mode;
    CHECK_OK(p.run(Truths::kYTrue), where + ", " + truths);
  }
  void refuse(const char *words) {
    p.call.grad_mode = YL_GRAD_REFRESH;
    CHECK_REFUSED(p.run(Truths::kYTrue), YL_INVALID_ARGUMENT, words, where);
    p.call.grad_mode = YL_GRAD_OVERWRITE;
  }
};

}  // namespace

TEST(golden, refresh_over_the_previous_gradient_is_the_gradient) {
  on_every_device([](const Case &c, const Device &device, const std::string &text) {
    Refreshed r(c, device, text);
    Plan &p = r.p;
    r.call("truths", c.batch, YL_GRAD_OVERWRITE);
    const auto whole = p.gradient;
    const auto rows = p.rows;
    r.call("moved truths", c.batch, YL_GRAD_OVERWRITE);
    const auto of_moved = p.gradient;
    r.call("truths", 1, YL_GRAD_REFRESH);
    r.call("truths", c.batch, YL_GRAD_REFRESH);
    CHECK_SAME_BITS(p.rows, rows, r.where);
    check_same_gradient(p, whole, r.where);
    r.call("moved truths", c.batch, YL_GRAD_REFRESH);
    check_same_gradient(p, of_moved, r.where);
    p.call.grads = nullptr;  // a call without a gradient leaves the buffers as they are
    r.call("truths", c.batch, YL_GRAD_OVERWRITE);
    p.call.grads = p.grads.data();
    r.call("truths", c.batch, YL_GRAD_REFRESH);
    check_same_gradient(p, whole, r.where);
  });
}

TEST(golden, refresh_writes_objectness_and_objects_only) {
  on_every_device([](const Case &c, const Device &device, const std::string &text) {
    if (device.way == Way::kHost && device.kind == YL_DEVICE_CUDA) return;  // copies whole chunks back
    Refreshed r(c, device, text);
    r.call("truths", c.batch, YL_GRAD_OVERWRITE);
    std::vector<std::vector<float>> want = r.p.gradient;
    for (auto &layer : r.p.gradient) std::fill(layer.begin(), layer.end(), -7.0f);
    r.call("truths", c.batch, YL_GRAD_REFRESH);
    for (size_t l = 0; l < want.size(); ++l)
      for (size_t i = 0; i < want[l].size(); ++i)
        if (i % c.channels() != 4 && !c.is_object(l, i / c.channels())) want[l][i] = -7.0f;
    for (size_t l = 0; l < want.size(); ++l) CHECK_ALL_NEAR(r.p.gradient[l], want[l], {}, r.where);
  });
}

TEST(golden, refresh_needs_the_buffers_of_the_last_gradient) {
  on_every_device([](const Case &c, const Device &device, const std::string &text) {
    Refreshed r(c, device, text);
    Plan &p = r.p;
    r.refuse("no call has written a gradient");
    r.call("truths", c.batch, YL_GRAD_OVERWRITE);
    const void *const feats = p.feats[0];
    p.feats[0] = p.grads[0];
    r.refuse("grads[0] is feats[0]");
    p.feats[0] = feats;
    if (device.way == Way::kHost) {
      void *const grad = p.grads[0];
      std::vector<float> elsewhere(p.gradient[0].size());
      p.grads[0] = elsewhere.data();
      r.refuse("not the buffers of the plan's last gradient");
      p.grads[0] = grad;
    }
    r.call("truths", 1, YL_GRAD_OVERWRITE);
    r.call("truths", c.batch, YL_GRAD_REFRESH);  // those of the other images are still there
    r.call("truths", c.batch, YL_GRAD_ACCUMULATE);
    r.refuse("grads hold a sum of gradients");
    r.call("truths", c.batch, YL_GRAD_OVERWRITE);
    if (c.batch == 1) return;
    Plan fewer(c, device, c.batch + 1);
    fewer.call.batch = 1;
    CHECK_OK(fewer.run(Truths::kYTrue), r.where);
    fewer.call.batch = c.batch;
    fewer.call.grad_mode = YL_GRAD_REFRESH;
    CHECK_REFUSED(fewer.run(Truths::kYTrue), YL_INVALID_ARGUMENT, "fewer images", r.where);
  });
}
