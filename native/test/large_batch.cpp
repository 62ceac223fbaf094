// See large_batch.h.
#include "large_batch.h"

Case large_batch() {
  RandomCase wanted;
  wanted.seed = 7;
  wanted.batch = 6;
  wanted.classes = 4;
  wanted.grids = {{6, 8, 3}, {12, 16, 3}, {24, 32, 3}};
  wanted.thresh = 0.5f;
  wanted.logits = 2;
  wanted.object_share = 0;
  Case c = random_case(wanted);
  c.name = "large batch";
  const Case anchors = golden("b_one_class_416");
  c.anchors = anchors.anchors;
  for (size_t l = 0; l < 3; ++l) c.layers[l].mask = anchors.layers[l].mask;
  for (Layer &layer : c.layers)
    for (size_t cell = 5; cell < layer.feats.size() / c.channels(); cell += 71) {
      float *const row = &layer.y_true[c.channels() * cell];
      const size_t place = cell / 3;
      row[0] = (static_cast<float>(place % layer.width) + 0.5f) / static_cast<float>(layer.width);
      row[1] = (static_cast<float>(place / layer.width % layer.height) + 0.25f) / static_cast<float>(layer.height);
      row[2] = 0.25f, row[3] = 0.5f, row[4] = 1, row[5 + cell % 4] = 1;
    }
  c.boxes_per_image = 7;
  for (int image = 0; image < 6; ++image)
    for (int t = 0; t < 7; ++t) {  // side by side
      const auto x = static_cast<float>(34 * t), y = static_cast<float>(20 + t % 3 * 40 + 2 * image);
      const auto w = static_cast<float>(18 + (7 * image + 3 * t) % 14),
                 h = static_cast<float>(20 + (11 * t + 5 * image) % 50);
      c.boxes.insert(c.boxes.end(), {x, y, x + w, y + h, static_cast<float>((t + image) % 4)});
    }
  return c;
}

bool repeats_another(const Device &device) { return device.threads > 2 && thread_counts().size() > 1; }
