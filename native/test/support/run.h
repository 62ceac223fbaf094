// One call of a case with any options on any device, in a plan and memory of its own, and all its outputs: what the
// test matrix runs. Every array is between guard pages (memory.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "case.h"
#include "devices.h"
#include "plan.h"
#include "yololoss.h"

struct Options {
  Device device = reference_device();
  int32_t dtype = YL_F32, layout = YL_NHWC, grad_dtype = YL_GRAD_LIKE_FEATS;
  bool has_rules = false;  // NULL in the config otherwise
  yl_rules rules = YL_RULES_INIT;
  Truths truths = Truths::kYTrue;
  int32_t policy = YL_BOXES_ERROR;
  bool gradient = true;
  int32_t grad_mode = YL_GRAD_OVERWRITE;  // with YL_GRAD_REFRESH a call with other truths comes before
  double gradient_before = 0;             // what grads hold before the call
  bool gradient_over_feats = false;
  int32_t normaliser = YL_NORMALISER_BATCH, scan = YL_SCAN_USED;
  double grad_scale = 1;
  bool statistics = false;  // statistics, offender and maps too

  yl_rules &with_rules() { return has_rules = true, rules; }
  bool is_double() const { return device.kind == YL_DEVICE_REFERENCE || dtype == YL_F64; }  // the arithmetic
};

struct Output {
  yl_status status = YL_INTERNAL;
  yl_summary summary{};
  std::vector<yl_parts> layers, rows;
  std::vector<std::vector<double>> grads;  // in the order of NHWC, as the maps
  std::vector<yl_stats> stats;
  yl_offender offender{};
  std::vector<std::vector<float>> ignore_mask, best_iou, cell_loss;  // (B, H, W, A) of each layer
};

Output run(const Case &c, const Options &options);

// Runs the case with the options on the reference device, in double and NHWC: the expected output.
Output run_on_reference(const Case &c, Options options);

// Returns the config of a case with options, not yet created.
std::unique_ptr<Config> config_of(const Case &c, const Options &options);

// Stores logits in the type and order of the options.
void store_feats(const Case &c, size_t layer, const Options &options, char *at);

// Describes a case and options, for messages.
std::string named(const Case &c, const Options &options);
