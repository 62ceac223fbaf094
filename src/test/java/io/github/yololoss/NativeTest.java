package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The binding against the library that is loaded and the header in the source tree. */
class NativeTest {
  static StructLayout[] layouts() {
    return new StructLayout[] {
      Layouts.LAYER,
      Layouts.CONFIG,
      Layouts.RULES,
      Layouts.BOXES,
      Layouts.BOX_COUNTS,
      Layouts.CALL,
      Layouts.PARTS,
      Layouts.SUMMARY,
      Layouts.RESULT,
      Layouts.COMPLETION,
      Layouts.STATS,
      Layouts.OFFENDER,
      Layouts.FINDING,
      Layouts.AUDIT_RESULT,
      Layouts.DEVICE_PROPERTIES,
      Layouts.HEAD
    };
  }

  @ParameterizedTest
  @MethodSource("layouts")
  void structsAreLaidOutAsInTheLibrary(StructLayout layout) throws Exception {
    try (Arena arena = Arena.ofConfined()) {
      String name = layout.name().orElseThrow();
      MemorySegment struct = arena.allocateFrom(name);
      assertEquals(
          Native.offsetOf(struct, MemorySegment.NULL), layout.byteSize(), "size of " + name);
      StringBuilder fields = new StringBuilder();
      for (MemoryLayout member : layout.memberLayouts()) {
        String field = member.name().orElseThrow();
        assertEquals(
            Native.offsetOf(struct, arena.allocateFrom(field)),
            Layouts.offset(layout, field),
            name + "." + field);
        fields.append(field).append(' ');
      }
      Matcher declared =
          Pattern.compile("typedef struct " + name + " \\{(.*?)\\} " + name + ";", Pattern.DOTALL)
              .matcher(Files.readString(Path.of("native/include/yololoss.h")));
      assertTrue(declared.find(), name + " is in the header");
      Matcher field =
          Pattern.compile("(\\w+)(?:\\[\\d+\\])?;")
              .matcher(declared.group(1).replaceAll("(?s)/\\*.*?\\*/", ""));
      StringBuilder inHeader = new StringBuilder();
      while (field.find()) {
        inHeader.append(field.group(1)).append(' ');
      }
      assertEquals(inHeader.toString(), fields.toString(), "fields of " + name + " in the header");
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
  void statusesAreThoseOfTheHeader() throws Exception {
    Matcher status =
        Pattern.compile("YL_(\\w+) = (\\d+), *+/\\*|YL_(DEVICE_FAILED) = (\\d+)")
            .matcher(
                Files.readString(Path.of("native/include/yololoss.h")).split("\\} yl_status;")[0]);
    int seen = 0;
    while (status.find()) {
      String name = status.group(1) != null ? status.group(1) : status.group(3);
      int value = Integer.parseInt(status.group(2) != null ? status.group(2) : status.group(4));
      assertEquals(value, YoloLossException.Status.valueOf(name).ordinal());
      seen++;
    }
    assertEquals(YoloLossException.Status.NO_LIBRARY.ordinal(), seen);
  }
}
