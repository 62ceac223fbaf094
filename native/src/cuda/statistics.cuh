// Stage cells, the outputs of a call besides loss and gradient: statistics, maps, and the first value that is not
// finite. Used by the kernels with kExtras alone; ../statistics.h has the parts that host and device share.
#pragma once

#include "cuda/feats.cuh"
#include "statistics.h"

namespace yl {

// Keeps an offence if it comes before the one that was found. The key is the value's position among all values of the
// batch, in the order of image, layer, cell and channel, so the smallest key is the first offender, whichever thread
// finds it first.
template <class F>
__device__ inline void note(const View<F> &view, int32_t cell, int32_t channel, int32_t cause, double value,
                            double gradient, Offence &first) {
  const int64_t before = view.image * view.task.cells_per_image + view.layer.first_cell;
  const int64_t place = (before + cell) * view.task.channels + channel;
  meet(first, {4 * static_cast<uint64_t>(place) + static_cast<uint64_t>(cause), value, gradient});
}

// Returns the extras of a warp's threads combined, in every lane. All lanes must call it. Statistics are added along
// the tree of warp_sum. The smallest offence is found along the same tree; the ballot skips those shuffles while no
// lane has found one, which is the normal case.
__device__ inline Extra warp_extra(Extra own) {
#define YL_WARP_SUM(owner, type, field, offset) own.stats.field = warp_sum(own.stats.field);
  YL_FIELDS_OF_yl_stats(YL_WARP_SUM)
#undef YL_WARP_SUM
  if (!__any_sync(kAllLanes, own.first.key != kNoOffence)) return own;
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const Offence other{__shfl_xor_sync(kAllLanes, own.first.key, distance),
                        __shfl_xor_sync(kAllLanes, own.first.value, distance),
                        __shfl_xor_sync(kAllLanes, own.first.gradient, distance)};
    meet(own.first, other);
  }
  return own;
}

// Writes the maps ignore_mask and cell_loss of a cell, where they are requested; at is its index among the cells of the
// batch. best_iou is written by compare_with_objects.
__device__ inline void put_maps(const LayerTask &layer, int64_t at, bool ignored, double loss) {
  if (layer.ignore_mask) layer.ignore_mask[at] = ignored ? 0.0f : 1.0f;
  if (layer.cell_loss) layer.cell_loss[at] = static_cast<float>(loss);
}

// Serves YL_SCAN_ALL: returns how many values of feats and y_true of a cell are not finite, and notes the first of
// them. Called by the thread that has the cell, for objects and background.
template <class F> __device__ inline int32_t scan(const View<F> &view, int32_t cell, Offence &first) {
  const LayerTask &layer = view.layer;
  const int32_t channels = view.task.channels;
  int32_t found = 0;
  for (int32_t channel = 0; channel < channels; ++channel) {
    const auto logit = view.feats.read(cell, channel);
    const float y = layer.y_true ? layer.y_true[(int64_t(view.image) * layer.cells + cell) * channels + channel] : 0.0f;
    found += !finite(logit) + !finite(y);
    if (!finite(logit)) note(view, cell, channel, YL_CAUSE_FEATS, logit, 0, first);
    if (!finite(y)) note(view, cell, channel, YL_CAUSE_TRUTH, y, 0, first);
  }
  return found;
}

}  // namespace yl
