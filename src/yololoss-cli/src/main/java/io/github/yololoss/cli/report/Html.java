package io.github.yololoss.cli.report;

import java.io.IOException;
import java.io.InputStream;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import javax.xml.stream.XMLOutputFactory;
import javax.xml.stream.XMLStreamException;
import javax.xml.stream.XMLStreamWriter;

/**
 * An HTML page that is also well-formed XML, by the JDK's writer, which escapes all text. It needs
 * no network and runs no script; its content security policy forbids both.
 *
 * <p>A number is rounded for people, and says its value and where it is in the JSON of the same
 * model: {@code <data value="0.123456" data-at="/loss/total">0.1235</data>}.
 */
public final class Html {
  private final StringWriter page = new StringWriter();
  private final XMLStreamWriter out;

  /** Begins the page. */
  public Html(String title) {
    try {
      out = XMLOutputFactory.newFactory().createXMLStreamWriter(page);
      out.writeDTD("<!DOCTYPE html>");
    } catch (XMLStreamException e) {
      throw failed(e);
    }
    open("html", "lang", "en").open("head");
    single("meta", "charset", "utf-8");
    single(
        "meta",
        "http-equiv",
        "Content-Security-Policy",
        "content",
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'");
    single("meta", "name", "viewport", "content", "width=device-width, initial-scale=1");
    single("meta", "name", "color-scheme", "content", "light dark");
    element("title", title).element("style", css()).close(1);
    open("body").open("main");
  }

  /** The style sheet, without the characters that XML would escape. */
  private static String css() {
    try (InputStream in = Html.class.getResourceAsStream("report.css")) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static RuntimeException failed(XMLStreamException e) {
    return new IllegalStateException(e); // a fault of the caller: it writes to memory
  }

  /** Begins an element; attributes as names and values in turn. */
  public Html open(String tag, String... attributes) {
    try {
      out.writeStartElement(tag);
      attributes(attributes);
    } catch (XMLStreamException e) {
      throw failed(e);
    }
    return this;
  }

  /** An element without content. */
  public Html single(String tag, String... attributes) {
    try {
      out.writeEmptyElement(tag);
      attributes(attributes);
    } catch (XMLStreamException e) {
      throw failed(e);
    }
    return this;
  }

  private void attributes(String... attributes) throws XMLStreamException {
    for (int i = 0; i < attributes.length; i += 2) {
      out.writeAttribute(attributes[i], clean(attributes[i + 1]));
    }
  }

  /** Ends so many of the elements that were begun last. */
  public Html close(int count) {
    try {
      for (int i = 0; i < count; i++) {
        out.writeEndElement();
      }
    } catch (XMLStreamException e) {
      throw failed(e);
    }
    return this;
  }

  /** Ends the page. */
  public String end() {
    try {
      out.writeEndDocument();
      out.close();
      return page.toString();
    } catch (XMLStreamException e) {
      throw failed(e);
    }
  }

  public Html text(String text) {
    try {
      out.writeCharacters(clean(text));
    } catch (XMLStreamException e) {
      throw failed(e);
    }
    return this;
  }

  /** An element with text. */
  public Html element(String tag, String text, String... attributes) {
    return open(tag, attributes).text(text).close(1);
  }

  /** Control characters and what XML does not allow, as file names may hold it, is replaced. */
  private static String clean(String text) {
    StringBuilder clean = new StringBuilder();
    text.codePoints().map(c -> allowed(c) ? c : 0xFFFD).forEach(clean::appendCodePoint);
    return clean.toString();
  }

  private static boolean allowed(int c) {
    boolean halfOfAPair = c >= Character.MIN_SURROGATE && c <= Character.MAX_SURROGATE;
    return (!Character.isISOControl(c) || c == '\n') && !halfOfAPair && c != 0xFFFE && c != 0xFFFF;
  }

  /** Writes a number, rounded to four digits. */
  public Html number(Addressed<? extends Number> number) {
    return data(number, rounded(number.value()));
  }

  /** Writes a share in percent. */
  public Html percent(Addressed<Double> share) {
    boolean finite = Double.isFinite(share.value());
    return data(share, finite ? percentText(share.value()) : share.value().toString());
  }

  private Html data(Addressed<? extends Number> number, String text) {
    return element("data", text, "value", number.value().toString(), "data-at", number.pointer());
  }

  /** Writes a table cell with a number. */
  public Html cell(Addressed<? extends Number> number) {
    return open("td", "class", "n").number(number).close(1);
  }

  /** Writes a table cell with a share. */
  public Html percentCell(Addressed<Double> share) {
    return open("td", "class", "n").percent(share).close(1);
  }

  /** Begins a table with a header, in a wrapper that scrolls; {@code close(3)} ends it. */
  public Html table(String... columns) {
    open("div", "class", "scroll").open("table").open("thead").open("tr");
    for (String column : columns) {
      element("th", column, "scope", "col");
    }
    return close(2).open("tbody");
  }

  public static String percentText(double share) {
    return String.format(
        Locale.ROOT, share > 0 && share < 0.00095 ? "%.2g%%" : "%.1f%%", 100 * share);
  }

  /** Returns a number for people: an integer as it is, others with four digits. */
  public static String rounded(Number number) {
    if (number instanceof Long || number instanceof Integer) {
      return String.format(Locale.ROOT, "%,d", number.longValue());
    }
    double value = number.doubleValue();
    return Double.isFinite(value) ? fourDigits(value) : number.toString();
  }

  private static String fourDigits(double value) {
    double size = Math.abs(value);
    if (size != 0 && (size < 1e-4 || size >= 1e9)) {
      return String.format(Locale.ROOT, "%.3e", value);
    }
    if (size >= 9999.5) {
      return String.format(Locale.ROOT, "%,.0f", value);
    }
    BigDecimal digits = new BigDecimal(value).round(new MathContext(4));
    return digits.setScale(Math.clamp(digits.scale(), 0, 7)).toPlainString();
  }
}
