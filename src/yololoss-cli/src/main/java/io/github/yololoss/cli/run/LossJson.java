package io.github.yololoss.cli.run;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.LossOptions;
import java.util.stream.IntStream;

/** A run's result as JSON, and where {@code --json} writes any. */
public final class LossJson {
  private LossJson() {}

  /** The result, with the fields and the meaning of a golden case's expected.json. */
  public static ObjectNode of(LossRun run) {
    Totals result = run.result;
    int layers = result.layers();
    ObjectNode root =
        io.github.yololoss.kit.LossJson.of(
            run.spec,
            run.batch,
            result.normaliser(),
            result.total(),
            IntStream.range(0, layers).mapToObj(result::layer).toList());
    if (run.statistics) {
      io.github.yololoss.kit.LossJson.putStatistics(
          root, IntStream.range(0, layers).mapToObj(result::statistics).toList());
    }
    if (run.search != LossOptions.Search.NONE) {
      io.github.yololoss.kit.LossJson.putOffender(root, result.offender());
    }
    io.github.yololoss.kit.LossJson.putBoxes(root, result.boxes());
    root.putObject("device").put("name", run.deviceName).put("why", run.deviceWhy);
    return root;
  }
}
