package io.github.yololoss.examples.spark;

import io.github.yololoss.FeatsType;
import io.github.yololoss.Targets;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.apache.hadoop.fs.Path;
import org.apache.parquet.example.data.Group;
import org.apache.parquet.hadoop.ParquetReader;
import org.apache.parquet.hadoop.example.GroupReadSupport;

/**
 * A Parquet file with an image in each row: {@code feats_<l>} binary, H*W*A*(5+C) float32 in the
 * layout of the settings; {@code boxes} binary, any number of x_min, y_min, x_max, y_max, class as
 * float32; {@code image} string, if wanted. All little-endian.
 */
final class ParquetShard implements Shard {
  private static final int BOX = 5 * Float.BYTES;

  private final String name;
  private final Settings settings;
  private final ParquetReader<Group> rows;
  private final Arena arena = Arena.ofConfined(); // feats of a batch, used again
  private final MemorySegment[] feats;
  private Arena ofBatch; // its boxes
  private int done;

  ParquetShard(Path file, Settings settings) throws IOException {
    name = file.toString();
    this.settings = settings;
    rows = ParquetReader.builder(new GroupReadSupport(), file).build();
    feats = settings.spec().allocate(arena, settings.batch());
  }

  @Override
  public FeatsType dataType() {
    return FeatsType.FLOAT32;
  }

  @Override
  public Batch next() throws IOException {
    List<String> names = new ArrayList<>();
    List<ByteBuffer> boxes = new ArrayList<>();
    int images = 0;
    for (Group row; images < settings.batch() && (row = read()) != null; images++) {
      for (int l = 0; l < feats.length; l++) {
        ByteBuffer values = binary(row, "feats_" + l);
        long expected = settings.spec().bytes(l, 1);
        if (values.remaining() != expected) {
          throw bad("feats_" + l + " has " + values.remaining() + " bytes, expected " + expected);
        }
        feats[l].asSlice(images * expected, expected).copyFrom(MemorySegment.ofBuffer(values));
      }
      ByteBuffer ofImage = binary(row, "boxes");
      if (ofImage.remaining() % BOX != 0) {
        throw bad("boxes has " + ofImage.remaining() + " bytes, a multiple of 20 is expected");
      }
      boxes.add(ofImage);
      if (row.getType().containsField("image")) {
        names.add(row.getString("image", 0));
      }
      done++;
    }
    if (images == 0) {
      return null;
    }
    int most = boxes.stream().mapToInt(b -> b.remaining() / BOX).max().orElse(0);
    if (ofBatch != null) {
      ofBatch.close();
    }
    ofBatch = Arena.ofConfined();
    MemorySegment all = ofBatch.allocate(Math.max(1L, images * (long) most) * BOX, 4);
    for (int i = 0; i < images; i++) {
      MemorySegment some = MemorySegment.ofBuffer(boxes.get(i));
      all.asSlice((long) i * most * BOX, some.byteSize()).copyFrom(some);
    }
    Targets<MemorySegment> truths =
        new Targets.Boxes<>(all.asSlice(0, (long) images * most * BOX), most, settings.badBoxes());
    MemorySegment[] some = new MemorySegment[feats.length];
    for (int l = 0; l < some.length; l++) {
      some[l] = feats[l].asSlice(0, settings.spec().bytes(l, images));
    }
    return new Batch(images, some, truths, names.size() == images ? names : List.of());
  }

  private Group read() throws IOException {
    try {
      return rows.read();
    } catch (IOException | RuntimeException e) { // of Parquet, on a damaged file
      throw new IOException(name + ": damaged after row " + done + ": " + e.getMessage(), e);
    }
  }

  private ByteBuffer binary(Group row, String column) throws IOException {
    if (!row.getType().containsField(column)) {
      throw bad("there is no column " + column);
    }
    try {
      return row.getBinary(column, 0).toByteBuffer();
    } catch (RuntimeException e) { // null, or of another type
      throw bad(column + " is not binary, or null");
    }
  }

  private IOException bad(String fault) {
    return new IOException(name + ": row " + done + ": " + fault);
  }

  @Override
  public void close() throws IOException {
    arena.close();
    if (ofBatch != null) {
      ofBatch.close();
    }
    rows.close();
  }
}
