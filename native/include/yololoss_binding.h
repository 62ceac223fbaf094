/* yololoss_binding.h: what the binding of another language needs in addition to yololoss.h. C programs need none of it.

   The _holding functions keep memory alive that a garbage-collected runtime could otherwise free during a call.
   yl_offset_of reports the layout of every struct, so that a binding can verify its own. */
#ifndef YOLOLOSS_BINDING_H
#define YOLOLOSS_BINDING_H

#include "yololoss.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Each of these functions does exactly what the function of yololoss.h without the suffix does, and ignores the
   pointers in its variadic tail. java.lang.foreign keeps alive only the segments that are arguments of a call, not
   those whose addresses are stored in a struct; passing them in the tail makes them arguments. */
YL_API yl_status yl_loss_holding(yl_plan *plan, const yl_call *call, const yl_result *result, ...);
YL_API yl_status yl_loss_async_holding(yl_plan *plan, const yl_call *call, void *stream, const yl_result *result, ...);
YL_API yl_status yl_yolo_head_holding(yl_plan *plan, const yl_head *head, ...);
YL_API yl_status yl_build_y_true_holding(yl_plan *plan, int32_t batch, const yl_boxes *boxes, float *const *y_true,
                                         yl_box_counts *counts, ...);
YL_API yl_status yl_audit_holding(yl_plan *plan, int32_t batch, const float *const *y_true, const yl_boxes *boxes,
                                  float poor_iou, const yl_audit_result *result, ...);

/* Returns the offset of a field in bytes, or the size of the struct if field is NULL; -1 for an unknown name. For
   example, yl_offset_of("yl_call", "grads"). All structs of yololoss.h are known, and yl_tensors of yololoss_dlpack.h.
   Threads: any. */
YL_API int64_t yl_offset_of(const char *struct_name, const char *field);

#ifdef __cplusplus
}
#endif
#endif
