// Stage 2 for float32 arithmetic: a span of cells side by side, for the instruction set that this file is compiled for.
//
// What makes it fast: cells are taken in blocks of 64, so that a property of a block is one word; five channels are
// read of a background cell, and four of these only where an object can be reached (reach.h); the gradient is written
// once, in whole lines (gradient_stream.h). Objects are few: their rows are computed one by one (object.h), with their
// classes side by side.
#pragma once

#include "cpu/gradient_stream.h"
#include "cpu/object.h"
#include "cpu/reach.h"

namespace yl {
inline namespace YL_ISA {

YL_SIMD int64_t count_bits(uint64_t bits) { return __builtin_popcountll(bits); }
// Returns how many of the lowest bits are set before one that is not.
YL_SIMD int32_t ones(uint64_t bits) { return ~bits == 0 ? 64 : __builtin_ctzll(~bits); }

// The largest factor that cannot make a gradient overflow its type: a slope of the objectness is at most 1.
template <class Grad> constexpr float kLargest = 0x1.fffffep127f;
template <> constexpr float kLargest<Half> = 65504.0f;
template <> constexpr float kLargest<Bfloat16> = 0x1.fep127f;

template <class F, bool kExtras> class SimdCells {
  using ViewOf = View<float, F, kExtras>;
  using Value = typename F::Value;
  using Grad = typename F::Grad;
  static constexpr bool kPlanar = F::kPlanar;

 public:
  SimdCells(const CellsCall &c, int32_t image, const Span &span, Scratch &scratch)
      : view_(c, image, span.layer),
        span_(span, view_.layer, kPlanar),
        table_(c.tables[span.layer]),
        may_overflow_(!(yl::fabs(view_.factor * (kExtras ? c.rules.weight_background : 1.0f)) <= kLargest<Grad>)),
        streams_(c.stream && view_.mode == YL_GRAD_OVERWRITE),
        scratch_(scratch),
        rows_(scratch.tile, c.shape.channels),
        reach_(scratch.reachable.get()) {}

  void compute(yl_parts &sum, Extra &extra) {
    find_objects();
    if (kExtras && view_.call.best_iou)
      reach_.find_all(view_, span_, view_.rules.image_scope);
    else
      reach_.find(view_, span_, kExtras && view_.rules.image_scope);
    if (view_.mode == YL_GRAD_REFRESH) clear_previous();
    if (!kPlanar && streams_) rows_.start(&grad(0, 0));
    for (int32_t b = 0; b * kBlock < span_.count; ++b) {
      if (view_.grads)
        block<true>(b, sum, extra);
      else
        block<false>(b, sum, extra);
    }
    if (kPlanar && view_.mode == YL_GRAD_OVERWRITE) write_planes();
    if (!kPlanar && streams_) rows_.finish();
    if (streams_) streamed();
    sum.confidence_background += confidence_.total();
    if (kExtras) extra.stats.objectness_background += objectness_.total();
    if (kExtras) extra.stats.grad_background += grad_squares_.total();
  }

 private:
  typename ViewOf::Logits logits(int32_t i) const { return view_.logits(span_.cell(i)); }
  Grad &grad(int32_t i, int32_t channel) const { return view_.grad(span_.cell(i), channel); }

  void find_objects() {
    int32_t count = 0;
    const auto cell_of_object = [](const Object &object) { return int64_t(object.cell); };
    span_.for_each(view_.objects, view_.objects_end, cell_of_object, [&](int32_t i, const Object &object) {
      is_object_[i / kBlock] |= uint64_t(1) << i % kBlock;
      scratch_.objects[count++] = &object;
    });
  }

  void clear_previous() const {
    const Truths &truths = view_.truths;
    const auto itself = [](int32_t cell) { return int64_t(cell); };
    span_.for_each(truths.previous_begin(view_.image, view_.l), truths.previous_end(view_.image, view_.l), itself,
                   [&](int32_t i, int32_t) { view_.clear_gradient(span_.cell(i)); });
  }

  // Computes a block: ignore factors, background, objects, and the gradient of the background.
  template <bool kGradient> void block(int32_t b, yl_parts &sum, Extra &extra) {
    const int32_t start = b * kBlock, count = yl::smaller(kBlock, span_.count - start);
    alignas(kLine) float objectness[kBlock];
    alignas(kLine) Grad of_block[kBlock];
    Grad *const slopes = kPlanar && view_.mode == YL_GRAD_OVERWRITE ? plane_slopes() + start : of_block;
    alignas(kLine) float raw_slopes[kBlock];
    collect(start, count, objectness);
    const uint64_t all = first_bits(count), objects = is_object_[b];
    const uint64_t ignored = reach_.cells(b) ? reached(start, count, reach_.cells(b)) : 0;
    sum.ignored += count_bits(ignored);
    sum.ignored_background += count_bits(ignored & ~objects);
    if (kExtras && view_.call.scan_all)
      for (int32_t i = start; i < start + count; ++i) view_.scan(span_.cell(i), sum, extra);
    if (ignored == 0 && objects == 0 && count == kBlock)
      background<kGradient, true>(start, ~uint64_t(0), 0, objectness, slopes, raw_slopes, sum, extra);
    else
      background<kGradient, false>(start, all & ~objects, ignored, objectness, slopes, raw_slopes, sum, extra);
    for (uint64_t rest = objects; rest; rest &= rest - 1) {
      const int32_t i = start + __builtin_ctzll(rest);
      object(i, ignored >> (i - start) & 1 ? 0.0f : 1.0f, *scratch_.objects[next_object_], sum, extra);
    }
    if (kGradient) write(start, count, all & ~objects, slopes, raw_slopes, sum);
  }

  // Copies the objectness logits of a block, and zeros after them.
  YL_SIMD void collect(int32_t start, int32_t count, float *objectness) const {
    const Value *from = logits(start).first + kObjectness * view_.order.step();
    const int64_t step = kPlanar ? 1 : view_.shape.channels;
    if (count < kBlock) {
      for (int32_t i = 0; i < count; ++i) objectness[i] = load(from[i * step]);
      for (int32_t i = count; i < kBlock; ++i) objectness[i] = 0;
    } else if (kPlanar) {
      for (int32_t i = 0; i < kBlock; i += kLanes) load_lanes(from + i).store(objectness + i);
    } else {
#pragma GCC unroll 4
      for (int32_t i = 0; i < kBlock; ++i, from += step) objectness[i] = load(*from);
    }
  }

  // Prefetches the objectness of rows to come, which the processor does not foresee well, and where a refresh will
  // write.
  YL_SIMD void look_ahead(int32_t i) const {
    const int64_t step = view_.shape.channels;
    fetch<kFetched>(logits(i + kAhead).first + kObjectness, step);
    if (view_.mode != YL_GRAD_REFRESH || step * int64_t(sizeof(Value)) <= kLine) return;
    const Grad *to = &grad(i + kAhead, kObjectness);
    for (int32_t row = 0; row < kFetched; ++row) __builtin_prefetch(to + row * step, 1, 1);
  }

  // ---- ignore factor ------------------------------------------------------------------------------------------------

  // Returns which cells of a block reach an object, among the candidates.
  uint64_t reached(int32_t start, int32_t count, uint64_t candidates) const {
    uint64_t result = 0;
    for (int32_t i = 0; i < count; i += kLanes) {
      const uint64_t here = candidates >> i & kAllLanes;
      if (here) result |= (lanes_reached(start + i, yl::smaller(kLanes, count - i)) & here) << i;
    }
    return result;
  }

  uint64_t lanes_reached(int32_t start, int32_t count) const {
    const Box<Floats> raw = box_logits(logits(start).first, count);
    const int64_t at = span_.index + start;
    const Cell<Floats> cells{Floats::load(&table_.column[at]),       Floats::load(&table_.row[at]),
                             Floats(float(view_.layer.width)),       Floats(float(view_.layer.height)),
                             Floats::load(&table_.anchor_width[at]), Floats::load(&table_.anchor_height[at])};
    const Box<Floats> box = decode(raw, cells);
    const Floats thresh(view_.layer.ignore_thresh);
    Mask reached = Mask::of_bits(0);
    Floats best(0);
    for (const Reachable &object : reach_) {
      if (object.first >= start + kLanes || object.last < start) continue;
      const Box<Floats> truth{Floats(object.truth.x), Floats(object.truth.y), Floats(object.truth.w),
                              Floats(object.truth.h)};
      reached = reached | reaches(box, truth, thresh);
      if (kExtras && view_.call.best_iou) best = yl::larger(iou(box, truth), best);
    }
    if (kExtras && view_.call.best_iou) put(view_.call.best_iou, start, best, count);
    return reached.bits() & first_bits(count);
  }

  // Loads the box logits of cells side by side, and zeros after them.
  YL_SIMD Box<Floats> box_logits(const Value *from, int32_t count) const {
    const int64_t of_channel = view_.order.step();
    if (count == kLanes && kPlanar)
      return {load_lanes(from), load_lanes(from + kY * of_channel), load_lanes(from + kW * of_channel),
              load_lanes(from + kH * of_channel)};
    if (count == kLanes) return load_box_lanes(from, view_.shape.channels);
    float values[kBoxChannels][kLanes] = {};
    for (int32_t i = 0; i < count; ++i, from += kPlanar ? 1 : view_.shape.channels)
      for (int32_t c = 0; c < kBoxChannels; ++c) values[c][i] = load(from[c * of_channel]);
    return {Floats::load(values[kX]), Floats::load(values[kY]), Floats::load(values[kW]), Floats::load(values[kH])};
  }

  // ---- background ---------------------------------------------------------------------------------------------------

  // Computes the background of a block. kWhole: all of the block is background, and none of it is ignored.
  template <bool kGradient, bool kWhole>
  void background(int32_t start, uint64_t background, uint64_t ignored, const float *objectness, Grad *slopes,
                  float *raw_slopes, yl_parts &sum, Extra &extra) {
    // Two loops: the chain of operations of both would be longer than what a processor looks ahead.
    alignas(kLine) float e[kBlock];
    for (int32_t i = 0; i < kBlock; i += kLanes) {
      if (!kPlanar) look_ahead(start + i);
      if (kWhole) exp(-fabs(Floats::load(objectness + i))).store(e + i);
    }
    Sums confidence_sum = confidence_;
    Floats sound(0);
    for (int32_t i = 0; i < kBlock; i += kLanes) {
      if (!kPlanar) look_ahead(start + i + kFetched);
      const Floats u = Floats::load(objectness + i);
      const Mask here = Mask::of_bits(background >> i & kAllLanes), dropped = Mask::of_bits(ignored >> i & kAllLanes);
      const Floats k = select(dropped, Floats(0), Floats(1));
      const Term<Floats> confidence = kWhole ? counted_background_term<kExtras>(view_.rules, u, Floats::load(e + i))
                                             : background_term<kExtras>(view_.rules, k, u);
      confidence_sum.add(kWhole ? confidence.loss : select(here, confidence.loss, Floats(0)));
      sound = fma(u, Floats(0), sound);  // NaN from a logit that is not finite on
      if (kExtras) {
        objectness_.add(select(here, sigmoid(u), Floats(0)));
        put(view_.call.ignore_mask, start + i, k, span_.count - start - i);
        put(view_.call.cell_loss, start + i, confidence.loss, span_.count - start - i);
      }
      if (!kGradient) continue;
      const Floats slope = confidence.slope * Floats(view_.factor);
      store_lanes(slopes + i, slope);
      if (!kExtras && view_.mode != YL_GRAD_ACCUMULATE) continue;
      slope.store(raw_slopes + i);
      if (kExtras) grad_squares_.add_squares(select(here, slope, Floats(0)));
    }
    confidence_ = confidence_sum;
    if (kExtras) extra.stats.background += count_bits(background);
    if ((kGradient && may_overflow_) || finite(sound).bits() != kAllLanes)
      not_finite<kGradient>(start, background, objectness, slopes, raw_slopes, sum, extra);
  }

  // Counts what is not finite in the background of a block, one by one: it is rare.
  template <bool kGradient>
  void not_finite(int32_t start, uint64_t background, const float *objectness, const Grad *slopes,
                  const float *raw_slopes, yl_parts &sum, Extra &extra) const {
    for (uint64_t rest = background; rest; rest &= rest - 1) {
      const int32_t i = __builtin_ctzll(rest);
      const bool bad = !yl::finite(objectness[i]);
      const bool overflown = kGradient && view_.mode != YL_GRAD_ACCUMULATE && !yl::finite(load(slopes[i]));
      if (!(kExtras && view_.call.scan_all)) sum.non_finite += bad;
      sum.found_inf += overflown;
      if (!kExtras) continue;
      if (bad)
        view_.note(span_.cell(start + i), kObjectness, YL_CAUSE_FEATS, objectness[i], 0, extra);
      else if (overflown)
        view_.note(span_.cell(start + i), kObjectness, YL_CAUSE_OVERFLOW, objectness[i], raw_slopes[i], extra);
    }
  }

  // ---- objects ------------------------------------------------------------------------------------------------------

  void object(int32_t i, float k, const Object &own, yl_parts &sum, Extra &extra) {
    const float *y = view_.truths.row(own, view_.image, view_.l, view_.y_true, scratch_.row.data());
    Grad *const collected = kPlanar && view_.mode == YL_GRAD_OVERWRITE ? object_row(next_object_) : nullptr;
    ++next_object_;
    ObjectRow<float, F, kExtras> row(view_, span_.cell(i), k, own, y, collected);
    row.inspect(kExtras ? view_.shape.channels : kFirstClass, sum,
                extra);  // without extras classes() counts the others
    double loss = row.box_and_confidence(sum, extra);
    loss += classes(row, sum, extra);
    row.finish(loss);
  }

  // Adds the class part of an object, and writes the gradient of its channels. Returns the part.
  double classes(const ObjectRow<float, F, kExtras> &row, yl_parts &sum, Extra &extra) const {
    Sums total;
    for (int32_t c = kFirstClass; c < view_.shape.channels; c += kLanes) {
      const int32_t count = yl::smaller(kLanes, view_.shape.channels - c);
      alignas(kLine) float u[kLanes] = {}, targets[kLanes] = {}, weights[kLanes] = {}, losses[kLanes], slopes[kLanes];
      for (int32_t i = 0; i < count; ++i) u[i] = row.logit(c + i);
      for (int32_t i = 0; i < count; ++i) targets[i] = row.target(c + i);
      for (int32_t i = 0; kExtras && i < count; ++i) weights[i] = row.class_weight(c + i);
      const Floats logit = Floats::load(u), target = Floats::load(targets);
      const Term<Floats> term = class_term<kExtras>(
          view_.rules, Floats(row.mask()), target, Floats(row.weight()), [&] { return Floats::load(weights); }, logit);
      const Mask here = Mask::of_bits(first_bits(count));
      total.add(select(here, term.loss, Floats(0)));
      if (!kExtras) sum.non_finite += 2 * kLanes - count_bits(finite(logit).bits()) - count_bits(finite(target).bits());
      if (!kExtras && !view_.grads) continue;
      term.loss.store(losses);
      term.slope.store(slopes);
      for (int32_t i = 0; i < count; ++i)
        row.give(c + i, u[i], slopes[i], !yl::finite(losses[i]), extra.stats.grad_class, sum, extra);
    }
    const double loss = total.total();
    sum.class_ += loss;
    return loss;
  }

  // Writes lanes into a map, in which cells are in the order of memory.
  void put(float *const *maps, int32_t start, Floats values, int32_t count) const {
    if (!maps || count <= 0) return;
    float *to = maps[view_.l] + view_.image * view_.layer.cells + span_.index + start;
    if (count >= kLanes) return values.store(to);
    float lanes[kLanes];
    values.store(lanes);
    for (int32_t i = 0; i < count; ++i) to[i] = lanes[i];
  }

  // ---- gradient of the background -----------------------------------------------------------------------------------

  // Writes the gradient of the background of a block. Planes that are overwritten are left to write_planes, when all of
  // the span has been read.
  void write(int32_t start, int32_t count, uint64_t background, const Grad *slopes, const float *raw_slopes,
             yl_parts &sum) {
    if (view_.mode == YL_GRAD_OVERWRITE && kPlanar) return;
    if (view_.mode == YL_GRAD_OVERWRITE) {
      for (int32_t i = 0; i < count;) {
        const int32_t rows = yl::smaller(ones(background >> i), count - i);
        if (rows > 0) write_rows(start + i, slopes + i, rows);
        i += rows;
        if (i == count) break;
        i = yl::smaller(i + ones(~background >> i), count);  // skips objects
        if (!streams_) continue;
        rows_.finish();
        if (start + i < span_.count) rows_.start(&grad(start + i, 0));
      }
    } else {
      for (uint64_t rest = background; rest; rest &= rest - 1) {
        const int32_t i = __builtin_ctzll(rest);
        if (view_.mode == YL_GRAD_REFRESH)
          grad(start + i, kObjectness) = slopes[i];
        else
          view_.write(grad(start + i, kObjectness), raw_slopes[i], sum);
      }
    }
  }

  void write_rows(int32_t start, const Grad *slopes, int32_t count) {
    if (streams_) return rows_.rows(slopes, count);
    Grad *to = &grad(start, 0);
    zero_bytes(reinterpret_cast<char *>(to), int64_t(count) * view_.shape.channels * int64_t(sizeof(Grad)));
#pragma GCC unroll 4
    for (int32_t i = 0; i < count; ++i) to[i * int64_t(view_.shape.channels) + kObjectness] = slopes[i];
  }

  // Writes plane after plane: zeros, or the slopes of the objectness, and between them the values of objects.
  void write_planes() const {
    PlaneStream out(streams_);
    for (int32_t channel = 0; channel < view_.shape.channels; ++channel) {
      out.go_to(&grad(0, channel));
      for (int32_t i = 0, o = 0; i < span_.count; ++i, ++o) {
        const bool more = o < next_object_;
        const int32_t end =
            more ? static_cast<int32_t>((scratch_.objects[o]->cell - span_.origin) / span_.step) : span_.count;
        const int64_t bytes = (end - i) * int64_t(sizeof(Grad));
        if (channel == kObjectness)
          out.put(plane_slopes() + i, bytes);
        else
          out.zeros(bytes);
        i = end;
        if (more) out.put(object_row(o) + channel, sizeof(Grad));
      }
    }
    out.finish();
  }
  Grad *object_row(int32_t object) const {
    return reinterpret_cast<Grad *>(scratch_.object_rows.get()) + int64_t(object) * view_.shape.channels;
  }
  Grad *plane_slopes() const { return reinterpret_cast<Grad *>(scratch_.slopes.data()); }

  static constexpr int64_t kWords = (kPlanar ? kPlaneRun : kRun) / kBlock;
  static constexpr int32_t kFetched = kLanes / 2;  // rows at a time: more would delay reads that are needed now

  const ViewOf view_;
  const SpanCells span_;
  const CellTable &table_;
  const bool may_overflow_;  // gradients of background with finite logits
  const bool streams_;
  Scratch &scratch_;
  RowStream<Grad> rows_;
  Reach<kPlanar> reach_;
  uint64_t is_object_[kWords] = {};
  int32_t next_object_ = 0;
  Sums confidence_, objectness_, grad_squares_;
};

CellsFunction simd_cells(const Shape &shape, bool extras) {
  CellsFunction result = nullptr;
  const auto choose = [&](auto format) {
    using F = decltype(format);
    const auto function = [](auto with_extras) -> CellsFunction {
      return [](const CellsCall &c, int32_t image, const Span &span, Scratch &scratch, yl_parts &sum, Extra &extra) {
        SimdCells<F, decltype(with_extras)::value>(c, image, span, scratch).compute(sum, extra);
      };
    };
    result = extras ? function(std::true_type{}) : function(std::false_type{});
  };
  switch (shape.dtype) {
    case YL_F16: with_format_of<Half>(shape, choose); break;
    case YL_BF16: with_format_of<Bfloat16>(shape, choose); break;
    default: with_format_of<float>(shape, choose);
  }
  return result;
}

}  // namespace YL_ISA
}  // namespace yl
