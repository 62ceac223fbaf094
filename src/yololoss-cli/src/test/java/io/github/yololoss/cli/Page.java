package io.github.yololoss.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Element;
import org.w3c.dom.NamedNodeMap;
import org.w3c.dom.Node;
import org.w3c.dom.NodeList;
import org.xml.sax.InputSource;

/** A page of the command line, as a parser reads it. */
public record Page(String source, Element root) {
  /** Elements and classes whose text may hold digits that are no numbers of the report. */
  private static final Set<String> NAMES =
      Set.of("style", "title", "th", "label", "name", "tick", "advice");

  public static Page read(Path file) throws Exception {
    String source = Files.readString(file);
    assertTrue(source.startsWith("<!DOCTYPE html><html lang=\"en\">"), source.substring(0, 99));
    return new Page(
        source,
        DocumentBuilderFactory.newInstance()
            .newDocumentBuilder()
            .parse(new InputSource(new StringReader(source)))
            .getDocumentElement());
  }

  public List<Element> elements(String tag) {
    NodeList nodes = root.getElementsByTagName(tag);
    List<Element> found = new ArrayList<>();
    for (int i = 0; i < nodes.getLength(); i++) {
      found.add((Element) nodes.item(i));
    }
    return found;
  }

  /** The texts of the elements of a class. */
  public List<String> texts(String styleClass) {
    return elements("*").stream()
        .filter(e -> List.of(e.getAttribute("class").split(" ")).contains(styleClass))
        .map(Element::getTextContent)
        .toList();
  }

  /** Every number is that of the tree, rounded; nothing else looks like one. Returns how many. */
  public int assertNumbersAreThoseOf(JsonNode json) {
    List<Element> numbers = elements("data");
    for (Element number : numbers) {
      String at = number.getAttribute("data-at");
      JsonNode node = json.at(at);
      assertTrue(node.isValueNode(), at);
      assertEquals(node.asText(), number.getAttribute("value"), at);
      String text = number.getTextContent().replace(",", "");
      double shown = Double.parseDouble(text.replace("%", "")) / (text.endsWith("%") ? 100 : 1);
      double value = Double.parseDouble(node.asText());
      double rounding = text.endsWith("%") ? 5.1e-4 : 5.1e-4 * Math.abs(value);
      if (Double.isFinite(value)) {
        assertEquals(value, shown, node.isIntegralNumber() ? 1e-9 : rounding + 1e-300, at);
      } else {
        assertEquals(node.asText(), text, at);
      }
    }
    assertNoOtherDigits(root);
    return numbers.size();
  }

  private static void assertNoOtherDigits(Node node) {
    for (Node child = node.getFirstChild(); child != null; child = child.getNextSibling()) {
      if (child instanceof Element element) {
        if (!element.getTagName().equals("data")
            && !NAMES.contains(element.getTagName())
            && NAMES.stream()
                .noneMatch(List.of(element.getAttribute("class").split(" "))::contains)) {
          assertNoOtherDigits(element);
        }
      } else if (!node.getNodeName().equals("p") || !child.getTextContent().contains("keras")) {
        assertTrue(
            child.getTextContent().chars().noneMatch(Character::isDigit), child.getTextContent());
      }
    }
  }

  /** Nothing is run, and nothing is fetched. */
  public void assertStandsAlone() {
    assertEquals(List.of(), elements("script"));
    assertEquals(List.of(), elements("link"));
    assertEquals(List.of(), elements("a"));
    for (Element element : elements("*")) {
      NamedNodeMap attributes = element.getAttributes();
      for (int i = 0; i < attributes.getLength(); i++) {
        String name = attributes.item(i).getNodeName();
        String value = attributes.item(i).getNodeValue();
        assertTrue(!name.startsWith("on") && !name.endsWith("href"), name);
        assertTrue(!name.equals("src") || value.startsWith("data:image/"), value);
        assertTrue(!value.contains("url("), value);
      }
    }
    assertTrue(elements("style").getFirst().getTextContent().indexOf("url(") < 0);
    assertTrue(source.contains("content=\"default-src 'none'; img-src data:; style-src"));
  }
}
