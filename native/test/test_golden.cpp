// Every golden case over every device: loss, parts, counts, gradient and truths, dense and boxes; and that bits do not
// depend on threads, on the position in the batch, on the form of the truths or on where the gradient goes.
#include "plan.h"

namespace {

bool near(double got, double want) { return std::fabs(got - want) <= 1e-5 * std::fabs(want) + 1e-6; }

void check_loss(const Plan &p, const std::string &where) {
  const Golden &g = p.golden;
  CHECK(near(p.summary.total, g.total), where + ": " + number(p.summary.total) + ", want " + number(g.total));
  for (size_t l = 0; l < p.layers_out.size(); ++l) {
    const yl_parts &got = p.layers_out[l];
    const std::string at = where + ", layer " + std::to_string(l);
    CHECK(near(got.xy, g.xy[l]), at);
    CHECK(near(got.wh, g.wh[l]), at);
    CHECK(near(got.confidence_object + got.confidence_background, g.confidence[l]), at);
    CHECK(near(got.class_, g.class_[l]), at);
    CHECK(double(got.objects) == g.objects[l], at);
    CHECK(double(got.ignored) == g.ignored[l], at);
    CHECK(double(got.ignored_background) == g.ignored_background[l], at);
    CHECK(got.non_finite == 0, at);
  }
}

void check_gradient(const Plan &p, const std::string &where) {
  for (size_t l = 0; l < p.grad_data.size(); ++l) {
    const std::vector<float> &got = p.grad_data[l], &want = p.golden.grads[l].data;
    float largest = 0;
    for (const float w : want) largest = std::fmax(largest, std::fabs(w));
    size_t wrong = 0;
    for (size_t i = 0; i < want.size(); ++i) wrong += !(std::fabs(got[i] - want[i]) <= 1e-6 + 1e-5 * largest);
    CHECK(wrong == 0, where + ", layer " + std::to_string(l) + ": " + std::to_string(wrong) + " elements off");
  }
}

void golden_case(const Golden &g, const DeviceCase &device, Plan &first) {
  const std::string where = g.name + ", " + device.name;
  Plan p(g, device);
  if (!CHECK(p.run(true) == YL_OK, where + ": " + yl_last_error())) return;
  check_loss(p, where + ", dense");
  check_gradient(p, where + ", dense");
  const std::vector<yl_parts> rows = p.rows;
  const auto gradient = p.grad_data;

  // Any number of threads gives the bits of one thread, any way to a CUDA device those of another.
  CHECK(same_bits(p.rows, first.rows), where);
  for (size_t l = 0; l < gradient.size(); ++l) CHECK(same_bits(gradient[l], first.grad_data[l]), where);

  // Loss only gives the same rows.
  p.call.grads = nullptr;
  CHECK(p.run(true) == YL_OK && same_bits(p.rows, rows), where + ", loss only");
  p.call.grads = p.grads.data();

  // The gradient may be written over feats.
  auto in_place = std::vector<std::vector<float>>();
  for (size_t l = 0; l < gradient.size(); ++l) in_place.push_back(g.feats[l].data);
  for (size_t l = 0; l < gradient.size(); ++l) p.feats[l] = p.grads[l] = in_place[l].data();
  CHECK(p.run(true) == YL_OK && same_bits(p.rows, rows), where + ", in place");
  for (size_t l = 0; l < gradient.size(); ++l) CHECK(same_bits(in_place[l], gradient[l]), where + ", in place");
  for (size_t l = 0; l < gradient.size(); ++l) {
    p.feats[l] = g.feats[l].data.data();
    p.grads[l] = p.grad_data[l].data();
  }

  if (!g.has_boxes()) return;
  for (auto &grad : p.grad_data) grad.assign(grad.size(), NAN);
  CHECK(p.run(false) == YL_OK, where + ": " + yl_last_error());
  CHECK(same_bits(p.rows, rows), where + ", boxes");
  for (size_t l = 0; l < gradient.size(); ++l) CHECK(same_bits(p.grad_data[l], gradient[l]), where + ", boxes");

  std::vector<std::vector<float>> built;
  std::vector<float *> pointers;
  for (const Array &y : g.y_true) built.emplace_back(y.data.size(), NAN);
  for (auto &y : built) pointers.push_back(y.data());
  yl_box_counts counts;
  CHECK(p.build_y_true(pointers.data(), &counts) == YL_OK, where);
  CHECK(counts.used == p.summary.boxes.used && counts.dropped == p.summary.boxes.dropped &&
            counts.collided == p.summary.boxes.collided && counts.skipped == 0,
        where);
  for (size_t l = 0; l < built.size(); ++l) CHECK(same_bits(built[l], g.y_true[l].data), where + ", y_true");
}

// Images in reverse order, and one by one through the same plan: the same rows and gradients, to the bit.
void split_and_permuted(const Golden &g, const DeviceCase &device) {
  const std::string where = g.name + ", " + device.name;
  Plan whole(g, device), part(g, device, g.batch + 3);
  CHECK(whole.run(true) == YL_OK && part.run(true) == YL_OK, where);
  const size_t layers = static_cast<size_t>(g.layers), batch = static_cast<size_t>(g.batch);
  // grad is divided by the batch: keep the whole batch's normaliser for the parts.
  part.call.normaliser = YL_NORMALISER_VALUE;
  part.call.normaliser_value = g.batch;
  part.call.batch = 1;
  double sum = 0;
  for (size_t image = 0; image < batch; ++image) {
    for (size_t l = 0; l < layers; ++l) {
      const size_t size = g.feats[l].data.size() / batch;
      part.feats[l] = g.feats[l].data.data() + image * size;
      part.y_true[l] = g.y_true[l].data.data() + image * size;
      part.grads[l] = part.grad_data[l].data() + (batch - 1 - image) * size;  // a permuted place
    }
    CHECK(part.run(true) == YL_OK, where);
    CHECK(std::memcmp(part.rows.data(), &whole.rows[image * layers], layers * sizeof(yl_parts)) == 0, where);
    sum += part.summary.total;
    for (size_t l = 0; l < layers; ++l)
      CHECK(std::memcmp(
                part.grads[l],
                static_cast<const char *>(whole.grads[l]) + image * (g.feats[l].data.size() / batch) * sizeof(float),
                g.feats[l].data.size() / batch * sizeof(float)) == 0,
            where);
  }
  CHECK(std::fabs(sum - whole.summary.total) <= 1e-12 * sum, where);

  std::vector<std::vector<float>> feats(layers), y_true(layers);
  for (size_t l = 0; l < layers; ++l) {
    const auto size = static_cast<int64_t>(g.feats[l].data.size() / batch);
    for (int64_t image = g.batch - 1; image >= 0; --image) {
      const auto &f = g.feats[l].data, &y = g.y_true[l].data;
      feats[l].insert(feats[l].end(), f.begin() + image * size, f.begin() + (image + 1) * size);
      y_true[l].insert(y_true[l].end(), y.begin() + image * size, y.begin() + (image + 1) * size);
    }
    part.feats[l] = feats[l].data();
    part.y_true[l] = y_true[l].data();
    part.grads[l] = part.grad_data[l].data();
  }
  part.call.batch = g.batch;
  CHECK(part.run(true) == YL_OK, where);
  for (size_t image = 0; image < batch; ++image)
    CHECK(std::memcmp(&part.rows[(batch - 1 - image) * layers], &whole.rows[image * layers],
                      layers * sizeof(yl_parts)) == 0,
          where);
}

// A gradient that is refreshed over the previous one, with truths that move and images that come and go, is the gradient.
void refreshed(const Golden &g, const DeviceCase &device) {
  const std::string where = g.name + ", " + device.name + ", refresh";
  Plan p(g, device);
  const auto refuse = [&](const char *words) {
    p.call.grad_mode = YL_GRAD_REFRESH;
    CHECK(p.run(true) == YL_INVALID_ARGUMENT && says(words), where + ": " + yl_last_error());
    p.call.grad_mode = YL_GRAD_OVERWRITE;
  };
  refuse("no call has written a gradient");
  const size_t layers = static_cast<size_t>(g.layers), channels = static_cast<size_t>(5 + g.classes);
  std::vector<std::vector<float>> moved;  // the truths of the next cell, and the last object has none
  for (const Array &y : g.y_true) {
    moved.push_back(y.data);
    auto &m = moved.back();
    std::rotate(m.begin(), m.begin() + static_cast<int64_t>(m.size() - channels), m.end());
    for (size_t cell = m.size() / channels; cell-- > 0;)
      if (m[cell * channels + 4] != 0) {
        std::fill_n(&m[cell * channels], channels, 0.0f);
        break;
      }
  }
  const auto turn = [&](bool use_moved, int32_t batch, int32_t mode) {
    for (size_t l = 0; l < layers; ++l) p.y_true[l] = use_moved ? moved[l].data() : g.y_true[l].data.data();
    p.call.batch = batch;
    p.call.grad_mode = mode;
    CHECK(p.run(true) == YL_OK, where + ": " + yl_last_error());
  };
  turn(false, g.batch, YL_GRAD_OVERWRITE);
  const auto whole = p.grad_data;
  const auto rows = p.rows;
  turn(true, g.batch, YL_GRAD_OVERWRITE);
  const auto of_moved = p.grad_data;
  turn(false, 1, YL_GRAD_REFRESH);
  turn(false, g.batch, YL_GRAD_REFRESH);
  CHECK(same_bits(p.rows, rows), where);
  for (size_t l = 0; l < layers; ++l) CHECK(same_bits(p.grad_data[l], whole[l]), where);
  turn(true, g.batch, YL_GRAD_REFRESH);
  for (size_t l = 0; l < layers; ++l) CHECK(same_bits(p.grad_data[l], of_moved[l]), where);
  p.call.grads = nullptr;  // a call without a gradient leaves the buffers as they are
  turn(false, g.batch, YL_GRAD_OVERWRITE);
  p.call.grads = p.grads.data();
  turn(false, g.batch, YL_GRAD_REFRESH);
  for (size_t l = 0; l < layers; ++l) CHECK(same_bits(p.grad_data[l], whole[l]), where);

  // Only what the mode says is written.
  if (device.way == Way::kHost && device.device == YL_DEVICE_CUDA) return;  // copies whole chunks back
  for (auto &grad : p.grad_data) std::fill(grad.begin(), grad.end(), -7.0f);
  turn(false, g.batch, YL_GRAD_REFRESH);
  for (size_t l = 0; l < layers; ++l)
    for (size_t i = 0; i < whole[l].size(); ++i) {
      const size_t cell = i / channels;
      const bool written = i % channels == 4 || g.y_true[l].data[cell * channels + 4] != 0;
      if (p.grad_data[l][i] != (written ? whole[l][i] : -7.0f)) CHECK(false, where + ", element " + std::to_string(i));
    }

  const void *const feats = p.feats[0];
  void *const grad = p.grads[0];
  p.feats[0] = p.grads[0];
  refuse("grads[0] is feats[0]");
  p.feats[0] = feats;
  std::vector<float> elsewhere(p.grad_data[0].size());
  if (device.way == Way::kHost) {
    p.grads[0] = elsewhere.data();
    refuse("not the buffers of the plan's last gradient");
    p.grads[0] = grad;
  }
  turn(false, 1, YL_GRAD_OVERWRITE);
  turn(false, g.batch, YL_GRAD_REFRESH);  // the other images' are still there
  turn(false, g.batch, YL_GRAD_ACCUMULATE);
  refuse("grads hold a sum of gradients");
  turn(false, g.batch, YL_GRAD_OVERWRITE);
  Plan fewer(g, device, g.batch + 1);
  fewer.call.batch = 1;
  CHECK(fewer.run(true) == YL_OK);
  fewer.call.batch = g.batch;
  fewer.call.grad_mode = YL_GRAD_REFRESH;
  if (g.batch > 1) REFUSED(fewer.run(true), YL_INVALID_ARGUMENT, "fewer images");
}

}  // namespace

// All cases, or those that are named.
int main(int count, char **arguments) {
  const std::vector<std::string> named(arguments + 1, arguments + count);
  for (const std::string &name : named.empty() ? kGoldenNames : named) {
    const Golden g = read_golden(name);
    for (size_t i = 0, first_of_kind = 0; i < kDevices.size(); ++i) {
      if (!same_kind(kDevices[i], kDevices[first_of_kind])) first_of_kind = i;
      Plan first(g, kDevices[first_of_kind]);
      CHECK(first.run(true) == YL_OK);
      golden_case(g, kDevices[i], first);
      split_and_permuted(g, kDevices[i]);
      refreshed(g, kDevices[i]);
    }
  }
  return report("golden");
}
