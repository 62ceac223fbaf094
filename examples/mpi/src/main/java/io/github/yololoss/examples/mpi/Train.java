package io.github.yololoss.examples.mpi;

import io.github.yololoss.LossOptions.Normaliser;
import io.github.yololoss.YoloLossException;
import io.github.yololoss.examples.djl.Shapes;
import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;

/** The command line of each rank, to be started by mpirun. */
@Command(
    name = "mpi",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description = "Trains the detector of the DJL example on the ranks of MPI.")
final class Train implements Callable<Integer> {
  /** What the gradient of a step is divided by. */
  enum By {
    BATCH,
    OBJECTS
  }

  @CommandLine.Spec private CommandLine.Model.CommandSpec command;

  @Parameters(
      arity = "0..1",
      paramLabel = "DATA",
      description = "A folder with train.txt and classes.txt, as for the DJL example.")
  Path data;

  @Option(names = "--shapes", description = "Instead of DATA: draw a small data set.")
  boolean shapes;

  @Option(
      names = "--output",
      paramLabel = "DIR",
      required = true,
      description =
          "For rows.npy (steps, batch, layers, 10: the fields of yl_parts) and parameters.npy.")
  Path output;

  @Option(names = "--width", defaultValue = "128", description = "Of the input; multiple of 32.")
  int width;

  @Option(names = "--height", defaultValue = "128", description = "Of the input; multiple of 32.")
  int height;

  @Option(names = "--scales", defaultValue = "2", description = "2 or 3.")
  int scales;

  @Option(names = "--steps", defaultValue = "10", description = "Default ${DEFAULT-VALUE}.")
  int steps;

  @Option(
      names = "--batch",
      defaultValue = "8",
      description = "Of all ranks together, a multiple of them; default ${DEFAULT-VALUE}.")
  int batch;

  @Option(
      names = "--micro-batch",
      paramLabel = "N",
      description =
          "Images that a rank computes at once; default its whole share. The same N, with a power"
              + " of two of ranks and of micro-batches, gives the same bits for any number of"
              + " ranks.")
  Integer microBatch;

  @Option(names = "--normaliser", defaultValue = "batch", description = "batch or objects.")
  By by;

  @Option(names = "--float64", description = "Weights, outputs and gradients; default float32.")
  boolean float64;

  @Option(
      names = "--learning-rate",
      defaultValue = "0.001",
      description = "Of SGD with a momentum of 0.9; default ${DEFAULT-VALUE}.")
  float learningRate;

  @Option(
      names = "--clip",
      paramLabel = "NORM",
      defaultValue = "10",
      description = "A gradient that is longer is shortened to it; default ${DEFAULT-VALUE}.")
  float clip;

  @Option(names = "--seed", defaultValue = "1", description = "Default ${DEFAULT-VALUE}.")
  int seed;

  int microBatch(int ranks) {
    return microBatch == null ? batch / ranks : Math.min(microBatch, batch / ranks);
  }

  Normaliser normaliser() {
    return by == By.BATCH ? Normaliser.BATCH : Normaliser.OBJECTS;
  }

  @Override
  public Integer call() {
    check(shapes != (data != null), "give DATA, or --shapes");
    check(scales == 2 || scales == 3, "--scales is " + scales + ", 2 or 3 is expected");
    check(clip > 0, "--clip is " + clip + ", a number > 0 is expected");
    check(learningRate > 0, "--learning-rate is " + learningRate + ", a number > 0 is expected");
    check(steps >= 1, "--steps is " + steps + ", at least 1 is expected");
    check(batch >= 1, "--batch is " + batch + ", at least 1 is expected");
    check(microBatch == null || microBatch >= 1, "--micro-batch: at least 1 is expected");
    check(
        width > 0 && height > 0 && width % 32 == 0 && height % 32 == 0,
        "the input is " + width + "x" + height + ", multiples of 32 are expected");
    try (Mpi mpi = new Mpi()) {
      try {
        if (batch % mpi.size() != 0) {
          throw new IOException(
              "--batch is " + batch + ", a multiple of the " + mpi.size() + " ranks is expected");
        }
        if (shapes) { // each rank its own files, all the same
          data = output.resolve("shapes" + mpi.rank());
          Shapes.write(data, 4 * batch, 1, seed);
        }
        try (DataParallel training = new DataParallel(this, mpi)) {
          training.run();
        }
        return 0;
      } catch (IOException | IllegalArgumentException | YoloLossException e) {
        command
            .commandLine()
            .getErr()
            .println("mpi: rank " + mpi.rank() + " of " + mpi.size() + ": " + e.getMessage());
        command.commandLine().getErr().flush();
        mpi.abort(); // the others wait for it
        return 3;
      } catch (RuntimeException | Error e) {
        e.printStackTrace();
        mpi.abort();
        return 70;
      }
    }
  }

  private void check(boolean condition, String sentence) {
    if (!condition) {
      throw new ParameterException(command.commandLine(), sentence);
    }
  }

  public static void main(String[] arguments) {
    System.exit(
        new CommandLine(new Train()).setCaseInsensitiveEnumValuesAllowed(true).execute(arguments));
  }
}
