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
              JAVA_INT.withName("reserved"))
          .withName("yl_config");

  static final StructLayout BOXES =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("struct_size"),
              ADDRESS.withName("data"),
              JAVA_INT.withName("per_image"),
              JAVA_INT.withName("policy"))
          .withName("yl_boxes");

  static final StructLayout BOX_COUNTS =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("used"),
              JAVA_LONG.withName("skipped"),
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
              JAVA_INT.withName("reserved"),
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
              JAVA_LONG.withName("non_finite"))
          .withName("yl_parts");

  static final StructLayout SUMMARY =
      MemoryLayout.structLayout(
              JAVA_DOUBLE.withName("total"),
              JAVA_DOUBLE.withName("normaliser"),
              JAVA_LONG.withName("objects"),
              JAVA_LONG.withName("ignored"),
              JAVA_LONG.withName("ignored_background"),
              JAVA_LONG.withName("non_finite"),
              BOX_COUNTS.withName("boxes"))
          .withName("yl_summary");

  static final StructLayout RESULT =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("struct_size"),
              ADDRESS.withName("summary"),
              ADDRESS.withName("layers"),
              ADDRESS.withName("rows"),
              ADDRESS.withName("completion"))
          .withName("yl_result");

  static final StructLayout COMPLETION =
      MemoryLayout.structLayout(
              JAVA_INT.withName("status"),
              JAVA_INT.withName("image"),
              JAVA_INT.withName("row"),
              JAVA_INT.withName("reserved"))
          .withName("yl_completion");

  static final StructLayout CUDA_DEVICE =
      MemoryLayout.structLayout(
              JAVA_LONG.withName("struct_size"),
              JAVA_LONG.withName("total_memory"),
              JAVA_LONG.withName("free_memory"),
              JAVA_INT.withName("compute_capability"),
              JAVA_INT.withName("multiprocessors"),
              MemoryLayout.sequenceLayout(256, JAVA_BYTE).withName("name"))
          .withName("yl_cuda_device");

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
