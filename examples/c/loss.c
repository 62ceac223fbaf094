/* Two images, two scales, three boxes: plain gradient descent on the logits themselves, until the network "predicts"
   the boxes. */
#include <stdio.h>
#include <yololoss.h>

#define BATCH 2
#define CLASSES 3
#define CHANNELS (3 * (5 + CLASSES)) /* three anchors a scale */

static float feats0[BATCH][4][4][CHANNELS], feats1[BATCH][8][8][CHANNELS]; /* for an input of 128 x 128 */
static float grad0[BATCH][4][4][CHANNELS], grad1[BATCH][8][8][CHANNELS];

static void descend(float *feats, const float *grad, size_t count) {
  for (size_t i = 0; i < count; ++i) feats[i] -= grad[i];
}

int main(void) {
  static const float anchors[] = {10, 14, 23, 27, 37, 58, 81, 82, 100, 60, 60, 100};
  static const int32_t coarse[] = {3, 4, 5}, fine[] = {0, 1, 2};
  static const float rows[BATCH][2][5] = {{{8, 10, 90, 100, 0}, {70, 70, 95, 100, 2}}, {{30, 20, 120, 80, 1}}};
  const yl_layer layers[] = {{4, 4, coarse, 3, 0}, {8, 8, fine, 3, 0}};
  const void *feats[] = {feats0, feats1};
  void *grads[] = {grad0, grad1};
  yl_summary summary;
  yl_parts parts[2];
  yl_config config = YL_CONFIG_INIT;
  yl_boxes boxes = YL_BOXES_INIT;
  yl_call call = YL_CALL_INIT;
  yl_result result = YL_RESULT_INIT;
  yl_plan *plan;
  config.layers = layers, config.layer_count = 2;
  config.anchors = anchors, config.anchor_count = 6;
  config.input_height = config.input_width = 128;
  config.num_classes = CLASSES, config.max_batch = BATCH;
  if (yl_plan_create(&config, &plan)) return fprintf(stderr, "%s\n", yl_last_error()), 1;
  boxes.data = &rows[0][0][0], boxes.per_image = 2;
  call.batch = BATCH, call.feats = feats, call.boxes = &boxes, call.grads = grads;
  result.summary = &summary, result.layers = parts;
  double first = 0;
  for (int step = 0; step <= 200; ++step) {
    if (yl_loss(plan, &call, &result)) return fprintf(stderr, "%s\n", yl_last_error()), 1;
    if (step == 0) first = summary.total;
    if (step % 50 == 0)
      printf("step %3d: loss %8.4f, class %.4f, %d objects, %s\n", step, summary.total,
             parts[0].class_ + parts[1].class_, (int)summary.objects, yl_device_name(plan));
    descend(&feats0[0][0][0][0], &grad0[0][0][0][0], sizeof feats0 / sizeof(float));
    descend(&feats1[0][0][0][0], &grad1[0][0][0][0], sizeof feats1 / sizeof(float));
  }
  yl_plan_destroy(plan);
  return summary.total < first / 10 ? 0 : 1;
}
