// Boxes to cells: whether one row of boxes is a valid object, and the cells that it gets. For host and device.
//
// The steps are those of yl_build_y_true in yololoss.h. Calls, yl_build_y_true and yl_audit place boxes by these
// functions alone, so that they agree. Rows are independent except for collisions: truths.h has the loop over the rows
// of an image on the host, cuda/truths.cuh the parallel form of the same rule.
#pragma once

#include <cstdint>

#include "formula.h"
#include "yololoss.h"

namespace yl {

using std::floor;

// The part of a plan and a call that decides about rows of boxes.
struct BoxRules {
  const float *anchors;  // pairs: width, height in input pixels; a box is matched with all of them
  int32_t anchor_count;
  int32_t input_height, input_width;
  int32_t num_classes;
  int32_t policy;  // YL_BOXES_...
};

// The kind of a row: unused (all four coordinates are zero), a valid object, or the first reason why it is not one.
enum class BoxKind : int32_t { kUnused, kObject, kNotFinite, kNoArea, kBadClass, kTooLarge, kOutside, kBadWeight };

// A copy of a row and its weight. The host places the copy that it has checked, so that a caller who writes boxes
// meanwhile cannot make it use an unchecked value; cuda/truths.cuh says how the device copes with that.
constexpr int32_t kXMin = 0, kYMin = 1, kXMax = 2, kYMax = 3, kBoxClass = 4, kBoxValues = 5;
struct BoxRow {
  float values[kBoxValues];
  float weight;
};

// Reads a row; without weights (NULL) its weight is 1.
YL_HOST_DEVICE inline BoxRow read_row(const float *boxes, const float *weights, int64_t row) {
  const float *from = boxes + row * kBoxValues;
  return {{from[0], from[1], from[2], from[3], from[4]}, weights ? weights[row] : 1.0f};
}

// Step 1: returns centre and size as fractions of the input. The centre is rounded down to a whole pixel, as
// keras-yolo3 does; each value is rounded once to float32.
YL_HOST_DEVICE inline Box<float> truth_of(const BoxRules &rules, const float *row) {
  const auto width = static_cast<float>(rules.input_width), height = static_cast<float>(rules.input_height);
  return {floor((row[kXMin] + row[kXMax]) / 2) / width, floor((row[kYMin] + row[kYMax]) / 2) / height,
          (row[kXMax] - row[kXMin]) / width, (row[kYMax] - row[kYMin]) / height};
}

// Returns the kind of a row, whatever the policy: unused comes first, because rows of zeros are padding and no fault.
YL_HOST_DEVICE inline BoxKind kind_of(const BoxRules &rules, const BoxRow &given) {
  const float *row = given.values;
  if (row[0] == 0 && row[1] == 0 && row[2] == 0 && row[3] == 0) return BoxKind::kUnused;
  if (!(finite(row[0]) && finite(row[1]) && finite(row[2]) && finite(row[3]) && finite(row[4])))
    return BoxKind::kNotFinite;
  if (!(row[kXMax] > row[kXMin]) || !(row[kYMax] > row[kYMin])) return BoxKind::kNoArea;
  const float c = row[kBoxClass];
  if (c != floor(c) || c < 0 || !(c < static_cast<float>(rules.num_classes))) return BoxKind::kBadClass;
  const Box<float> truth = truth_of(rules, row);
  if (!finite(truth.w) || !finite(truth.h)) return BoxKind::kTooLarge;
  if (!(truth.x >= 0 && truth.x < 1 && truth.y >= 0 && truth.y < 1)) return BoxKind::kOutside;
  if (!finite(given.weight) || given.weight < 0) return BoxKind::kBadWeight;
  return BoxKind::kObject;
}

// Returns the kind of a row under the policy. YL_BOXES_CLAMP may cut it to the input, and then sets clamped. Only rows
// that are outside or too large are cut, and only if the result is a valid object; otherwise the row stays as it was,
// with the kind that it had.
YL_HOST_DEVICE inline BoxKind admit(const BoxRules &rules, BoxRow &row, bool &clamped) {
  const BoxKind kind = kind_of(rules, row);
  clamped = false;
  if (rules.policy != YL_BOXES_CLAMP || (kind != BoxKind::kOutside && kind != BoxKind::kTooLarge)) return kind;
  BoxRow cut = row;
  for (int32_t i = kXMin; i <= kYMax; ++i) {
    const auto most = static_cast<float>(i == kYMin || i == kYMax ? rules.input_height : rules.input_width);
    cut.values[i] = smaller(larger(row.values[i], 0.0f), most);
  }
  if (kind_of(rules, cut) != BoxKind::kObject) return kind;
  row = cut;
  clamped = true;
  return BoxKind::kObject;
}

// An anchor, by its index in yl_config.anchors, and its IoU with a box.
struct Match {
  int32_t anchor;
  float iou;
};

// Step 2: returns the first of all anchors with the largest IoU at a common centre. IoUs are compared in double: in
// float32 anchors of nearly equal IoU could tie or change places.
YL_HOST_DEVICE inline Match best_match(const BoxRules &rules, const float *row) {
  const Box<double> box{0, 0, static_cast<double>(row[kXMax] - row[kXMin]),
                        static_cast<double>(row[kYMax] - row[kYMin])};
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

// Step 3: returns the cell of a layer that takes a box of that anchor, or -1 if the layer's mask does not have the
// anchor. If the mask has it twice, the first wins. The product is in double, so that a centre on the border of a cell
// goes to the same cell as in keras-yolo3; x < 1 keeps the column inside the grid. layer: a host Layer or a LayerTask.
template <class Layer>
YL_HOST_DEVICE inline int32_t cell_of(const Box<float> &truth, int32_t anchor, const Layer &layer) {
  for (int32_t a = 0; a < layer.anchors; ++a) {
    if (layer.anchor_mask[a] != anchor) continue;
    const auto column = static_cast<int32_t>(floor(double(truth.x) * layer.width));
    const auto row = static_cast<int32_t>(floor(double(truth.y) * layer.height));
    return (row * layer.width + column) * layer.anchors + a;
  }
  return -1;
}

}  // namespace yl
