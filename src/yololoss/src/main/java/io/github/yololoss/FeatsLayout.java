package io.github.yololoss;

import io.github.yololoss.internal.Abi;

/** Order of the elements of feats and gradients. */
public enum FeatsLayout {
  /** (B, H, W, A*(5+C)): Keras, TensorFlow. */
  NHWC(Abi.YL_NHWC),
  /** (B, A*(5+C), H, W), the same channels as planes: Darknet, PyTorch, DJL. */
  NCHW(Abi.YL_NCHW);

  /** The value of {@code yl_config.layout}. */
  final int value;

  FeatsLayout(int value) {
    this.value = value;
  }
}
