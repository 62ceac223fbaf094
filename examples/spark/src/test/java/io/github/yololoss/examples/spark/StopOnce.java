package io.github.yololoss.examples.spark;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Map;
import org.apache.spark.TaskContext;
import org.apache.spark.api.plugin.DriverPlugin;
import org.apache.spark.api.plugin.ExecutorPlugin;
import org.apache.spark.api.plugin.PluginContext;
import org.apache.spark.api.plugin.SparkPlugin;

/**
 * Holds one executor in the middle of a job, so that a test can kill it: where the file {@code
 * armed} is in the folder {@code spark.yololoss.test}, the first task of partition 3 removes it,
 * writes its process into {@code victim} and stays.
 */
public final class StopOnce implements SparkPlugin {
  static final String FOLDER = "spark.yololoss.test";

  @Override
  public DriverPlugin driverPlugin() {
    return null;
  }

  @Override
  public ExecutorPlugin executorPlugin() {
    return new ExecutorPlugin() {
      private Path folder;

      @Override
      public void init(PluginContext context, Map<String, String> extraConf) {
        folder = Path.of(context.conf().get(FOLDER));
      }

      @Override
      public void onTaskStart() {
        try {
          if (TaskContext.get().partitionId() == 3
              && Files.deleteIfExists(folder.resolve("armed"))) {
            Path part = folder.resolve("victim.part");
            Files.writeString(part, Long.toString(ProcessHandle.current().pid()));
            Files.move(part, folder.resolve("victim"), StandardCopyOption.ATOMIC_MOVE);
            Thread.sleep(60_000);
          }
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
        }
      }
    };
  }
}
