package io.github.yololoss;

/** Types of feats and gradients, in the order of the native header's {@code YL_F32, ...}. */
public enum DataType {
  /** float32. */
  FLOAT32(Abi.YL_F32, 4),
  /** IEEE 754 binary16; the arithmetic is float32, the gradient is rounded to nearest even. */
  FLOAT16(Abi.YL_F16, 2),
  /** The upper half of a float32; alike. */
  BFLOAT16(Abi.YL_BF16, 2),
  /** float64; the arithmetic is float64 too. */
  FLOAT64(Abi.YL_F64, 8);

  /** On the native boundary. */
  final int value;

  private final int bytes;

  DataType(int value, int bytes) {
    this.value = value;
    this.bytes = bytes;
  }

  /** {@return bytes of a value} */
  public int bytes() {
    return bytes;
  }
}
