package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.LossResult.Parts;
import io.github.yololoss.Targets.BoxCounts;
import io.github.yololoss.internal.Abi;
import io.github.yololoss.internal.NativeLibrary;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InvalidObjectException;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** Sums of rows: exact, in any order and grouping, the same words as the native library's. */
class LossSumTest {
  private final Random random = new Random(7);

  private double number(int spread) {
    double x = Math.scalb(random.nextDouble() - 0.5, random.nextInt(spread) - spread / 2);
    return random.nextInt(50) == 0 ? 0 : x;
  }

  private Parts row(int spread) {
    double[] sums = new double[Part.ALL.size()];
    Arrays.setAll(sums, i -> number(spread));
    long[] counts = new long[Count.ALL.size()];
    Arrays.setAll(counts, i -> random.nextInt(99));
    return Parts.of(sums, counts);
  }

  private List<List<Parts>> images(int count, int spread) {
    List<List<Parts>> images = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      images.add(List.of(row(spread), row(spread)));
    }
    return images;
  }

  private static LossSum sum(List<List<Parts>> images) {
    return images.stream().map(LossSum::of).reduce(LossSum.zero(2), LossSum::merge);
  }

  @Test
  void aSumIsTheExactOneRoundedOnce() {
    for (int spread : new int[] {1, 8, 60, 300, 2000}) {
      List<List<Parts>> images = images(300, spread);
      BigDecimal exact = BigDecimal.ZERO;
      BigDecimal all = BigDecimal.ZERO;
      for (List<Parts> image : images) {
        exact = exact.add(new BigDecimal(image.get(1).wh()));
        for (Parts p : image) {
          for (double part : p.sums()) {
            all = all.add(new BigDecimal(part));
          }
        }
      }
      LossSum sum = sum(images);
      assertEquals(exact.doubleValue(), sum.layer(1).wh(), "spread " + spread);
      assertEquals(all.doubleValue(), sum.total(), "spread " + spread);
      assertEquals(sum.total() / 300, sum.total(Normaliser.BATCH));
      assertEquals(sum.total() / sum.objects(), sum.total(Normaliser.OBJECTS));
      assertEquals(sum.total() / 3, sum.total(Normaliser.value(3)));
    }
  }

  @Test
  void neitherOrderNorGroupingChangesABit() {
    List<List<Parts>> images = images(200, 600);
    LossSum expected = sum(images);
    for (int round = 0; round < 50; round++) {
      Collections.shuffle(images, random);
      List<LossSum> sums = new ArrayList<>(images.stream().map(LossSum::of).toList());
      while (sums.size() > 1) { // any two, as the executors of a cluster come in
        LossSum one = sums.remove(random.nextInt(sums.size()));
        LossSum other = sums.remove(random.nextInt(sums.size()));
        sums.add(one.merge(other));
      }
      assertEquals(expected, sums.getFirst());
      assertEquals(expected.hashCode(), sums.getFirst().hashCode());
      assertEquals(expected.total(), sums.getFirst().total());
    }
    assertNotEquals(expected, expected.merge(LossSum.of(images.getFirst())));
    System.out.println("guarantee: merged in 50 orders and groupings, the same bits");
  }

  @Test
  void shardsOfABatchAreTheBatch() {
    try (Arena arena = Arena.ofConfined()) {
      for (String name : Golden.NAMES) {
        Golden golden = new Golden(name, arena);
        try (YoloLoss loss = YoloLoss.open(golden.spec, golden.batch)) {
          LossSum whole = LossSum.of(loss.compute(golden.batch, golden.feats, dense(golden), null));
          LossSum shards = LossSum.zero(golden.spec.layers().size());
          for (int image = golden.batch - 1; image >= 0; image--) {
            MemorySegment[] feats = slice(golden.feats, golden.batch, image);
            Targets<MemorySegment> truths = Targets.dense(slice(golden.yTrue, golden.batch, image));
            shards = shards.merge(LossSum.of(loss.compute(1, feats, truths, null)));
          }
          assertEquals(whole, shards, name);
          LossResult result = loss.compute(golden.batch, golden.feats, dense(golden), null);
          assertEquals(result.total(), whole.total(Normaliser.BATCH), 1e-13 * result.total());
          assertEquals(result.objects(), whole.objects());
          assertEquals(result.layer(0).ignored(), whole.layer(0).ignored());
          assertEquals(golden.batch, whole.images());
          assertTrue(whole.toString().startsWith("layer"));
        }
      }
    }
  }

  private static Targets<MemorySegment> dense(Golden golden) {
    return Targets.dense(golden.yTrue);
  }

  private static MemorySegment[] slice(MemorySegment[] layers, int batch, int image) {
    return Arrays.stream(layers)
        .map(s -> s.asSlice(s.byteSize() / batch * image, s.byteSize() / batch))
        .toArray(MemorySegment[]::new);
  }

  @Test
  void countsOfBoxesAddUp() {
    YoloSpec spec = YoloSpec.tinyYolov3(3, 128, 128);
    try (Arena arena = Arena.ofConfined();
        YoloLoss loss = YoloLoss.open(spec, 2)) {
      MemorySegment boxes =
          arena.allocateFrom(ValueLayout.JAVA_FLOAT, 8, 10, 90, 100, 2, 8, 10, 8, 10, 2);
      Targets<MemorySegment> targets =
          new Targets.Boxes<>(boxes, 1, Targets.BoxPolicy.SKIP); // the second has no area
      LossSum sum = LossSum.of(loss.compute(2, spec.allocate(arena, 2), targets, null));
      assertEquals(new BoxCounts(2, 2, 0, 0, 0), sum.merge(sum).boxes());
      assertEquals(4, sum.merge(sum).images());
    }
  }

  @Test
  void theNativeLibraryMakesTheSameWords() throws Throwable {
    MethodHandle add =
        function(
            "yl_sum_add",
            ValueLayout.ADDRESS,
            ValueLayout.JAVA_INT,
            ValueLayout.ADDRESS,
            ValueLayout.JAVA_INT,
            ValueLayout.ADDRESS);
    MethodHandle merge =
        function("yl_sum_merge", ValueLayout.ADDRESS, ValueLayout.JAVA_INT, ValueLayout.ADDRESS);
    MethodHandle read =
        function(
            "yl_sum_result",
            ValueLayout.ADDRESS,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_DOUBLE,
            ValueLayout.ADDRESS,
            ValueLayout.ADDRESS);
    for (int spread : new int[] {1, 40, 700, 2100}) {
      List<List<Parts>> images = images(100, spread);
      if (spread == 700) {
        double[] sums = new double[Part.ALL.size()];
        System.arraycopy(new double[] {1, Double.NaN, 1 / 0.0, -1 / 0.0}, 0, sums, 0, 4);
        images.add(List.of(Parts.ZERO, Parts.of(sums, new long[Count.ALL.size()])));
      }
      try (Arena arena = Arena.ofConfined()) {
        LossSum empty = LossSum.zero(2);
        MemorySegment first = arena.allocateFrom(ValueLayout.JAVA_LONG, empty.words());
        MemorySegment second = arena.allocateFrom(ValueLayout.JAVA_LONG, empty.words());
        MemorySegment rows = arena.allocate(Abi.Parts.LAYOUT, 2L * images.size());
        for (int i = 0; i < 2 * images.size(); i++) {
          Parts p = images.get(i / 2).get(i % 2);
          Abi.Parts.write(rows, i, p.sums(), p.counts());
        }
        MemorySegment none = MemorySegment.NULL;
        assertEquals(0, (int) add.invoke(first, 2, rows, 40, none));
        MemorySegment rest = rows.asSlice(80 * Abi.Parts.SIZE);
        assertEquals(0, (int) add.invoke(second, 2, rest, images.size() - 40, none));
        assertEquals(0, (int) merge.invoke(first, 2, second));
        LossSum mine = sum(images);
        assertEquals(mine, LossSum.ofWords(first.toArray(ValueLayout.JAVA_LONG)));
        MemorySegment summary = arena.allocate(Abi.Summary.LAYOUT);
        MemorySegment layers = arena.allocate(Abi.Parts.LAYOUT, 2);
        MemorySegment words = arena.allocateFrom(ValueLayout.JAVA_LONG, mine.words());
        assertEquals(0, (int) read.invoke(words, 2, 1, 1.0, summary, layers));
        assertEquals(mine.total(), Abi.Summary.getTotal(summary));
        for (int l = 0; l < 2; l++) {
          assertEquals(mine.layer(l).wh(), Abi.Parts.getWh(layers, l));
          assertEquals(mine.layer(l).foundInf(), Abi.Parts.getFoundInf(layers, l));
        }
      }
    }
  }

  private static MethodHandle function(String name, java.lang.foreign.MemoryLayout... arguments) {
    return Linker.nativeLinker()
        .downcallHandle(
            NativeLibrary.get().symbols().find(name).orElseThrow(),
            FunctionDescriptor.of(ValueLayout.JAVA_INT, arguments));
  }

  @Test
  void wordsAddedElsewhereAreASum() {
    List<LossSum> sums = images(16, 100).stream().map(LossSum::of).toList();
    long[] added = new long[sums.getFirst().words().length]; // as MPI_SUM does
    for (LossSum sum : sums) {
      long[] words = sum.words();
      Arrays.setAll(added, i -> added[i] + words[i]);
    }
    assertEquals(sums.stream().reduce(LossSum.zero(2), LossSum::merge), LossSum.ofWords(added));
  }

  @Test
  void aSumGoesOverTheNetworkAsItIs() throws Exception {
    LossSum sum = sum(images(10, 300));
    assertEquals(sum, read(written(sum)));
    YoloSpec spec = YoloSpec.yolov3(80, 416, 416);
    assertEquals(spec, read(written(spec)));
    Parts row = row(9);
    assertEquals(row, read(written(row)));
    byte[] bytes = written(LossSum.zero(1));
    int words = LossSum.zero(1).words().length;
    String length = "" + (char) (words >> 8) + (char) (words & 0xff);
    int at = new String(bytes, StandardCharsets.ISO_8859_1).lastIndexOf("\0\0" + length);
    assertTrue(at > 0, words + " words");
    bytes[at + 2] = 0; // fewer
    assertThrows(InvalidObjectException.class, () -> read(bytes));
  }

  private static byte[] written(Object object) throws Exception {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
      out.writeObject(object);
    }
    return bytes.toByteArray();
  }

  private static Object read(byte[] bytes) throws Exception {
    try (ObjectInputStream in = new ObjectInputStream(new ByteArrayInputStream(bytes))) {
      return in.readObject();
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    LossSum two = LossSum.zero(2);
    assertThrows(IllegalArgumentException.class, () -> two.merge(LossSum.zero(3)));
    assertThrows(IllegalArgumentException.class, () -> LossSum.zero(0));
    assertThrows(IllegalArgumentException.class, () -> LossSum.of(List.of()));
    assertThrows(IllegalArgumentException.class, () -> LossSum.ofWords(new long[365]));
    assertThrows(IndexOutOfBoundsException.class, () -> two.layer(2));
    assertEquals(0.0, two.total(Normaliser.BATCH));
    assertEquals(0.0, two.total(Normaliser.OBJECTS));
  }

  @Test
  void theWordsAreAsManyAsTheHeaderSays() throws Exception {
    Matcher words =
        Pattern.compile(
                "YL_SUM_WORDS\\(layer_count\\) \\((\\d+) \\+ (\\d+) \\* \\(layer_count\\)\\)")
            .matcher(Files.readString(Path.of("native/include/yololoss.h")));
    assertTrue(words.find());
    assertEquals(
        Integer.parseInt(words.group(1)) + 3 * Integer.parseInt(words.group(2)),
        LossSum.zero(3).words().length);
  }
}
