// Stage check: every rule of yololoss.h is checked before anything is written; a broken rule is a Failure with a
// sentence that names the value, what was expected, and what to do.
//
// config.cpp makes a Shape of a config, call.cpp a Call of a call, dlpack.cpp a call of tensors, refresh.cpp is a
// debugging aid. Later stages rely on the checks and do not repeat them. A check takes numbers and literals and formats
// its sentence only when it fails, since every call runs dozens of checks and nearly all of them pass.
#pragma once

#include <cstring>
#include <initializer_list>
#include <string>

#include "backend.h"
#include "boxes.h"

namespace yl {

// A status and its sentence, thrown inside the library; guarded() of api.cpp turns it into the return value and the
// sentence of yl_last_error().
struct Failure {
  yl_status status;
  std::string sentence;
};

// Throws a Failure with a sentence formatted like printf, cut off at 511 characters. The compiler checks the arguments.
[[noreturn]] __attribute__((format(printf, 2, 3))) void fail(yl_status status, const char *format, ...);

// Returns a copy of a struct that begins with struct_size: the fields that the caller knows, and defaults for the rest.
//
// This is how a struct grows without breaking a program that was compiled with an older header: its struct_size is
// smaller, so the new fields are missing in its memory and must not be read; defaults, made by the current _INIT macro,
// gives them the values under which nothing changes. New fields are only ever added at the end. smallest is the size
// that the struct had in its first version. A struct that is larger than the library knows comes from a newer header,
// and its additional fields may matter, so it is refused instead of ignored. So is a size that ends within a
// field (one that is not a multiple of the alignment). The copy also protects a call from a caller who changes the
// struct meanwhile.
template <class T> T take_sized(const char *name, const T *given, T defaults, size_t smallest = sizeof(T)) {
  if (!given) fail(YL_INVALID_ARGUMENT, "%s is NULL; a struct made by its _INIT macro is expected", name);
  if (given->struct_size < smallest)
    fail(YL_INVALID_ARGUMENT, "%s.struct_size is %zu, at least %zu is expected; begin with the _INIT macro", name,
         given->struct_size, smallest);
  if (given->struct_size > sizeof(T))
    fail(YL_UNSUPPORTED, "%s.struct_size is %zu, the library %s knows %zu bytes; use the header of the library", name,
         given->struct_size, yl_version_string(), sizeof(T));
  if (given->struct_size % alignof(T) != 0)
    fail(YL_INVALID_ARGUMENT, "%s.struct_size is %zu, a multiple of %zu is expected; begin with the _INIT macro", name,
         given->struct_size, alignof(T));
  std::memcpy(static_cast<void *>(&defaults), given, given->struct_size);
  return defaults;
}

// The functions below throw a Failure with YL_INVALID_ARGUMENT; name is the argument's name in the sentence.
//
// Fails unless least <= value <= most.
void check_between(const char *name, int64_t value, int64_t least, int64_t most);
// Fails unless value >= 1.
void check_at_least_one(const char *name, int32_t value);
// Fails if a caller-owned array is NULL or not aligned. bytes is its expected size, for the sentence only: the size of
// the caller's memory cannot be known.
void check_array(const char *name, const void *start, int64_t bytes, size_t alignment = sizeof(int64_t));
// Fails unless normaliser is one of YL_NORMALISER_... and value is finite and > 0, even if it is not used.
void check_normaliser(int32_t normaliser, double value);
constexpr int32_t kMostLayers = 4096;
// Fails unless a reserved field is 0, so that it can get a meaning later.
void check_zero(const char *name, int32_t value);
// Returns the product of sizes; fails if memory of that size could not be addressed. Every later computation with such
// sizes is then free of overflow.
int64_t product(const char *what, std::initializer_list<int64_t> factors);

// A part of the caller's memory, for the check that outputs overlap nothing. name is a literal, and the index is added
// only for a sentence.
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

// Returns the checked config of a plan. Fails as yl_plan_create does, except for memory that cannot be allocated.
Shape check_config(const yl_config &config);
// Throws the Failure for a row of boxes that the policy refuses (YL_INVALID_BOXES). t is the number of the row within
// its image.
[[noreturn]] void fail_boxes(const Shape &shape, int32_t image, int32_t t, const BoxRow &row);
// Fails unless a plan can be made on a device: implements yl_device_check.
void check_device(int32_t device, int32_t device_index);
// The functions below collect the memory of a call in ranges, which is scratch: if it has room for kRangesOfLayer * L +
// kRangesOfCall entries, it does not grow.
constexpr size_t kRangesOfLayer = 6, kRangesOfCall = 11;
// Returns the checked call. last decides whether YL_GRAD_REFRESH is allowed. Rows of boxes in host memory are checked
// too; those in device memory are checked by the kernels.
Call check_call(const Shape &shape, const yl_call &call, const yl_result &result, const LastGradient &last,
                std::vector<Range> &ranges);
// YOLOLOSS_DEBUG: fails unless the buffers of a refreshed call hold 0 wherever a refresh writes nothing.
void check_refreshed(const Shape &shape, const Backend &backend, const Call &call);
// Returns the truths of yl_audit as a call that has nothing else.
Call check_audit(const Shape &shape, int32_t batch, const float *const *y_true, const yl_boxes *boxes, float poor_iou,
                 const yl_audit_result &result, std::vector<Range> &ranges);
// Checks a yl_head.
void check_head(const Shape &shape, const yl_head &head, std::vector<Range> &ranges);
// Returns the boxes of yl_build_y_true.
yl_boxes check_y_true(const Shape &shape, int32_t batch, const yl_boxes *boxes, float *const *y_true,
                      const yl_box_counts *counts, std::vector<Range> &ranges);

}  // namespace yl
