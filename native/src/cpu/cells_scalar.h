// Stage 2, cells, on the host: a run of cells of one (image, layer), each visited once: its parts of the loss, its
// ignore factor against the objects, its row of the gradient. Sums are double.
#pragma once

#include <algorithm>
#include <cmath>

#include "statistics.h"
#include "dtype.h"
#include "layer_sums.h"
#include "truths.h"

// The cpu backend compiles this file for several instruction sets: each in a namespace of its own, or the linker would
// take the functions of one for another's.
#ifndef YL_ISA
#define YL_ISA plain
#endif

namespace yl {

constexpr int64_t kRun = 1024;       // the most cells of a visit
constexpr int64_t kPlaneRun = 8192;  // of planes: usually a whole one, so that the gradient of an anchor is one stretch

// An object that cells of a visit can reach, those from first to last counted from the first cell.
struct Reachable {
  Box<float> truth;
  int32_t first, last;
};

// What a visit needs of its own.
struct Scratch {
  explicit Scratch(const Shape &shape)
      : row(shape.channels),
        slopes(kPlaneRun),
        object(kRun),
        reachable(new Reachable[shape.cells_per_image()]),
        tile(64 * int64_t(shape.channels) + 128) {
    int64_t places = 0;
    for (const Layer &layer : shape.layers)
      if (shape.layout == YL_NCHW) places = larger(places, smaller(layer.cells / layer.anchors, kPlaneRun));
    object_rows.reset(new float[places * shape.channels]);
  }
  std::vector<float> row;                  // of y_true
  std::vector<double> slopes;              // planes: room for those of the objectness, in the type of the gradient
  std::vector<uint8_t> object;             // 1: the cell is one
  std::unique_ptr<Reachable[]> reachable;  // room for all objects of an image
  std::vector<char> tile;                  // rows of the gradient on their way to memory
  const Object *objects[kPlaneRun];        // of the visit
  std::unique_ptr<float[]> object_rows;    // planes: room for the gradient of each of them, in its type
};

inline namespace YL_ISA {

template <class T> Cell<T> cell_at(const Layer &layer, int64_t cell) {
  const int64_t anchor = cell % layer.anchors, place = cell / layer.anchors;
  return {T(place % layer.width),
          T(place / layer.width),
          T(layer.width),
          T(layer.height),
          T(layer.anchor_sizes[2 * anchor]),
          T(layer.anchor_sizes[2 * anchor + 1])};
}

template <class T> Box<T> box_of(const Object &object) {
  return {T(object.truth.x), T(object.truth.y), T(object.truth.w), T(object.truth.h)};
}

// What feats and gradients are. body(Format) is called with the one of a plan.
template <class V, class G, bool kPlanes> struct Format {
  using Value = V;
  using Grad = G;
  static constexpr bool kPlanar = kPlanes;
};

template <class Value, class Body> void with_format_of(const Shape &shape, const Body &body) {
  const bool planar = shape.layout == YL_NCHW;
  if (planar && shape.f32_grads) return body(Format<Value, float, true>{});
  if (planar) return body(Format<Value, Value, true>{});
  if (shape.f32_grads) return body(Format<Value, float, false>{});
  body(Format<Value, Value, false>{});
}

template <class Body> void with_format(const Shape &shape, const Body &body) {
  switch (shape.dtype) {
    case YL_F16: return with_format_of<Half>(shape, body);
    case YL_BF16: return with_format_of<Bfloat16>(shape, body);
    case YL_F64: return with_format_of<double>(shape, body);
    default: return with_format_of<float>(shape, body);
  }
}

// T is the type of the arithmetic, Value that of feats, Grad that of the gradient. kExtras: rules of the caller's, and what
// is given on request; without it nothing of that costs anything.
template <class T, class Value, class Grad, bool kPlanar, bool kExtras> class Cells {
 public:
  static constexpr bool kHasExtras = kExtras;

  Cells(const Shape &shape, const Truths &truths, const Call &call, double gradient_factor)
      : shape_(shape),
        rules_(shape.rules),
        truths_(truths),
        call_(call),
        factor_(static_cast<T>(gradient_factor)),
        cells_per_image_(truths.cells_per_image()) {}

  // Adds cells [first, last) of an image and layer to the sums; at most kRun.
  void visit(int32_t image, int32_t l, int64_t first, int64_t last, Scratch &scratch, yl_parts &sum,
             Extra &extra) const {
    const Run run = run_of(image, l);
    const float *y_true = call_.dense() ? call_.y_true[l] + image * run.layer.cells * shape_.channels : nullptr;
    const Object *next = std::lower_bound(run.objects, run.objects_end, first,
                                          [](const Object &object, int64_t cell) { return object.cell < cell; });
    auto *const slopes = reinterpret_cast<Grad *>(scratch.slopes.data());
    const bool overwrite = run.mode == YL_GRAD_OVERWRITE;
    if (run.mode == YL_GRAD_REFRESH) clear_previous(run, first, last);
    for (int64_t cell = first; cell < last; ++cell) {
      const Row logits = row_of(run, cell);
      if (!kPlanar)
        __builtin_prefetch(logits.first + 8 * shape_.channels);  // rows too far apart for the processor to foresee
      const Object *own = next != run.objects_end && next->cell == cell ? next++ : nullptr;
      const T k = ignored(run, cell, logits) ? T(0) : T(1);
      sum.ignored += k == T(0);
      if (kExtras && call_.scan_all) scan(run, cell, logits, y_true, sum, extra);
      if (kPlanar) scratch.object[cell - first] = own != nullptr;
      if (own) {
        object(run, cell, k, logits, *own, truths_.row(*own, image, l, y_true, scratch.row.data()), sum, extra);
      } else {
        const Grad slope = background(run, cell, k, logits, sum, extra);
        if (kPlanar && overwrite) slopes[cell - first] = slope;
      }
    }
    if (kPlanar && overwrite) write_planes(run, first, last, slopes, scratch.object.data());
  }

 protected:
  // An (image, layer).
  struct Run {
    int32_t image, l;
    const Layer &layer;
    const Object *objects, *objects_end;
    Order<kPlanar> order;
    const Value *feats;  // of the image
    Grad *grads;         // alike, or NULL
    int32_t mode;        // YL_GRAD_..., or kNoGradient
    Grad *object_row;    // planes: where the gradient of an object is collected, if not in its place
  };
  static constexpr int32_t kNoGradient = -1;

  Run run_of(int32_t image, int32_t l) const {
    const Layer &layer = shape_.layers[l];
    const int64_t start = image * layer.cells * shape_.channels;
    return {image,
            l,
            layer,
            truths_.begin(image, l),
            truths_.end(image, l),
            Order<kPlanar>(layer.anchors, layer.cells, shape_.channels),
            static_cast<const Value *>(call_.feats[l]) + start,
            call_.grads ? static_cast<Grad *>(call_.grads[l]) + start : nullptr,
            call_.grads ? call_.grad_mode : kNoGradient,
            nullptr};
  }

  // The logits of a cell, as numbers of the arithmetic.
  struct Row {
    const Value *first;
    int64_t step;
    T operator[](int32_t channel) const { return T(load(first[channel * step])); }
    Box<T> box() const { return {(*this)[0], (*this)[1], (*this)[2], (*this)[3]}; }
  };

  static Row row_of(const Run &run, int64_t cell) {
    return {run.feats + run.order.start(static_cast<int32_t>(cell)), run.order.step()};
  }
  static Grad &grad_at(const Run &run, int64_t cell, int32_t channel) {
    return run.grads[run.order.start(static_cast<int32_t>(cell)) + channel * run.order.step()];
  }

  void clear_previous(const Run &run, int64_t first, int64_t last) const {
    const int32_t *end = truths_.previous_end(run.image, run.l);
    for (const int32_t *cell = std::lower_bound(truths_.previous_begin(run.image, run.l), end, first);
         cell != end && *cell < last; ++cell)
      for (int32_t channel = 0; channel < shape_.channels; ++channel) grad_at(run, *cell, channel) = Grad{};
  }

  // The gradient of background in planes: 0 but for the objectness, stretch by stretch side by side, when all of the run
  // has been read (feats may lie there). In rows each is written when its cell is visited, while it is in the cache.
  void write_planes(const Run &run, int64_t first, int64_t last, const Grad *slopes, const uint8_t *object) const {
    const int32_t anchors = run.layer.anchors;
    for (int64_t anchor = 0; anchor < anchors; ++anchor) {
      int64_t cell = first + (anchor - first % anchors + anchors) % anchors;
      while (cell < last) {
        int64_t end = cell;
        while (end < last && !object[end - first]) end += anchors;
        for (int32_t channel = 0; channel < shape_.channels && end > cell; ++channel) {
          Grad *out = &grad_at(run, cell, channel);
          if (channel != 4)
            std::fill_n(out, (end - cell) / anchors, Grad{});
          else
            for (int64_t i = cell; i < end; i += anchors) *out++ = slopes[i - first];
        }
        cell = end + anchors;
      }
    }
  }

  // An element as the gradient holds it, counted if that is not finite.
  static Grad stored(T slope, yl_parts &sum) {
    const Grad value = Store<Grad>::from(slope);
    sum.found_inf += !finite(load(value));
    return value;
  }

  static Grad write(const Run &run, int64_t cell, int32_t channel, T slope, yl_parts &sum) {
    Grad &at = kPlanar && run.object_row ? run.object_row[channel] : grad_at(run, cell, channel);
    return at = stored(run.mode == YL_GRAD_ACCUMULATE ? T(load(at)) + slope : slope, sum);
  }

  bool ignored(const Run &run, int64_t cell, const Row &logits) const {
    if (kExtras && (rules_.image_scope || call_.best_iou)) return ignored_in_scope(run, cell, logits);
    if (run.objects == run.objects_end) return false;
    const Box<T> box = decode(logits.box(), cell_at<T>(run.layer, cell));
    for (const Object *o = run.objects; o != run.objects_end; ++o)
      if (reaches(box, box_of<T>(*o), T(run.layer.ignore_thresh))) return true;
    return false;
  }

  bool ignored_in_scope(const Run &run, int64_t cell, const Row &logits) const {
    const Box<T> box = decode(logits.box(), cell_at<T>(run.layer, cell));
    bool result = false;
    T best = 0;
    for (int32_t l = 0; l < shape_.layer_count(); ++l) {
      if (l != run.l && !rules_.image_scope) continue;
      for (const Object *o = truths_.begin(run.image, l); o != truths_.end(run.image, l); ++o) {
        result |= reaches(box, box_of<T>(*o), T(run.layer.ignore_thresh));
        best = larger(iou(box, box_of<T>(*o)), best);
      }
    }
    if (call_.best_iou) exported(call_.best_iou, run, cell) = static_cast<float>(best);
    return result;
  }

  // grad may lie over feats: every logit is read before its place is written.
  Grad background(const Run &run, int64_t cell, T k, const Row &logits, yl_parts &sum, Extra &extra) const {
    const T logit = logits[4];
    Term<T> confidence = confidence_loss(T(0), k, logit);
    if (kExtras) confidence = weighted(confidence, T(rules_.weight_background));
    sum.confidence_background += confidence.loss;
    sum.ignored_background += k == T(0);
    if (!(kExtras && call_.scan_all)) sum.non_finite += !finite(logit);
    Grad stored_slope{};
    const T slope = confidence.slope * factor_;
    if (run.mode == YL_GRAD_OVERWRITE) {
      stored_slope = stored(slope, sum);
      if (!kPlanar) {
        Grad *row = &grad_at(run, cell, 0);
        std::fill_n(row, shape_.channels, Grad{});
        row[4] = stored_slope;
      }
    } else if (run.grads) {
      stored_slope = write(run, cell, 4, slope, sum);
    }
    if (kExtras) {
      ++extra.stats.background;
      extra.stats.objectness_background += sigmoid(logit);
      if (run.grads) extra.stats.grad_background += square(slope);
      if (!finite(logit))
        note(run, cell, 4, YL_CAUSE_FEATS, logit, 0, extra);
      else if (!finite(load(stored_slope)))
        note(run, cell, 4, YL_CAUSE_OVERFLOW, logit, slope, extra);
      export_cell(run, cell, k, confidence.loss);
    }
    return stored_slope;
  }

  void object(const Run &run, int64_t cell, T k, const Row &logits, const Object &own, const float *y, yl_parts &sum,
              Extra &extra) const {
    const bool sound = inspect(run, cell, logits, y, shape_.channels, sum, extra);
    double loss = box_and_confidence(run, cell, k, logits, own, y, sound, sum, extra);
    for (int32_t i = 5; i < shape_.channels; ++i) {
      const T logit = logits[i];
      const Term<T> term = class_term(T(y[4]), T(y[i]), logit, T(own.weight), [&] { return T(class_weight(i)); });
      sum.class_ += term.loss;
      loss += term.loss;
      give(run, cell, i, logit, term.slope, sound, !finite(term.loss), extra.stats.grad_class, sum, extra);
    }
    if (kExtras) export_cell(run, cell, k, loss);
  }

  // The first channels of an object: counts what is not finite. Whether nothing of that comes from outside.
  bool inspect(const Run &run, int64_t cell, const Row &logits, const float *y, int32_t channels, yl_parts &sum,
               Extra &extra) const {
    bool sound = true;
    for (int32_t i = 0; i < channels; ++i) {
      const T logit = logits[i];
      if (!(kExtras && call_.scan_all)) sum.non_finite += !finite(logit) + !finite(y[i]);
      if (!kExtras || (finite(logit) && !poisons(i, y[i]))) continue;
      sound = false;
      if (!finite(logit)) note(run, cell, i, YL_CAUSE_FEATS, logit, 0, extra);
      if (poisons(i, y[i])) note(run, cell, i, YL_CAUSE_TRUTH, y[i], 0, extra);
    }
    return sound;
  }

  double box_and_confidence(const Run &run, int64_t cell, T k, const Row &logits, const Object &own, const float *y,
                            bool sound, yl_parts &sum, Extra &extra) const {
    const T m = y[4];
    const Box<T> truth{T(y[0]), T(y[1]), T(y[2]), T(y[3])}, box_logits = logits.box();
    const T objectness = logits[4], v = T(own.weight);
    BoxLoss<T> box = box_loss(truth, m, box_logits, cell_at<T>(run.layer, cell));
    Term<T> confidence = confidence_loss(m, k, objectness);
    if (kExtras) {
      box = weighted(box, T(rules_.weight_xy) * v, T(rules_.weight_wh) * v);
      confidence = weighted(confidence, T(rules_.weight_object) * v);
      add_object(extra.stats, iou(decode(box_logits, cell_at<T>(run.layer, cell)), truth), objectness);
    }
    sum.xy += box.xy;
    sum.wh += box.wh;
    sum.confidence_object += confidence.loss;
    ++sum.objects;
    const T values[] = {box_logits.x, box_logits.y, box_logits.w, box_logits.h, objectness};
    const T slopes[] = {box.slope.x, box.slope.y, box.slope.w, box.slope.h, confidence.slope};
    yl_stats &stats = extra.stats;
    double *const squares[] = {&stats.grad_xy, &stats.grad_xy, &stats.grad_wh, &stats.grad_wh, &stats.grad_object};
    const int32_t overflow = kExtras ? overflow_channel(box, box_logits) : -1;
    for (int32_t i = 0; i < 5; ++i) {
      const bool lost = kExtras && (i == overflow || (i == 4 && !finite(confidence.loss)));
      give(run, cell, i, values[i], slopes[i], sound, lost, *squares[i], sum, extra);
    }
    return double(box.xy) + double(box.wh) + double(confidence.loss);
  }

  float class_weight(int32_t channel) const { return rules_.class_weights[channel - 5]; }

  // Of one class, or of several side by side: N is T, or several of it. weight() gives class_weight.
  template <class N, class Weight> Term<N> class_term(N m, N y, N logit, N v, const Weight &weight) const {
    if (!kExtras) return class_loss(m, y, logit);
    return weighted(class_loss(m, smoothed(y, N(rules_.label_smoothing)), logit), N(rules_.weight_class) * v * weight());
  }

  // An element of an object's gradient. sound: its input is finite; lost: its loss is not.
  void give(const Run &run, int64_t cell, int32_t channel, T logit, T slope, bool sound, bool lost, double &squares,
            yl_parts &sum, Extra &extra) const {
    if (run.grads) lost |= !finite(load(write(run, cell, channel, slope * factor_, sum)));
    if (!kExtras) return;
    if (run.grads) squares += square(slope * factor_);
    if (sound && lost) note(run, cell, channel, YL_CAUSE_OVERFLOW, logit, run.grads ? slope * factor_ : T(0), extra);
  }

  // YL_SCAN_ALL: every value of a cell.
  void scan(const Run &run, int64_t cell, const Row &logits, const float *y_true, yl_parts &sum, Extra &extra) const {
    for (int32_t i = 0; i < shape_.channels; ++i) {
      const T logit = logits[i];
      const float y = y_true ? y_true[cell * shape_.channels + i] : 0;
      sum.non_finite += !finite(logit) + !finite(y);
      if (!finite(logit)) note(run, cell, i, YL_CAUSE_FEATS, logit, 0, extra);
      if (!finite(y)) note(run, cell, i, YL_CAUSE_TRUTH, y, 0, extra);
    }
  }

  void note(const Run &run, int64_t cell, int32_t channel, int32_t cause, double value, double gradient,
            Extra &extra) const {
    const int64_t before = run.image * cells_per_image_ + truths_.first_cell(run.l);
    const auto place = static_cast<uint64_t>((before + cell) * shape_.channels + channel);
    meet(extra.first, {4 * place + static_cast<uint64_t>(cause), value, gradient});
  }

  // Its place in an array that is given on request.
  float &exported(float *const *arrays, const Run &run, int64_t cell) const {
    return arrays[run.l][run.image * run.layer.cells + run.order.index_of(static_cast<int32_t>(cell))];
  }
  void export_cell(const Run &run, int64_t cell, T k, double loss) const {
    if (call_.ignore_mask) exported(call_.ignore_mask, run, cell) = static_cast<float>(k);
    if (call_.cell_loss) exported(call_.cell_loss, run, cell) = static_cast<float>(loss);
  }

  const Shape &shape_;
  const Rules &rules_;
  const Truths &truths_;
  const Call &call_;
  const T factor_;  // of the gradient: grad_scale / normaliser
  const int64_t cells_per_image_;
};

// yolo_head of cells [first, last) of an image. Outputs as in yl_head, each NULL or of the whole layer.
template <class T, class Value, bool kPlanar>
void head_cells(const Shape &shape, const yl_head &head, int32_t image, int64_t first, int64_t last) {
  const Layer &layer = shape.layers[head.layer];
  const Order<kPlanar> order(layer.anchors, layer.cells, shape.channels);
  const Value *feats = static_cast<const Value *>(head.feats) + image * layer.cells * shape.channels;
  for (int64_t cell = first; cell < last; ++cell) {
    const int64_t at = image * layer.cells + cell;
    const Value *row = feats + order.start(static_cast<int32_t>(cell));
    const auto logit = [&](int32_t channel) { return T(load(row[channel * order.step()])); };
    if (head.box_xy || head.box_wh) {
      const Box<T> box = decode<T>({logit(0), logit(1), logit(2), logit(3)}, cell_at<T>(layer, cell));
      if (head.box_xy) {
        head.box_xy[2 * at] = static_cast<float>(box.x);
        head.box_xy[2 * at + 1] = static_cast<float>(box.y);
      }
      if (head.box_wh) {
        head.box_wh[2 * at] = static_cast<float>(box.w);
        head.box_wh[2 * at + 1] = static_cast<float>(box.h);
      }
    }
    if (head.box_confidence) head.box_confidence[at] = static_cast<float>(sigmoid(logit(4)));
    if (!head.box_class_probs) continue;
    for (int32_t c = 0; c < shape.num_classes; ++c)
      head.box_class_probs[at * shape.num_classes + c] = static_cast<float>(sigmoid(logit(5 + c)));
  }
}

inline void head_grid(const Shape &shape, const yl_head &head) {
  const Layer &layer = shape.layers[head.layer];
  if (!head.grid) return;
  for (int32_t row = 0; row < layer.height; ++row)
    for (int32_t column = 0; column < layer.width; ++column) {
      float *out = head.grid + 2 * (int64_t(row) * layer.width + column);
      out[0] = static_cast<float>(column);
      out[1] = static_cast<float>(row);
    }
}

// What a call asked for of the sums of each layer.
inline void give_extras(const Shape &shape, const Call &call, const Extra *layers) {
  Offence first = layers[0].first;
  for (int32_t l = 0; l < shape.layer_count(); ++l) {
    meet(first, layers[l].first);
    if (call.stats) call.stats[l] = layers[l].stats;
  }
  if (call.offender)
    *call.offender = describe(first, shape.layers, shape.layer_count(), shape.cells_per_image(), shape.channels);
}

// The dense truths of an image and layer, written whole.
inline void write_y_true(const Shape &shape, const Truths &truths, int32_t image, int32_t l, float *y_true) {
  float *out = y_true + image * shape.layers[l].cells * shape.channels;
  std::fill(out, out + shape.layers[l].cells * shape.channels, 0.0f);
  for (const Object *o = truths.begin(image, l); o != truths.end(image, l); ++o)
    truths.row(*o, image, l, nullptr, out + int64_t(o->cell) * shape.channels);
}

}  // namespace YL_ISA
}  // namespace yl
