/* yololoss over DLPack: arrays of NumPy, PyTorch, JAX, CuPy and others as they are, checked and not copied.

   DLPack (github.com/dmlc/dlpack) is the format in which array libraries hand memory to each other. A program that has
   its dlpack.h includes it before this header; else the few structs that a DLTensor is made of stand here. */
#ifndef YOLOLOSS_DLPACK_H
#define YOLOLOSS_DLPACK_H

#include "yololoss.h"

/* From DLPack 1.3, include/dlpack/dlpack.h, Copyright (c) 2017 by Contributors, Apache-2.0; the layout is unchanged
   since its first version, cut down to what a DLTensor needs. */
#ifndef DLPACK_DLPACK_H_
#ifdef __cplusplus
typedef enum : int32_t {
#else
typedef enum {
#endif
  kDLCPU = 1,
  kDLCUDA = 2,
  kDLCUDAHost = 3, /* pinned */
  kDLCUDAManaged = 13
} DLDeviceType;

typedef struct {
  DLDeviceType device_type;
  int32_t device_id;
} DLDevice;

typedef enum { kDLInt = 0U, kDLUInt = 1U, kDLFloat = 2U, kDLBfloat = 4U } DLDataTypeCode;

typedef struct {
  uint8_t code; /* DLDataTypeCode */
  uint8_t bits;
  uint16_t lanes; /* 1: no vectors */
} DLDataType;

typedef struct {
  void *data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape;
  int64_t *strides;     /* in elements; NULL: C order */
  uint64_t byte_offset; /* of the first element from data */
} DLTensor;
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The arrays of a call as tensors. Exactly one of y_true and boxes is given. B and T are read off the shapes.

     feats[l], grads[l]   with YL_NHWC (B, H, W, A*(5+C)) or (B, H, W, A, 5+C)
                          with YL_NCHW (B, A*(5+C), H, W) or (B, A, 5+C, H, W)
                          with either, the four axes in the other order if strides say that the memory is the same
                          (PyTorch's channels_last; a permuted view)
     y_true[l]            (B, H, W, A, 5+C) or (B, H, W, A*(5+C)), float32
     boxes                (B, T, 5), float32
     box_weights          (B, T), float32

   Type: that of the plan (its grad_dtype for grads). Memory without gaps. Device: CPU or pinned memory for a plan with
   YL_MEMORY_HOST; for YL_MEMORY_DEVICE the plan's CUDA device, pinned or managed memory. */
typedef struct yl_tensors {
  size_t struct_size;            /* sizeof(yl_tensors), set by YL_TENSORS_INIT */
  const DLTensor *const *feats;  /* L pointers */
  const DLTensor *const *grads;  /* L pointers, or NULL: loss only */
  const DLTensor *const *y_true; /* L pointers, or NULL: boxes */
  const DLTensor *boxes;         /* or NULL: y_true */
  const DLTensor *box_weights;   /* or NULL: 1 */
  int32_t boxes_policy;          /* YL_BOXES_...; default ERROR */
  int32_t reserved;              /* 0 */
} yl_tensors;

#define YL_TENSORS_INIT \
  { sizeof(yl_tensors), 0, 0, 0, 0, 0, 0, 0 }

/* yl_loss over tensors. options is a yl_call that says everything else (normaliser, grad_scale, grad_mode, scan, ...): its
   batch is 0 or B, its feats, y_true, boxes and grads are NULL; options itself may be NULL: the defaults. Errors:
   YL_INVALID_ARGUMENT with a sentence that names the tensor, what it is and what is expected, and those of yl_loss; then
   nothing has been written. The tensors are only looked at; they stay the caller's. Allocates three pointers a layer. */
YL_API yl_status yl_loss_dlpack(yl_plan *plan, const yl_tensors *tensors, const yl_call *options,
                                const yl_result *result);

/* yl_loss_async over tensors: the same checks, then enqueued on the stream. */
YL_API yl_status yl_loss_dlpack_async(yl_plan *plan, const yl_tensors *tensors, const yl_call *options, void *stream,
                                      const yl_result *result);

#ifdef __cplusplus
}
#endif
#endif
