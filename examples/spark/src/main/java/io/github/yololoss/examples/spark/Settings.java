package io.github.yololoss.examples.spark;

import io.github.yololoss.FeatsLayout;
import io.github.yololoss.Targets.BoxPolicy;
import io.github.yololoss.YoloSpec;
import java.io.Serializable;

/**
 * What the executors need to know.
 *
 * @param spec of the network
 * @param layout of feats
 * @param badBoxes what happens to rows of boxes that name no object
 * @param batch most images of a call
 * @param poorIou boxes whose best anchor fits worse are reported
 * @param findings most findings that are listed of a shard
 */
record Settings(
    YoloSpec spec, FeatsLayout layout, BoxPolicy badBoxes, int batch, float poorIou, int findings)
    implements Serializable {}
