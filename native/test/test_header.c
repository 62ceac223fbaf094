/* The headers in strict C99, their macros, and a call by code that knows nothing else. test_header.cpp runs it. */
#include "yololoss.h"
#include "yololoss.h" /* twice is allowed */
#include "yololoss_binding.h"
#include "yololoss_dlpack.h"

/* Returns what is wrong, or NULL. */
const char *call_from_c(void);

const char *call_from_c(void) {
  yl_config config = YL_CONFIG_INIT;
  yl_boxes boxes = YL_BOXES_INIT;
  yl_call call = YL_CALL_INIT;
  yl_result result = YL_RESULT_INIT;
  yl_head head = YL_HEAD_INIT;
  const int32_t mask[] = {0};
  const float anchors[] = {16, 16}, feats[2 * 2 * 6] = {0}, box[] = {2, 2, 18, 18, 0};
  const void *feats_of[] = {feats};
  yl_layer layer = {2, 2, mask, 1, 0};
  yl_summary summary;
  yl_plan *plan = NULL;
  yl_status status;
  if (config.ignore_thresh != 0.5f || config.max_batch != 1 || call.grad_scale != 1.0 || head.batch != 1 ||
      call.normaliser_value != 1.0 || boxes.policy != YL_BOXES_ERROR || result.rows)
    return "a default is not what the header says";
  config.layers = &layer;
  config.layer_count = 1;
  config.anchors = anchors;
  config.anchor_count = 1;
  config.input_height = config.input_width = 32;
  config.num_classes = 1;
  boxes.data = box;
  boxes.per_image = 1;
  call.batch = 1;
  call.feats = feats_of;
  call.boxes = &boxes;
  result.summary = &summary;
  if (yl_plan_create(&config, &plan) != YL_OK) return yl_last_error();
  status = yl_loss(plan, &call, &result);
  yl_plan_destroy(plan);
  if (status != YL_OK) return yl_last_error();
  if (summary.objects != 1) return "there is not one object";
  /* Centre (10, 10): xy = (2 - 1/4) * 2 ln 2, wh = 0, confidence = 3 or 4 ln 2, class = ln 2. */
  if (summary.total < 0.693147 * 7.5 - 1e-5 || summary.total > 0.693148 * 8.5) return "the loss is not 7.5 or 8.5 ln 2";
  return NULL;
}
