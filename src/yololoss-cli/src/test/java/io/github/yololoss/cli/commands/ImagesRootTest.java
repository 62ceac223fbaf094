package io.github.yololoss.cli.commands;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.cli.CommandTest;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/**
 * A report on photographs that are outside the list's folder, as the lists of the DJL example are:
 * they are read if their folder is named, and otherwise refused by a sentence that says how.
 */
class ImagesRootTest extends CommandTest {
  private Path photos;
  private Path list;
  private Path html;

  @BeforeEach
  void writePhotos() throws IOException {
    photos = Files.createDirectories(folder.resolve("photos"));
    for (String name : List.of("a.png", "b.png")) {
      BufferedImage photo = new BufferedImage(60, 40, BufferedImage.TYPE_INT_RGB);
      ImageIO.write(photo, "png", photos.resolve(name).toFile());
    }
    list = Files.createDirectories(folder.resolve("lists")).resolve("list.txt");
    html = folder.resolve("report.html");
  }

  private Object[] report(Object... more) {
    List<Object> all =
        new ArrayList<>(
            List.of("report", sample, "--spec", spec, "--output", html, "--images", list));
    all.addAll(Arrays.asList(more));
    return all.toArray();
  }

  @Test
  void aListOfAbsolutePaths() throws IOException {
    Files.writeString(list, photos.resolve("a.png") + "\n" + photos.resolve("b.png") + "\n");
    refused(3, "list.txt: line 1: " + photos.resolve("a.png") + " is outside", report());
    refused(3, "--images-root", report());
    Ended ended = run(report("--images-root", photos));
    assertEquals(0, ended.code(), ended.err());
    assertTrue(Files.readString(html).contains("data:image/jpeg;base64,"));
  }

  @Test
  void aListThatLeadsOutOfItsFolder() throws IOException {
    Files.writeString(list, "../photos/a.png\n../photos/b.png\n");
    refused(3, "list.txt: line 1: ../photos/a.png is outside", report());
    Ended ended = run(report("--images-root", folder));
    assertEquals(0, ended.code(), ended.err());
  }

  @Test
  void onlyTheNamedFolderIsRead() throws IOException {
    Path other = Files.createDirectories(folder.resolve("other"));
    Files.writeString(list, photos.resolve("a.png") + "\n" + photos.resolve("b.png") + "\n");
    refused(3, "is outside", report("--images-root", other));
    Files.writeString(list, photos.resolve("a.png") + "\n/etc/hostname\n");
    refused(3, "list.txt: line 2: /etc/hostname is outside", report("--images-root", photos));
  }

  @Test
  void annotationsElsewhere() throws IOException {
    Files.writeString(list, photos.resolve("a.png") + " 5,5,50,30,1\n");
    Path truths = folder.resolve("truths");
    Object[] targets = {"targets", "--annotations", list, "--spec", spec, "--output", truths};
    refused(3, "--images-root", targets);
    List<Object> all = new ArrayList<>(Arrays.asList(targets));
    all.addAll(List.of("--images-root", photos));
    Ended ended = run(all.toArray());
    assertEquals(0, ended.code(), ended.err());
    ended = run("audit", "--annotations", list, "--spec", spec, "--images-root", photos);
    assertEquals(0, ended.code(), ended.out() + ended.err());
  }

  @Test
  void aRootWithoutAList() {
    refused(
        2,
        "--images-root needs --images",
        "report",
        sample,
        "--spec",
        spec,
        "--output",
        html,
        "--images-root",
        photos);
  }
}
