import io.github.yololoss.CudaStream;
import io.github.yololoss.CudaYoloLoss;
import io.github.yololoss.DeviceBuffer;
import io.github.yololoss.LossDevice;
import io.github.yololoss.LossResult;
import io.github.yololoss.Targets;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloSpec;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Locale;

/**
 * Times calls from Java on a CUDA device, B = 1: the calls that {@code cuda_bench} times from C.
 * Prints one JSON object a line. {@code bench/gpu-check} runs it.
 *
 * <p>{@code java CudaLatency SECONDS}: how long each figure is measured.
 */
public final class CudaLatency {
  private CudaLatency() {}

  /** Returns percentiles 50, 90 and 99 of the microseconds that a body takes, as JSON. */
  private static String percentiles(double seconds, Runnable body) {
    for (int i = 0; i < 3000 * Math.min(1, seconds); i++) {
      body.run();
    }
    long[] times = new long[1 << 20];
    int count = 0;
    long end = System.nanoTime() + (long) (1e9 * seconds);
    while ((System.nanoTime() < end || count < 30) && count < times.length) {
      long start = System.nanoTime();
      body.run();
      times[count++] = System.nanoTime() - start;
    }
    Arrays.sort(times, 0, count);
    int last = count - 1;
    return String.format(
        Locale.ROOT,
        "[%.2f, %.2f, %.2f]",
        times[last / 2] / 1e3,
        times[(int) (last * 0.9)] / 1e3,
        times[(int) (last * 0.99)] / 1e3);
  }

  public static void main(String[] arguments) {
    double seconds = Double.parseDouble(arguments[0]);
    LossDevice device = LossDevice.cuda(0);
    for (int classes : new int[] {1, 20, 80}) {
      YoloSpec spec = YoloSpec.yolov3(classes, 416, 416);
      try (Arena arena = Arena.ofConfined();
          CudaStream stream = CudaStream.open(device);
          CudaYoloLoss loss = YoloLoss.builder(spec).openCuda(0)) {
        DeviceBuffer[] feats = spec.allocate(device, 1);
        DeviceBuffer[] grads = spec.allocate(device, 1);
        MemorySegment[] host = spec.allocate(arena, 1);
        for (int l = 0; l < host.length; l++) {
          feats[l].copyFrom(host[l]);
        }
        MemorySegment rows = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 48, 60, 220, 310, 0);
        DeviceBuffer box = DeviceBuffer.allocate(device, rows.byteSize());
        box.copyFrom(rows);
        Targets<DeviceBuffer> targets = Targets.boxes(box, 1);
        LossResult result = loss.newResult();
        for (DeviceBuffer[] gradient : new DeviceBuffer[][] {null, grads}) {
          Runnable blocking = () -> loss.compute(1, feats, targets, gradient, result);
          Runnable enqueued =
              () -> {
                loss.computeAsync(1, feats, targets, gradient, stream, result);
                result.await();
              };
          System.out.printf(
              Locale.ROOT,
              "{\"program\": \"java\", \"classes\": %d, \"batch\": 1, \"mode\": \"%s\","
                  + " \"targets\": \"boxes\", \"blocking_us\": %s, \"async_us\": %s}%n",
              classes,
              gradient == null ? "fwd" : "grad",
              percentiles(seconds, blocking),
              percentiles(seconds, enqueued));
        }
        for (DeviceBuffer buffer : feats) {
          buffer.close();
        }
        for (DeviceBuffer buffer : grads) {
          buffer.close();
        }
        box.close();
      }
    }
  }
}
