// Tests what each rule and each output on request means, without the code that computes it: by scaling, by changed
// truths, by plans of other rules, by brute force over decoded boxes.
#include <algorithm>
#include <array>
#include <functional>

#include "abi.h"
#include "compare.h"

namespace {

// Runs the body on every device in both orders.
void in_both_orders(const std::function<void(const Options &)> &body) {
  for (const Device &device : devices())
    for (const int32_t layout : {YL_NHWC, YL_NCHW}) {
      Options options;
      options.device = device;
      options.layout = layout;
      body(options);
    }
}

// Relative for large numbers and absolute for small ones.
Tolerance within(double error) { return {error, error}; }
Tolerance within_arithmetic(const Options &options) { return within(options.is_double() ? 1e-12 : 2e-5); }

// Returns the parts in the order of their weights in yl_rules.
std::array<double, 5> parts_of(const yl_parts &row) {
  return {row.xy, row.wh, row.confidence_object, row.confidence_background, row.class_};
}

}  // namespace

TEST(rules, of_keras_yolo3_and_statistics_change_no_bit) {
  for (const char *name : {"f_soft_targets", "h_builder_edges", "a_small_3scale"}) {
    const Case c = golden(name);
    const std::vector<float> ones(static_cast<size_t>(c.classes), 1.0f), threshes(c.layers.size(), c.thresh);
    in_both_orders([&](const Options &given) {
      for (const int32_t dtype : {YL_F32, YL_F16, YL_BF16, YL_F64}) {
        Options options = given;
        options.dtype = dtype;
        const Output plain = run(c, options);
        options.statistics = true;
        options.with_rules().class_weights = ones.data();
        options.with_rules().ignore_threshes = threshes.data();
        const Output got = run(c, options);
        const std::string where = named(c, options);
        CHECK_OK(got.status, where);
        CHECK_SAME_BITS(got.rows, plain.rows, where);
        CHECK_EQUAL(got.summary.total, plain.summary.total, where);
        for (size_t l = 0; l < plain.grads.size(); ++l) CHECK_SAME_BITS(got.grads[l], plain.grads[l], where);
      }
    });
  }
}

// A part of weight 0 is exactly 0, its gradient too.
TEST(rules, a_part_and_its_gradient_are_scaled_by_its_weight) {
  const Case c = golden("f_soft_targets");
  in_both_orders([&](const Options &given) {
    const Output plain = run(c, given);
    for (int part = 0; part < 5; ++part)
      for (const float weight : {0.0f, 2.0f}) {
        Options options = given;
        yl_rules &rules = options.with_rules();
        float *const weights[] = {&rules.weight_xy, &rules.weight_wh, &rules.weight_object, &rules.weight_background,
                                  &rules.weight_class};
        *weights[part] = weight;
        const Output got = run(c, options);
        const std::string where = named(c, options) + ", weight " + number(weight) + " of part " + std::to_string(part);
        for (size_t i = 0; i < plain.rows.size(); ++i)
          for (int other = 0; other < 5; ++other)
            CHECK_EQUAL(parts_of(got.rows[i])[other], (other == part ? weight : 1) * parts_of(plain.rows[i])[other],
                        where);
        for (size_t l = 0; l < plain.grads.size(); ++l) {
          std::vector<double> want = plain.grads[l];
          for (size_t i = 0; i < want.size(); ++i) {
            const size_t channel = i % c.channels();
            const bool object = c.is_object(l, i / c.channels());
            const int of = channel < 2 ? 0 : channel < 4 ? 1 : channel > 4 ? 4 : object ? 2 : 3;
            if (of == part) want[i] *= weight;
          }
          CHECK_ALL_NEAR(got.grads[l], want, {}, where);
        }
      }
  });
}

TEST(rules, class_weights_scale_their_class_only) {
  const Case c = golden("f_soft_targets");
  in_both_orders([&](const Options &given) {
    const Output plain = run(c, given);
    double sum = 0, want_sum = 0;
    for (int32_t n = 0; n < c.classes; ++n) {
      std::vector<float> weights(static_cast<size_t>(c.classes), 0.0f);
      weights[static_cast<size_t>(n)] = 4;
      Options options = given;
      options.with_rules().class_weights = weights.data();
      const Output got = run(c, options);
      const std::string where = named(c, options) + ", class " + std::to_string(n);
      for (size_t i = 0; i < got.rows.size(); ++i) {
        sum += got.rows[i].class_ / 4;
        CHECK_EQUAL(got.rows[i].xy, plain.rows[i].xy, where);
      }
      for (size_t l = 0; l < got.grads.size(); ++l) {
        std::vector<double> want = plain.grads[l];
        for (size_t i = 0; i < want.size(); ++i)
          if (i % c.channels() > 4) want[i] *= i % c.channels() == 5 + static_cast<size_t>(n) ? 4 : 0;
        CHECK_ALL_NEAR(got.grads[l], want, {}, where);
      }
    }
    for (const yl_parts &row : plain.rows) want_sum += row.class_;
    CHECK_NEAR(sum, want_sum, within_arithmetic(given), named(c, given));
    CHECK(want_sum > 0, named(c, given));
  });
}

// In float32, so that the smoothed targets are those of the rule.
TEST(rules, label_smoothing_is_the_loss_of_smoothed_targets) {
  const Case c = golden("f_soft_targets");
  Case smooth = c;
  for (size_t l = 0; l < c.layers.size(); ++l)
    for (size_t i = 0; i < c.layers[l].y_true.size(); ++i) {
      float &target = smooth.layers[l].y_true[i];
      if (i % c.channels() > 4 && c.is_object(l, i / c.channels())) target = target * (1 - 0.25f) + 0.125f;
    }
  in_both_orders([&](const Options &given) {
    const Output want = run(smooth, given), plain = run(c, given);
    Options options = given;
    options.with_rules().label_smoothing = 0.25f;
    const Output got = run(c, options);
    const std::string where = named(c, options);
    for (size_t i = 0; i < want.rows.size(); ++i) {
      CHECK_NEAR(got.rows[i].class_, want.rows[i].class_, within(2e-5), where);
      if (want.rows[i].objects > 0) CHECK(want.rows[i].class_ != plain.rows[i].class_, where);
    }
    for (size_t l = 0; l < want.grads.size(); ++l) CHECK_ALL_NEAR(got.grads[l], want.grads[l], within(2e-5), where);
  });
}

TEST(rules, each_layer_has_its_own_threshold) {
  const Case c = golden("h_builder_edges");
  std::vector<float> own;
  for (size_t l = 0; l < c.layers.size(); ++l) own.push_back(0.2f + 0.25f * static_cast<float>(l));
  in_both_orders([&](const Options &given) {
    Options options = given;
    options.with_rules().ignore_threshes = own.data();
    const Output got = run(c, options);
    for (size_t l = 0; l < own.size(); ++l) {
      Case all = c;  // every layer with the threshold of this one
      all.thresh = own[l];
      const Output want = run(all, given);
      const std::string where = named(c, options) + ", layer " + std::to_string(l);
      std::vector<yl_parts> got_rows, want_rows;
      for (size_t image = 0; image < c.images(); ++image) {
        got_rows.push_back(got.rows[image * own.size() + l]);
        want_rows.push_back(want.rows[image * own.size() + l]);
      }
      CHECK_SAME_BITS(got_rows, want_rows, where);
      CHECK_SAME_BITS(got.grads[l], want.grads[l], where);
    }
  });
}

// ---- Maps and statistics, against brute force -----------------------------------------------------------------------

namespace {

struct Box {
  double x, y, w, h;  // centre and size, as a share of the input
};

double iou(const Box &a, const Box &b) {
  const double w = std::min(a.x + a.w / 2, b.x + b.w / 2) - std::max(a.x - a.w / 2, b.x - b.w / 2),
               h = std::min(a.y + a.h / 2, b.y + b.h / 2) - std::max(a.y - a.h / 2, b.y - b.h / 2);
  const double both = std::max(0.0, w) * std::max(0.0, h);
  return both / (a.w * a.h + b.w * b.h - both);
}

double sigmoid(double u) { return 1 / (1 + std::exp(-u)); }

Box prediction(const Case &c, size_t l, size_t cell) {
  const Layer &layer = c.layers[l];
  const size_t place = cell / layer.anchors();
  const double *t = &layer.feats[cell * c.channels()];
  const float *anchor = c.anchor_of(l, cell);
  return {(sigmoid(t[0]) + double(place % layer.width)) / double(layer.width),
          (sigmoid(t[1]) + double(place / layer.width % layer.height)) / double(layer.height),
          anchor[0] * std::exp(t[2]) / c.input_width, anchor[1] * std::exp(t[3]) / c.input_height};
}

Box truth(const Case &c, size_t l, size_t cell) {
  const float *y = &c.layers[l].y_true[cell * c.channels()];
  return {y[0], y[1], y[2], y[3]};
}

// Returns the best IoU of a prediction with any truth in its layer, or in its image.
double best_iou(const Case &c, size_t l, size_t cell, int32_t scope) {
  const size_t image = cell / c.layers[l].cells();
  const Box box = prediction(c, l, cell);
  double best = 0;
  for (size_t of = 0; of < c.layers.size(); ++of) {
    if (scope == YL_SCOPE_LAYER && of != l) continue;
    const size_t cells = c.layers[of].cells();
    for (size_t k = image * cells; k < (image + 1) * cells; ++k)
      if (c.is_object(of, k)) best = std::max(best, iou(box, truth(c, of, k)));
  }
  return best;
}

void with_maps(const std::function<void(const Case &, const Options &, const Output &, const std::string &)> &body) {
  for (const char *name : {"h_builder_edges", "f_soft_targets"}) {
    const Case c = golden(name);
    for (const int32_t scope : {YL_SCOPE_LAYER, YL_SCOPE_IMAGE})
      in_both_orders([&](Options options) {
        options.statistics = true;
        options.with_rules().ignore_scope = scope;
        const Output got = run(c, options);
        const std::string where = named(c, options) + (scope == YL_SCOPE_LAYER ? ", scope layer" : ", scope image");
        if (CHECK_OK(got.status, where)) body(c, options, got, where);
      });
  }
}

}  // namespace

TEST(rules, best_iou_and_ignore_mask_are_those_of_brute_force) {
  with_maps([](const Case &c, const Options &options, const Output &got, const std::string &where) {
    int64_t suppressed = 0;
    for (size_t l = 0; l < c.layers.size(); ++l)
      for (size_t cell = 0; cell < c.cells(l); ++cell) {
        const double best = best_iou(c, l, cell, options.rules.ignore_scope);
        CHECK_NEAR(got.best_iou[l][cell], best, within(1e-5), where);
        if (std::fabs(best - c.thresh) > 1e-4) CHECK_EQUAL(got.ignore_mask[l][cell], best < c.thresh ? 1 : 0, where);
        suppressed += got.ignore_mask[l][cell] == 0;
        if (!c.is_object(l, cell) && got.ignore_mask[l][cell] == 0) CHECK_EQUAL(got.cell_loss[l][cell], 0, where);
      }
    CHECK_EQUAL(suppressed, got.summary.ignored, where);
  });
}

TEST(rules, the_loss_of_the_cells_adds_up_to_that_of_the_layer) {
  with_maps([](const Case &, const Options &, const Output &got, const std::string &where) {
    for (size_t l = 0; l < got.layers.size(); ++l) {
      double loss = 0, want = 0;
      for (const float cell : got.cell_loss[l]) loss += cell;
#define ADD_SUM(owner, type, field, offset) want += got.layers[l].field;
      YL_SUMS_OF_yl_parts(ADD_SUM)
#undef ADD_SUM
      CHECK_NEAR(loss, want * got.summary.normaliser, within(2e-5), where);
    }
  });
}

TEST(rules, statistics_are_those_of_brute_force) {
  with_maps([](const Case &c, const Options &, const Output &got, const std::string &given) {
    for (size_t l = 0; l < c.layers.size(); ++l) {
      yl_stats want{};
      for (size_t cell = 0; cell < c.cells(l); ++cell) {
        const double objectness = sigmoid(c.layers[l].feats[cell * c.channels() + 4]);
        const bool object = c.is_object(l, cell);
        if (object) {
          const double own = iou(prediction(c, l, cell), truth(c, l, cell));
          ++want.objects;
          want.iou += own;
          want.iou_50 += own > 0.5;
          want.iou_75 += own > 0.75;
          want.objectness_object += objectness;
        } else {
          ++want.background;
          want.objectness_background += objectness;
        }
        for (size_t channel = 0; channel < c.channels(); ++channel) {
          const double d = got.grads[l][cell * c.channels() + channel];
          double &squares = channel < 2   ? want.grad_xy
                            : channel < 4 ? want.grad_wh
                            : channel > 4 ? want.grad_class
                            : object      ? want.grad_object
                                          : want.grad_background;
          squares += d * d;
        }
      }
      const yl_stats &s = got.stats[l];
      const std::string where = given + ", layer " + std::to_string(l);
      const Tolerance close = within(2e-5);
      CHECK_EQUAL(s.objects, want.objects, where);
      CHECK_EQUAL(s.background, want.background, where);
      CHECK_EQUAL(s.iou_50, want.iou_50, where);
      CHECK_EQUAL(s.iou_75, want.iou_75, where);
      CHECK_NEAR(s.iou, want.iou, close, where);
      CHECK_NEAR(s.objectness_object, want.objectness_object, close, where);
      CHECK_NEAR(s.objectness_background, want.objectness_background, close, where);
      CHECK_NEAR(s.grad_xy, want.grad_xy, close, where);
      CHECK_NEAR(s.grad_wh, want.grad_wh, close, where);
      CHECK_NEAR(s.grad_object, want.grad_object, close, where);
      CHECK_NEAR(s.grad_background, want.grad_background, close, where);
      CHECK_NEAR(s.grad_class, want.grad_class, close, where);
    }
  });
}

// ---- Weights of boxes -----------------------------------------------------------------------------------------------

namespace {

void with_weights(const std::function<void(const Case &, const Options &, const Output &plain)> &body) {
  const Case c = golden("h_builder_edges");
  in_both_orders([&](Options options) {
    options.truths = Truths::kBoxes;
    options.statistics = true;
    body(c, options, run(c, options));
  });
}

Case weighted(Case c, float even, float odd) {
  c.box_weights.assign(c.boxes.size() / 5, even);
  for (size_t i = 1; i < c.box_weights.size(); i += 2) c.box_weights[i] = odd;
  return c;
}

}  // namespace

TEST(rules, box_weights_of_one_change_no_bit) {
  with_weights([](const Case &c, const Options &options, const Output &plain) {
    const Output ones = run(weighted(c, 1, 1), options);
    CHECK_SAME_BITS(ones.rows, plain.rows, named(c, options));
    for (size_t l = 0; l < plain.grads.size(); ++l) CHECK_SAME_BITS(ones.grads[l], plain.grads[l], named(c, options));
  });
}

TEST(rules, box_weights_scale_what_objects_add_only) {
  with_weights([](const Case &c, const Options &options, const Output &plain) {
    const Output half = run(weighted(c, 0.5f, 0.5f), options);
    for (size_t l = 0; l < plain.grads.size(); ++l) {
      std::vector<double> grad = plain.grads[l];
      std::vector<float> loss = plain.cell_loss[l];
      for (size_t cell = 0; cell < loss.size(); ++cell) {
        if (!c.is_object(l, cell)) continue;
        loss[cell] *= 0.5f;
        for (size_t channel = 0; channel < c.channels(); ++channel) grad[cell * c.channels() + channel] *= 0.5;
      }
      CHECK_ALL_NEAR(half.grads[l], grad, {}, named(c, options));
      CHECK_ALL_NEAR(half.cell_loss[l], loss, within(1e-6), named(c, options));
    }
  });
}

TEST(rules, each_box_has_its_own_weight) {
  with_weights([](const Case &c, const Options &options, const Output &plain) {
    const Output mixed = run(weighted(c, 3, 0), options);
    size_t zero = 0, three = 0, other = 0;
    for (size_t l = 0; l < plain.grads.size(); ++l)
      for (size_t cell = 0; cell < c.cells(l); ++cell) {
        if (!c.is_object(l, cell)) continue;
        const double got = mixed.cell_loss[l][cell], want = plain.cell_loss[l][cell];
        zero += got == 0;
        three += near(got, 3 * want, within(1e-5));
        other += got != 0 && !near(got, 3 * want, within(1e-5));
      }
    CHECK(zero > 0, named(c, options));
    CHECK(three > 0, named(c, options));
    CHECK_EQUAL(other, 0, named(c, options));
  });
}

TEST(rules, a_weight_that_is_not_a_number_from_zero_is_refused_or_skipped) {
  with_weights([](const Case &c, const Options &options, const Output &) {
    for (const float bad : {-1.0f, NAN, INFINITY}) {
      Case with = weighted(c, 1, 1);
      with.box_weights[0] = bad;
      const std::string where = named(c, options) + ", weight " + number(bad);
      const Output refused = run(with, options);
      if (options.device.way == Way::kAsync) {  // reports the status alone
        CHECK_EQUAL(refused.status, YL_INVALID_BOXES, where);
      } else {
        CHECK_REFUSED(refused.status, YL_INVALID_BOXES, "image 0, row 0", where);
        CHECK(says("has a weight that is not a finite number >= 0"), yl_last_error());
      }
      Options skip = options;
      skip.policy = YL_BOXES_SKIP;
      const Output skipped = run(with, skip);
      CHECK_OK(skipped.status, where);
      CHECK_EQUAL(skipped.summary.boxes.skipped, 1, where);
    }
  });
}

// ---- YL_GRAD_ACCUMULATE ---------------------------------------------------------------------------------------------

TEST(rules, accumulate_adds_the_gradient_to_what_is_there) {
  const Case c = golden("a_small_3scale");
  in_both_orders([&](Options options) {
    const Output plain = run(c, options);
    options.grad_mode = YL_GRAD_ACCUMULATE;
    const Output over_zero = run(c, options);
    options.gradient_before = 0.5;
    const Output over_half = run(c, options);
    const std::string where = named(c, options);
    for (size_t l = 0; l < plain.grads.size(); ++l) {
      CHECK_ALL_NEAR(over_zero.grads[l], plain.grads[l], {}, where);
      std::vector<double> want = plain.grads[l];
      for (double &value : want) value += 0.5;
      CHECK_ALL_NEAR(over_half.grads[l], want, within(1e-6), where);
      for (size_t i = 0; i < want.size(); ++i)
        if (plain.grads[l][i] == 0) CHECK_EQUAL(over_half.grads[l][i], 0.5, where);
    }
  });
}

TEST(rules, accumulate_over_feats_is_refused) {
  const Case c = golden("a_small_3scale");
  in_both_orders([&](Options options) {
    options.grad_mode = YL_GRAD_ACCUMULATE;
    options.gradient_before = 0.5;
    options.gradient_over_feats = true;
    CHECK_REFUSED(run(c, options).status, YL_INVALID_ARGUMENT, "grad_mode is accumulate and grads[0] is feats[0]",
                  named(c, options));
  });
}
