/* yololoss_dlpack.h: yl_loss over DLPack tensors.

   Takes the arrays of NumPy, PyTorch, JAX, CuPy and others as they are: device, type, shape and strides are checked,
   and nothing is copied. DLPack (github.com/dmlc/dlpack) is the format in which array libraries hand memory to each
   other. A program that has DLPack's own dlpack.h must include it before this header; for others this header declares
   the few structs that make up a DLTensor. Read yololoss.h first: it explains everything that is not about tensors. */
#ifndef YOLOLOSS_DLPACK_H
#define YOLOLOSS_DLPACK_H

#include "yololoss.h"

/* From DLPack 1.3, include/dlpack/dlpack.h, Copyright (c) 2017 by Contributors, Apache-2.0, cut down to what a DLTensor
   needs. Its memory layout has not changed since the first version. */
#ifndef DLPACK_DLPACK_H_
#ifdef __cplusplus
typedef enum : int32_t {
#else
typedef enum {
#endif
  kDLCPU = 1,
  kDLCUDA = 2,
  kDLCUDAHost = 3, /* pinned host memory */
  kDLCUDAManaged = 13
} DLDeviceType;

typedef struct {
  DLDeviceType device_type; /* kDLCPU ... */
  int32_t device_id;        /* number of the device among those of its type */
} DLDevice;

typedef enum { kDLInt = 0U, kDLUInt = 1U, kDLFloat = 2U, kDLBfloat = 4U } DLDataTypeCode;

typedef struct {
  uint8_t code;   /* DLDataTypeCode */
  uint8_t bits;   /* bits of a number */
  uint16_t lanes; /* numbers of a vector; this library takes only 1, plain numbers */
} DLDataType;

typedef struct {
  void *data;           /* start of the memory */
  DLDevice device;      /* where the memory is */
  int32_t ndim;         /* number of axes */
  DLDataType dtype;     /* type of the elements */
  int64_t *shape;       /* (ndim): extent of each axis */
  int64_t *strides;     /* (ndim): distance along each axis, in elements; NULL means C order */
  uint64_t byte_offset; /* offset of the first element from data, in bytes */
} DLTensor;
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The arrays of a call as tensors. Exactly one of y_true and boxes must be given. B and T are taken from the shapes.

     feats[l], grads[l]   with YL_NHWC (B, H, W, A*(5+C)) or (B, H, W, A, 5+C);
                          with YL_NCHW (B, A*(5+C), H, W) or (B, A, 5+C, H, W);
                          with either, the four axes may be in the other order if the strides describe the same memory
                          (PyTorch's channels_last, a permuted view)
     y_true[l]            (B, H, W, A, 5+C) or (B, H, W, A*(5+C)), float32
     boxes                (B, T, 5), float32
     box_weights          (B, T), float32

   feats have the type of the plan, grads that of its grad_dtype. Memory must have no gaps; y_true, boxes and
   box_weights must be in C order. The stride of an axis of extent 1 does not matter. A plan with YL_MEMORY_HOST takes
   tensors on the CPU or in pinned memory; a plan with YL_MEMORY_DEVICE takes tensors on its own CUDA device, and in
   pinned or managed memory. */
typedef struct yl_tensors {
  size_t struct_size;            /* sizeof(yl_tensors), set by YL_TENSORS_INIT */
  const DLTensor *const *feats;  /* L tensors */
  const DLTensor *const *grads;  /* L tensors, or NULL: loss only */
  const DLTensor *const *y_true; /* L tensors, or NULL if boxes are given */
  const DLTensor *boxes;         /* truths as boxes, or NULL if y_true is given */
  const DLTensor *box_weights;   /* weights of the rows of boxes, or NULL: all 1; must be NULL without boxes */
  int32_t boxes_policy;          /* YL_BOXES_...; default YL_BOXES_ERROR */
  int32_t reserved;              /* 0 */
} yl_tensors;

#define YL_TENSORS_INIT {sizeof(yl_tensors), 0, 0, 0, 0, 0, 0, 0}

/* Computes yl_loss over tensors. options gives everything else (normaliser, grad_scale, grad_mode, scan, ...): its
   feats, y_true, boxes and grads must be NULL, and its batch must be 0 or B. options may itself be NULL: all defaults.
   The DLTensor structs are only read, and stay caller-owned. Allocates three pointers for each layer.
   Errors: YL_INVALID_ARGUMENT, with a sentence that names the tensor, what it is and what is expected; then nothing has
   been written. YL_OUT_OF_MEMORY if the pointers cannot be allocated; and those of yl_loss.
   Threads: any; waits while another call uses the plan. */
YL_API yl_status yl_loss_dlpack(yl_plan *plan, const yl_tensors *tensors, const yl_call *options,
                                const yl_result *result);

/* Checks tensors as yl_loss_dlpack does, and enqueues the call on a stream as yl_loss_async does.
   Errors: those of yl_loss_dlpack, and those of yl_loss_async.
   Threads: any; waits while another call uses the plan, but not for the device. */
YL_API yl_status yl_loss_dlpack_async(yl_plan *plan, const yl_tensors *tensors, const yl_call *options, void *stream,
                                      const yl_result *result);

#ifdef __cplusplus
}
#endif
#endif
