/* The header in strict C99, its macros, and a call by a program that knows nothing else. */
#include <stdio.h>
#include <string.h>

#include "yololoss.h"
#include "yololoss.h" /* twice is allowed */
#include "yololoss_dlpack.h"
#include "yololoss_binding.h"

int main(void) {
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
  int failed = 0;
  if (config.ignore_thresh != 0.5f || config.max_batch != 1 || call.grad_scale != 1.0 || head.batch != 1 ||
      call.normaliser_value != 1.0 || boxes.policy != YL_BOXES_ERROR || result.rows)
    ++failed;
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
  failed += yl_plan_create(&config, &plan) != YL_OK;
  failed += yl_loss(plan, &call, &result) != YL_OK;
  /* One object, centre (10, 10): xy = (2 - 1/4) * 2 ln 2, wh = 0, confidence = 3 or 4 ln 2, class = ln 2. */
  failed += summary.objects != 1 || summary.total < 0.693147 * 7.5 - 1e-5 || summary.total > 0.693148 * 8.5;
  yl_plan_destroy(plan);
  printf("header as C: %s\n", failed ? yl_last_error() : "ok");
  return failed;
}
