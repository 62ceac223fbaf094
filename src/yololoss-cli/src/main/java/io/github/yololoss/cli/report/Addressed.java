package io.github.yololoss.cli.report;

import java.util.List;
import java.util.stream.IntStream;

/**
 * A value of a model with the JSON pointer that leads to it. A page starts at the whole model and
 * descends by {@link Field}s, which add their names to the pointer.
 *
 * @param pointer to the value in the JSON of the model, such as {@code /loss/total}
 * @param value that the JSON has there
 */
record Addressed<C>(String pointer, C value) {
  /** Returns the whole model. */
  static <C> Addressed<C> root(C model) {
    return new Addressed<>("", model);
  }

  /** Returns a field of this value. */
  <D> Addressed<D> get(Field<C, D> field) {
    return new Addressed<>(pointer + "/" + field.name(), field.value().apply(value));
  }

  /** Returns the items of a field of this value that is an array. */
  <D> List<Addressed<D>> items(Field<C, List<D>> field) {
    return items(get(field));
  }

  /** Returns the items of each of some arrays. */
  static <D> List<List<Addressed<D>>> nested(List<Addressed<List<D>>> arrays) {
    return arrays.stream().map(Addressed::items).toList();
  }

  private static <D> List<Addressed<D>> items(Addressed<List<D>> array) {
    return IntStream.range(0, array.value.size())
        .mapToObj(i -> new Addressed<>(array.pointer + "/" + i, array.value.get(i)))
        .toList();
  }
}
