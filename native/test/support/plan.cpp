// Plans of a case. See plan.h.
#include "plan.h"

#include <algorithm>
#include <cstring>

#include "test.h"

Config::Config() : Config(small_case(), Device{}) {}

Config::Config(const Case &c, const Device &device) : anchors(c.anchors) {
  for (const Layer &layer : c.layers) masks.push_back(layer.mask);
  for (size_t l = 0; l < c.layers.size(); ++l)
    layers.push_back({static_cast<int32_t>(c.layers[l].height), static_cast<int32_t>(c.layers[l].width),
                      masks[l].data(), static_cast<int32_t>(masks[l].size()), 0});
  set_environment("YOLOLOSS_ISA", device.isa);
  config.layers = layers.data();
  config.anchors = anchors.data();
  config.layer_count = static_cast<int32_t>(layers.size());
  config.anchor_count = static_cast<int32_t>(anchors.size() / 2);
  config.input_height = c.input_height;
  config.input_width = c.input_width;
  config.num_classes = c.classes;
  config.ignore_thresh = c.thresh;
  config.max_batch = c.batch;
  config.device = device.kind;
  config.threads = device.threads;
  config.memory = device.in_device_memory() ? YL_MEMORY_DEVICE : YL_MEMORY_HOST;
}

yl_status Config::create() {
  yl_plan_destroy(plan);
  return yl_plan_create(&config, &plan);
}

Plan::Plan(const Case &of, const Device &on, int32_t max_batch)
    : c(of), device(on), made(of, on), mirrors(3 * of.layers.size() + 1) {
  if (max_batch) made.config.max_batch = max_batch;
  CHECK_OK(made.create(), c.name + ", " + device.name);
  plan = made.plan;
  for (const Layer &layer : c.layers) {
    logits.emplace_back(layer.feats.begin(), layer.feats.end());
    gradient.emplace_back(layer.feats.size(), NAN);
    feats.push_back(logits.back().data());
    y_true.push_back(layer.y_true.data());
    grads.push_back(gradient.back().data());
  }
  layers.resize(c.layers.size());
  rows.resize(c.layers.size() * static_cast<size_t>(made.config.max_batch));
  boxes.data = c.boxes.data();
  boxes.per_image = c.boxes_per_image;
  if (!c.box_weights.empty()) boxes.weights = c.box_weights.data();
  call.batch = c.batch;
  call.feats = feats.data();
  call.grads = grads.data();
  result.summary = &summary;
  result.layers = layers.data();
  result.rows = rows.data();
}

yl_status Plan::run(Truths truths) {
  call.y_true = truths == Truths::kYTrue ? y_true.data() : nullptr;
  call.boxes = truths == Truths::kBoxes ? &boxes : nullptr;
  if (!device.in_device_memory()) return yl_loss(plan, &call, &result);
  const std::unique_ptr<OnDevice> there = upload();
  const yl_status status = device.way == Way::kDevice ? yl_loss(plan, &there->call, &result) : enqueue(there->call);
  if (status == YL_OK) download_gradient();
  return status;
}

std::unique_ptr<Plan::OnDevice> Plan::upload() {
  auto there = std::make_unique<OnDevice>(OnDevice{call, boxes, {}, {}, {}});
  for (size_t l = 0; l < layer_count(); ++l) {
    const int64_t bytes = bytes_of(l);
    there->feats.push_back(mirrors[3 * l].upload(feats[l], bytes));
    if (call.y_true) there->y_true.push_back(static_cast<const float *>(mirrors[3 * l + 1].upload(y_true[l], bytes)));
    if (call.grads)
      there->grads.push_back(grads[l] == feats[l] ? const_cast<void *>(there->feats[l])
                                                  : mirrors[3 * l + 2].upload(grads[l], bytes));
  }
  const int64_t rows_given = int64_t(std::min(call.batch, c.batch)) * boxes.per_image;
  if (call.boxes)
    there->boxes.data =
        static_cast<const float *>(mirrors.back().upload(boxes.data, 5 * rows_given * int64_t(sizeof(float))));
  there->call.feats = there->feats.data();
  if (call.y_true) there->call.y_true = there->y_true.data();
  if (call.boxes) there->call.boxes = &there->boxes;
  if (call.grads) there->call.grads = there->grads.data();
  return there;
}

void Plan::download_gradient() {
  for (size_t l = 0; call.grads && l < layer_count(); ++l)
    mirrors[grads[l] == feats[l] ? 3 * l : 3 * l + 2].download(grads[l], bytes_of(l));
}

// Runs a call on a stream, with its results in pinned memory.
yl_status Plan::enqueue(const yl_call &on_device) {
  const size_t parts = layers.size() + rows.size();
  const Pinned pinned(static_cast<int64_t>(sizeof(yl_summary) + parts * sizeof(yl_parts) + sizeof(yl_completion)));
  yl_result at = YL_RESULT_INIT;
  at.summary = pinned.as<yl_summary>();
  at.layers = reinterpret_cast<yl_parts *>(at.summary + 1);
  at.rows = at.layers + layers.size();
  at.completion = reinterpret_cast<yl_completion *>(at.rows + rows.size());
  const Stream stream;
  yl_status status = yl_loss_async(plan, &on_device, stream.get(), &at);
  stream.synchronize();
  if (status == YL_OK) status = static_cast<yl_status>(at.completion->status);
  if (status == YL_OK) {
    summary = *at.summary;
    std::copy_n(at.layers, layers.size(), layers.begin());
    std::copy_n(at.rows, static_cast<size_t>(call.batch) * layers.size(), rows.begin());
  }
  return status;
}

yl_status Plan::build_y_true(std::vector<std::vector<float>> &out, yl_box_counts *counts) {
  std::vector<float *> at;
  if (!device.in_device_memory()) {
    for (auto &layer : out) at.push_back(layer.data());
    return yl_build_y_true(plan, call.batch, &boxes, at.data(), counts);
  }
  yl_boxes boxes_at = boxes;
  boxes_at.data = static_cast<const float *>(mirrors.back().upload(
      boxes.data, int64_t(std::min(call.batch, c.batch)) * boxes.per_image * 5 * int64_t(sizeof(float))));
  for (size_t l = 0; l < layer_count(); ++l)
    at.push_back(static_cast<float *>(mirrors[3 * l + 1].upload(out[l].data(), bytes_of(l))));
  const yl_status status = yl_build_y_true(plan, call.batch, &boxes_at, at.data(), counts);
  for (size_t l = 0; l < layer_count() && status == YL_OK; ++l) mirrors[3 * l + 1].download(out[l].data(), bytes_of(l));
  return status;
}

yl_status Plan::yolo_head(const yl_head &head) {
  if (!device.in_device_memory()) return yl_yolo_head(plan, &head);
  const auto l = static_cast<size_t>(head.layer);
  const Layer &layer = c.layers[l];
  const auto cells = static_cast<int64_t>(c.cells(l));
  yl_head at = head;
  DeviceMemory grid, xy, wh, confidence, probs;
  const auto grid_bytes = static_cast<int64_t>(8 * layer.height * layer.width);
  at.feats = mirrors[3 * l].upload(head.feats, bytes_of(l));
  at.grid = static_cast<float *>(grid.upload(head.grid, grid_bytes));
  at.box_xy = static_cast<float *>(xy.upload(head.box_xy, 8 * cells));
  at.box_wh = static_cast<float *>(wh.upload(head.box_wh, 8 * cells));
  at.box_confidence = static_cast<float *>(confidence.upload(head.box_confidence, 4 * cells));
  at.box_class_probs = static_cast<float *>(probs.upload(head.box_class_probs, 4 * c.classes * cells));
  const yl_status status = yl_yolo_head(plan, &at);
  if (status != YL_OK) return status;
  if (head.grid) grid.download(head.grid, grid_bytes);
  if (head.box_xy) xy.download(head.box_xy, 8 * cells);
  if (head.box_wh) wh.download(head.box_wh, 8 * cells);
  if (head.box_confidence) confidence.download(head.box_confidence, 4 * cells);
  if (head.box_class_probs) probs.download(head.box_class_probs, 4 * c.classes * cells);
  return status;
}

int64_t Plan::bytes_of(size_t layer) const {
  const auto images = static_cast<size_t>(std::min(call.batch, c.batch));  // a test may request more, to be refused
  return static_cast<int64_t>(c.layers[layer].cells() * c.channels() * images * sizeof(float));
}
