package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** The names of the public API, and how its objects look in a log. */
class PublicApiTest {
  private static final Path CLASSES = Path.of("target/yololoss/classes/io/github/yololoss");

  /** Hard keywords of Kotlin and Scala that are not keywords of Java. */
  private static final Set<String> KEYWORDS =
      Set.of(
          "as",
          "def",
          "export",
          "extends",
          "forSome",
          "fun",
          "given",
          "implicit",
          "in",
          "is",
          "lazy",
          "match",
          "object",
          "override",
          "sealed",
          "then",
          "trait",
          "type",
          "typealias",
          "typeof",
          "val",
          "when",
          "with");

  /** Types of DJL and of PyTorch for Java, which programs import beside those of this package. */
  private static final Set<String> FOREIGN =
      Set.of(
          "Block",
          "Device",
          "DataType",
          "DType",
          "Layout",
          "Loss",
          "Model",
          "Module",
          "Optimizer",
          "Parameter",
          "Shape",
          "Stream",
          "Tensor",
          "TensorOptions",
          "Trainer");

  private static List<Class<?>> publicClasses() throws Exception {
    List<Class<?>> classes = new ArrayList<>();
    try (Stream<Path> files = Files.list(CLASSES)) {
      for (Path file : files.filter(f -> f.toString().endsWith(".class")).toList()) {
        String name = file.getFileName().toString().replace(".class", "");
        Class<?> type = Class.forName("io.github.yololoss." + name);
        if (Modifier.isPublic(type.getModifiers())) {
          classes.add(type);
        }
      }
    }
    return classes;
  }

  @Test
  void namesAreNoKeywordsOfOtherLanguages() throws Exception {
    List<Class<?>> classes = publicClasses();
    assertTrue(classes.size() > 20, "found " + classes);
    for (Class<?> type : classes) {
      assertFalse(FOREIGN.contains(type.getSimpleName()), type + " clashes with DJL or PyTorch");
      for (Method method : type.getDeclaredMethods()) {
        if (Modifier.isPublic(method.getModifiers())) {
          assertFalse(KEYWORDS.contains(method.getName()), method + " is a keyword");
        }
      }
    }
  }

  /** An object in a log says something, and is not an address. */
  @Test
  void everyObjectSaysWhatItIs() throws Exception {
    for (Class<?> type : publicClasses()) {
      boolean abstractly =
          type.isInterface() || type.isEnum() || Throwable.class.isAssignableFrom(type);
      if (!abstractly && !type.equals(YoloLoss.Builder.class)) {
        type.getDeclaredMethod("toString"); // throws if it is missing
      }
    }
    YoloSpec spec = YoloSpec.tinyYolov3(3, 64, 96);
    assertEquals(
        "3 classes, input 64x96 (height x width), layers [2x3x3, 4x6x3], 6 anchors, ignore_thresh"
            + " 0.5",
        spec.toString());
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment boxes = arena.allocate(40);
      assertEquals("dense truths of 2 layers", Targets.dense(spec.allocate(arena, 1)).toString());
      assertEquals("boxes, 2 rows an image, bad rows: error", Targets.boxes(boxes, 2).toString());
      assertEquals(
          "boxes, 1 rows an image, bad rows: skip, weighted",
          new Targets.Boxes<>(boxes, 1, Targets.BoxPolicy.SKIP, boxes).toString());
      MemorySegment[] map = spec.allocateMap(arena, 1);
      assertEquals("CellMaps[bestIou]", new CellMaps<>(null, map, null).toString());
      assertEquals(
          "yolo_head outputs [boxXy]", new YoloHead(null, boxes, null, null, null).toString());
      YoloLoss loss = YoloLoss.builder(spec).maxBatch(4).device(LossDevice.CPU).open();
      assertEquals(
          "YoloLoss on cpu, batches up to 4, feats float32 nhwc, " + spec, loss.toString());
      assertEquals("no findings", loss.audit(1, Targets.boxes(boxes, 2), 0, 10).toString());
      loss.close();
      assertTrue(loss.toString().endsWith(", closed"), loss.toString());
    }
    assertEquals("rules of keras-yolo3", LossRules.DEFAULT.toString());
    assertEquals(
        "rules of keras-yolo3, but weight of confidence, background 0.5; label smoothing 0.1;"
            + " ignore scope image",
        LossRules.DEFAULT
            .withWeights(1, 1, 1, 0.5f, 1)
            .withLabelSmoothing(0.1f)
            .withIgnoreScope(LossRules.IgnoreScope.IMAGE)
            .toString());
    assertEquals("normaliser batch", LossOptions.DEFAULT.toString());
    assertEquals(
        "normaliser 8.0, gradient scale 1024.0, gradient accumulate, statistics, search used",
        LossOptions.DEFAULT
            .withNormaliser(LossOptions.Normaliser.value(8))
            .withGradientScale(1024)
            .withGradientMode(LossOptions.GradientMode.ACCUMULATE)
            .withStatistics(true)
            .withSearch(LossOptions.Search.USED)
            .toString());
    assertEquals(
        "5 used (1 clamped, 0 dropped, 2 collided), 3 skipped",
        new Targets.BoxCounts(5, 3, 1, 0, 2).toString());
    assertEquals("cuda:1", LossDevice.cuda(1).toString());
    assertEquals(
        "100 bytes of cuda:0 at 0x1000",
        DeviceBuffer.of(LossDevice.cuda(0), 0x1000, 100).toString());
    assertEquals("stream 0x20 of cuda:0", CudaStream.of(LossDevice.cuda(0), 0x20).toString());
    assertEquals(
        "cuda:0: H100, 70000 of 81000 MiB free, compute capability 9.0, 132 multiprocessors",
        new CudaDevice(0, "H100", 81000L << 20, 70000L << 20, 90, 132).toString());
  }

  /** Only the API is exported, and the library needs the base module and the recorder. */
  @Test
  void theModuleExportsTheApiOnly() {
    Module module = YoloLoss.class.getModule();
    assertEquals(
        Set.of("io.github.yololoss"),
        Set.copyOf(module.getDescriptor().exports().stream().map(e -> e.source()).toList()));
    assertEquals(
        Set.of("java.base", "jdk.jfr"),
        Set.copyOf(module.getDescriptor().requires().stream().map(r -> r.name()).toList()));
  }
}
