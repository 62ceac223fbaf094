package io.github.yololoss.examples.spark;

import io.github.yololoss.kit.Npy;
import io.github.yololoss.kit.Npz;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** The arrays of a shard, by their names: files of a folder, which are mapped, or of a .npz. */
interface ShardFiles extends AutoCloseable {
  boolean has(String array);

  Npy load(String array, Arena arena) throws IOException;

  /** Returns the lines of a text; none if it does not exist. */
  List<String> lines(String text) throws IOException;

  @Override
  void close() throws IOException;

  static ShardFiles folder(Path folder) {
    return new ShardFiles() {
      @Override
      public boolean has(String array) {
        return Files.exists(folder.resolve(array + ".npy"));
      }

      @Override
      public Npy load(String array, Arena arena) throws IOException {
        return Npy.map(folder.resolve(array + ".npy"), arena);
      }

      @Override
      public List<String> lines(String text) throws IOException {
        Path file = folder.resolve(text);
        return Files.exists(file) ? Files.readAllLines(file) : List.of();
      }

      @Override
      public void close() {}
    };
  }

  static ShardFiles npz(Path file) throws IOException {
    Npz npz = Npz.open(file);
    return new ShardFiles() {
      @Override
      public boolean has(String array) {
        return npz.has(array);
      }

      @Override
      public Npy load(String array, Arena arena) throws IOException {
        return npz.load(array, arena);
      }

      @Override
      public List<String> lines(String text) throws IOException {
        return npz.lines(text);
      }

      @Override
      public void close() throws IOException {
        npz.close();
      }
    };
  }
}
