package io.github.yololoss.cli.run;

import io.github.yololoss.LossDevice;
import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossOptions.Search;
import java.nio.file.Path;

/**
 * Says how a batch is computed and which outputs are wanted.
 *
 * @param device that computes
 * @param normaliser that the loss is divided by
 * @param gradientScale factor of the gradient
 * @param chunk images of a call, or 0: as many as fit 64 MiB of dense truths
 * @param gradient whether the gradient is wanted
 * @param float32Gradients whether the gradient is float32 even if feats are narrower
 * @param accumulateOn a folder with grad_&lt;l&gt;.npy that the gradient is added to, or null
 * @param statistics whether statistics are wanted
 * @param search where to search for values that are not finite
 * @param maps whether the maps of all images are wanted
 */
public record Request(
    LossDevice device,
    Normaliser normaliser,
    double gradientScale,
    int chunk,
    boolean gradient,
    boolean float32Gradients,
    Path accumulateOn,
    boolean statistics,
    Search search,
    boolean maps) {

  /** Makes a request for the loss alone. */
  public Request(LossDevice device, Normaliser normaliser, double gradientScale, int chunk) {
    this(device, normaliser, gradientScale, chunk, false, false, null, false, Search.NONE, false);
  }

  /** Returns this request under another normaliser. */
  public Request withNormaliser(Normaliser other) {
    return new Request(
        device,
        other,
        gradientScale,
        chunk,
        gradient,
        float32Gradients,
        accumulateOn,
        statistics,
        search,
        maps);
  }

  /**
   * Returns this request with or without a gradient.
   *
   * @param wanted whether the gradient is wanted
   * @param float32 whether it is float32 whatever feats are
   * @param accumulate a folder with gradients to add to, or null
   */
  public Request withGradient(boolean wanted, boolean float32, Path accumulate) {
    return new Request(
        device,
        normaliser,
        gradientScale,
        chunk,
        wanted,
        float32,
        accumulate,
        statistics,
        search,
        maps);
  }

  /**
   * Returns this request with other outputs besides loss and gradient.
   *
   * @param withStatistics whether statistics are wanted
   * @param withSearch where to search for values that are not finite
   * @param withMaps whether the maps of all images are wanted
   */
  public Request withExtras(boolean withStatistics, Search withSearch, boolean withMaps) {
    return new Request(
        device,
        normaliser,
        gradientScale,
        chunk,
        gradient,
        float32Gradients,
        accumulateOn,
        withStatistics,
        withSearch,
        withMaps);
  }
}
