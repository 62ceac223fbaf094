package io.github.yololoss.examples.djl;

/** Boxes in input pixels. */
final class Boxes {
  private Boxes() {}

  /**
   * A true box, or a detection with its score.
   *
   * @param classId 0..C-1
   * @param score 1 for a truth
   */
  record Box(double x0, double y0, double x1, double y1, int classId, double score) {
    double area() {
      return (x1 - x0) * (y1 - y0);
    }
  }

  static double iou(Box a, Box b) {
    double width = Math.min(a.x1, b.x1) - Math.max(a.x0, b.x0);
    double height = Math.min(a.y1, b.y1) - Math.max(a.y0, b.y0);
    if (width <= 0 || height <= 0) {
      return 0;
    }
    double both = width * height;
    return both / (a.area() + b.area() - both);
  }
}
