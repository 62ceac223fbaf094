package io.github.yololoss.cli.commands;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.yololoss.FeatsType;
import io.github.yololoss.Part;
import io.github.yololoss.cli.CommandTest;
import io.github.yololoss.cli.Page;
import io.github.yololoss.cli.TestFiles;
import io.github.yololoss.kit.Npy;
import java.awt.Color;
import java.awt.Graphics2D;
import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.stream.Stream;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** {@code report}: its numbers, its page, and input that must not get through. */
class ReportCommandTest extends CommandTest {
  private static final String HOSTILE = "<img src=x onerror=alert(1)>&\"' \u0001.png";

  private record Report(JsonNode json, Page page) {}

  private Report report(Path dir, Path specFile, Object... more) throws Exception {
    Path html = folder.resolve("report.html");
    List<Object> all =
        new ArrayList<>(
            List.of("report", dir, "--spec", specFile, "--output", html, "--json", "-"));
    all.addAll(List.of(more));
    Ended ended = run(all.toArray());
    assertEquals(0, ended.code(), ended.err());
    Page page = Page.read(html);
    page.assertStandsAlone();
    return new Report(new ObjectMapper().readTree(ended.out()), page);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "a_small_3scale",
        "c_tiny_2scale",
        "e_empty_and_crowded",
        "e2_all_empty",
        "d_nonsquare"
      })
  void everyNumberIsThatOfTheLoss(String name) throws Exception {
    Path dir = GOLDEN.resolve(name);
    Path specFile = dir.resolve("expected.json");
    Report report = report(dir, specFile);
    JsonNode json = report.json;
    assertTrue(report.page.assertNumbersAreThoseOf(json) > 200);
    assertEquals(
        json("loss", dir, "--spec", specFile, "--statistics", "--find-nan", "used", "--json", "-"),
        json.get("loss"));
    Ended audit = run("audit", "--y-true", dir, "--spec", specFile, "--json", "-");
    assertEquals(new ObjectMapper().readTree(audit.out()), json.get("audit"));

    double parts = 0;
    double shares = 0;
    for (Part part : Part.ALL) {
      parts += json.at("/parts/" + part.jsonName()).asDouble();
      shares += json.at("/shares/" + part.jsonName()).asDouble();
    }
    double total = json.at("/loss/total").asDouble();
    assertEquals(total, parts, 1e-12 * total);
    assertEquals(1, shares, 1e-12);
    long objects = sum(json.at("/histograms/best_iou_object"));
    assertEquals(json.get("objects").asLong(), objects);
    assertEquals(objects, sum(json.at("/histograms/objectness_object")));
    assertEquals(
        json.get("background").asLong(), sum(json.at("/histograms/objectness_background")));
    List<Double> losses = new ArrayList<>();
    json.get("images").forEach(image -> losses.add(image.get("loss").asDouble()));
    assertEquals(losses.getFirst(), json.at("/image_loss/largest").asDouble());
    assertEquals(losses.getLast(), json.at("/image_loss/least").asDouble());
    if (losses.size() == 2) {
      assertEquals((losses.get(0) + losses.get(1)) / 2, json.at("/image_loss/median").asDouble());
    }
    double images = 0;
    for (JsonNode image : json.get("images")) {
      images += image.get("loss").asDouble();
      assertEquals(image.get("object_count").asLong(), image.get("truths").size());
    }
    assertEquals(total * json.at("/loss/normaliser").asDouble(), images, 1e-9 * images);
    report
        .page
        .texts("advice")
        .forEach(text -> json.get("advice").forEach(s -> assertTrue(text.contains(s.asText()))));
  }

  private static long sum(JsonNode counts) {
    long sum = 0;
    for (JsonNode count : counts) {
      sum += count.asLong();
    }
    return sum;
  }

  /** Against the maps of {@code loss --maps}. */
  @Test
  void theCostliestCells() throws Exception {
    Path dir = GOLDEN.resolve("e_empty_and_crowded");
    Path specFile = dir.resolve("expected.json");
    JsonNode json = report(dir, specFile).json;
    Path maps = folder.resolve("maps");
    json("loss", dir, "--spec", specFile, "--maps", maps, "--json", "-");
    List<Double> all = new ArrayList<>();
    try (Arena arena = Arena.ofConfined()) {
      for (int l = 0; l < json.get("grids").size(); l++) {
        Npy costs = Npy.map(maps.resolve("cell_loss_" + l + ".npy"), arena);
        Npy ious = Npy.map(maps.resolve("best_iou_" + l + ".npy"), arena);
        for (long i = 0; i < costs.size(); i++) {
          all.add(costs.get(i));
        }
        for (JsonNode cell : json.get("cells")) {
          if (cell.get("layer").asInt() == l) {
            long[] s = costs.shape();
            long at = cell.get("image").asLong() * s[1] + cell.get("row").asLong();
            at = (at * s[2] + cell.get("column").asLong()) * s[3] + cell.get("anchor").asLong();
            assertEquals(costs.get(at), cell.get("loss").asDouble());
            assertEquals(ious.get(at), cell.get("best_iou").asDouble());
          }
        }
      }
    }
    all.sort((a, b) -> Double.compare(b, a));
    assertEquals(20, json.get("cells").size());
    for (int i = 0; i < 20; i++) {
      JsonNode cell = json.get("cells").get(i);
      assertEquals(all.get(i), cell.get("loss").asDouble());
      double parts = 0;
      for (Part part : Part.ALL) {
        parts += cell.get(part.jsonName()).asDouble();
      }
      assertEquals(cell.get("loss").asDouble(), parts, 1e-5 * parts);
      assertEquals(cell.get("object").asBoolean(), cell.has("truth"));
      assertEquals(
          cell.get("object").asBoolean(), cell.get("confidence_background").asDouble() == 0);
    }
  }

  /** Boxes, planes and chunks give the numbers of dense truths, rows and one call. */
  @Test
  void theSameInOtherForms() throws Exception {
    JsonNode dense = report(sample, spec).json;
    JsonNode chunks = report(sample, spec, "--chunk", 1).json;
    for (JsonNode report : List.of(dense, chunks)) { // sums of chunks: equal up to rounding
      report.at("/loss/layers").forEach(layer -> ((ObjectNode) layer).remove("statistics"));
    }
    assertEquals(dense, chunks);
    JsonNode boxes = report(sample, spec, "--targets", "boxes").json;
    for (String same : List.of("images", "cells", "histograms", "shares", "image_loss")) {
      assertEquals(dense.get(same), boxes.get(same), same);
    }
    Path planes = Files.createDirectories(folder.resolve("planes"));
    for (int l = 0; l < 3; l++) {
      Files.copy(sample.resolve("y_true_" + l + ".npy"), planes.resolve("y_true_" + l + ".npy"));
      OptionsCommandTest.asPlanes(
          sample.resolve("feats_" + l + ".npy"),
          planes.resolve("feats_" + l + ".npy"),
          FeatsType.FLOAT32);
    }
    JsonNode nchw = report(planes, spec, "--layout", "nchw").json;
    for (String same : List.of("images", "cells", "histograms", "shares", "image_loss")) {
      assertEquals(dense.get(same), nchw.get(same), same);
    }
    for (int l = 0; l < 3; l++) {
      OptionsCommandTest.asPlanes(
          sample.resolve("feats_" + l + ".npy"),
          planes.resolve("feats_" + l + ".npy"),
          FeatsType.FLOAT16);
    }
    assertEquals(
        json(
            "loss",
            planes,
            "--spec",
            spec,
            "--layout",
            "nchw",
            "--statistics",
            "--find-nan",
            "used",
            "--json",
            "-"),
        report(planes, spec, "--layout", "nchw").json.get("loss"));
    JsonNode one = report(sample, spec, "--worst", 1).json;
    assertEquals(1, one.get("images").size());
    assertEquals(dense.get("cells"), one.get("cells"), "also of images that are not shown");
  }

  /** A network that says what the truth is, and one that says it twice. */
  @Test
  void predictedBoxes() throws Exception {
    Path dir = Files.createDirectories(folder.resolve("made"));
    Path specFile =
        Files.writeString(
            dir.resolve("spec.json"),
            "{\"anchors\": [[40, 20], [10, 30]], \"anchor_mask\": [[0, 1]], \"num_classes\": 2,"
                + " \"ignore_thresh\": 0.5, \"input_shape\": [64, 96]}");
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment feats = arena.allocate(4L * 2 * 3 * 2 * 7, 4);
      for (int cell = 0; cell < 12; cell++) {
        feats.setAtIndex(JAVA_FLOAT, 7L * cell + 4, -20);
        feats.setAtIndex(JAVA_FLOAT, 7L * cell + 5, -20); // class 0
      }
      int certain = (1 * 3 + 2) * 2; // row 1, column 2, anchor 0: centre (80, 48)
      feats.setAtIndex(JAVA_FLOAT, 7L * certain + 4, 20);
      feats.setAtIndex(JAVA_FLOAT, 7L * certain + 6, 20); // class 1
      feats.setAtIndex(JAVA_FLOAT, 7L * (certain + 1) + 4, 2);
      feats.setAtIndex(JAVA_FLOAT, 7L * (certain + 1) + 6, 20);
      feats.setAtIndex(JAVA_FLOAT, 7L * (certain + 1) + 2, (float) Math.log(4)); // 40 x 21: the
      feats.setAtIndex(JAVA_FLOAT, 7L * (certain + 1) + 3, (float) Math.log(0.7)); // same again
      Npy.write(dir.resolve("feats_0.npy"), feats, 1, 2, 3, 14);
      MemorySegment boxes = arena.allocateFrom(JAVA_FLOAT, 60, 38, 100, 58, 1);
      Npy.write(dir.resolve("boxes.npy"), boxes, 1, 1, 5);
    }
    JsonNode image = report(dir, specFile).json.at("/images/0");
    assertEquals(1, image.get("predictions").size(), "of two alike the surer one");
    for (String list : List.of("predictions", "truths")) {
      JsonNode box = image.get(list).get(0);
      assertEquals(60, box.get("x_min").asDouble(), 1e-4);
      assertEquals(38, box.get("y_min").asDouble(), 1e-4);
      assertEquals(100, box.get("x_max").asDouble(), 1e-4);
      assertEquals(58, box.get("y_max").asDouble(), 1e-4);
      assertEquals(1, box.get("class").asInt());
      assertEquals(1, box.get("score").asDouble(), 1e-4);
    }
    assertEquals(
        2, report(dir, specFile, "--score", 0.2).json.at("/images/0/predictions").size() + 1);
  }

  @Test
  void namesAreEscaped() throws Exception {
    Path photos = Files.createDirectories(folder.resolve("photos"));
    BufferedImage wide = new BufferedImage(80, 40, BufferedImage.TYPE_INT_RGB);
    Graphics2D graphics = wide.createGraphics();
    graphics.setColor(Color.RED);
    graphics.fillRect(0, 0, 40, 40);
    graphics.dispose();
    ImageIO.write(wide, "png", photos.resolve(HOSTILE).toFile());
    ImageIO.write(wide, "png", photos.resolve("a.png").toFile());
    Path classes =
        Files.writeString(folder.resolve("classes.txt"), "</style><script>alert(2)</script>\nb\nc");
    Path dir = folder.resolve("<b onclick=alert(3)>&amp;");
    TestFiles.copy(sample, dir, path -> true);
    Report report = report(dir, spec, "--images", photos, "--classes", classes);
    report.page.assertNumbersAreThoseOf(report.json);
    assertTrue(
        report.page.texts("name").contains("<b onclick=alert(3)>&amp;"),
        report.page.texts("name").toString());
    String shown = HOSTILE.replace('\u0001', '\ufffd');
    assertTrue(report.page.texts("name").contains(shown), report.page.texts("name").toString());
    assertTrue(report.page.texts("label").contains("</style><script>alert(2)</script>"));
    assertFalse(report.page.source().contains("<img src=x"));
    assertFalse(report.page.source().contains("<script"));
    System.out.println("guarantee: names of HTML and of script stay text in a report");
    assertFalse(report.page.source().contains("<b onclick"));

    // The photograph: red left half, black right half, grey above and below.
    String uri = report.page.elements("img").getFirst().getAttribute("src");
    assertTrue(uri.startsWith("data:image/jpeg;base64,"), uri.substring(0, 40));
    BufferedImage drawn =
        ImageIO.read(new ByteArrayInputStream(Base64.getDecoder().decode(uri.substring(23))));
    assertEquals(64, drawn.getWidth());
    assertEquals(64, drawn.getHeight());
    assertTrue((drawn.getRGB(12, 32) >> 16 & 255) > 200, "red");
    assertTrue((drawn.getRGB(50, 32) & 0xffffff) < 0x202020, "black");
    assertEquals(128, drawn.getRGB(32, 4) & 255, 8, "grey");

    Path list =
        Files.writeString(
            folder.resolve("list.txt"), "photos/" + HOSTILE + "\nphotos/a.png 1,2,3,4,0\n");
    assertEquals(report.json.at("/images"), report(dir, spec, "--images", list).json.at("/images"));

    // A list elsewhere needs the folder's name, also for absolute paths as a dump has them.
    Path elsewhere = Files.createDirectories(folder.resolve("dump")).resolve("images.txt");
    Files.write(elsewhere, List.of(photos.resolve(HOSTILE).toString(), photos + "/a.png"));
    refused(
        3,
        "is outside the folder of the list",
        with(
            new Object[] {
              "report", dir, "--spec", spec, "--output", folder.resolve("r.html"), "--images"
            },
            elsewhere));
    assertEquals(
        report.json.at("/images"),
        report(dir, spec, "--images", elsewhere, "--images-root", photos).json.at("/images"));
  }

  @Test
  void aNaN() throws Exception {
    try (Arena arena = Arena.ofConfined()) {
      Path file = sample.resolve("feats_1.npy");
      MemorySegment feats = Npy.map(file, arena).floats(arena);
      MemorySegment spoilt = arena.allocate(feats.byteSize(), 4).copyFrom(feats);
      long image = feats.byteSize() / 8;
      spoilt.setAtIndex(JAVA_FLOAT, image + 8 * 5 + 4, Float.NaN); // objectness, in image 1
      Npy.write(file, spoilt, 2, 4, 4, 24);
    }
    Report report = report(sample, spec, "--chunk", 1);
    assertEquals("NaN", report.json.at("/loss/total").asText());
    assertEquals(1, report.json.at("/loss/offender/image").asInt());
    assertTrue(report.json.at("/advice/0").asText().contains("at image 1, layer 1"));
    assertEquals(1, report.json.at("/cells/0/image").asInt());
    assertEquals("NaN", report.json.at("/cells/0/loss").asText());
    assertTrue(report.page.source().contains(">NaN</data>"));
    assertTrue(report.page.assertNumbersAreThoseOf(report.json) > 200);
  }

  @Test
  void refused() throws Exception {
    Path html = folder.resolve("report.html");
    Object[] start = {"report", sample, "--spec", spec, "--output", html, "--images"};
    Path photos = Files.createDirectories(folder.resolve("photos"));
    refused(3, "photos: 0 pictures, the batch has 2 images", with(start, photos));
    Path list = Files.writeString(folder.resolve("list.txt"), "a.png\nexpected.json\n");
    refused(3, "a.png: no such file", with(start, list));
    Files.writeString(list, spec + "\n" + spec);
    refused(3, "expected.json: not a picture", with(start, list));
    Files.writeString(list, "a.png\n/etc/hostname\n");
    refused(3, "list.txt: line 2: /etc/hostname is outside the folder", with(start, list));
    System.out.println("guarantee: no path of a list is followed outside its folder");
    refused(3, "no such file", with(start, folder.resolve("none")));
    refused(2, "--output", "report", sample, "--spec", spec);
    refused(2, "--worst is -1", "report", sample, "--spec", spec, "--output", html, "--worst", -1);
    for (String option : List.of("--score", "--poor-iou")) {
      for (Object value : List.of("NaN", -0.1, 1.1)) {
        String sentence = option + " is " + value + ", a number in 0..1 is expected";
        refused(2, sentence, "report", sample, "--spec", spec, "--output", html, option, value);
      }
    }
    refused(
        3,
        "no-folder",
        "report",
        sample,
        "--spec",
        spec,
        "--output",
        folder.resolve("no-folder/x.html"));
  }

  private static Object[] with(Object[] start, Object last) {
    return Stream.concat(Stream.of(start), Stream.of(last)).toArray();
  }
}
