/**
 * What trainers need around the loss and would otherwise write again: spec files ({@link
 * io.github.yololoss.kit.SpecFile}), NumPy arrays ({@link io.github.yololoss.kit.Npy}, {@link
 * io.github.yololoss.kit.Npz}), lists of pictures and boxes ({@link
 * io.github.yololoss.kit.Annotations}, {@link io.github.yololoss.kit.Pictures}), the letterbox of
 * keras-yolo3 ({@link io.github.yololoss.kit.Letterbox}), decoding with non-maximum suppression
 * ({@link io.github.yololoss.kit.Detections}), and losses as JSON and as the log of a training
 * ({@link io.github.yololoss.kit.LossJson}, {@link io.github.yololoss.kit.LossLog}, {@link
 * io.github.yololoss.kit.LossCurve}).
 *
 * <p>It is an artifact of its own because it depends on Jackson and on {@code java.desktop} (for
 * ImageIO). The library {@code yololoss} depends on nothing: whoever has a data pipeline already
 * needs only that. The command line and the examples use this package and have no copy of it.
 *
 * <p>Every method that reads a file throws {@link java.io.IOException} with one sentence that names
 * the file, the place in it, and what was expected there; a file that does not exist is a {@link
 * java.nio.file.NoSuchFileException}. Classes are safe for use by one thread at a time; records are
 * immutable.
 */
package io.github.yololoss.kit;
