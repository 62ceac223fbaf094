package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.internal.Abi;
import io.github.yololoss.internal.Native;
import java.lang.foreign.Arena;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.reflect.Field;
import java.lang.reflect.RecordComponent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * What is generated from the header, against the library that is loaded and the hand-written rest.
 */
class NativeTest {
  static List<StructLayout> layouts() {
    return Abi.layouts();
  }

  @ParameterizedTest
  @MethodSource("layouts")
  void structsAreLaidOutAsInTheLibrary(StructLayout layout) {
    try (Arena arena = Arena.ofConfined()) {
      String name = layout.name().orElseThrow();
      MemorySegment struct = arena.allocateFrom(name);
      assertEquals(
          Native.offsetOf(struct, MemorySegment.NULL), layout.byteSize(), "size of " + name);
      for (MemoryLayout member : layout.memberLayouts()) {
        String field = member.name().orElseThrow();
        assertEquals(
            Native.offsetOf(struct, arena.allocateFrom(field)),
            layout.byteOffset(MemoryLayout.PathElement.groupElement(field)),
            name + "." + field);
      }
    }
  }

  /** The lists of parts and counts are those of the header, and each is read from its own field. */
  @Test
  void partsAreThoseOfTheHeader() {
    assertEquals(
        Abi.Parts.SUMS.stream().map(field -> field.replace("class_", "class")).toList(),
        Part.ALL.stream().map(part -> part.jsonName()).toList());
    assertEquals(
        Abi.Parts.COUNTS,
        Count.ALL.stream().map(count -> count.name().toLowerCase(Locale.ROOT)).toList());
    double[] sums = new double[Part.ALL.size()];
    long[] counts = new long[Count.ALL.size()];
    Arrays.setAll(sums, i -> i + 0.5);
    Arrays.setAll(counts, i -> 100 + i);
    LossResult.Parts parts = LossResult.Parts.of(sums, counts);
    assertArrayEquals(sums, parts.sums());
    assertArrayEquals(counts, parts.counts());
    assertEquals(Arrays.stream(sums).sum(), parts.sum());
    assertEquals(sums.length + counts.length, LossResult.Parts.class.getRecordComponents().length);
  }

  /** Each component of the record is read from the field of its name, and added up. */
  @Test
  void statisticsAreThoseOfTheHeader() throws Exception {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment stats = arena.allocate(Abi.Stats.LAYOUT, 2);
      double[] sums = new double[Abi.Stats.SUMS.size()];
      long[] counts = new long[Abi.Stats.COUNTS.size()];
      Arrays.setAll(sums, i -> i + 0.5);
      Arrays.setAll(counts, i -> 100 + i);
      Abi.Stats.write(stats, 1, sums, counts);
      Statistics read = Statistics.read(stats, 1);
      Statistics twice = read.plus(read);
      RecordComponent[] components = Statistics.class.getRecordComponents();
      List<MemoryLayout> fields = Abi.Stats.LAYOUT.memberLayouts();
      assertEquals(fields.size(), components.length);
      for (int i = 0; i < components.length; i++) {
        String field = fields.get(i).name().orElseThrow();
        assertEquals(field.replace("_", ""), components[i].getName().toLowerCase(Locale.ROOT));
        int sum = Abi.Stats.SUMS.indexOf(field);
        double value = sum >= 0 ? sums[sum] : counts[Abi.Stats.COUNTS.indexOf(field)];
        Number got = (Number) components[i].getAccessor().invoke(read);
        Number doubled = (Number) components[i].getAccessor().invoke(twice);
        assertEquals(value, got.doubleValue(), field);
        assertEquals(2 * value, doubled.doubleValue(), field);
      }
    }
  }

  @Test
  void versionsAgree() throws Exception {
    Matcher pom =
        Pattern.compile("<version>([^<]*)</version>").matcher(Files.readString(Path.of("pom.xml")));
    assertTrue(pom.find());
    assertEquals(pom.group(1), Native.versionString());
    assertTrue(
        Files.readString(Path.of("CHANGELOG.md")).contains("## " + pom.group(1)),
        "the changelog names it");
  }

  @Test
  void everyValueOfAnEnumIsKnown() throws Exception {
    for (Field constant : Abi.class.getDeclaredFields()) {
      String name = constant.getName();
      if (name.startsWith("YL_REASON_") && !name.equals("YL_REASON_COUNT")) {
        assertEquals(name, "YL_REASON_" + Audit.Reason.of(constant.getInt(null)).name());
      } else if (name.startsWith("YL_ACTION_")) {
        assertEquals(name, "YL_ACTION_" + Audit.Action.of(constant.getInt(null)).name());
      } else if (name.startsWith("YL_CAUSE_") && !name.equals("YL_CAUSE_NONE")) {
        assertEquals(name, "YL_CAUSE_" + Offender.Cause.of(constant.getInt(null)).name());
      }
    }
    for (YoloLossException.Status status : YoloLossException.Status.values()) {
      if (status != YoloLossException.Status.NO_LIBRARY) {
        Field constant = Abi.class.getDeclaredField("YL_" + status.name());
        assertEquals(status, YoloLossException.Status.of(constant.getInt(null)));
      }
    }
    assertEquals(Abi.YL_REASON_COUNT, Audit.Reason.values().length);
  }
}
