package io.github.yololoss;

/** Orders of feats and gradients. */
public enum Layout {
  /** (B, H, W, A*(5+C)): Keras, TensorFlow. */
  NHWC(Abi.YL_NHWC),
  /** (B, A*(5+C), H, W), the same channels as planes: Darknet, PyTorch, DJL. */
  NCHW(Abi.YL_NCHW);

  /** On the native boundary. */
  final int value;

  Layout(int value) {
    this.value = value;
  }
}
