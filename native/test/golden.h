// The golden cases, and the .npy and JSON that they lie in.
#pragma once

#include <cstdint>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "check.h"

struct Array {
  std::vector<int64_t> shape;
  std::vector<float> data;
};

// A float32 .npy file of version 1.0, as the golden cases hold; an empty array if there is none.
inline Array read_npy(const std::string &path) {
  Array array;
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return array;
  std::string bytes(static_cast<size_t>(in.tellg()), 0);
  in.seekg(0).read(&bytes[0], static_cast<std::streamsize>(bytes.size()));
  const size_t start = 10 + static_cast<unsigned char>(bytes[8]) + 256 * static_cast<unsigned char>(bytes[9]);
  std::string shape = bytes.substr(bytes.find('(') + 1, bytes.find(')') - bytes.find('(') - 1);
  for (char &c : shape)
    if (c == ',') c = ' ';
  std::istringstream sizes(shape);
  int64_t count = 1;
  for (int64_t n; sizes >> n; count *= n) array.shape.push_back(n);
  array.data.resize(static_cast<size_t>(count));
  if (bytes.size() == start + 4 * array.data.size())
    std::memcpy(array.data.data(), bytes.data() + start, 4 * array.data.size());
  else
    CHECK(false, "unreadable " + path);
  return array;
}

// All numbers behind each occurrence of a key in JSON text: a number, or a nested list flattened.
inline std::vector<double> read_numbers(const std::string &json, const std::string &key) {
  std::vector<double> numbers;
  const std::string quoted = "\"" + key + "\":";
  for (size_t at = json.find(quoted); at != std::string::npos; at = json.find(quoted, at)) {
    at += quoted.size();
    int depth = 0;
    do {
      const char c = json[at];
      if (c == '[' || c == ']') depth += c == '[' ? 1 : -1;
      if (std::strchr("-0123456789", c)) {
        char *end;
        numbers.push_back(std::strtod(&json[at], &end));
        at = static_cast<size_t>(end - json.data());
      } else {
        ++at;
      }
    } while (depth > 0 || json[at - 1] == ' ');
  }
  return numbers;
}

struct Golden {
  std::string name;
  int32_t batch, classes, input_height, input_width, layers, anchors_per_layer = 3, boxes_per_image = 0;
  float thresh;
  double total;
  std::vector<float> anchors;
  std::vector<int32_t> masks;  // A for each layer
  std::vector<double> xy, wh, confidence, class_, objects, ignored, ignored_background;
  std::vector<Array> feats, y_true, grads;
  Array boxes;
  bool has_boxes() const { return boxes_per_image > 0; }
};

inline Golden read_golden(const std::string &name) {
  const std::string folder = std::string(GOLDEN_DIR) + "/" + name;
  std::ifstream in(folder + "/expected.json");
  const std::string json{std::istreambuf_iterator<char>(in), {}};
  CHECK(!json.empty(), "no golden case " + name);
  const auto one = [&](const char *key) { return read_numbers(json, key).at(0); };
  Golden g;
  g.name = name;
  g.batch = static_cast<int32_t>(one("batch"));
  g.classes = static_cast<int32_t>(one("num_classes"));
  g.input_height = static_cast<int32_t>(one("input_shape"));
  g.input_width = static_cast<int32_t>(read_numbers(json, "input_shape").at(1));
  g.thresh = static_cast<float>(one("ignore_thresh"));
  g.total = one("total");
  for (const double a : read_numbers(json, "anchors")) g.anchors.push_back(static_cast<float>(a));
  for (const double m : read_numbers(json, "anchor_mask")) g.masks.push_back(static_cast<int32_t>(m));
  g.xy = read_numbers(json, "xy");
  g.wh = read_numbers(json, "wh");
  g.confidence = read_numbers(json, "confidence");
  g.class_ = read_numbers(json, "class");
  g.objects = read_numbers(json, "object_count");
  g.ignored = read_numbers(json, "ignore_count");
  g.ignored_background = read_numbers(json, "ignore_count_background");
  g.layers = static_cast<int32_t>(g.xy.size());
  for (int32_t l = 0; l < g.layers; ++l) {
    const std::string end = "_" + std::to_string(l) + ".npy";
    g.feats.push_back(read_npy(folder + "/feats" + end));
    g.y_true.push_back(read_npy(folder + "/y_true" + end));
    g.grads.push_back(read_npy(folder + "/grad" + end));
  }
  g.boxes = read_npy(folder + "/boxes.npy");
  if (!g.boxes.shape.empty()) g.boxes_per_image = static_cast<int32_t>(g.boxes.shape[1]);
  return g;
}

inline const std::vector<std::string> kGoldenNames = {"a_small_3scale", "b_one_class_416",     "c_tiny_2scale",
                                                      "d_nonsquare",    "e_empty_and_crowded", "e2_all_empty",
                                                      "f_soft_targets", "g_extreme_logits",    "h_builder_edges"};
