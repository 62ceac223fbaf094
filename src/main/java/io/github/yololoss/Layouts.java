package io.github.yololoss;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.StructLayout;

/**
 * The structs of {@code yololoss.h}. A test compares them with the header and with the library's
 * {@code yl_offset_of}.
 */
final class Layouts {
  static final StructLayout LAYER =
      MemoryLayout.structLayout(
              JAVA_INT.withName("grid_height"),
              JAVA_INT.withName("grid_width"),
              ADDRESS.withName("anchor_mask"),
              JAVA_INT.withName("anchor_count"),
              JAVA_INT.withName("reserved"))
          .withName("yl_layer");

  static final StructLayout CONFIG =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("struct_size"),
              ADDRESS.withName("layers"),
              ADDRESS.withName("anchors"),
              JAVA_INT.withName("layer_count"),
              JAVA_INT.withName("anchor_count"),
              JAVA_INT.withName("input_height"),
              JAVA_INT.withName("input_width"),
              JAVA_INT.withName("num_classes"),
              JAVA_FLOAT.withName("ignore_thresh"),
              JAVA_INT.withName("max_batch"),
              JAVA_INT.withName("device"),
              JAVA_INT.withName("device_index"),
              JAVA_INT.withName("memory"),
              JAVA_INT.withName("dtype"),
              JAVA_INT.withName("layout"),
              JAVA_INT.withName("threads"),
              JAVA_INT.withName("grad_dtype"),
              ADDRESS.withName("rules"))
          .withName("yl_config");

  static final StructLayout RULES =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("struct_size"),
              ADDRESS.withName("class_weights"),
              ADDRESS.withName("ignore_threshes"),
              JAVA_FLOAT.withName("weight_xy"),
              JAVA_FLOAT.withName("weight_wh"),
              JAVA_FLOAT.withName("weight_object"),
              JAVA_FLOAT.withName("weight_background"),
              JAVA_FLOAT.withName("weight_class"),
              JAVA_FLOAT.withName("label_smoothing"),
              JAVA_INT.withName("ignore_scope"),
              JAVA_INT.withName("reserved"))
          .withName("yl_rules");

  static final StructLayout BOXES =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("struct_size"),
              ADDRESS.withName("data"),
              JAVA_INT.withName("per_image"),
              JAVA_INT.withName("policy"),
              ADDRESS.withName("weights"))
          .withName("yl_boxes");

  static final StructLayout BOX_COUNTS =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("used"),
              JAVA_LONG.withName("skipped"),
              JAVA_LONG.withName("clamped"),
              JAVA_LONG.withName("dropped"),
              JAVA_LONG.withName("collided"))
          .withName("yl_box_counts");

  static final StructLayout CALL =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("struct_size"),
              ADDRESS.withName("feats"),
              ADDRESS.withName("y_true"),
              ADDRESS.withName("boxes"),
              ADDRESS.withName("grads"),
              JAVA_INT.withName("batch"),
              JAVA_INT.withName("grad_mode"),
              JAVA_INT.withName("normaliser"),
              JAVA_INT.withName("scan"),
              JAVA_DOUBLE.withName("normaliser_value"),
              JAVA_DOUBLE.withName("grad_scale"),
              ADDRESS.withName("normaliser_at"),
              ADDRESS.withName("grad_scale_at"))
          .withName("yl_call");

  static final StructLayout PARTS =
      MemoryLayout.structLayout(
              JAVA_DOUBLE.withName("xy"),
              JAVA_DOUBLE.withName("wh"),
              JAVA_DOUBLE.withName("confidence_object"),
              JAVA_DOUBLE.withName("confidence_background"),
              JAVA_DOUBLE.withName("class_"),
              JAVA_LONG.withName("objects"),
              JAVA_LONG.withName("ignored"),
              JAVA_LONG.withName("ignored_background"),
              JAVA_LONG.withName("non_finite"),
              JAVA_LONG.withName("found_inf"))
          .withName("yl_parts");

  static final StructLayout SUMMARY =
      MemoryLayout.structLayout(
              JAVA_DOUBLE.withName("total"),
              JAVA_DOUBLE.withName("normaliser"),
              JAVA_LONG.withName("objects"),
              JAVA_LONG.withName("ignored"),
              JAVA_LONG.withName("ignored_background"),
              JAVA_LONG.withName("non_finite"),
              JAVA_LONG.withName("found_inf"),
              BOX_COUNTS.withName("boxes"))
          .withName("yl_summary");

  static final StructLayout RESULT =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("struct_size"),
              ADDRESS.withName("summary"),
              ADDRESS.withName("layers"),
              ADDRESS.withName("rows"),
              ADDRESS.withName("completion"),
              ADDRESS.withName("stats"),
              ADDRESS.withName("offender"),
              ADDRESS.withName("ignore_mask"),
              ADDRESS.withName("best_iou"),
              ADDRESS.withName("cell_loss"))
          .withName("yl_result");

  static final StructLayout STATS =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("objects"),
              JAVA_LONG.withName("background"),
              JAVA_DOUBLE.withName("iou"),
              JAVA_LONG.withName("iou_50"),
              JAVA_LONG.withName("iou_75"),
              JAVA_DOUBLE.withName("objectness_object"),
              JAVA_DOUBLE.withName("objectness_background"),
              JAVA_DOUBLE.withName("grad_xy"),
              JAVA_DOUBLE.withName("grad_wh"),
              JAVA_DOUBLE.withName("grad_object"),
              JAVA_DOUBLE.withName("grad_background"),
              JAVA_DOUBLE.withName("grad_class"))
          .withName("yl_stats");

  static final StructLayout OFFENDER =
      MemoryLayout.structLayout(
              JAVA_INT.withName("cause"),
              JAVA_INT.withName("image"),
              JAVA_INT.withName("layer"),
              JAVA_INT.withName("row"),
              JAVA_INT.withName("column"),
              JAVA_INT.withName("anchor"),
              JAVA_INT.withName("channel"),
              JAVA_INT.withName("reserved"),
              JAVA_DOUBLE.withName("value"),
              JAVA_DOUBLE.withName("gradient"))
          .withName("yl_offender");

  static final StructLayout FINDING =
      MemoryLayout.structLayout(
              JAVA_INT.withName("reason"),
              JAVA_INT.withName("action"),
              JAVA_INT.withName("image"),
              JAVA_INT.withName("row"),
              JAVA_INT.withName("other"),
              JAVA_INT.withName("layer"),
              JAVA_INT.withName("grid_row"),
              JAVA_INT.withName("grid_column"),
              JAVA_INT.withName("anchor"),
              JAVA_FLOAT.withName("value"))
          .withName("yl_finding");

  static final StructLayout AUDIT_RESULT =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("struct_size"),
              ADDRESS.withName("findings"),
              JAVA_LONG.withName("capacity"),
              ADDRESS.withName("counts"),
              ADDRESS.withName("anchor_use"),
              ADDRESS.withName("best_iou"))
          .withName("yl_audit_result");

  static final StructLayout COMPLETION =
      MemoryLayout.structLayout(
              JAVA_INT.withName("status"),
              JAVA_INT.withName("image"),
              JAVA_INT.withName("row"),
              JAVA_INT.withName("reserved"))
          .withName("yl_completion");

  static final StructLayout DEVICE_PROPERTIES =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("struct_size"),
              JAVA_LONG.withName("total_memory"),
              JAVA_LONG.withName("free_memory"),
              JAVA_INT.withName("compute_capability"),
              JAVA_INT.withName("multiprocessors"),
              MemoryLayout.sequenceLayout(256, JAVA_BYTE).withName("name"))
          .withName("yl_device_properties");

  static final StructLayout HEAD =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("struct_size"),
              ADDRESS.withName("feats"),
              ADDRESS.withName("grid"),
              ADDRESS.withName("box_xy"),
              ADDRESS.withName("box_wh"),
              ADDRESS.withName("box_confidence"),
              ADDRESS.withName("box_class_probs"),
              JAVA_INT.withName("layer"),
              JAVA_INT.withName("batch"))
          .withName("yl_head");

  /**
   * Offset of a field; for {@code static final} constants, so that nothing is looked up in a call.
   */
  static long offset(StructLayout layout, String field) {
    return layout.byteOffset(PathElement.groupElement(field));
  }

  private Layouts() {}
}
