package io.github.yololoss.kit;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.yololoss.YoloSpec;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Lists of pictures, and which files a list may name. */
class AnnotationsTest {
  private static final YoloSpec SPEC = YoloSpec.yolov3(3, 416, 416);

  @TempDir Path temporary;

  private Path folder; // of the list
  private Path photos; // elsewhere
  private Path list;

  @BeforeEach
  void pictures() throws IOException {
    Path real = temporary.toRealPath();
    folder = Files.createDirectories(real.resolve("lists"));
    photos = Files.createDirectories(real.resolve("photos"));
    list = folder.resolve("train.txt");
    for (Path file : List.of(folder.resolve("a.png"), photos.resolve("b.png"))) {
      ImageIO.write(new BufferedImage(640, 480, BufferedImage.TYPE_INT_RGB), "png", file.toFile());
    }
  }

  private Annotations of(String text) throws IOException {
    return Annotations.read(Files.writeString(list, text));
  }

  private static void refused(String words, Executable call) {
    String sentence = assertThrows(IOException.class, call).getMessage();
    assertTrue(sentence.contains(words), sentence);
  }

  @Test
  void entries() throws IOException {
    Annotations read = of("a.png 10,20,30,40,0 1,2,3,4,2\n\n  none/b.jpg \t -1,0,5,6,7  \nc.png\n");
    assertEquals(
        List.of(
            new Annotations.Entry(
                1,
                "a.png",
                List.of(
                    new Annotations.Box(10, 20, 30, 40, 0), new Annotations.Box(1, 2, 3, 4, 2))),
            new Annotations.Entry(3, "none/b.jpg", List.of(new Annotations.Box(-1, 0, 5, 6, 7))),
            new Annotations.Entry(4, "c.png", List.of())),
        read.entries());
  }

  @Test
  void letterboxed() throws IOException {
    List<String> progress = new ArrayList<>();
    List<float[][]> boxes =
        of("a.png 0,0,640,480,1 10,20,30,40,0\na.png\n")
            .letterboxed(SPEC, null, (done, of) -> progress.add(done + "/" + of));
    assertArrayEquals(new float[] {0, 52, 416, 364, 1}, boxes.get(0)[0]);
    assertArrayEquals(new float[] {6, 65, 19, 78, 0}, boxes.get(0)[1]);
    assertEquals(0, boxes.get(1).length);
    assertEquals(List.of("1/2", "2/2"), progress);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "a.png 1,2,3,4 | line 2: the box '1,2,3,4' is not x_min,y_min,x_max,y_max,class",
        "a.png 1,2,3,4,5,6 | the box '1,2,3,4,5,6' is not",
        "a.png 1,2,3.5,4,0 | the box '1,2,3.5,4,0' is not",
        "a.png 1,2,99999999999,4,0 | is not",
        "a.png 1,2,3,4, | is not",
        "a.png , | is not"
      })
  void badBoxes(String line, String words) {
    refused(words, () -> of("\n" + line));
  }

  @Test
  void badLists() throws IOException {
    refused("no image in it", () -> of(" \n\n"));
    refused("is a folder", () -> Annotations.read(folder));
    Files.write(list, new byte[] {'a', (byte) 0xff, ' '});
    refused("train.txt: not UTF-8 text", () -> Annotations.read(list));
    assertThrows(NoSuchFileException.class, () -> Annotations.read(folder.resolve("none.txt")));
  }

  @Test
  void badPictures() throws IOException {
    refused("none.png: no such file", () -> boxes("none.png"));
    refused("line 1: " + list + ": not a picture", () -> boxes("train.txt"));
    Files.write(folder.resolve("cut.png"), List.of("\u0089PNG"));
    refused("cut.png: ", () -> boxes("cut.png"));
    Files.write(
        folder.resolve("short.png"),
        java.util.Arrays.copyOf(Files.readAllBytes(folder.resolve("a.png")), 20));
    refused("short.png: its size cannot be read", () -> boxes("short.png"));
    refused("none.png: no such file", () -> Pictures.read(folder.resolve("none.png")));
    refused("train.txt: not a picture", () -> Pictures.read(list));
    assertEquals(new Pictures.Size(640, 480), Pictures.size(folder.resolve("a.png")));
  }

  private List<float[][]> boxes(String name) throws IOException {
    return of(name + " 1,2,3,4,0").letterboxed(SPEC, null, Annotations.Progress.NONE);
  }

  private Path picture(String name, Path root) throws IOException {
    Annotations read = of(name);
    return read.picture(read.entries().getFirst(), root);
  }

  @Test
  void picturesOfTheFolder() throws IOException {
    Path a = folder.resolve("a.png");
    assertEquals(a, picture("a.png", null));
    assertEquals(a, picture("./x/../a.png", null));
    assertEquals(a, picture("../lists/a.png", null));
    assertEquals(a, picture(a.toString(), null)); // absolute, and in the folder
    assertEquals(a, picture("a.png", photos)); // with a root, too
    assertEquals(folder.resolve("none/x.png"), picture("none/x.png", null));
  }

  @Test
  void picturesElsewhereNeedARoot() throws IOException {
    Path b = photos.resolve("b.png");
    for (String name : List.of("../photos/b.png", b.toString(), "../none.png", "/etc/hostname")) {
      refused(
          "train.txt: line 1: " + name + " is outside the folder of", () -> picture(name, null));
    }
    refused("(--images-root)", () -> picture(b.toString(), null));
    assertEquals(b, picture(b.toString(), photos));
    assertEquals(b, picture("../photos/b.png", photos));
    assertEquals(b, picture("b.png", photos)); // below the root
    assertEquals(b, picture("photos/b.png", temporary));
    refused("outside the images root, " + photos, () -> picture("/etc/hostname", photos));
    refused("is outside", () -> picture(photos + "/../x.png", photos));
    refused("no such folder; the images root", () -> picture("a.png", photos.resolve("none")));
  }

  @Test
  void linksDoNotLeadOut() throws IOException {
    Files.createSymbolicLink(folder.resolve("photo.png"), photos.resolve("b.png"));
    Files.createSymbolicLink(folder.resolve("linked"), photos);
    Files.createSymbolicLink(folder.resolve("inside.png"), folder.resolve("a.png"));
    refused("photo.png is a link to " + photos.resolve("b.png"), () -> picture("photo.png", null));
    refused("linked/b.png is a link to", () -> picture("linked/b.png", null));
    assertEquals(folder.resolve("linked/b.png"), picture("linked/b.png", photos));
    assertEquals(folder.resolve("inside.png"), picture("inside.png", null));
    // The system would take the parent of what the link leads to; the text says the list's folder.
    assertEquals(folder.resolve("a.png"), picture("linked/../a.png", null));
  }

  @Test
  void listsOfPictures() throws IOException {
    Files.copy(folder.resolve("a.png"), folder.resolve("two words.png"));
    Files.writeString(list, "a.png 1,2,3,4,0\n\ntwo words.png\n" + photos.resolve("b.png") + "\n");
    assertEquals(
        List.of(folder.resolve("a.png"), folder.resolve("two words.png"), photos.resolve("b.png")),
        Annotations.pictures(list, photos));
    refused("line 4: ", () -> Annotations.pictures(list, null));
    Files.writeString(list, "a\0.png\n");
    refused("line 1: not a path", () -> Annotations.pictures(list, null));
  }
}
