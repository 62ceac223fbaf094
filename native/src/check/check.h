// Every rule of yololoss.h, checked before anything is touched; a broken rule is a Failure with a sentence.
#pragma once

#include <cstring>
#include <initializer_list>
#include <string>

#include "backend.h"
#include "boxes.h"

namespace yl {

// Thrown inside the library; becomes the status and the sentence of yl_last_error().
struct Failure {
  yl_status status;
  std::string sentence;
};

[[noreturn]] __attribute__((format(printf, 2, 3))) void fail(yl_status status, const char *format, ...);

// Takes over a struct that begins with struct_size: what the caller knows of it, defaults for the rest. smallest is the
// size that the struct had in its first version.
template <class T> T take_sized(const char *name, const T *given, T defaults, size_t smallest = sizeof(T)) {
  if (!given) fail(YL_INVALID_ARGUMENT, "%s is NULL; a struct made by its _INIT macro is expected", name);
  if (given->struct_size < smallest)
    fail(YL_INVALID_ARGUMENT, "%s.struct_size is %zu, at least %zu is expected; begin with the _INIT macro", name,
         given->struct_size, smallest);
  if (given->struct_size > sizeof(T))
    fail(YL_UNSUPPORTED, "%s.struct_size is %zu, the library %s knows %zu bytes; use the header of the library", name,
         given->struct_size, yl_version_string(), sizeof(T));
  if (given->struct_size % alignof(T) != 0)  // ends within a field
    fail(YL_INVALID_ARGUMENT, "%s.struct_size is %zu, a multiple of %zu is expected; begin with the _INIT macro", name,
         given->struct_size, alignof(T));
  std::memcpy(static_cast<void *>(&defaults), given, given->struct_size);
  return defaults;
}

void check_between(const char *name, int64_t value, int64_t least, int64_t most);
void check_at_least_one(const char *name, int32_t value);
// An array of the caller's: not NULL, aligned.
void check_array(const char *name, const void *start, int64_t bytes, size_t alignment = sizeof(int64_t));
void check_normaliser(int32_t normaliser, double value);
constexpr int32_t kMostLayers = 4096;
void check_zero(const char *name, int32_t value);
// Of sizes; refuses what cannot be addressed.
int64_t product(const char *what, std::initializer_list<int64_t> factors);

// A stretch of memory, for the check that outputs overlap nothing.
struct Range {
  const void *start;
  int64_t bytes;
  const char *name;
  int32_t layer;  // -1: not of a layer
};

// Gradient buffers of the plan's last call. YL_GRAD_REFRESH is valid only for these.
struct LastGradient {
  std::vector<const void *> grads;  // L pointers
  int32_t batch = 0;                // images that they hold; 0: nothing is known of them
};

Shape check_config(const yl_config &config);
// The sentence for a row of boxes that the policy refuses.
[[noreturn]] void fail_boxes(const Shape &shape, int32_t image, int32_t t, const BoxRow &row);
void check_device(int32_t device, int32_t device_index);
// ranges is scratch: with room for kRangesOfLayer*L + kRangesOfCall entries nothing is allocated.
constexpr size_t kRangesOfLayer = 6, kRangesOfCall = 11;
Call check_call(const Shape &shape, const yl_call &call, const yl_result &result, const LastGradient &last,
                std::vector<Range> &ranges);
// YOLOLOSS_DEBUG: fails unless the buffers of a refreshed call hold 0 wherever a refresh writes nothing.
void check_refreshed(const Shape &shape, const Backend &backend, const Call &call);
// The targets of yl_audit, as the part of a call that they are.
Call check_audit(const Shape &shape, int32_t batch, const float *const *y_true, const yl_boxes *boxes, float poor_iou,
                 const yl_audit_result &result, std::vector<Range> &ranges);
void check_head(const Shape &shape, const yl_head &head, std::vector<Range> &ranges);
yl_boxes check_y_true(const Shape &shape, int32_t batch, const yl_boxes *boxes, float *const *y_true,
                      const yl_box_counts *counts, std::vector<Range> &ranges);

}  // namespace yl
