package io.github.yololoss.cli.report;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.function.Function;

/**
 * A field of a model: the one place that says its name in JSON and where its value comes from. The
 * JSON of a model is written from a list of fields, and its page reads the same fields through
 * {@link Addressed}, so that a number on the page always has the address that it has in the JSON.
 *
 * @param <T> the record that has the field
 * @param <C> the value
 * @param name in JSON
 * @param value reads the value; where it returns null, the field is left out of the JSON
 * @param json writes the value; null if {@link #address} made the field
 */
record Field<T, C>(String name, Function<T, C> value, Function<C, JsonNode> json) {
  private static final JsonNodeFactory JSON = JsonNodeFactory.instance;

  /** Makes a field whose value is a number. */
  static <T, C extends Number> Field<T, C> number(String name, Function<T, C> value) {
    return new Field<>(name, value, Field::toJson);
  }

  /** Makes a field whose value is text. */
  static <T> Field<T, String> text(String name, Function<T, String> value) {
    return new Field<>(name, value, JSON::textNode);
  }

  /** Makes a field whose value is true or false. */
  static <T> Field<T, Boolean> flag(String name, Function<T, Boolean> value) {
    return new Field<>(name, value, JSON::booleanNode);
  }

  /** Makes a field whose value is an object with fields of its own. */
  static <T, C> Field<T, C> object(String name, Function<T, C> value, List<Field<C, ?>> fields) {
    return new Field<>(name, value, child -> toJson(child, fields));
  }

  /** Makes a field whose value is an array of numbers. */
  static <T, C extends Number> Field<T, List<C>> numbers(String name, Function<T, List<C>> value) {
    return new Field<>(name, value, items -> toArray(items, Field::toJson));
  }

  /** Makes a field whose value is an array of text. */
  static <T> Field<T, List<String>> texts(String name, Function<T, List<String>> value) {
    return new Field<>(name, value, items -> toArray(items, JSON::textNode));
  }

  /** Makes a field whose value is an array of objects. */
  static <T, C> Field<T, List<C>> objects(
      String name, Function<T, List<C>> value, List<Field<C, ?>> fields) {
    return new Field<>(name, value, items -> toArray(items, item -> toJson(item, fields)));
  }

  /**
   * Makes a field of an object that another class writes, as LossJson writes the loss. It gives the
   * page an address; a test compares the value with the JSON at that address.
   */
  static <T, C> Field<T, C> address(String name, Function<T, C> value) {
    return new Field<>(name, value, null);
  }

  /** Returns the same field of a record that holds this field's record. */
  <S> Field<S, C> through(Function<S, T> part) {
    return new Field<>(name, part.andThen(value), json);
  }

  /** Joins lists of fields, in order. */
  @SafeVarargs
  static <T> List<Field<T, ?>> join(Collection<? extends Field<T, ?>>... lists) {
    List<Field<T, ?>> all = new ArrayList<>();
    for (Collection<? extends Field<T, ?>> list : lists) {
      all.addAll(list);
    }
    return List.copyOf(all);
  }

  /** Writes an object as JSON, field by field. */
  static <T> ObjectNode toJson(T object, List<Field<T, ?>> fields) {
    ObjectNode node = JSON.objectNode();
    fields.forEach(field -> field.put(object, node));
    return node;
  }

  private void put(T object, ObjectNode node) {
    C child = value.apply(object);
    if (child != null) {
      node.set(name, json.apply(child));
    }
  }

  private static <C> ArrayNode toArray(List<C> items, Function<C, JsonNode> json) {
    ArrayNode array = JSON.arrayNode();
    items.forEach(item -> array.add(json.apply(item)));
    return array;
  }

  private static JsonNode toJson(Number number) {
    return switch (number) {
      case Integer i -> JSON.numberNode(i);
      case Long l -> JSON.numberNode(l);
      case Float f -> JSON.numberNode(f);
      default -> JSON.numberNode(number.doubleValue());
    };
  }
}
