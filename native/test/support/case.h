// A case is what a call computes: layers, truths and logits. The golden cases come with the figures that keras-yolo3
// computed of them; random cases are made here; the programs of bench read theirs from a folder.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "yololoss.h"

struct Layer {
  size_t height = 0, width = 0;
  std::vector<int32_t> mask;  // which anchors are this layer's
  std::vector<double> feats;  // logits, (B, H, W, A, 5 + C); a run stores them in its own type and order
  std::vector<float> y_true;  // the same shape
  struct {
    double xy, wh, confidence, class_;
    int64_t objects, ignored, ignored_background;
    std::vector<float> grad;
  } expected{};  // of a golden case

  size_t anchors() const { return mask.size(); }
  size_t cells() const { return height * width * anchors(); }  // of one image
};

struct Case {
  std::string name;
  int32_t batch = 1, classes = 1, input_height = 0, input_width = 0;
  float thresh = 0.5f;
  std::vector<float> anchors;  // (N, 2)
  std::vector<Layer> layers;
  int32_t boxes_per_image = 0;
  std::vector<float> boxes, box_weights;  // (B, T, 5) and (B, T); either may be empty
  double expected_total = 0;              // of a golden case

  bool has_boxes() const { return boxes_per_image > 0; }
  size_t images() const { return static_cast<size_t>(batch); }
  size_t channels() const { return static_cast<size_t>(5 + classes); }

  // Cells of a layer are counted over the batch, in the order of memory (NHWC); an element is one channel of one cell.
  size_t cells(size_t layer) const { return images() * layers[layer].cells(); }
  size_t elements(size_t layer) const { return cells(layer) * channels(); }
  bool is_object(size_t layer, size_t cell) const { return layers[layer].y_true[cell * channels() + 4] != 0; }
  size_t first_object(size_t layer) const;
  size_t last_object(size_t layer) const;
  size_t first_background(size_t layer) const;
  const float *anchor_of(size_t layer, size_t cell) const {  // width and height
    const Layer &l = layers[layer];
    return &anchors[2 * static_cast<size_t>(l.mask[cell % l.anchors()])];
  }

  // Replaces the logits by what a type can hold of them.
  Case rounded_to(int32_t dtype) const;
};

// The name of an element as an offender or a finding reports it.
struct Address {
  int32_t image, layer, row, column, anchor, channel;
};
Address address_of(const Case &c, size_t layer, size_t element);
size_t element_at(const Case &c, const Address &address);

// ---- Golden cases ---------------------------------------------------------------------------------------------------

// Reads a case of src/test/resources/golden.
Case golden(const std::string &name);

// Returns the names of all golden cases, or of those that the command line chooses.
std::vector<std::string> golden_names();
std::vector<std::string> golden_names(const std::vector<std::string> &of);
void use_golden_cases(const std::string &words);

// Reads a float32 .npy file of version 1.0. The array is empty if the file does not exist.
struct Array {
  std::vector<int64_t> shape;
  std::vector<float> data;
};
Array read_npy(const std::string &path);

// Returns the text of a file, or "".
std::string read_text(const std::string &path);

// Returns all numbers behind each occurrence of a key in JSON text: a number, or a nested list flattened.
std::vector<double> read_numbers(const std::string &json, const std::string &key);

// ---- Random cases ---------------------------------------------------------------------------------------------------

// Random numbers that are the same on every machine.
class Random {
 public:
  explicit Random(uint32_t seed) : bits_(seed) {}
  uint32_t bits() { return bits_(); }
  double uniform(double low, double high) { return low + (high - low) * bits_() / 4294967295.0; }
  int32_t pick(int32_t low, int32_t high) {  // both ends included
    return low + static_cast<int32_t>(bits_() % static_cast<uint32_t>(high - low + 1));
  }
  bool one_in(uint32_t n) { return bits_() % n == 0; }

 private:
  std::mt19937 bits_;
};

struct RandomCase {
  uint32_t seed = 1;
  int32_t batch = 1, classes = 1;
  struct Grid {
    size_t height, width, anchors;
  };
  std::vector<Grid> grids;
  int32_t input_height = 0, input_width = 0;  // 0: 32 pixels for each cell of the first grid
  float thresh = 0.4f;
  double logits = 3;                    // from -logits to logits
  double object_share = 0.15;           // of the cells; the first and the last cell are objects too, unless it is 0
  double least_size = 0.1;              // of an object, as a share of the input; the largest is 1
  bool sizes_near_predictions = false;  // so that many IoUs are near the threshold
  bool soft = false;                    // masks and targets between 0 and 1
};
Case random_case(const RandomCase &wanted);

// Replaces the boxes by random ones of least to most pixels a side, each within the input.
void add_random_boxes(Case &c, int32_t per_image, double least, double most, uint32_t seed = 1);

// Returns the smallest case of the contract's tests: one layer of 4x4 with three anchors, for 128x128; two images, two
// classes.
Case small_case();
