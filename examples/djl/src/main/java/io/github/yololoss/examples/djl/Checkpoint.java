package io.github.yololoss.examples.djl;

import ai.djl.MalformedModelException;
import ai.djl.Model;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;

/**
 * The file that a training can go on from.
 *
 * @param settings of the run; another's checkpoint is refused
 */
record Checkpoint(Path file, String settings) {
  void save(List<Epoch> history, Model model, Adam optimizer) throws IOException {
    Path made = file.resolveSibling("checkpoint.tmp");
    try (DataOutputStream out =
        new DataOutputStream(new BufferedOutputStream(Files.newOutputStream(made)))) {
      out.writeUTF(settings);
      out.writeInt(history.size());
      for (Epoch epoch : history) {
        out.writeUTF(epoch.csv());
      }
      model.getBlock().saveParameters(out);
      optimizer.save(model.getBlock(), out);
    }
    Files.move(made, file, StandardCopyOption.ATOMIC_MOVE);
  }

  void load(List<Epoch> history, Model model, Adam optimizer) throws IOException {
    try (DataInputStream in =
        new DataInputStream(new BufferedInputStream(Files.newInputStream(file)))) {
      String found = in.readUTF();
      if (!found.equals(settings)) {
        throw new IllegalArgumentException(
            file + " is of a run with " + found + "; this one has " + settings);
      }
      int epochs = in.readInt();
      for (int i = 0; i < epochs; i++) {
        history.add(Epoch.parse(in.readUTF()));
      }
      model.getBlock().loadParameters(model.getNDManager(), in);
      optimizer.load(model.getBlock(), model.getNDManager(), in);
    } catch (MalformedModelException e) {
      throw new IOException(file + " is damaged: " + e.getMessage(), e);
    }
  }
}
