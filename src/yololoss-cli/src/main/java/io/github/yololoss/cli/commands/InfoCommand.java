package io.github.yololoss.cli.commands;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.CudaDevice;
import io.github.yololoss.LossDevice;
import io.github.yololoss.YoloLoss;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.YoloSpec;
import io.github.yololoss.cli.files.ExitCode;
import io.github.yololoss.cli.files.JsonFile;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code yololoss info}. */
@Command(
    name = "info",
    mixinStandardHelpOptions = true,
    description =
        "Reports which library, devices, driver and versions are in use and why, and what is"
            + " missing. Exit code 4 if the library cannot be used.")
public final class InfoCommand implements Callable<Integer> {
  private static final double GIB = 1L << 30;
  private static final Runtime.Version LEAST_JAVA = Runtime.Version.parse("25.0.3");
  private static final Path DRIVER = Path.of("/proc/driver/nvidia/version");

  /** The outcome of a check. */
  private enum State {
    OK,
    NOTE,
    FAULT
  }

  @Spec private CommandSpec command;

  @Option(names = "--json", description = "Print the report as JSON.")
  private boolean json;

  private final ObjectNode root = new ObjectMapper().createObjectNode();
  private final ArrayNode checks = root.putArray("checks");

  /** Prints the version for {@code --version}. */
  public static final class Version implements IVersionProvider {
    @Override
    public String[] getVersion() {
      return new String[] {"yololoss " + version()};
    }
  }

  private static String version() {
    String version = InfoCommand.class.getPackage().getImplementationVersion();
    return version == null ? "(not packaged)" : version;
  }

  @Override
  public Integer call() throws IOException {
    say(State.OK, "yololoss", version());
    boolean usable = library();
    java();
    if (usable) {
      say(State.OK, "processor", BenchCommand.machine());
      usable = device("cpu", LossDevice.CPU, State.FAULT);
      driver();
      usable &= device("auto", LossDevice.AUTO, State.FAULT);
      usable &= device("reference", LossDevice.REFERENCE, State.FAULT);
    }
    environment();
    root.put("usable", usable);
    PrintWriter out = command.commandLine().getOut();
    if (json) {
      JsonFile.write("-", root, out);
    } else {
      checks.forEach(
          check ->
              out.printf(
                  "%-6s%-16s%s%n",
                  check.get("state").asText(),
                  check.get("what").asText(),
                  check.get("says").asText()));
    }
    return usable ? 0 : ExitCode.UNAVAILABLE.code();
  }

  private void say(State state, String what, String says) {
    checks
        .addObject()
        .put("state", state.name().toLowerCase(Locale.ROOT))
        .put("what", what)
        .put("says", says);
  }

  private boolean library() {
    try {
      say(State.OK, "library", YoloLoss.libraryInfo());
      return true;
    } catch (YoloLossException e) {
      say(State.FAULT, "library", e.getMessage());
      return false;
    }
  }

  private void java() {
    Runtime.Version java = Runtime.version();
    boolean old = java.compareToIgnoreOptional(LEAST_JAVA) < 0;
    say(
        old ? State.NOTE : State.OK,
        "java",
        java
            + ", "
            + System.getProperty("java.home")
            + (old ? "; " + LEAST_JAVA + " or later is tested, use that" : ""));
    Module module = YoloLoss.class.getModule();
    boolean allowed = module.isNativeAccessEnabled();
    String flag = "--enable-native-access=" + (module.isNamed() ? module.getName() : "ALL-UNNAMED");
    say(
        allowed ? State.OK : State.NOTE,
        "JVM flags",
        allowed
            ? "native access is allowed; a program of yours needs"
                + " --enable-native-access=ALL-UNNAMED, or =io.github.yololoss on the module path"
            : flag + " is missing: Java warns now, and a later release will refuse; add it");
    boolean recorder = ModuleLayer.boot().findModule("jdk.jfr").isPresent();
    say(
        recorder ? State.OK : State.NOTE,
        "flight recorder",
        recorder
            ? "an event for each call with"
                + " -XX:StartFlightRecording:+io.github.yololoss.Loss#enabled=true"
            : "this Java has no module jdk.jfr: calls are no events; add it to the runtime image");
  }

  private void driver() throws IOException {
    String driver = null;
    if (Files.isReadable(DRIVER)) {
      try (var lines = Files.lines(DRIVER)) {
        driver = lines.findFirst().orElse("").replaceAll("\\s+", " ").strip();
      }
    }
    List<CudaDevice> devices = CudaDevice.list();
    say(
        State.OK,
        "NVIDIA driver",
        driver != null ? driver : "none loaded (" + DRIVER + " is not there)");
    for (CudaDevice d : devices) {
      device(d.device().toString(), d.device(), State.FAULT);
      say(
          State.OK,
          d.device().toString(),
          String.format(
              Locale.ROOT,
              "compute capability %.1f, %d multiprocessors, %.1f of %.1f GiB free",
              d.computeCapability() / 10.0,
              d.multiprocessors(),
              d.freeMemory() / GIB,
              d.totalMemory() / GIB));
    }
    if (devices.isEmpty()) { // a driver is installed, so a GPU is expected
      device("cuda:0", LossDevice.cuda(0), driver == null ? State.NOTE : State.FAULT);
    }
  }

  private void environment() {
    Map<String, String> set = new TreeMap<>(System.getenv());
    set.keySet().removeIf(name -> !name.startsWith("YOLOLOSS_"));
    System.getProperties()
        .stringPropertyNames()
        .forEach(
            name -> {
              if (name.startsWith("yololoss.")) {
                set.put("-D" + name, System.getProperty(name));
              }
            });
    List<String> texts = new ArrayList<>();
    set.forEach((name, value) -> texts.add(name + "=" + value));
    say(
        texts.isEmpty() ? State.OK : State.NOTE,
        "settings",
        texts.isEmpty()
            ? "none of YOLOLOSS_LIBRARY, _ISA, _THREADS, _DEBUG, -Dyololoss.library, .cache is set"
            : texts.stream().collect(Collectors.joining(", ")));
  }

  /** Opens a loss on a device and says how that went; returns whether the device can be used. */
  private boolean device(String what, LossDevice device, State otherwise) {
    try (YoloLoss loss = YoloLoss.builder(YoloSpec.yolov3(1, 32, 32)).device(device).open()) {
      say(State.OK, what, "usable: " + loss.deviceName() + " (" + loss.deviceWhy() + ")");
      return true;
    } catch (YoloLossException e) {
      say(otherwise, what, e.getMessage());
      return false;
    }
  }
}
