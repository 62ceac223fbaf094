// One row of boxes, for host and device: the steps of yl_build_y_true in yololoss.h.
#pragma once

#include <cstdint>

#include "formula.h"
#include "yololoss.h"

namespace yl {

using std::floor;

struct BoxRules {
  const float *anchors;  // pairs: width, height in input pixels; all that a box is matched with
  int32_t anchor_count;
  int32_t input_height, input_width;
  int32_t num_classes;
  int32_t policy;  // YL_BOXES_...
};

// What a row of boxes is.
enum class BoxKind : int32_t { kUnused, kObject, kNotFinite, kNoArea, kBadClass, kTooLarge, kOutside, kBadWeight };

// A row, read once: what was checked is what is used, even if the caller writes boxes meanwhile.
struct BoxRow {
  float values[5];
  float weight;
};

// weights may be NULL: 1.
YL_HOST_DEVICE inline BoxRow read_row(const float *boxes, const float *weights, int64_t row) {
  const float *from = boxes + row * 5;
  return {{from[0], from[1], from[2], from[3], from[4]}, weights ? weights[row] : 1.0f};
}

// Step 1: whole-pixel centre, one rounding to float.
YL_HOST_DEVICE inline Box<float> truth_of(const BoxRules &rules, const float *row) {
  const auto width = static_cast<float>(rules.input_width), height = static_cast<float>(rules.input_height);
  return {floor((row[0] + row[2]) / 2) / width, floor((row[1] + row[3]) / 2) / height, (row[2] - row[0]) / width,
          (row[3] - row[1]) / height};
}

YL_HOST_DEVICE inline BoxKind kind_of(const BoxRules &rules, const BoxRow &given) {
  const float *row = given.values;
  if (row[0] == 0 && row[1] == 0 && row[2] == 0 && row[3] == 0) return BoxKind::kUnused;
  if (!(finite(row[0]) && finite(row[1]) && finite(row[2]) && finite(row[3]) && finite(row[4])))
    return BoxKind::kNotFinite;
  if (!(row[2] > row[0]) || !(row[3] > row[1])) return BoxKind::kNoArea;
  if (row[4] != floor(row[4]) || row[4] < 0 || !(row[4] < static_cast<float>(rules.num_classes)))
    return BoxKind::kBadClass;
  const Box<float> truth = truth_of(rules, row);
  if (!finite(truth.w) || !finite(truth.h)) return BoxKind::kTooLarge;
  if (!(truth.x >= 0 && truth.x < 1 && truth.y >= 0 && truth.y < 1)) return BoxKind::kOutside;
  if (!finite(given.weight) || given.weight < 0) return BoxKind::kBadWeight;
  return BoxKind::kObject;
}

// The kind of a row under the policy, which may cut it to the input; clamped says whether it did.
YL_HOST_DEVICE inline BoxKind admit(const BoxRules &rules, BoxRow &row, bool &clamped) {
  const BoxKind kind = kind_of(rules, row);
  clamped = false;
  if (rules.policy != YL_BOXES_CLAMP || (kind != BoxKind::kOutside && kind != BoxKind::kTooLarge)) return kind;
  BoxRow cut = row;
  for (int i = 0; i < 4; ++i) {
    const auto most = static_cast<float>(i % 2 ? rules.input_height : rules.input_width);
    cut.values[i] = smaller(larger(row.values[i], 0.0f), most);
  }
  if (kind_of(rules, cut) != BoxKind::kObject) return kind;
  row = cut;
  clamped = true;
  return BoxKind::kObject;
}

// Step 2: the first of all anchors with the largest IoU at a common centre.
struct Match {
  int32_t anchor;
  float iou;
};

YL_HOST_DEVICE inline Match best_match(const BoxRules &rules, const float *row) {
  const Box<double> box{0, 0, static_cast<double>(row[2] - row[0]), static_cast<double>(row[3] - row[1])};
  int32_t best = 0;
  double best_iou = -1;
  for (int32_t n = 0; n < rules.anchor_count; ++n) {
    const Box<double> anchor{0, 0, rules.anchors[2 * n], rules.anchors[2 * n + 1]};
    const double overlap = iou(box, anchor);
    if (overlap > best_iou) {
      best_iou = overlap;
      best = n;
    }
  }
  return {best, static_cast<float>(best_iou)};
}

// Step 3: the cell of a layer that takes a box of that anchor; -1 if its mask does not hold it. The product in double,
// so that a centre on a cell border falls as in keras-yolo3.
YL_HOST_DEVICE inline int32_t cell_of(const Box<float> &truth, int32_t anchor, int32_t height, int32_t width,
                                      const int32_t *mask, int32_t anchors) {
  for (int32_t a = 0; a < anchors; ++a) {
    if (mask[a] != anchor) continue;
    const auto column = static_cast<int32_t>(floor(double(truth.x) * width));
    const auto line = static_cast<int32_t>(floor(double(truth.y) * height));
    return (line * width + column) * anchors + a;
  }
  return -1;
}

}  // namespace yl
