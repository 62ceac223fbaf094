// Values and labels that are wrong, planted in a large batch of healthy ones: each is counted, and found at its address.
#include <random>

#include "run.h"

namespace {

// Six images of three layers, logits in -2..2, an object here and there, dense and as boxes.
Case large_batch() {
  Golden g = read_golden("b_one_class_416");
  g.name = "large batch";
  g.batch = 6, g.classes = 4, g.boxes_per_image = 7;
  g.input_height = 192, g.input_width = 256;
  std::mt19937 random(7);
  const auto uniform = [&](double low, double high) {
    return static_cast<float>(low + (high - low) * (random() % 100000) / 1e5);
  };
  g.boxes = {{6, 7, 5}, {}};
  for (int image = 0; image < 6; ++image)
    for (int t = 0; t < 7; ++t) {  // side by side: no two share a cell
      const auto x = static_cast<float>(34 * t), y = static_cast<float>(20 + t % 3 * 40 + 2 * image);
      const auto w = static_cast<float>(18 + (7 * image + 3 * t) % 14),
                 h = static_cast<float>(20 + (11 * t + 5 * image) % 50);
      g.boxes.data.insert(g.boxes.data.end(), {x, y, x + w, y + h, static_cast<float>((t + image) % 4)});
    }
  g.feats.clear(), g.y_true.clear();
  for (const int64_t side : {1, 2, 4}) {
    const int64_t height = 6 * side, width = 8 * side;
    Array feats{{6, height, width, 27}, {}}, y{{6, height, width, 3, 9}, {}};
    for (int64_t i = 0; i < 6 * height * width * 27; ++i) feats.data.push_back(uniform(-2, 2));
    y.data.assign(feats.data.size(), 0.0f);
    for (size_t cell = 5; cell < y.data.size() / 9; cell += 71) {
      float *row = &y.data[9 * cell];
      const auto place = static_cast<int64_t>(cell) / 3;
      row[0] = (static_cast<float>(place % width) + 0.5f) / static_cast<float>(width);
      row[1] = (static_cast<float>(place / width % height) + 0.25f) / static_cast<float>(height);
      row[2] = 0.25f, row[3] = 0.5f, row[4] = 1, row[5 + cell % 4] = 1;
    }
    g.feats.push_back(feats);
    g.y_true.push_back(y);
  }
  return Case(g);
}

struct Address {
  int32_t image, layer, row, column, anchor, channel;
};
std::string text(const yl_offender &o) {
  return "cause " + std::to_string(o.cause) + " at image " + std::to_string(o.image) + ", layer " +
         std::to_string(o.layer) + ", row " + std::to_string(o.row) + ", column " + std::to_string(o.column) +
         ", anchor " + std::to_string(o.anchor) + ", channel " + std::to_string(o.channel) + ", value " +
         number(o.value) + ", gradient " + number(o.gradient);
}
size_t place(const Case &c, const Address &at) {
  const auto layer = static_cast<size_t>(at.layer);
  const int64_t height = c.g.feats[layer].shape[1], width = c.g.feats[layer].shape[2];
  return static_cast<size_t>((((at.image * height + at.row) * width + at.column) * c.g.anchors_per_layer + at.anchor) *
                                 c.channels() +
                             at.channel);
}
// The address of an element of a layer.
Address address(const Case &c, int32_t layer, size_t i) {
  const auto l = static_cast<size_t>(layer), channels = static_cast<size_t>(c.channels());
  const auto width = static_cast<size_t>(c.g.feats[l].shape[2]), height = static_cast<size_t>(c.g.feats[l].shape[1]);
  const size_t cell = i / channels;
  return {static_cast<int32_t>(cell / 3 / width / height),
          layer,
          static_cast<int32_t>(cell / 3 / width % height),
          static_cast<int32_t>(cell / 3 % width),
          static_cast<int32_t>(cell % 3),
          static_cast<int32_t>(i % channels)};
}
bool is_at(const yl_offender &o, int32_t cause, const Address &at) {
  return o.cause == cause && o.image == at.image && o.layer == at.layer && o.row == at.row && o.column == at.column &&
         o.anchor == at.anchor && o.channel == at.channel && o.reserved == 0;
}

// All inf and NaN of the gradient are counted.
void all_reported(const Output &out, const std::string &where) {
  int64_t found = 0;
  for (const auto &layer : out.grads)
    for (const double value : layer) found += !std::isfinite(value);
  CHECK(out.summary.found_inf == found,
        where + ": " + std::to_string(out.summary.found_inf) + " reported, " + std::to_string(found) + " are there");
}

void offenders(const Case &healthy, Setup s) {
  s.extras = true;
  const Output fine = run(healthy, s);
  CHECK(fine.status == YL_OK && fine.offender.cause == YL_CAUSE_NONE && fine.summary.non_finite == 0,
        named(healthy, s));
  const auto channels = static_cast<size_t>(healthy.channels());

  // A logit of background: the objectness counts, the others only when everything is looked at.
  for (const double value : {double(NAN), double(INFINITY), -double(INFINITY)})
    for (const int32_t channel : {0, 3, 4, 8}) {
      const Address at{4, 2, 19, 30, 1, channel};
      Case c = healthy;
      c.feats[2][place(c, at)] = value;
      CHECK(c.g.y_true[2].data[place(c, at) - static_cast<size_t>(channel) + 4] == 0);
      for (const int32_t scan : {YL_SCAN_USED, YL_SCAN_ALL}) {
        s.scan = scan;
        const Output out = run(c, s);
        const bool seen = channel == 4 || scan == YL_SCAN_ALL;
        CHECK(out.summary.non_finite == seen, named(c, s) + ": " + std::to_string(out.summary.non_finite));
        CHECK(seen ? is_at(out.offender, YL_CAUSE_FEATS, at) : out.offender.cause == YL_CAUSE_NONE,
              named(c, s) + ": " + text(out.offender));
        if (seen) CHECK(number(out.offender.value) == number(value) && out.offender.gradient == 0, text(out.offender));
        CHECK(std::isfinite(out.summary.total) == (channel != 4), named(c, s) + ": " + number(out.summary.total));
        all_reported(out, named(c, s));
      }
    }
  s.scan = YL_SCAN_USED;

  // Objects: each channel of feats and of the truth. The last objects of the batch, so that many come before.
  const int32_t layer = 1;
  size_t object = healthy.g.y_true[1].data.size() / channels - 1;
  while (healthy.g.y_true[1].data[object * channels + 4] == 0) --object;
  const size_t first = object * channels;
  for (size_t channel = 0; channel < channels; ++channel) {
    Case c = healthy;
    c.feats[1][first + channel] = NAN;
    Output out = run(c, s);
    CHECK(is_at(out.offender, YL_CAUSE_FEATS, address(c, layer, first + channel)),
          named(c, s) + ": " + text(out.offender));
    CHECK(out.summary.non_finite == 1 && std::isnan(out.summary.total), named(c, s));
    all_reported(out, named(c, s));
    c = healthy;
    c.g.y_true[1].data[first + channel] = channel % 2 ? INFINITY : NAN;
    out = run(c, s);
    CHECK(is_at(out.offender, YL_CAUSE_TRUTH, address(c, layer, first + channel)),
          named(c, s) + ": " + text(out.offender));
    CHECK(out.summary.non_finite == 1 && !std::isfinite(out.offender.value), named(c, s));
    all_reported(out, named(c, s));
  }
  for (const float side : {0.0f, -0.5f}) {  // keras-yolo3's certain NaN: a box of no height
    Case c = healthy;
    c.g.y_true[1].data[first + 3] = side;
    const Output out = run(c, s);
    CHECK(is_at(out.offender, YL_CAUSE_TRUTH, address(c, layer, first + 3)) && out.offender.value == side &&
              !std::isfinite(out.summary.total),
          named(c, s) + ": " + text(out.offender));
    all_reported(out, named(c, s));
  }

  // Overflow from finite input: a square in the loss, and the loss scale in the gradient.
  if (s.dtype == YL_F32 && s.device.device != YL_DEVICE_REFERENCE) {
    Case c = healthy;
    c.feats[1][first + 2] = 1e20;
    const Output out = run(c, s);
    CHECK(is_at(out.offender, YL_CAUSE_OVERFLOW, address(c, layer, first + 2)) && out.summary.non_finite == 0 &&
              std::isinf(out.summary.total) && out.offender.value == double(1e20f),
          named(c, s) + ": " + text(out.offender));
    all_reported(out, named(c, s));
  }

  // Of several the first in the order of image, layer, row, column, anchor, channel.
  Case c = healthy;
  const Address early{1, 2, 3, 4, 2, 4}, later{1, 2, 3, 5, 0, 4}, last{5, 0, 0, 0, 0, 4};
  for (const Address &at : {last, later, early}) c.feats[static_cast<size_t>(at.layer)][place(c, at)] = INFINITY;
  const Output out = run(c, s);
  CHECK(is_at(out.offender, YL_CAUSE_FEATS, early) && out.summary.non_finite == 3,
        named(c, s) + ": " + text(out.offender));
}

// Mixed precision: the gradient of f16 feats under a loss scale overflows; that is counted, and its place is told.
void loss_scale(const Case &c, const DeviceCase &device, int32_t layout) {
  Setup s;
  s.device = device;
  s.layout = layout;
  s.dtype = YL_F16;
  s.extras = true;
  s.normaliser = YL_NORMALISER_NONE;
  Case halves = c;
  for (auto &layer : halves.feats)
    for (double &value : layer) value = rounded(YL_F16, value);
  int32_t lowered = 0;
  bool overflowed = false;
  for (s.grad_scale = 1 << 17; s.grad_scale >= 1; s.grad_scale /= 4, ++lowered) {  // as a loss scaler does
    const Output out = run(halves, s);
    const std::string where = named(c, s) + ", scale " + number(s.grad_scale);
    all_reported(out, where);
    CHECK(out.summary.non_finite == 0 && std::isfinite(out.summary.total), where);
    if (out.summary.found_inf == 0) {
      CHECK(out.offender.cause == YL_CAUSE_NONE, where);
      break;
    }
    overflowed = true;
    size_t l = 0, i = 0;  // the first infinity, image by image
    for (int32_t image = 0; image < c.g.batch && i == 0; ++image)
      for (l = 0; l < out.grads.size(); ++l) {
        const size_t size = out.grads[l].size() / static_cast<size_t>(c.g.batch),
                     from = static_cast<size_t>(image) * size;
        i = from;
        while (i < from + size && std::isfinite(out.grads[l][i])) ++i;
        if (i < from + size) break;
        i = 0;
      }
    CHECK(is_at(out.offender, YL_CAUSE_OVERFLOW, address(c, static_cast<int32_t>(l), i)) &&
              std::fabs(out.offender.gradient) >= 65520 && out.offender.value == halves.feats[l][i],
          where + ": " + text(out.offender));
    Setup wide = s;
    wide.grad_dtype = YL_GRAD_F32;  // which does not overflow
    const Output kept = run(halves, wide);
    CHECK(kept.summary.found_inf == 0 && kept.offender.cause == YL_CAUSE_NONE &&
              std::fabs(kept.grads[l][i] - out.offender.gradient) <= 1e-4 * std::fabs(out.offender.gradient),
          where);
  }
  CHECK(overflowed && lowered > 0 && s.grad_scale >= 1, named(c, s));
  // A sum that overflows, of a gradient that does not.
  s.grad_mode = YL_GRAD_ACCUMULATE;
  s.before = 65504;
  s.grad_scale = 64;
  const Output sum = run(halves, s);
  all_reported(sum, named(c, s));
  CHECK(sum.summary.found_inf > 0 && sum.offender.cause == YL_CAUSE_OVERFLOW, named(c, s));
}

// ---- labels ----------------------------------------------------------------------------------------------------------

struct Audited {
  std::vector<yl_finding> findings = std::vector<yl_finding>(64);
  std::vector<int64_t> counts = std::vector<int64_t>(YL_REASON_COUNT), use;
  std::vector<float> best;
  yl_status status;
};

Audited audited(const Case &c, const DeviceCase &device, bool dense, int32_t policy, float poor,
                int64_t capacity = 64) {
  Audited out;
  Plan p(c.g, device);
  out.use.assign(c.g.anchors.size() / 2 * static_cast<size_t>(c.g.layers), -1);
  out.best.assign(static_cast<size_t>(c.g.batch * c.g.boxes_per_image), -1);
  yl_audit_result result = YL_AUDIT_RESULT_INIT;
  result.findings = out.findings.data();
  result.capacity = capacity;
  result.counts = out.counts.data();
  result.anchor_use = out.use.data();
  result.best_iou = out.best.data();
  yl_boxes boxes = YL_BOXES_INIT;
  boxes.per_image = c.g.boxes_per_image;
  boxes.policy = policy;
  Memory rows(device.way != Way::kHost, static_cast<int64_t>(c.g.boxes.data.size()) * 4),
      weights(device.way != Way::kHost, static_cast<int64_t>(c.box_weights.size()) * 4);
  std::memcpy(rows.host(), c.g.boxes.data.data(), c.g.boxes.data.size() * 4);
  boxes.data = static_cast<const float *>(rows.start());
  if (!c.box_weights.empty()) {
    std::memcpy(weights.host(), c.box_weights.data(), c.box_weights.size() * 4);
    boxes.weights = static_cast<const float *>(weights.start());
  }
  std::vector<std::unique_ptr<Memory>> truths;
  std::vector<const float *> y_true;
  for (const Array &y : c.g.y_true) {
    truths.push_back(std::make_unique<Memory>(device.way != Way::kHost, static_cast<int64_t>(y.data.size()) * 4));
    std::memcpy(truths.back()->host(), y.data.data(), y.data.size() * 4);
    y_true.push_back(static_cast<const float *>(truths.back()->start()));
  }
  out.status = yl_audit(p.plan, c.g.batch, dense ? y_true.data() : nullptr, dense ? nullptr : &boxes, poor, &result);
  CHECK(out.status == YL_OK, yl_last_error());
  int64_t found = 0;
  for (const int64_t n : out.counts) found += n;
  out.findings.resize(static_cast<size_t>(std::min(found, capacity)));
  return out;
}

void labels(const Case &healthy, const DeviceCase &device) {
  const std::string where = device.name;
  const Audited fine = audited(healthy, device, false, YL_BOXES_ERROR, 0);
  CHECK(fine.findings.empty(), where);
  int64_t used = 0;
  for (const int64_t n : fine.use) used += n;
  CHECK(used == 42, where + ": " + std::to_string(used));
  for (size_t i = 0; i < fine.best.size(); ++i) {  // the best possible IoU, at a common centre
    const float *row = &healthy.g.boxes.data[5 * i];
    const double w = double(row[2] - row[0]), h = double(row[3] - row[1]);
    double best = 0;
    for (size_t n = 0; n < healthy.g.anchors.size(); n += 2) {
      const double aw = healthy.g.anchors[n], ah = healthy.g.anchors[n + 1], both = std::min(w, aw) * std::min(h, ah);
      best = std::max(best, both / (w * h + aw * ah - both));
    }
    CHECK(std::fabs(fine.best[i] - best) < 1e-6, where);
  }

  struct Planted {
    std::vector<float> row;
    int32_t reason;
    float value;
    int32_t clamp_action;
  };
  const std::vector<Planted> bad = {
      {{10, 20, 10, 60, 1}, YL_REASON_NO_AREA, 0, YL_ACTION_SKIPPED},
      {{10, 60, 50, 20, 1}, YL_REASON_NO_AREA, -40, YL_ACTION_SKIPPED},
      {{10, NAN, 50, 60, 1}, YL_REASON_NOT_FINITE, NAN, YL_ACTION_SKIPPED},
      {{10, 20, 50, 60, INFINITY}, YL_REASON_NOT_FINITE, INFINITY, YL_ACTION_SKIPPED},
      {{10, 20, 50, 60, 4}, YL_REASON_CLASS, 4, YL_ACTION_SKIPPED},
      {{10, 20, 50, 60, -1}, YL_REASON_CLASS, -1, YL_ACTION_SKIPPED},
      {{10, 20, 50, 60, 1.5f}, YL_REASON_CLASS, 1.5f, YL_ACTION_SKIPPED},
      {{250, 20, 270, 60, 1}, YL_REASON_OUTSIDE, 260, YL_ACTION_CLAMPED},
      {{10, -50, 50, 20, 1}, YL_REASON_OUTSIDE, -15, YL_ACTION_CLAMPED},
      {{300, 20, 340, 60, 1}, YL_REASON_OUTSIDE, 320, YL_ACTION_SKIPPED},
      {{-40, -40, 0, 0, 1}, YL_REASON_OUTSIDE, -20, YL_ACTION_SKIPPED},
      {{-3e38f, 20, 3e38f, 60, 1}, YL_REASON_TOO_LARGE, INFINITY, YL_ACTION_CLAMPED},
  };
  for (const Planted &planted : bad) {
    Case c = healthy;
    std::copy(planted.row.begin(), planted.row.end(), &c.g.boxes.data[5 * (4 * 7 + 5)]);
    for (const int32_t policy : {YL_BOXES_ERROR, YL_BOXES_SKIP, YL_BOXES_CLAMP}) {
      const Audited got = audited(c, device, false, policy, 0);
      const int32_t action = policy == YL_BOXES_ERROR  ? YL_ACTION_REFUSED
                             : policy == YL_BOXES_SKIP ? YL_ACTION_SKIPPED
                                                       : planted.clamp_action;
      const bool one = CHECK(!got.findings.empty(), where + ", reason " + std::to_string(planted.reason));
      if (!one) continue;
      const yl_finding &f = got.findings[0];
      CHECK(f.reason == planted.reason && f.action == action && f.image == 4 && f.row == 5 && f.other == -1 &&
                f.layer == -1 && number(f.value) == number(planted.value) && got.counts[planted.reason] == 1,
            where + ", reason " + std::to_string(f.reason) + ", action " + std::to_string(f.action) + ", value " +
                number(f.value));
      // And the call does what the audit says.
      Setup s;
      s.device = device;
      s.boxes = true;
      s.policy = policy;
      const Output out = run(c, s);
      const yl_box_counts &n = out.summary.boxes;
      if (policy == YL_BOXES_ERROR)
        CHECK(out.status == YL_INVALID_BOXES, where);
      else
        CHECK(out.status == YL_OK && n.used == 41 + (action == YL_ACTION_CLAMPED) && n.skipped == 42 - n.used &&
                  n.clamped == (action == YL_ACTION_CLAMPED) && std::isfinite(out.summary.total),
              where + ", reason " + std::to_string(planted.reason));
      if (action == YL_ACTION_CLAMPED) {  // the same as the row cut beforehand
        Case cut = c;
        float *row = &cut.g.boxes.data[5 * (4 * 7 + 5)];
        for (int i = 0; i < 4; ++i) row[i] = std::min(std::max(row[i], 0.0f), i % 2 ? 192.0f : 256.0f);
        s.policy = YL_BOXES_ERROR;
        const Output same = run(cut, s);
        CHECK(same.status == YL_OK && same_bits(same.rows, out.rows), where);
      }
    }
  }
  {  // a weight
    Case c = healthy;
    c.box_weights.assign(42, 1.0f);
    c.box_weights[9] = -2;
    const Audited got = audited(c, device, false, YL_BOXES_CLAMP, 0);
    CHECK(got.findings.size() == 1 && got.findings[0].reason == YL_REASON_NOT_FINITE && got.findings[0].image == 1 &&
              got.findings[0].row == 2 && got.findings[0].value == -2 && got.findings[0].action == YL_ACTION_SKIPPED,
          where);
  }
  {  // collision: the same place and size, another class
    Case c = healthy;
    std::copy_n(&c.g.boxes.data[5 * (3 * 7 + 1)], 5, &c.g.boxes.data[5 * (3 * 7 + 6)]);
    const Audited got = audited(c, device, false, YL_BOXES_ERROR, 0);
    const bool one = CHECK(got.findings.size() == 1 && got.counts[YL_REASON_COLLISION] == 1, where);
    if (one) {
      const yl_finding &f = got.findings[0];
      const float *row = &c.g.boxes.data[5 * (3 * 7 + 1)];
      const auto l = static_cast<size_t>(f.layer);
      CHECK(f.reason == YL_REASON_COLLISION && f.action == YL_ACTION_KEPT && f.image == 3 && f.row == 6 && f.other == 1,
            where);
      CHECK(f.grid_column == int(std::floor((row[0] + row[2]) / 2) / 256 * float(c.g.feats[l].shape[2])) &&
                f.grid_row == int(std::floor((row[1] + row[3]) / 2) / 192 * float(c.g.feats[l].shape[1])),
            where);
    }
  }
  {  // the masks of tiny: anchor 0 in no layer, anchor 3 in two
    Case c(read_golden("c_tiny_2scale"));
    const Audited got = audited(c, device, false, YL_BOXES_ERROR, 0.6f);
    CHECK(got.counts[YL_REASON_NO_LAYER] == 1 && got.counts[YL_REASON_TWO_LAYERS] >= 1, where);
    for (const yl_finding &f : got.findings) {
      if (f.reason == YL_REASON_NO_LAYER) CHECK(f.anchor == 0 && f.action == YL_ACTION_DROPPED && f.layer == -1, where);
      if (f.reason == YL_REASON_TWO_LAYERS) CHECK(f.anchor == 3 && f.value == 2 && f.action == YL_ACTION_KEPT, where);
      if (f.reason == YL_REASON_POOR_ANCHOR)
        CHECK(f.value < 0.6f && f.value == got.best[static_cast<size_t>(f.image * c.g.boxes_per_image + f.row)], where);
    }
    int64_t poor = 0;
    for (const float iou : got.best) poor += iou > 0 && iou < 0.6f;
    CHECK(poor == got.counts[YL_REASON_POOR_ANCHOR] && poor > 0, where);
    CHECK(got.use[0] == 0 && got.use[6] == 0 && got.use[3] == got.use[6 + 3] && got.use[3] > 0, where);
    int64_t first_layer = 0;
    for (int n = 0; n < 6; ++n) first_layer += got.use[static_cast<size_t>(n)];
    CHECK(first_layer >= int64_t(c.g.objects[0]), where);
    // A list that is too short keeps the first; the counts tell of all.
    const Audited few = audited(c, device, false, YL_BOXES_ERROR, 0.6f, 2);
    CHECK(few.findings.size() == 2 && few.counts == got.counts &&
              std::memcmp(few.findings.data(), got.findings.data(), 2 * sizeof(yl_finding)) == 0,
          where);
  }

  // Dense truths.
  CHECK(audited(healthy, device, true, 0, 0).findings.empty(), where);
  const size_t channels = static_cast<size_t>(healthy.channels());
  size_t object = healthy.g.y_true[2].data.size() / channels - 1;
  while (healthy.g.y_true[2].data[object * channels + 4] == 0) --object;
  struct Dense {
    size_t channel;
    float value;
    int32_t reason;
  };
  for (const Dense &d :
       {Dense{0, 0.999f, YL_REASON_CENTRE}, Dense{1, -0.5f, YL_REASON_CENTRE}, Dense{0, NAN, YL_REASON_CENTRE},
        Dense{2, 0, YL_REASON_SIZE}, Dense{3, -1, YL_REASON_SIZE}, Dense{3, INFINITY, YL_REASON_SIZE},
        Dense{4, 1.5f, YL_REASON_MASK}, Dense{4, -1, YL_REASON_MASK}, Dense{4, NAN, YL_REASON_MASK},
        Dense{7, NAN, YL_REASON_TARGET}}) {
    Case c = healthy;
    c.g.y_true[2].data[object * channels + d.channel] = d.value;
    const Audited got = audited(c, device, true, 0, 0);
    const Address at = address(c, 2, object * channels);
    const bool one = CHECK(got.findings.size() == 1, where + ", reason " + std::to_string(d.reason));
    if (!one) continue;
    const yl_finding &f = got.findings[0];
    CHECK(f.reason == d.reason && f.action == YL_ACTION_KEPT && f.image == at.image && f.row == -1 && f.layer == 2 &&
              f.grid_row == at.row && f.grid_column == at.column && f.anchor == at.anchor &&
              number(f.value) == number(d.value) && got.counts[d.reason] == 1,
          where + ", reason " + std::to_string(f.reason));
  }
}

void refused_audits(const Case &c) {
  Plan p(c.g, kDevices[1]);
  yl_boxes boxes = YL_BOXES_INIT;
  yl_audit_result result = YL_AUDIT_RESULT_INIT;
  REFUSED(yl_audit(nullptr, 1, nullptr, &boxes, 0, &result), YL_INVALID_ARGUMENT, "plan is NULL");
  REFUSED(yl_audit(p.plan, 1, nullptr, nullptr, 0, &result), YL_INVALID_ARGUMENT, "neither y_true nor boxes");
  REFUSED(yl_audit(p.plan, 99, nullptr, &boxes, 0, &result), YL_INVALID_ARGUMENT, "batch is 99");
  REFUSED(yl_audit(p.plan, 1, nullptr, &boxes, 2, &result), YL_INVALID_ARGUMENT, "poor_iou is 2");
  REFUSED(yl_audit(p.plan, 1, nullptr, &boxes, 0, nullptr), YL_INVALID_ARGUMENT, "result is NULL");
  result.capacity = 3;
  REFUSED(yl_audit(p.plan, 1, nullptr, &boxes, 0, &result), YL_INVALID_ARGUMENT, "capacity is 3 and findings is NULL");
  result.capacity = -1;
  REFUSED(yl_audit(p.plan, 1, nullptr, &boxes, 0, &result), YL_INVALID_ARGUMENT, "capacity is -1");
  result.capacity = 0;
  CHECK(yl_audit(p.plan, 1, nullptr, &boxes, 0, &result) == YL_OK, yl_last_error());
}

}  // namespace

int main() {
  const Case c = large_batch();
  for (const DeviceCase &device : kDevices) {
    if (device.threads > 2 && kThreads.size() > 1) continue;
    for (const int32_t layout : {YL_NHWC, YL_NCHW})
      for (const int32_t dtype : {YL_F32, YL_F16, YL_F64}) {
        // The ways to a CUDA device run the same kernels: each takes its share of them.
        const bool share = device.way == Way::kHost    ? dtype == YL_F32
                           : device.way == Way::kAsync ? dtype == YL_F64
                                                       : dtype == YL_F16;
        if (device.device == YL_DEVICE_CUDA && !share) continue;
        if (device.device == YL_DEVICE_CUDA && layout != (device.way == Way::kHost ? YL_NCHW : YL_NHWC)) continue;
        Setup s;
        s.device = device;
        s.layout = layout;
        s.dtype = dtype;
        offenders(c, s);
        if (dtype == YL_F16) loss_scale(c, device, layout);
      }
    labels(c, device);
  }
  refused_audits(c);
  return report("faults");
}
