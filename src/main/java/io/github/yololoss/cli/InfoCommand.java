package io.github.yololoss.cli;

import io.github.yololoss.CudaDevice;
import io.github.yololoss.Device;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.YoloSpec;
import java.io.PrintWriter;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Spec;

/** {@code yololoss info}. */
@Command(
    name = "info",
    mixinStandardHelpOptions = true,
    description = "Says which library and which devices are used, and why.")
final class InfoCommand implements Callable<Integer> {
  private static final double GIB = 1L << 30;

  @Spec private CommandSpec command;

  /** For {@code --version}. */
  static final class Version implements IVersionProvider {
    @Override
    public String[] getVersion() {
      String version = Main.class.getPackage().getImplementationVersion();
      return new String[] {"yololoss " + (version == null ? "(not packaged)" : version)};
    }
  }

  @Override
  public Integer call() {
    PrintWriter out = command.commandLine().getOut();
    out.println("library    " + YoloLoss.libraryInfo());
    out.println("java       " + Runtime.version() + ", " + System.getProperty("java.home"));
    for (Device device : new Device[] {Device.AUTO, Device.CPU, Device.REFERENCE}) {
      out.printf("%-11s%s%n", device, describe(device));
    }
    List<CudaDevice> devices = CudaDevice.list();
    for (CudaDevice d : devices) {
      out.printf(
          Locale.ROOT,
          "%-11s%s, %.1f of %.1f GiB free%n",
          d.device(),
          describe(d.device()),
          d.freeMemory() / GIB,
          d.totalMemory() / GIB);
    }
    if (devices.isEmpty()) {
      out.printf("%-11s%s%n", Device.cuda(0), describe(Device.cuda(0)));
    }
    return 0;
  }

  private static String describe(Device device) {
    try (YoloLoss loss = YoloLoss.builder(YoloSpec.yolov3(1, 32, 32)).device(device).open()) {
      return "usable: " + loss.deviceName() + " (" + loss.deviceWhy() + ")";
    } catch (YoloLossException e) {
      return "not used: " + e.getMessage();
    }
  }
}
