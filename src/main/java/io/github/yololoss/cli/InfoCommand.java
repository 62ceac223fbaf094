package io.github.yololoss.cli;

import io.github.yololoss.Device;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.YoloSpec;
import java.io.PrintWriter;
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
    for (Device device : new Device[] {Device.AUTO, Device.CPU, Device.REFERENCE, Device.cuda(0)}) {
      out.printf("%-11s%s%n", device, describe(device));
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
