// The visit of a span for the instruction set that this file is compiled for. Cells are taken in blocks of 64, so that a
// property of all cells of a block is one word.
//
// What makes it fast: five channels are read of a background cell, and four of these only where an object can be reached
// (zone_of); the gradient is written once, in whole lines; the rows of objects stand apart.
#include "cpu/cells_scalar.h"
#include "cpu/gradient_stream.h"
#include "cpu/cells.h"

namespace yl {
inline namespace YL_ISA {

constexpr int32_t kBlock = 64;

YL_SIMD int64_t count_bits(uint64_t bits) { return __builtin_popcountll(bits); }
YL_SIMD uint64_t first_bits(int64_t count) { return count >= 64 ? ~uint64_t(0) : (uint64_t(1) << count) - 1; }

// How many of the lowest bits are set before one that is not.
YL_SIMD int32_t ones(uint64_t bits) { return ~bits == 0 ? 64 : __builtin_ctzll(~bits); }

// The largest factor that cannot make a gradient overflow its type: a slope of the objectness is at most 1.
template <class Grad> constexpr float kLargest = 0x1.fffffep127f;
template <> constexpr float kLargest<Half> = 65504.0f;
template <> constexpr float kLargest<Bfloat16> = 0x1.fep127f;

template <class Value, class Grad, bool kPlanar, bool kExtras>
class Spans : Cells<float, Value, Grad, kPlanar, kExtras> {
  using Base = Cells<float, Value, Grad, kPlanar, kExtras>;
  using typename Base::Row;
  using typename Base::Run;
  using Base::call_, Base::factor_, Base::rules_, Base::shape_, Base::truths_;

 public:
  Spans(const Visiting &v, int32_t image, const Span &span, Scratch &scratch)
      : Base(v.shape, v.truths, v.call, v.factor),
        run_(Base::run_of(image, span.layer)),
        places_(v.places[span.layer]),
        may_overflow_(!(yl::fabs(Base::factor_ * (kExtras ? v.shape.rules.weight_background : 1.0f)) <= kLargest<Grad>)),
        streams_(v.stream && run_.mode == YL_GRAD_OVERWRITE),
        count_(static_cast<int32_t>(span.last - span.first)),
        origin_(kPlanar ? span.first * run_.layer.anchors + span.anchor : span.first),
        step_(kPlanar ? run_.layer.anchors : 1),
        place_(kPlanar ? span.first : span.first / run_.layer.anchors),
        index_(kPlanar ? span.anchor * (run_.layer.cells / run_.layer.anchors) + span.first : span.first),
        scratch_(scratch),
        rows_(scratch.tile, v.shape.channels) {}

  void visit(yl_parts &sum, Extra &extra) {
    find_objects();
    find_reachable();
    if (run_.mode == YL_GRAD_REFRESH) clear_previous();
    if (!kPlanar && streams_) rows_.start(&grad(0, 0));
    for (int32_t b = 0; b * kBlock < count_; ++b) {
      if (run_.grads)
        block<true>(b, sum, extra);
      else
        block<false>(b, sum, extra);
    }
    if (kPlanar && run_.mode == YL_GRAD_OVERWRITE) write_planes();
    if (!kPlanar && streams_) rows_.finish();
    if (streams_) streamed();
    sum.confidence_background += confidence_.total();
    if (kExtras) extra.stats.objectness_background += objectness_.total();
    if (kExtras) extra.stats.grad_background += grad_squares_.total();
  }

 private:
  // Cells of the span are numbered from 0.
  int64_t cell_of(int32_t i) const { return origin_ + i * int64_t(step_); }
  Row row_of(int32_t i) const { return Base::row_of(run_, cell_of(i)); }
  Grad &grad(int32_t i, int32_t channel) const { return Base::grad_at(run_, cell_of(i), channel); }

  // body(i, object) for those of a list of cells or objects, ordered by cell, that lie in the span.
  template <class Item, class CellOf, class Body>
  void in_span(const Item *begin, const Item *end, const CellOf &cell_at_item, const Body &body) const {
    int64_t low = 0, high = end - begin;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (cell_at_item(begin[middle]) < origin_)
        low = middle + 1;
      else
        high = middle;
    }
    for (const Item *item = begin + low; item != end; ++item) {
      const int64_t away = cell_at_item(*item) - origin_;
      if (away >= int64_t(count_) * step_) break;
      if (away % step_ == 0) body(static_cast<int32_t>(away / step_), *item);
    }
  }

  void find_objects() {
    int32_t count = 0;
    const auto cell_of_object = [](const Object &object) { return int64_t(object.cell); };
    in_span(run_.objects, run_.objects_end, cell_of_object, [&](int32_t i, const Object &object) {
      object_[i / kBlock] |= uint64_t(1) << i % kBlock;
      scratch_.objects[count++] = &object;
    });
  }

  void clear_previous() const {
    const auto itself = [](int32_t cell) { return int64_t(cell); };
    in_span(truths_.previous_begin(run_.image, run_.l), truths_.previous_end(run_.image, run_.l), itself,
            [&](int32_t i, int32_t) {
              for (int32_t channel = 0; channel < shape_.channels; ++channel) grad(i, channel) = Grad{};
            });
  }

  // The cells from which an object can be reached, and those objects.
  void find_reachable() {
    const bool all = kExtras && call_.best_iou;
    if (all)
      for (int32_t b = 0; b * kBlock < count_; ++b) reach_[b] = first_bits(count_ - b * kBlock);
    for (int32_t l = 0; l < shape_.layer_count(); ++l) {
      if (l != run_.l && !(kExtras && rules_.image_scope)) continue;
      for (const Object *o = truths_.begin(run_.image, l); o != truths_.end(run_.image, l); ++o) {
        Reachable found{box_of<float>(*o), count_, -1};
        if (all)
          found = {found.truth, 0, count_ - 1};
        else
          reach(found);
        if (found.last >= found.first) scratch_.reachable[reachable_++] = found;
      }
    }
  }

  // Marks the cells of the object's zone.
  void reach(Reachable &object) {
    const int32_t width = run_.layer.width, height = run_.layer.height, of_place = kPlanar ? 1 : run_.layer.anchors;
    const Zone<float> zone = zone_of(object.truth, run_.layer.ignore_thresh, float(width), float(height));
    const int64_t first_row = place_ / width, last_row = (place_ + (count_ - 1) / of_place + 1) / width;
    const float left = yl::larger(zone.left, 0.0f), right = yl::smaller(zone.right, float(width - 1));
    const float top = yl::larger(zone.top, float(first_row)), bottom = yl::smaller(zone.bottom, float(last_row));
    if (!(left <= right && top <= bottom)) return;  // nor of a truth that is NaN
    const auto left_column = static_cast<int64_t>(-yl::floor(-left)), right_column = static_cast<int64_t>(yl::floor(right));
    const int64_t before = kPlanar ? place_ : origin_;  // of_place * place of the first cell, at most
    for (auto row = static_cast<int64_t>(-yl::floor(-top)); row <= static_cast<int64_t>(yl::floor(bottom)); ++row) {
      const int64_t from = yl::larger(int64_t(0), (row * width + left_column) * of_place - before);
      const int64_t to = yl::smaller(int64_t(count_), (row * width + right_column + 1) * of_place - before);
      if (from >= to) continue;
      object.first = yl::smaller(object.first, static_cast<int32_t>(from));
      object.last = yl::larger(object.last, static_cast<int32_t>(to - 1));
      for (int64_t b = from / kBlock; b * kBlock < to; ++b)
        reach_[b] |= first_bits(to - b * kBlock) & ~first_bits(yl::larger(int64_t(0), from - b * kBlock));
    }
  }

  template <bool kGradient> void block(int32_t b, yl_parts &sum, Extra &extra) {
    const int32_t start = b * kBlock, count = yl::smaller(kBlock, count_ - start);
    alignas(kLine) float logits[kBlock];
    alignas(kLine) Grad of_block[kBlock];
    Grad *const slopes = kPlanar && run_.mode == YL_GRAD_OVERWRITE ? plane_slopes() + start : of_block;
    alignas(kLine) float raw_slopes[kBlock];
    collect(start, count, logits);
    const uint64_t all = first_bits(count), objects = object_[b];
    const uint64_t ignored = reach_[b] ? reached(start, count, reach_[b]) : 0;
    sum.ignored += count_bits(ignored);
    sum.ignored_background += count_bits(ignored & ~objects);
    if (kExtras && call_.scan_all) scan(start, count, sum, extra);
    if (ignored == 0 && objects == 0 && count == kBlock)
      background<kGradient, true>(start, ~uint64_t(0), 0, logits, slopes, raw_slopes, sum, extra);
    else
      background<kGradient, false>(start, all & ~objects, ignored, logits, slopes, raw_slopes, sum, extra);
    for (uint64_t rest = objects; rest; rest &= rest - 1) {
      const int32_t i = start + __builtin_ctzll(rest);
      object(i, ignored >> (i - start) & 1 ? 0.0f : 1.0f, *scratch_.objects[next_object_], sum, extra);
    }
    if (kGradient) write(start, count, all & ~objects, slopes, raw_slopes, sum);
  }

  // The objectness logits, and zeros behind them.
  YL_SIMD void collect(int32_t start, int32_t count, float *logits) const {
    const Value *from = row_of(start).first + 4 * run_.order.step();
    const int64_t step = kPlanar ? 1 : shape_.channels;
    if (count < kBlock) {
      for (int32_t i = 0; i < count; ++i) logits[i] = load(from[i * step]);
      for (int32_t i = count; i < kBlock; ++i) logits[i] = 0;
    } else if (kPlanar) {
      for (int32_t i = 0; i < kBlock; i += kLanes) load_lanes(from + i).store(logits + i);
    } else {
#pragma GCC unroll 4
      for (int32_t i = 0; i < kBlock; ++i, from += step) logits[i] = load(*from);
    }
  }

  // Fetches the objectness of rows to come, which the processor does not foresee well; and where a refresh will write.
  YL_SIMD void look_ahead(int32_t i) const {
    const int64_t step = shape_.channels;
    fetch<kFetched>(row_of(i + kAhead).first + 4, step);
    if (run_.mode != YL_GRAD_REFRESH || step * int64_t(sizeof(Value)) <= kLine) return;
    const Grad *to = &grad(i + kAhead, 4);
    for (int32_t row = 0; row < kFetched; ++row) __builtin_prefetch(to + row * step, 1, 1);
  }

  // Which cells of a block reach an object. candidates: those that may.
  uint64_t reached(int32_t start, int32_t count, uint64_t candidates) const {
    uint64_t result = 0;
    for (int32_t i = 0; i < count; i += kLanes) {
      const uint64_t here = candidates >> i & kAllLanes;
      if (here) result |= (lanes_reached(start + i, yl::smaller(kLanes, count - i)) & here) << i;
    }
    return result;
  }

  uint64_t lanes_reached(int32_t start, int32_t count) const {
    const Box<Floats> raw = box_logits(row_of(start).first, count);
    const int64_t at = index_ + start;
    const Cell<Floats> cells{Floats::load(&places_.column[at]),       Floats::load(&places_.row[at]),
                             Floats(float(run_.layer.width)),         Floats(float(run_.layer.height)),
                             Floats::load(&places_.anchor_width[at]), Floats::load(&places_.anchor_height[at])};
    const Box<Floats> box = decode(raw, cells);
    const Floats thresh(run_.layer.ignore_thresh);
    Mask reached = Mask::of_bits(0);
    Floats best(0);
    for (int64_t i = 0; i < reachable_; ++i) {
      const Reachable &object = scratch_.reachable[i];
      if (object.first >= start + kLanes || object.last < start) continue;
      const Box<Floats> truth{Floats(object.truth.x), Floats(object.truth.y), Floats(object.truth.w),
                              Floats(object.truth.h)};
      reached = reached | reaches(box, truth, thresh);
      if (kExtras && call_.best_iou) best = yl::larger(iou(box, truth), best);
    }
    if (kExtras && call_.best_iou) put(call_.best_iou, start, best, count);
    return reached.bits() & first_bits(count);
  }

  // The first four logits of cells side by side, zeros behind them.
  YL_SIMD Box<Floats> box_logits(const Value *from, int32_t count) const {
    const int64_t of_channel = run_.order.step();
    if (count == kLanes && kPlanar)
      return {load_lanes(from), load_lanes(from + of_channel), load_lanes(from + 2 * of_channel),
              load_lanes(from + 3 * of_channel)};
    if (count == kLanes) return load_boxes(from, shape_.channels);
    float logits[4][kLanes] = {};
    for (int32_t i = 0; i < count; ++i, from += kPlanar ? 1 : shape_.channels)
      for (int32_t c = 0; c < 4; ++c) logits[c][i] = load(from[c * of_channel]);
    return {Floats::load(logits[0]), Floats::load(logits[1]), Floats::load(logits[2]), Floats::load(logits[3])};
  }

  // The background of a block. kWhole: that is all of it, and all counts.
  template <bool kGradient, bool kWhole>
  void background(int32_t start, uint64_t background, uint64_t ignored, const float *logits, Grad *slopes,
                  float *raw_slopes, yl_parts &sum, Extra &extra) {
    // Two loops: the chain of operations of both would be longer than what a processor looks ahead.
    alignas(kLine) float e[kBlock];
    for (int32_t i = 0; i < kBlock; i += kLanes) {
      if (!kPlanar) look_ahead(start + i);
      if (kWhole) exp(-fabs(Floats::load(logits + i))).store(e + i);
    }
    Sums confidence_sum = confidence_;
    Floats sound(0);
    for (int32_t i = 0; i < kBlock; i += kLanes) {
      if (!kPlanar) look_ahead(start + i + kFetched);
      const Floats u = Floats::load(logits + i);
      const Mask here = Mask::of_bits(background >> i & kAllLanes), dropped = Mask::of_bits(ignored >> i & kAllLanes);
      const Floats k = select(dropped, Floats(0), Floats(1));
      Term<Floats> confidence = kWhole ? cross_entropy(Floats(0), u, Floats::load(e + i)) : confidence_loss(Floats(0), k, u);
      if (kExtras) confidence = weighted(confidence, Floats(rules_.weight_background));
      confidence_sum.add(kWhole ? confidence.loss : select(here, confidence.loss, Floats(0)));
      sound = fma(u, Floats(0), sound);
      if (kExtras) {
        objectness_.add(select(here, sigmoid(u), Floats(0)));
        put(call_.ignore_mask, start + i, k, count_ - start - i);
        put(call_.cell_loss, start + i, confidence.loss, count_ - start - i);
      }
      if (!kGradient) continue;
      const Floats slope = confidence.slope * Floats(factor_);
      store_lanes(slopes + i, slope);
      if (!kExtras && run_.mode != YL_GRAD_ACCUMULATE) continue;
      slope.store(raw_slopes + i);
      if (kExtras) grad_squares_.add_squares(select(here, slope, Floats(0)));
    }
    confidence_ = confidence_sum;
    if (kExtras) extra.stats.background += count_bits(background);
    if ((kGradient && may_overflow_) || finite(sound).bits() != kAllLanes)
      not_finite<kGradient>(start, background, logits, slopes, raw_slopes, sum, extra);
  }

  // Counts what is not finite in the background of a block.
  template <bool kGradient>
  void not_finite(int32_t start, uint64_t background, const float *logits, const Grad *slopes, const float *raw_slopes,
                  yl_parts &sum, Extra &extra) const {
    for (uint64_t rest = background; rest; rest &= rest - 1) {
      const int32_t i = __builtin_ctzll(rest);
      const bool bad = !yl::finite(logits[i]);
      const bool overflown = kGradient && run_.mode != YL_GRAD_ACCUMULATE && !yl::finite(load(slopes[i]));
      if (!(kExtras && call_.scan_all)) sum.non_finite += bad;
      sum.found_inf += overflown;
      if (!kExtras) continue;
      if (bad)
        Base::note(run_, cell_of(start + i), 4, YL_CAUSE_FEATS, logits[i], 0, extra);
      else if (overflown)
        Base::note(run_, cell_of(start + i), 4, YL_CAUSE_OVERFLOW, logits[i], raw_slopes[i], extra);
    }
  }

  void object(int32_t i, float k, const Object &own, yl_parts &sum, Extra &extra) {
    const int64_t cell = cell_of(i);
    const Row logits = row_of(i);
    const float *y_true = call_.dense() ? call_.y_true[run_.l] + run_.image * run_.layer.cells * shape_.channels : nullptr;
    const float *y = truths_.row(own, run_.image, run_.l, y_true, scratch_.row.data());
    if (kPlanar && run_.mode == YL_GRAD_OVERWRITE) run_.object_row = object_row(next_object_);
    ++next_object_;
    const bool sound = Base::inspect(run_, cell, logits, y, kExtras ? shape_.channels : 5, sum, extra);
    double loss = Base::box_and_confidence(run_, cell, k, logits, own, y, sound, sum, extra);
    loss += classes(cell, logits, own, y, sound, sum, extra);
    if (kExtras) Base::export_cell(run_, cell, k, loss);
  }

  double classes(int64_t cell, const Row &logits, const Object &own, const float *y, bool sound, yl_parts &sum,
                 Extra &extra) const {
    Sums total;
    for (int32_t c = 5; c < shape_.channels; c += kLanes) {
      const int32_t count = yl::smaller(kLanes, shape_.channels - c);
      alignas(kLine) float u[kLanes] = {}, targets[kLanes] = {}, weights[kLanes] = {}, losses[kLanes], slopes[kLanes];
      for (int32_t i = 0; i < count; ++i) u[i] = logits[c + i];
      for (int32_t i = 0; i < count; ++i) targets[i] = y[c + i];
      for (int32_t i = 0; kExtras && i < count; ++i) weights[i] = Base::class_weight(c + i);
      const Floats logit = Floats::load(u), target = Floats::load(targets);
      const Term<Floats> term = Base::class_term(Floats(y[4]), target, logit, Floats(own.weight),
                                                 [&] { return Floats::load(weights); });
      const Mask here = Mask::of_bits(first_bits(count));
      total.add(select(here, term.loss, Floats(0)));
      if (!kExtras) sum.non_finite += 2 * kLanes - count_bits(finite(logit).bits()) - count_bits(finite(target).bits());
      if (!kExtras && !run_.grads) continue;
      term.loss.store(losses);
      term.slope.store(slopes);
      for (int32_t i = 0; i < count; ++i)
        Base::give(run_, cell, c + i, u[i], slopes[i], sound, !yl::finite(losses[i]), extra.stats.grad_class, sum, extra);
    }
    const double loss = total.total();
    sum.class_ += loss;
    return loss;
  }

  void scan(int32_t start, int32_t count, yl_parts &sum, Extra &extra) const {
    const float *y_true = call_.dense() ? call_.y_true[run_.l] + run_.image * run_.layer.cells * shape_.channels : nullptr;
    for (int32_t i = start; i < start + count; ++i) Base::scan(run_, cell_of(i), row_of(i), y_true, sum, extra);
  }

  // Into an array that is given on request: it lies as the cells of a span do.
  void put(float *const *arrays, int32_t start, Floats values, int32_t count) const {
    if (!arrays || count <= 0) return;
    float *to = arrays[run_.l] + run_.image * run_.layer.cells + index_ + start;
    if (count >= kLanes) return values.store(to);
    float lanes[kLanes];
    values.store(lanes);
    for (int32_t i = 0; i < count; ++i) to[i] = lanes[i];
  }

  // The gradient of the background of a block. Planes are written when all of the span has been read.
  void write(int32_t start, int32_t count, uint64_t background, const Grad *slopes, const float *raw_slopes,
             yl_parts &sum) {
    if (run_.mode == YL_GRAD_OVERWRITE && kPlanar) return;  // write_planes does it
    if (run_.mode == YL_GRAD_OVERWRITE) {
      for (int32_t i = 0; i < count;) {
        const int32_t rows = yl::smaller(ones(background >> i), count - i);
        if (rows > 0) write_rows(start + i, slopes + i, rows);
        i += rows;
        if (i == count) break;
        i = yl::smaller(i + ones(~background >> i), count);  // objects
        if (!streams_) continue;
        rows_.finish();
        if (start + i < count_) rows_.start(&grad(start + i, 0));
      }
    } else {
      for (uint64_t rest = background; rest; rest &= rest - 1) {
        const int32_t i = __builtin_ctzll(rest);
        if (run_.mode == YL_GRAD_REFRESH)
          grad(start + i, 4) = slopes[i];
        else
          Base::write(run_, cell_of(start + i), 4, raw_slopes[i], sum);
      }
    }
  }

  void write_rows(int32_t start, const Grad *slopes, int32_t count) {
    if (streams_) return rows_.rows(slopes, count);
    Grad *to = &grad(start, 0);
    zero_bytes(reinterpret_cast<char *>(to), int64_t(count) * shape_.channels * int64_t(sizeof(Grad)));
    #pragma GCC unroll 4
    for (int32_t i = 0; i < count; ++i) to[i * int64_t(shape_.channels) + 4] = slopes[i];
  }

  // Plane after plane: zeros, or the slopes of the objectness, with the objects' values where they are.
  void write_planes() const {
    PlaneStream out(streams_);
    for (int32_t channel = 0; channel < shape_.channels; ++channel) {
      out.go_to(&grad(0, channel));
      for (int32_t i = 0, o = 0; i < count_; ++i, ++o) {
        const int32_t end = o < next_object_ ? static_cast<int32_t>((scratch_.objects[o]->cell - origin_) / step_) : count_;
        const int64_t bytes = (end - i) * int64_t(sizeof(Grad));
        if (channel == 4)
          out.put(plane_slopes() + i, bytes);
        else
          out.zeros(bytes);
        i = end;
        if (o < next_object_) out.put(object_row(o) + channel, sizeof(Grad));
      }
    }
    out.finish();
  }
  Grad *object_row(int32_t object) const {
    return reinterpret_cast<Grad *>(scratch_.object_rows.get()) + int64_t(object) * shape_.channels;
  }
  Grad *plane_slopes() const { return reinterpret_cast<Grad *>(scratch_.slopes.data()); }

  static constexpr int64_t kWords = (kPlanar ? kPlaneRun : kRun) / kBlock;
  static constexpr int32_t kFetched = kLanes / 2;  // rows at a time: more would keep reads waiting that are needed now

  Run run_;  // its object_row is that of the object at hand
  const Places &places_;
  const bool may_overflow_;  // gradients of background with finite logits
  const bool streams_;
  const int32_t count_;
  const int64_t origin_;  // cell 0 of the span
  const int32_t step_;    // from cell to cell
  const int64_t place_;   // of cell 0: row * width + column
  const int64_t index_;   // of cell 0 in an array with one value for each cell
  Scratch &scratch_;
  RowStream<Grad> rows_;
  uint64_t object_[kWords] = {};  // cells that are objects
  uint64_t reach_[kWords] = {};   // cells that may reach one
  int64_t reachable_ = 0;
  int32_t next_object_ = 0;
  Sums confidence_, objectness_, grad_squares_;
};

Visit visit_of(const Shape &shape, bool extras) {
  Visit result = nullptr;
  with_format(shape, [&](auto format) {
    using F = decltype(format);
    using Value = typename F::Value;
    using Grad = typename F::Grad;
    if constexpr (!std::is_same<Value, double>::value) {
      const auto function = [](auto with_extras) -> Visit {
        return [](const Visiting &v, int32_t image, const Span &span, Scratch &scratch, yl_parts &sum,
                  Extra &extra) {
          Spans<Value, Grad, F::kPlanar, decltype(with_extras)::value>(v, image, span, scratch).visit(sum, extra);
        };
      };
      result = extras ? function(std::true_type{}) : function(std::false_type{});
    }
  });
  return result;
}

}  // namespace YL_ISA
}  // namespace yl
