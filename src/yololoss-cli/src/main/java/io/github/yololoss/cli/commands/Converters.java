package io.github.yololoss.cli.commands;

import io.github.yololoss.LossDevice;
import io.github.yololoss.LossOptions.Normaliser;
import java.util.Locale;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** Converts the text of options to values. */
final class Converters {
  private Converters() {}

  static final class OfDevice implements ITypeConverter<LossDevice> {
    @Override
    public LossDevice convert(String name) {
      try {
        return LossDevice.parse(name);
      } catch (IllegalArgumentException e) {
        throw new TypeConversionException(e.getMessage());
      }
    }
  }

  static final class OfNormaliser implements ITypeConverter<Normaliser> {
    @Override
    public Normaliser convert(String text) {
      switch (text.toLowerCase(Locale.ROOT)) {
        case "batch":
          return Normaliser.BATCH;
        case "none":
          return Normaliser.NONE;
        case "objects":
          return Normaliser.OBJECTS;
        default:
          try {
            return Normaliser.value(Double.parseDouble(text));
          } catch (IllegalArgumentException e) { // NumberFormatException too
            throw new TypeConversionException(
                "'" + text + "' is not batch, none, objects or a number > 0");
          }
      }
    }
  }
}
