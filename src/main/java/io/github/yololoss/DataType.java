package io.github.yololoss;

/** Types of feats and gradients, in the order of the native header's {@code YL_F32, ...}. */
public enum DataType {
  /** float32. */
  FLOAT32(4),
  /** IEEE 754 binary16; the arithmetic is float32, the gradient is rounded to nearest even. */
  FLOAT16(2),
  /** The upper half of a float32; alike. */
  BFLOAT16(2),
  /** float64; the arithmetic is float64 too. */
  FLOAT64(8);

  private final int bytes;

  DataType(int bytes) {
    this.bytes = bytes;
  }

  /** {@return bytes of a value} */
  public int bytes() {
    return bytes;
  }
}
