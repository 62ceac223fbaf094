// Reading the golden cases, and making random ones. See case.h.
#include "case.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

#include "test.h"
#include "values.h"

size_t Case::first_object(size_t layer) const {
  size_t cell = 0;
  while (!is_object(layer, cell)) ++cell;
  return cell;
}
size_t Case::last_object(size_t layer) const {
  size_t cell = cells(layer) - 1;
  while (!is_object(layer, cell)) --cell;
  return cell;
}
size_t Case::first_background(size_t layer) const {
  size_t cell = 0;
  while (is_object(layer, cell)) ++cell;
  return cell;
}

Case Case::rounded_to(int32_t dtype) const {
  Case c = *this;
  for (Layer &layer : c.layers)
    for (double &value : layer.feats) value = rounded(dtype, value);
  return c;
}

Address address_of(const Case &c, size_t layer, size_t element) {
  const Layer &l = c.layers[layer];
  const size_t cell = element / c.channels(), place = cell / l.anchors();
  const auto number = [](size_t n) { return static_cast<int32_t>(n); };
  return {number(place / l.width / l.height), number(layer),
          number(place / l.width % l.height), number(place % l.width),
          number(cell % l.anchors()),         number(element % c.channels())};
}

size_t element_at(const Case &c, const Address &at) {
  const Layer &l = c.layers[static_cast<size_t>(at.layer)];
  const auto image = static_cast<size_t>(at.image), row = static_cast<size_t>(at.row),
             column = static_cast<size_t>(at.column), anchor = static_cast<size_t>(at.anchor);
  return (((image * l.height + row) * l.width + column) * l.anchors() + anchor) * c.channels() +
         static_cast<size_t>(at.channel);
}

// ---- Golden cases ---------------------------------------------------------------------------------------------------

namespace {

std::string case_words;

}  // namespace

void use_golden_cases(const std::string &words) { case_words = words; }

std::vector<std::string> golden_names() {
  return golden_names({"a_small_3scale", "b_one_class_416", "c_tiny_2scale", "d_nonsquare", "e_empty_and_crowded",
                       "e2_all_empty", "f_soft_targets", "g_extreme_logits", "h_builder_edges"});
}

std::vector<std::string> golden_names(const std::vector<std::string> &of) {
  std::vector<std::string> wanted;
  for (const std::string &name : of)
    if (name.find(case_words) != std::string::npos) wanted.push_back(name);
  return wanted;
}

Array read_npy(const std::string &path) {
  Array array;
  const std::string bytes = read_text(path);
  if (bytes.empty()) return array;
  const size_t start = 10 + static_cast<unsigned char>(bytes[8]) + 256 * static_cast<unsigned char>(bytes[9]);
  std::string shape = bytes.substr(bytes.find('(') + 1, bytes.find(')') - bytes.find('(') - 1);
  std::replace(shape.begin(), shape.end(), ',', ' ');
  std::istringstream sizes(shape);
  int64_t count = 1;
  for (int64_t n; sizes >> n; count *= n) array.shape.push_back(n);
  array.data.resize(static_cast<size_t>(count));
  if (CHECK_EQUAL(bytes.size(), start + 4 * array.data.size(), path))
    std::memcpy(array.data.data(), bytes.data() + start, 4 * array.data.size());
  return array;
}

std::string read_text(const std::string &path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return "";
  std::string text(static_cast<size_t>(in.tellg()), 0);
  in.seekg(0).read(&text[0], static_cast<std::streamsize>(text.size()));
  return text;
}

std::vector<double> read_numbers(const std::string &json, const std::string &key) {
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

Case golden(const std::string &name) {
  const std::string folder = std::string(GOLDEN_FOLDER) + "/" + name;
  const std::string json = read_text(folder + "/expected.json");
  CHECK(!json.empty(), "no golden case " + name);
  const auto numbers = [&](const char *key) { return read_numbers(json, key); };
  Case c;
  c.name = name;
  c.batch = static_cast<int32_t>(numbers("batch").at(0));
  c.classes = static_cast<int32_t>(numbers("num_classes").at(0));
  c.input_height = static_cast<int32_t>(numbers("input_shape").at(0));
  c.input_width = static_cast<int32_t>(numbers("input_shape").at(1));
  c.thresh = static_cast<float>(numbers("ignore_thresh").at(0));
  c.expected_total = numbers("total").at(0);
  for (const double a : numbers("anchors")) c.anchors.push_back(static_cast<float>(a));
  const std::vector<double> masks = numbers("anchor_mask");
  c.layers.resize(numbers("xy").size());
  for (size_t l = 0; l < c.layers.size(); ++l) {
    Layer &layer = c.layers[l];
    const std::string end = "_" + std::to_string(l) + ".npy";
    const Array feats = read_npy(folder + "/feats" + end);
    layer.height = static_cast<size_t>(feats.shape.at(1));
    layer.width = static_cast<size_t>(feats.shape.at(2));
    const size_t anchors = masks.size() / c.layers.size();
    for (size_t a = 0; a < anchors; ++a) layer.mask.push_back(static_cast<int32_t>(masks[anchors * l + a]));
    layer.feats.assign(feats.data.begin(), feats.data.end());
    layer.y_true = read_npy(folder + "/y_true" + end).data;
    layer.expected.xy = numbers("xy").at(l);
    layer.expected.wh = numbers("wh").at(l);
    layer.expected.confidence = numbers("confidence").at(l);
    layer.expected.class_ = numbers("class").at(l);
    layer.expected.objects = static_cast<int64_t>(numbers("object_count").at(l));
    layer.expected.ignored = static_cast<int64_t>(numbers("ignore_count").at(l));
    layer.expected.ignored_background = static_cast<int64_t>(numbers("ignore_count_background").at(l));
    layer.expected.grad = read_npy(folder + "/grad" + end).data;
  }
  const Array boxes = read_npy(folder + "/boxes.npy");
  c.boxes = boxes.data;
  if (!boxes.shape.empty()) c.boxes_per_image = static_cast<int32_t>(boxes.shape.at(1));
  return c;
}

// ---- Random cases ---------------------------------------------------------------------------------------------------

namespace {

// Fills the row of an object's cell.
void make_object(Random &random, const RandomCase &wanted, const Case &c, size_t l, size_t cell, float *row) {
  const Layer &layer = c.layers[l];
  const size_t place = cell / layer.anchors();
  const double *logits = &layer.feats[cell * c.channels()];
  const float *anchor = c.anchor_of(l, cell);
  row[0] = static_cast<float>((double(place % layer.width) + random.uniform(0, 0.999)) / double(layer.width));
  row[1] = static_cast<float>((double(place / layer.width % layer.height) + random.uniform(0, 0.999)) /
                              double(layer.height));
  const double input[] = {double(c.input_width), double(c.input_height)};
  for (size_t side = 0; side < 2; ++side) {
    const double size = wanted.sizes_near_predictions
                            ? anchor[side] / input[side] * std::exp(logits[2 + side]) * random.uniform(0.5, 2)
                            : std::exp(random.uniform(std::log(wanted.least_size), 0));
    row[2 + side] = static_cast<float>(size);
  }
  row[4] = wanted.soft && random.one_in(3) ? static_cast<float>(random.uniform(0.1, 0.9)) : 1.0f;
  if (wanted.soft)
    for (size_t n = 5; n < c.channels(); ++n) row[n] = static_cast<float>(random.uniform(0, 1));
  else
    row[5 + random.bits() % static_cast<uint32_t>(c.classes)] = 1;
}

}  // namespace

Case random_case(const RandomCase &wanted) {
  Random random(wanted.seed);
  Case c;
  c.batch = wanted.batch;
  c.classes = wanted.classes;
  c.input_height = wanted.input_height ? wanted.input_height : 32 * static_cast<int32_t>(wanted.grids[0].height);
  c.input_width = wanted.input_width ? wanted.input_width : 32 * static_cast<int32_t>(wanted.grids[0].width);
  c.thresh = wanted.thresh;
  c.name = "random";
  for (const RandomCase::Grid &grid : wanted.grids) {
    Layer layer;
    layer.height = grid.height;
    layer.width = grid.width;
    for (size_t a = 0; a < grid.anchors; ++a) {
      layer.mask.push_back(static_cast<int32_t>(c.anchors.size() / 2));
      c.anchors.push_back(static_cast<float>(random.uniform(0.1, 0.6) * c.input_width));
      c.anchors.push_back(static_cast<float>(random.uniform(0.1, 0.6) * c.input_height));
    }
    c.name += " " + std::to_string(grid.height) + "x" + std::to_string(grid.width) + "x" + std::to_string(grid.anchors);
    c.layers.push_back(layer);
  }
  c.name +=
      ", C=" + std::to_string(c.classes) + ", B=" + std::to_string(c.batch) + ", seed " + std::to_string(wanted.seed);
  for (size_t l = 0; l < c.layers.size(); ++l) {
    Layer &layer = c.layers[l];
    layer.feats.resize(c.elements(l));
    for (double &value : layer.feats) value = static_cast<float>(random.uniform(-wanted.logits, wanted.logits));
    layer.y_true.assign(c.elements(l), 0.0f);
    for (size_t cell = 0; cell < c.cells(l); ++cell) {
      const size_t in_image = cell % layer.cells();
      const bool at_an_end = wanted.object_share > 0 && (in_image == 0 || in_image == layer.cells() - 1);
      if (at_an_end || random.uniform(0, 1) < wanted.object_share)
        make_object(random, wanted, c, l, cell, &layer.y_true[cell * c.channels()]);
    }
  }
  return c;
}

void add_random_boxes(Case &c, int32_t per_image, double least, double most, uint32_t seed) {
  Random random(seed);
  c.boxes_per_image = per_image;
  c.boxes.clear();
  for (int32_t i = 0; i < c.batch * per_image; ++i) {
    const double width = random.uniform(least, most), height = random.uniform(least, most);
    const double x = random.uniform(0, c.input_width - width), y = random.uniform(0, c.input_height - height);
    for (const double side : {x, y, x + width, y + height}) c.boxes.push_back(static_cast<float>(side));
    c.boxes.push_back(static_cast<float>(random.pick(0, c.classes - 1)));
  }
}

Case small_case() {
  RandomCase wanted;
  wanted.batch = wanted.classes = 2;
  wanted.grids = {{4, 4, 3}};
  wanted.thresh = 0.5f;
  Case c = random_case(wanted);
  c.name = "small case";
  c.anchors = {10, 10, 30, 30, 50, 60};
  return c;
}
