// See audit.h. Findings of boxes come in the order of images and rows, those of y_true in the order of images, layers
// and cells; counts and anchor_use go on when findings has no room left.
#include "audit.h"

#include <algorithm>
#include <cmath>

#include "cuda/cuda.h"
#include "truths.h"

namespace yl {
namespace {

// Judges truths and collects findings in result.
class Audit {
 public:
  Audit(const Shape &shape, float poor_iou, const yl_audit_result &result)
      : shape_(shape), poor_iou_(poor_iou), result_(result), anchors_(static_cast<int64_t>(shape.anchors.size() / 2)) {
    if (result.counts) std::fill_n(result.counts, int64_t(YL_REASON_COUNT), 0);
    if (result.anchor_use) std::fill_n(result.anchor_use, shape.layer_count() * anchors_, 0);
  }

  // The rows of an image.
  void boxes(int32_t image, const BoxRows &rows) {
    const BoxRules rules = rules_of(shape_, rows.policy);
    taken_.assign(static_cast<size_t>(shape_.cells_per_image()), -1);
    for (int32_t t = 0; t < rows.per_image; ++t) {
      const int64_t at = int64_t(image) * rows.per_image + t;
      if (result_.best_iou) result_.best_iou[at] = 0;
      BoxRow row = read_row(rows.data, rows.weights, at);
      const BoxRow given = row;
      bool clamped;
      const BoxKind found = kind_of(rules, row), kind = admit(rules, row, clamped);
      if (found == BoxKind::kUnused) continue;
      if (found != BoxKind::kObject) {
        const int32_t left_out = rows.policy == YL_BOXES_ERROR ? YL_ACTION_REFUSED : YL_ACTION_SKIPPED;
        add({reason_of(found), clamped ? YL_ACTION_CLAMPED : left_out, image, t, -1, -1, -1, -1, -1,
             value_of(found, given)});
      }
      if (kind == BoxKind::kObject) used(rules, row, image, t, at);
    }
  }

  // The dense truths of an image and layer.
  void y_true(int32_t image, int32_t l, const float *values) {
    const Layer &layer = shape_.layers[l];
    for (int64_t cell = 0; cell < layer.cells; ++cell, values += shape_.channels) {
      const float m = values[4];
      if (m == 0) continue;
      const auto anchor = static_cast<int32_t>(cell % layer.anchors);
      const auto column = static_cast<int32_t>(cell / layer.anchors % layer.width),
                 row = static_cast<int32_t>(cell / layer.anchors / layer.width);
      const auto find = [&](int32_t reason, float value) {
        add({reason, YL_ACTION_KEPT, image, -1, -1, l, row, column, anchor, value});
      };
      use(l, layer.anchor_mask[anchor]);
      const bool x_there = std::floor(double(values[0]) * layer.width) == column,
                 y_there = std::floor(double(values[1]) * layer.height) == row;
      if (!x_there || !y_there) find(YL_REASON_CENTRE, values[x_there ? 1 : 0]);
      for (int i = 2; i < 4; ++i)
        if (!(values[i] > 0) || !finite(values[i])) find(YL_REASON_SIZE, values[i]);
      if (!(m >= 0 && m <= 1)) find(YL_REASON_MASK, m);
      for (int32_t i = 5; i < shape_.channels; ++i)
        if (!finite(values[i])) find(YL_REASON_TARGET, values[i]);
    }
  }

 private:
  void used(const BoxRules &rules, const BoxRow &row, int32_t image, int32_t t, int64_t at) {
    const Box<float> truth = truth_of(rules, row.values);
    const Match match = best_match(rules, row.values);
    if (result_.best_iou) result_.best_iou[at] = match.iou;
    yl_finding finding{0, YL_ACTION_KEPT, image, t, -1, -1, -1, -1, match.anchor, 0};
    int32_t placed = 0, first = 0;
    for (int32_t l = 0; l < shape_.layer_count(); first += static_cast<int32_t>(shape_.layers[l++].cells)) {
      const Layer &layer = shape_.layers[l];
      const int32_t cell =
          cell_of(truth, match.anchor, layer.height, layer.width, layer.anchor_mask.data(), layer.anchors);
      if (cell < 0) continue;
      ++placed;
      use(l, match.anchor);
      int32_t &owner = taken_[static_cast<size_t>(first + cell)];
      finding.layer = l;
      finding.grid_column = cell / layer.anchors % layer.width;
      finding.grid_row = cell / layer.anchors / layer.width;
      if (owner >= 0) {
        finding.reason = YL_REASON_COLLISION;
        finding.other = owner;
        add(finding);
        finding.other = -1;
      }
      owner = t;
    }
    if (placed != 1) {
      finding.reason = placed ? YL_REASON_TWO_LAYERS : YL_REASON_NO_LAYER;
      finding.action = placed ? YL_ACTION_KEPT : YL_ACTION_DROPPED;
      finding.value = placed ? static_cast<float>(placed) : match.iou;
      add(finding);
    }
    if (match.iou < poor_iou_) {
      finding.reason = YL_REASON_POOR_ANCHOR;
      finding.action = placed ? YL_ACTION_KEPT : YL_ACTION_DROPPED;
      finding.value = match.iou;
      add(finding);
    }
  }

  static int32_t reason_of(BoxKind kind) {
    switch (kind) {
      case BoxKind::kNoArea: return YL_REASON_NO_AREA;
      case BoxKind::kBadClass: return YL_REASON_CLASS;
      case BoxKind::kTooLarge: return YL_REASON_TOO_LARGE;
      case BoxKind::kOutside: return YL_REASON_OUTSIDE;
      default: return YL_REASON_NOT_FINITE;
    }
  }

  // Returns the value to report for such a row: the one that makes it invalid.
  float value_of(BoxKind kind, const BoxRow &row) const {
    const float *v = row.values;
    const float width = v[2] - v[0], height = v[3] - v[1];
    const float x = std::floor((v[0] + v[2]) / 2), y = std::floor((v[1] + v[3]) / 2);
    switch (kind) {
      case BoxKind::kNoArea: return std::min(width, height);
      case BoxKind::kBadClass: return v[4];
      case BoxKind::kTooLarge: return std::max(width, height);
      case BoxKind::kOutside: return x >= 0 && x < static_cast<float>(shape_.input_width) ? y : x;
      case BoxKind::kBadWeight: return row.weight;
      default: return *std::find_if(v, v + 4, [](float value) { return !finite(value); });
    }
  }

  // Counts a use of an anchor in a layer.
  void use(int32_t l, int32_t anchor) {
    if (result_.anchor_use) ++result_.anchor_use[l * anchors_ + anchor];
  }

  void add(const yl_finding &finding) {
    if (result_.counts) ++result_.counts[finding.reason];
    if (listed_ < result_.capacity) result_.findings[listed_++] = finding;
  }

  const Shape &shape_;
  const float poor_iou_;
  const yl_audit_result &result_;
  const int64_t anchors_;
  int64_t listed_ = 0;
  std::vector<int32_t> taken_;  // by cell of the image: the last row that took it, or -1
};

// Makes truths readable on the host: returns host memory as it is, and device memory as a copy, which is valid until
// the next read.
class Reader {
 public:
  explicit Reader(const Shape &shape) : shape_(shape) {}
  const float *read(const char *name, int32_t layer, const float *from, int64_t count) {
    if (!shape_.device_memory || count == 0 || !from) return from;
    copy_.resize(static_cast<size_t>(count));
    require_reachable(shape_.device_index, name, layer, from);
    cuda_copy(shape_.device_index, copy_.data(), from, count * int64_t(sizeof(float)));
    return copy_.data();
  }

 private:
  const Shape &shape_;
  std::vector<float> copy_;
};

}  // namespace

void audit(const Shape &shape, const Call &call, float poor_iou, const yl_audit_result &result) {
  Audit audit(shape, poor_iou, result);
  Reader values(shape), weights(shape);
  if (!call.dense()) {
    BoxRows rows = rows_of(call);
    const int64_t count = int64_t(call.batch) * rows.per_image;
    rows.data = values.read("boxes.data", -1, rows.data, 5 * count);
    rows.weights = weights.read("boxes.weights", -1, rows.weights, count);
    for (int32_t image = 0; image < call.batch; ++image) audit.boxes(image, rows);
    return;
  }
  for (int32_t image = 0; image < call.batch; ++image)
    for (int32_t l = 0; l < shape.layer_count(); ++l) {
      const int64_t size = shape.layers[l].cells * shape.channels;
      audit.y_true(image, l, values.read("y_true", l, call.y_true[l] + image * size, size));
    }
}

}  // namespace yl
