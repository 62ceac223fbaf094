package io.github.yololoss;

import io.github.yololoss.internal.Abi;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Type of the elements of feats and gradients. Truths are always float32. */
public enum FeatsType {
  /** IEEE 754 binary32, a {@code float}. */
  FLOAT32(Abi.YL_F32, 4),
  /** IEEE 754 binary16. The arithmetic is float32; the gradient is rounded to nearest even. */
  FLOAT16(Abi.YL_F16, 2),
  /** The upper half of a float32. The arithmetic is float32; the gradient is rounded likewise. */
  BFLOAT16(Abi.YL_BF16, 2),
  /** IEEE 754 binary64, a {@code double}; the arithmetic is float64 too. */
  FLOAT64(Abi.YL_F64, 8);

  /** The value of {@code yl_config.dtype}. */
  final int value;

  private final int bytes;

  FeatsType(int value, int bytes) {
    this.value = value;
    this.bytes = bytes;
  }

  /** {@return the size of a value in bytes} */
  public int bytes() {
    return bytes;
  }

  /**
   * Reads one value.
   *
   * @param values memory that holds values of this type; they need not be aligned
   * @param index of the value, from 0
   * @return the value, exactly
   * @throws IndexOutOfBoundsException if the memory ends before it
   */
  public double get(MemorySegment values, long index) {
    return switch (this) {
      case FLOAT32 -> values.get(ValueLayout.JAVA_FLOAT_UNALIGNED, index * 4);
      case FLOAT64 -> values.get(ValueLayout.JAVA_DOUBLE_UNALIGNED, index * 8);
      case FLOAT16 -> Float.float16ToFloat(values.get(ValueLayout.JAVA_SHORT_UNALIGNED, index * 2));
      case BFLOAT16 ->
          Float.intBitsToFloat(values.get(ValueLayout.JAVA_SHORT_UNALIGNED, index * 2) << 16);
    };
  }
}
