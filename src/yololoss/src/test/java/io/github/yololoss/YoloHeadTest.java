package io.github.yololoss;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** yolo_head against its formulas. */
class YoloHeadTest {
  @ParameterizedTest
  @ValueSource(strings = {"cpu", "reference"})
  void decodes(String device) {
    try (Arena arena = Arena.ofConfined()) {
      Golden g = new Golden("d_nonsquare", arena);
      try (YoloLoss loss = g.open(LossDevice.parse(device), 0)) {
        for (int l = 0; l < g.spec.layers().size(); l++) {
          decodesLayer(g, loss, l, arena);
        }
        IllegalArgumentException e =
            assertThrows(
                IllegalArgumentException.class,
                () ->
                    loss.yoloHead(
                        0,
                        g.batch,
                        g.feats[0],
                        new YoloHead(null, arena.allocate(8), null, null, null)));
        assertTrue(e.getMessage().contains("boxXy holds 8 bytes"), e.getMessage());
        assertThrows(
            IndexOutOfBoundsException.class,
            () -> loss.yoloHead(3, 1, g.feats[0], new YoloHead(null, null, null, null, null)));
      }
    }
  }

  private static void decodesLayer(Golden g, YoloLoss loss, int l, Arena arena) {
    YoloSpec.Layer layer = g.spec.layers().get(l);
    int classes = g.spec.numClasses();
    long cells = g.spec.cells(l) * g.batch;
    MemorySegment grid = arena.allocate(8L * layer.gridHeight() * layer.gridWidth(), 4);
    MemorySegment xy = arena.allocate(8 * cells, 4);
    MemorySegment wh = arena.allocate(8 * cells, 4);
    MemorySegment confidence = arena.allocate(4 * cells, 4);
    MemorySegment probs = arena.allocate(4 * cells * classes, 4);
    loss.yoloHead(l, g.batch, g.feats[l], new YoloHead(grid, xy, wh, confidence, probs));
    for (int cell = 0; cell < cells; cell++) {
      int anchor = cell % 3;
      int column = cell / 3 % layer.gridWidth();
      int row = cell / 3 / layer.gridWidth() % layer.gridHeight();
      YoloSpec.Anchor size = g.spec.anchors().get(layer.anchorMask().get(anchor));
      long t = (long) cell * (5 + classes);
      long place = (long) row * layer.gridWidth() + column;
      near(column, at(grid, 2 * place));
      near(row, at(grid, 2 * place + 1));
      near((sigmoid(at(g.feats[l], t)) + column) / layer.gridWidth(), at(xy, 2L * cell));
      near((sigmoid(at(g.feats[l], t + 1)) + row) / layer.gridHeight(), at(xy, 2L * cell + 1));
      near(size.width() * Math.exp(at(g.feats[l], t + 2)) / g.spec.inputWidth(), at(wh, 2L * cell));
      near(
          size.height() * Math.exp(at(g.feats[l], t + 3)) / g.spec.inputHeight(),
          at(wh, 2L * cell + 1));
      near(sigmoid(at(g.feats[l], t + 4)), at(confidence, cell));
      for (int c = 0; c < classes; c++) {
        near(sigmoid(at(g.feats[l], t + 5 + c)), at(probs, (long) cell * classes + c));
      }
    }
  }

  private static double sigmoid(double u) {
    return 1 / (1 + Math.exp(-u));
  }

  private static float at(MemorySegment segment, long index) {
    return segment.getAtIndex(ValueLayout.JAVA_FLOAT, index);
  }

  private static void near(double want, float got) {
    assertEquals(want, got, 1e-6 * Math.abs(want));
  }
}
