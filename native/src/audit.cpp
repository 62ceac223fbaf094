// Judges the truths of a data set; audit.h says why it is done here. Findings of boxes come in the order of images and
// rows, those of y_true in the order of images, layers and cells. The list of findings ends when its capacity is
// reached; counts and anchor_use go on.
#include "audit.h"

#include <algorithm>
#include <cmath>

#include "layout.h"
#include "truths.h"

namespace yl {
namespace {

// Judges truths and collects findings in result. It refers to shape and result, which must outlive it.
class Audit {
 public:
  // Clears the parts of result that are counted up.
  Audit(const Shape &shape, float poor_iou, const yl_audit_result &result)
      : shape_(shape), poor_iou_(poor_iou), result_(result), anchors_(static_cast<int64_t>(shape.anchors.size() / 2)) {
    if (result.counts) std::fill_n(result.counts, int64_t(YL_REASON_COUNT), 0);
    if (result.anchor_use) std::fill_n(result.anchor_use, shape.layer_count() * anchors_, 0);
  }

  // Audits the rows of an image. place_boxes goes through them as it does in a call and calls three functions for each:
  // the first judges the row, the second is called for each cell that the row takes, the third when it is placed. All
  // fill one finding, so that the third reports the last cell that the row took. marks_ holds, for each cell of the
  // image, the last row that took it; this is how a collision names the earlier row.
  //
  // A row can be invalid and used: YL_BOXES_CLAMP cuts it. Its first finding then has the action clamped, and any
  // others say kept.
  //
  // A call in device memory does not check for normalised boxes, so it keeps them.
  void boxes(int32_t image, const BoxRows &rows) {
    const int64_t first = int64_t(image) * rows.per_image;
    const int32_t normalised = find_normalised(rows, image);
    marks_.assign(static_cast<size_t>(shape_.cells_per_image()), -1);
    if (result_.best_iou) std::fill_n(result_.best_iou + first, rows.per_image, 0.0f);
    yl_finding finding{};  // of the row at hand; its cell is the last one that the row took
    place_boxes(
        shape_, rows, image, marks_.data(),
        [&](const PlacedRow &row) {
          finding = {0, YL_ACTION_KEPT, image, row.t, -1, -1, -1, -1, -1, 0};
          if (row.t == normalised) {
            const float *v = row.given.values;
            if (rows.policy == YL_BOXES_ERROR && !shape_.device_memory) finding.action = YL_ACTION_REFUSED;
            find(finding, YL_REASON_NORMALISED,
                 *std::find_if(v, v + kBoxClass, [](float value) { return value != 0; }));
            finding.action = YL_ACTION_KEPT;
          }
          if (row.kind == BoxKind::kObject) return;
          finding.action = row.clamped                     ? YL_ACTION_CLAMPED
                           : rows.policy == YL_BOXES_ERROR ? YL_ACTION_REFUSED
                                                           : YL_ACTION_SKIPPED;
          find(finding, reason_of(row.kind), value_of(row.kind, row.given));
          finding.action = YL_ACTION_KEPT;
        },
        [&](const PlacedRow &row, int32_t l, int32_t cell, int32_t &owner) {
          use(l, row.match.anchor);
          const CellPlace place = place_of(cell, shape_.layers[l].width, shape_.layers[l].anchors);
          finding.layer = l;
          finding.grid_row = place.row;
          finding.grid_column = place.column;
          finding.anchor = row.match.anchor;
          finding.other = owner;
          if (owner >= 0) find(finding, YL_REASON_COLLISION, 0);
          finding.other = -1;
          owner = row.t;
        },
        [&](const PlacedRow &row) {
          if (result_.best_iou) result_.best_iou[first + row.t] = row.match.iou;
          finding.anchor = row.match.anchor;
          // A row whose best anchor belongs to no layer has no truth; the call counts it as dropped.
          if (row.layers == 0) finding.action = YL_ACTION_DROPPED;
          if (row.layers == 0) find(finding, YL_REASON_NO_LAYER, row.match.iou);
          if (row.layers > 1) find(finding, YL_REASON_TWO_LAYERS, static_cast<float>(row.layers));
          if (row.match.iou < poor_iou_) find(finding, YL_REASON_POOR_ANCHOR, row.match.iou);
        });
  }

  // Audits the dense truths of an image and layer. values is the image's part of y_true, in the order of cells. Only
  // objects are judged, since a call reads nothing else of a cell (except with YL_SCAN_ALL).
  void y_true(int32_t image, int32_t l, const float *values) {
    const Layer &layer = shape_.layers[l];
    for (int64_t cell = 0; cell < layer.cells; ++cell, values += shape_.channels) {
      const float m = values[kObjectness];
      if (m == 0) continue;
      const CellPlace place = place_of(static_cast<int32_t>(cell), layer.width, layer.anchors);
      const auto find = [&](int32_t reason, float value) {
        add({reason, YL_ACTION_KEPT, image, -1, -1, l, place.row, place.column, place.anchor, value});
      };
      use(l, layer.anchor_mask[place.anchor]);
      // The product is in double, as cell_of of boxes.h computes it: an object made by yl_build_y_true is always in its
      // own cell. A NaN is in no cell.
      const bool x_there = std::floor(double(values[kX]) * layer.width) == place.column,
                 y_there = std::floor(double(values[kY]) * layer.height) == place.row;
      if (!x_there || !y_there) find(YL_REASON_CENTRE, values[x_there ? kY : kX]);
      for (const int32_t size : {kW, kH})
        if (!(values[size] > 0) || !finite(values[size])) find(YL_REASON_SIZE, values[size]);
      // This form reports a NaN too, for which every comparison is false.
      if (!(m >= 0 && m <= 1)) find(YL_REASON_MASK, m);
      for (int32_t i = kFirstClass; i < shape_.channels; ++i)
        if (!finite(values[i])) find(YL_REASON_TARGET, values[i]);
    }
  }

 private:
  // Returns the reason for a row that is not an object.
  static int32_t reason_of(BoxKind kind) {
    switch (kind) {
      case BoxKind::kNoArea: return YL_REASON_NO_AREA;
      case BoxKind::kBadClass: return YL_REASON_CLASS;
      case BoxKind::kTooLarge: return YL_REASON_TOO_LARGE;
      case BoxKind::kOutside: return YL_REASON_OUTSIDE;
      default: return YL_REASON_NOT_FINITE;
    }
  }

  // Returns the value to report for such a row: the one that makes it invalid. For kOutside it is the coordinate of the
  // centre that is outside, computed as truth_of does.
  float value_of(BoxKind kind, const BoxRow &row) const {
    const float *v = row.values;
    const float width = v[kXMax] - v[kXMin], height = v[kYMax] - v[kYMin];
    const float x = std::floor((v[kXMin] + v[kXMax]) / 2), y = std::floor((v[kYMin] + v[kYMax]) / 2);
    switch (kind) {
      case BoxKind::kNoArea: return std::min(width, height);
      case BoxKind::kBadClass: return v[kBoxClass];
      case BoxKind::kTooLarge: return std::max(width, height);
      case BoxKind::kOutside: return x >= 0 && x < static_cast<float>(shape_.input_width) ? y : x;
      case BoxKind::kBadWeight: return row.weight;
      default: return *std::find_if(v, v + kBoxClass, [](float value) { return !finite(value); });
    }
  }

  // Counts a use of an anchor in a layer.
  void use(int32_t l, int32_t anchor) {
    if (result_.anchor_use) ++result_.anchor_use[l * anchors_ + anchor];
  }

  // Adds a finding for a row of boxes with this reason and value.
  void find(yl_finding finding, int32_t reason, float value) {
    finding.reason = reason;
    finding.value = value;
    add(finding);
  }

  // Counts a finding, and lists it if there is room.
  void add(const yl_finding &finding) {
    if (result_.counts) ++result_.counts[finding.reason];
    if (listed_ < result_.capacity) result_.findings[listed_++] = finding;
  }

  const Shape &shape_;
  const float poor_iou_;
  const yl_audit_result &result_;
  const int64_t anchors_;
  int64_t listed_ = 0;
  std::vector<int32_t> marks_;  // for each cell of the image the last row that took it, or -1
};

// Makes truths readable on the host: returns host memory as it is, and device memory as a copy, which is valid until
// the next read. One buffer is reused for all images, and is as large as the largest array.
class Reader {
 public:
  explicit Reader(const Shape &shape) : shape_(shape) {}
  // Returns count floats; name and layer are for the sentence of a Failure. NULL stays NULL: boxes may have no weights.
  const float *read(const char *name, int32_t layer, const float *from, int64_t count) {
    if (!shape_.device_memory || count == 0 || !from) return from;
    copy_.resize(static_cast<size_t>(count));
    const DeviceMemory &memory = memory_of(shape_.device, shape_.device_index);
    memory.require_reachable(shape_.device_index, name, layer, from);
    memory.copy(shape_.device_index, copy_.data(), from, count * int64_t(sizeof(float)));
    return copy_.data();
  }

 private:
  const Shape &shape_;
  std::vector<float> copy_;
};

}  // namespace

// Boxes are read all at once, since they are small; y_true is read image by image and layer by layer.
void audit(const Shape &shape, const Call &call, float poor_iou, const yl_audit_result &result) {
  Audit audit(shape, poor_iou, result);
  Reader values(shape), weights(shape);
  if (!call.dense()) {
    BoxRows rows = rows_of(call);
    const int64_t count = int64_t(call.batch) * rows.per_image;
    rows.data = values.read("boxes.data", -1, rows.data, kBoxValues * count);
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
