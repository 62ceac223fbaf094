// Stage cells for float32 arithmetic: a span of cells side by side, for the instruction set that this file is compiled
// for.
//
// Four things make it fast. Cells are computed in blocks of 64, so that a property of all cells of a block is one word:
// "no objects, none ignored" is one comparison, and loops over objects visit only the bits that are set. Of a
// background cell five channels are read, and four of these only where some truth can be reached (reach.h). The
// gradient is written once, in whole lines (gradient_stream.h). Objects are few: their rows are computed one by one
// (object.h), with their classes side by side.
//
// Functions on scalars are qualified (yl::smaller): here an unqualified name finds the overloads for Floats of simd.h,
// which hide the templates of formula.h.
#pragma once

#include "cpu/gradient_stream.h"
#include "cpu/object.h"
#include "cpu/reach.h"

namespace yl {
inline namespace YL_ISA {

// Returns the number of set bits.
YL_SIMD int64_t count_bits(uint64_t bits) { return __builtin_popcountll(bits); }
// Returns the number of set bits below the lowest bit that is not set, 0..64.
YL_SIMD int32_t ones(uint64_t bits) { return ~bits == 0 ? 64 : __builtin_ctzll(~bits); }

// The largest factor with which no background element of finite logits overflows the type of grads: a slope of the
// objectness of background is a sigmoid, so it is at most 1.
template <class Grad> constexpr float kLargest = 0x1.fffffep127f;
template <> constexpr float kLargest<Half> = 65504.0f;
template <> constexpr float kLargest<Bfloat16> = 0x1.fep127f;

// Computes the cells of one span; F is the Format of view.h. A cell is numbered by i, counted from the first cell of
// the span in memory order; block b is the cells from 64*b on. The gradient may lie over feats, so every read comes
// before the writes that could harm it: rows (NHWC) are written at the end of their block, planes at the end of the
// span.
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

  // Adds the parts and extras of the span, and writes its gradient. Sums are kept in double by lane over the whole span
  // and added up once at its end: in float32 the rounding of thousands of additions would exceed that of the cells, and
  // an order that is fixed for each span keeps the bits independent of threads.
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

  // Sets the bits of the span's objects in is_object_, and lists them in scratch_.objects in the order of i. Blocks and
  // bits are visited in the same order, so next_object_ is all that is needed to find an object's truth later.
  void find_objects() {
    int32_t count = 0;
    const auto cell_of_object = [](const Object &object) { return int64_t(object.cell); };
    span_.for_each(view_.objects, view_.objects_end, cell_of_object, [&](int32_t i, const Object &object) {
      is_object_[i / kBlock] |= uint64_t(1) << i % kBlock;
      scratch_.objects[count++] = &object;
    });
  }

  // YL_GRAD_REFRESH: clears the rows of the span's cells that were objects in the plan's last call with a gradient.
  // Every other row is 0 except the objectness, which write() stores in any case. It is safe to do so before anything
  // is read: with YL_GRAD_REFRESH grads[l] must not be feats[l].
  void clear_previous() const {
    const Truths &truths = view_.truths;
    const auto itself = [](int32_t cell) { return int64_t(cell); };
    span_.for_each(truths.previous_begin(view_.image, view_.l), truths.previous_end(view_.image, view_.l), itself,
                   [&](int32_t i, int32_t) { view_.clear_gradient(span_.cell(i)); });
  }

  // Computes block b: ignore factors, background, objects, and the gradient of the background.
  //
  // Four words describe the block: all (its cells, fewer than 64 only at the end of a span), objects, the candidates of
  // reach_, and ignored (k = 0). Without objects and ignored cells, as in most blocks, the background is computed by an
  // instance (kWhole) that knows neither masks nor k.
  //
  // slopes are elements of the gradient as stored; raw_slopes are the same before they are rounded, filled only where
  // they are read. In planes that are overwritten, slopes go straight to where write_planes reads them.
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
    // Objects follow the background, because background() fills the maps for whole vectors: row.finish() replaces the
    // elements of objects.
    for (uint64_t rest = objects; rest; rest &= rest - 1) {
      const int32_t i = start + __builtin_ctzll(rest);
      object(i, ignored >> (i - start) & 1 ? 0.0f : 1.0f, *scratch_.objects[next_object_], sum, extra);
    }
    if (kGradient) write(start, count, all & ~objects, slopes, raw_slopes, sum);
  }

  // Copies the objectness logits of a block, converted to float, and zeros after them. The copy makes the rest of the
  // block independent of layout and type, and keeps the logits readable when the gradient overwrites them.
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

  // Prefetches the objectness of kFetched rows that are kAhead rows away, and the elements that a refresh will write.
  // Rows of at most a line need no second prefetch: consecutive writes then touch line after line. Both loops of
  // background() call it, each for a half of the rows: more prefetches at once would delay reads that are needed now.
  // The rows may be beyond the end of the array, since a prefetch never faults.
  YL_SIMD void look_ahead(int32_t i) const {
    const int64_t step = view_.shape.channels;
    fetch<kFetched>(logits(i + kAhead).first + kObjectness, step);
    if (view_.mode != YL_GRAD_REFRESH || step * int64_t(sizeof(Grad)) <= kLine) return;
    const Grad *to = &grad(i + kAhead, kObjectness);
    for (int32_t row = 0; row < kFetched; ++row) __builtin_prefetch(to + row * step, 1, 1);
  }

  // ---- ignore factor ------------------------------------------------------------------------------------------------

  // Returns the cells of a block with k = 0. Of the candidates it decodes only vectors of lanes that hold one, and
  // keeps only the candidates' bits, although other lanes are computed too.
  uint64_t reached(int32_t start, int32_t count, uint64_t candidates) const {
    uint64_t result = 0;
    for (int32_t i = 0; i < count; i += kLanes) {
      const uint64_t here = candidates >> i & kAllLanes;
      if (here) result |= (lanes_reached(start + i, yl::smaller(kLanes, count - i)) & here) << i;
    }
    return result;
  }

  // Returns which of count <= kLanes cells from start on reach a truth. The test is exact: zones select the vectors to
  // decode, but never decide. A vector skips the objects whose cells (first to last) do not include any of its lanes.
  // The map best_iou is written here; find_all makes every cell a candidate if it is requested. A NaN IoU leaves best
  // as it is, since larger returns its second argument then.
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

  // Loads the box logits of count cells side by side, and zeros after them, so that no read passes the end of the
  // array.
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

  // Computes the background of a block; background and ignored are words. kWhole: all 64 cells are background, and none
  // is ignored.
  //
  // There are two loops, because exp and then log1p with a division form a chain of dependent operations that is longer
  // than a processor looks ahead: each vector would wait for the one before. The first loop stores e^-|u| of all
  // vectors; in the second, what remains of the chain is short enough for several vectors to overlap. Blocks without
  // kWhole are fewer, and the second loop computes all of it.
  //
  // Values that are not finite cost one operation for each vector: u * 0 is 0 (or -0) for every finite u and NaN
  // otherwise, and a NaN stays in sound. Only if some lane has met one, or the factor is so large that finite slopes
  // may overflow, does not_finite() search the block cell by cell. The lanes of objects take part too, which at worst
  // searches in vain.
  template <bool kGradient, bool kWhole>
  void background(int32_t start, uint64_t background, uint64_t ignored, const float *objectness, Grad *slopes,
                  float *raw_slopes, yl_parts &sum, Extra &extra) {
    alignas(kLine) float e[kBlock];
    for (int32_t i = 0; i < kBlock; i += kLanes) {
      if (!kPlanar) look_ahead(start + i);
      if (kWhole) exp(-fabs(Floats::load(objectness + i))).store(e + i);
    }
    // A local copy, which stays in registers: a member might alias the arrays that the loop stores to.
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
      sound = fma(u, Floats(0), sound);  // NaN as soon as a logit is not finite
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

  // Counts and notes values of the block's background that are not finite, cell by cell. If a logit is not finite, it
  // is noted and not its slope. With YL_GRAD_ACCUMULATE found_inf concerns the sum that is stored, so write() counts
  // it.
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

  // Computes the next object, cell i of the span: adds its parts and writes its gradient, to grads or, in planes that
  // are overwritten, to object_rows.
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

  // Adds the class part of an object, kLanes classes at a time, and writes the gradient of its class channels. Returns
  // the part. Unused lanes of the last vector are finite: logit and target are 0 there, and their loss is left out of
  // the sum.
  double classes(const ObjectRow<float, F, kExtras> &row, yl_parts &sum, Extra &extra) const {
    Sums total;
    for (int32_t c = kFirstClass; c < view_.shape.channels; c += kLanes) {
      const int32_t count = yl::smaller(kLanes, view_.shape.channels - c);
      alignas(kLine) float u[kLanes] = {}, targets[kLanes] = {}, weights[kLanes] = {}, losses[kLanes], slopes[kLanes];
      // All logits of the vector are read before give() writes the first element: the gradient may lie over feats.
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

  // Writes the first count lanes into a map, in memory order; nothing if the map is not requested or count <= 0.
  void put(float *const *maps, int32_t start, Floats values, int32_t count) const {
    if (!maps || count <= 0) return;
    float *to = maps[view_.l] + view_.image * view_.layer.cells + span_.index + start;
    if (count >= kLanes) return values.store(to);
    float lanes[kLanes];
    values.store(lanes);
    for (int32_t i = 0; i < count; ++i) to[i] = lanes[i];
  }

  // ---- gradient of the background -----------------------------------------------------------------------------------

  // Writes the gradient of the background of a block, except planes that are overwritten: write_planes writes those.
  void write(int32_t start, int32_t count, uint64_t background, const Grad *slopes, const float *raw_slopes,
             yl_parts &sum) {
    if (view_.mode == YL_GRAD_OVERWRITE && kPlanar) return;
    if (view_.mode == YL_GRAD_OVERWRITE) {
      // Runs of background between objects. The row of an object has been written by object(), so the stream is
      // finished before it and started again after it.
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

  // Writes whole rows of background: zeros, except the objectness.
  void write_rows(int32_t start, const Grad *slopes, int32_t count) {
    if (streams_) return rows_.rows(slopes, count);
    Grad *to = &grad(start, 0);
    zero_bytes(reinterpret_cast<char *>(to), int64_t(count) * view_.shape.channels * int64_t(sizeof(Grad)));
#pragma GCC unroll 4
    for (int32_t i = 0; i < count; ++i) to[i * int64_t(view_.shape.channels) + kObjectness] = slopes[i];
  }

  // Writes plane after plane: zeros, or the slopes of the objectness, and between them the elements of objects. The
  // channels of an anchor are adjacent planes, so a span that is a whole plane makes one stretch of memory:
  //
  //     channel 0: zeros x zeros x zeros | channel 1: zeros y zeros y ... | channel 4: slopes o slopes o slopes | ...
  //
  // x, y and o are elements of objects, which object() has collected in object_rows: written on their own, each would
  // split a line.
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
  // Returns the collected gradient of an object, 5 + C elements, by its number in scratch_.objects.
  Grad *object_row(int32_t object) const {
    return reinterpret_cast<Grad *>(scratch_.object_rows.get()) + int64_t(object) * view_.shape.channels;
  }
  Grad *plane_slopes() const { return reinterpret_cast<Grad *>(scratch_.slopes.data()); }

  static constexpr int64_t kWords = (kPlanar ? kPlaneRun : kRun) / kBlock;
  static constexpr int32_t kFetched = kLanes / 2;  // rows of one look_ahead, half of a vector

  const ViewOf view_;
  const SpanCells span_;
  const CellTable &table_;
  const bool may_overflow_;  // elements of background with finite logits may overflow
  const bool streams_;
  Scratch &scratch_;
  RowStream<Grad> rows_;
  Reach<kPlanar> reach_;
  uint64_t is_object_[kWords] = {};
  int32_t next_object_ = 0;
  Sums confidence_, objectness_, grad_squares_;
};

// Returns the function for the plan's type, layout and type of grads, with or without extras: one of 20 instances.
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
