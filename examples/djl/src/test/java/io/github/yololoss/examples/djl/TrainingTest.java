package io.github.yololoss.examples.djl;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Trains on drawn shapes. Before each run the gradient is compared with autograd's. */
@Tag("training")
class TrainingTest {
  @TempDir Path folder;

  /** The epochs of the log. */
  private List<Epoch> train(String output, String... options) throws Exception {
    List<String> arguments =
        new ArrayList<>(List.of("--output", folder.resolve(output).toString()));
    arguments.add("--shapes");
    arguments.addAll(Arrays.asList(options));
    StringWriter errors = new StringWriter();
    int code =
        Train.commandLine()
            .setErr(new PrintWriter(errors, true))
            .execute(arguments.toArray(String[]::new));
    assertEquals(0, code, errors.toString());
    List<String> log = Files.readAllLines(folder.resolve(output).resolve("log.csv"));
    return log.subList(1, log.size()).stream().map(Epoch::parse).toList();
  }

  /** What does not depend on the clock. */
  private static List<Epoch> timeless(List<Epoch> epochs) {
    return epochs.stream()
        .map(
            e ->
                new Epoch(
                    e.number(),
                    e.learningRate(),
                    e.loss(),
                    e.xy(),
                    e.wh(),
                    e.confidence(),
                    e.classes(),
                    e.validationLoss(),
                    e.ap(),
                    0))
        .toList();
  }

  @Test
  void aDetectorLearns() throws Exception {
    List<Epoch> epochs = train("whole");
    assertTrue(epochs.getLast().loss() < 0.2 * epochs.getFirst().loss(), epochs.toString());
    assertTrue(epochs.getLast().meanAp() > 0.4, "mean AP " + epochs.getLast().meanAp());
    assertTrue(epochs.getFirst().meanAp() < 0.1, "mean AP " + epochs.getFirst().meanAp());
    for (String picture : new String[] {"loss.png", "ap.png", "detections.png"}) {
      assertTrue(ImageIO.read(folder.resolve("whole").resolve(picture).toFile()).getWidth() > 300);
    }
  }

  @Test
  void aResumedRunGoesOnAsIfNothingHadHappened() throws Exception {
    List<Epoch> whole = train("whole", "--epochs", "4");
    assertEquals(2, train("parts", "--epochs", "4", "--stop-after", "2").size());
    assertEquals(timeless(whole), timeless(train("parts", "--epochs", "4", "--resume")));
  }

  @Test
  void threeScalesAndDjlsOwnOperations() throws Exception {
    for (String kind : new String[] {"yololoss", "operations"}) {
      List<Epoch> epochs = train(kind, "--epochs", "2", "--scales", "3", "--loss", kind);
      assertTrue(epochs.getLast().loss() < 0.7 * epochs.getFirst().loss(), epochs.toString());
      // The loss is that which the training goes by, the parts are the library's, of the same
      // outputs: 24 batches an epoch, while the network learns. (Two trainings go apart: what
      // they differ by in rounding has grown from 4e-9 to 1e-4 after four steps of Adam.)
      for (Epoch e : epochs) {
        double parts = e.xy() + e.wh() + e.confidence() + e.classes();
        assertEquals(1, parts / e.loss(), 1e-5, kind + " " + epochs);
      }
    }
  }
}
