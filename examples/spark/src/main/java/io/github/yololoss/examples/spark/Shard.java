package io.github.yololoss.examples.spark;

import io.github.yololoss.FeatsType;
import io.github.yololoss.Targets;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;

/** Some images of the data set, batch by batch. */
interface Shard extends AutoCloseable {
  /**
   * Images that are computed at once.
   *
   * @param names of the images; empty where the shard has none
   */
  record Batch(
      int images, MemorySegment[] feats, Targets<MemorySegment> truths, List<String> names) {}

  /** Type of feats. */
  FeatsType dataType();

  /** The batch that comes next, valid until the one after it; null: there is none. */
  Batch next() throws IOException;

  @Override
  void close() throws IOException;

  /**
   * Opens a shard by its form: a folder or a .npz with {@code feats_<l>.npy} and {@code boxes.npy}
   * or {@code y_true_<l>.npy}, or a Parquet file with an image in each row.
   *
   * @param name its path, with the scheme of any file system that Hadoop knows
   */
  static Shard open(String name, Settings settings) throws IOException {
    Path path = new Path(name);
    if (name.endsWith(".parquet")) {
      return new ParquetShard(path, settings);
    }
    FileSystem files = path.getFileSystem(new Configuration());
    if (files.getScheme().equals("file")) {
      return npy(name, java.nio.file.Path.of(path.toUri().getPath()), settings, null);
    }
    java.nio.file.Path copy = Files.createTempDirectory("shard");
    try {
      java.nio.file.Path here = copy.resolve(path.getName());
      files.copyToLocalFile(path, new Path(here.toUri()));
      return npy(name, here, settings, copy);
    } catch (IOException | RuntimeException e) {
      NpyShard.delete(copy);
      throw e;
    }
  }

  private static Shard npy(
      String name, java.nio.file.Path here, Settings settings, java.nio.file.Path copy)
      throws IOException {
    ShardFiles files = name.endsWith(".npz") ? ShardFiles.npz(here) : ShardFiles.folder(here);
    return new NpyShard(name, files, settings, copy);
  }
}
