"""What can be measured of how a page reads: contrast (WCAG 2.2, 1.4.3 and 1.4.11) and width."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

# The colour of each visible text and of the ground under it, both as they reach the screen:
# translucent grounds are blended, and a grey filter on an ancestor is applied to both.
_POOR_CONTRAST = """
(least) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const read = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => c * a + under[i] * (1 - a));
  const ancestors = (element) =>
    element ? [element, ...ancestors(element.parentElement)] : [];
  const ground = (element) =>
    ancestors(element)
      .map((each) => read(getComputedStyle(each).backgroundColor))
      .reverse()
      .reduce((under, colour) => over(colour, under), read("Canvas"));
  const grey = ([r, g, b]) => Array(3).fill(0.2126 * r + 0.7152 * g + 0.0722 * b);
  const light = (colour) => {
    const [r, g, b] = colour.map((c) =>
      c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (element) => {
    const under = ground(element);
    const pair = [over(read(getComputedStyle(element).color), under), under];
    const grown = ancestors(element).some((e) => getComputedStyle(e).filter.includes("grayscale"));
    const [high, low] = (grown ? pair.map(grey) : pair).map(light).sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = { measured: 0, poor: [] };
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim();
    const element = texts.currentNode.parentElement;
    if (!text || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) {
      continue;
    }
    found.measured += 1;
    const ratio = contrast(element);
    if (ratio < least) found.poor.push(`${text}: ${ratio.toFixed(2)}`);
  }
  return found;
}
"""

# The lines of the graphs, whose colours the style sheet names, on the ground under them.
_LINE_CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const read = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((c) =>
      c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = getComputedStyle(document.documentElement);
  const named = (name) => light(read(style.getPropertyValue(name)));
  const under = named("--surface");
  return Array.from({ length: 6 }, (_, i) => {
    const [high, low] = [named(`--series-${i}`), under].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  });
}
"""

# Where the pixels of a canvas are that have about the colour of one of three nodes' lines, in parts
# of the width on which lines are drawn. The lines of nodes that do the same hide each other.
_DRAWN = """
(figure) => {
  const { width, height } = figure.querySelector("canvas");
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  const style = getComputedStyle(document.documentElement);
  const colours = [0, 1, 2].map((i) => {
    copy.fillStyle = style.getPropertyValue(`--series-${i}`);
    copy.fillRect(0, 0, 1, 1);
    return copy.getImageData(0, 0, 1, 1).data;
  });
  copy.clearRect(0, 0, width, height);
  copy.drawImage(figure.querySelector("canvas"), 0, 0);
  const { data } = copy.getImageData(0, 0, width, height);
  const off = (i, wanted) =>
    [0, 1, 2].reduce((sum, part) => sum + Math.abs(data[i + part] - wanted[part]), 0);
  const box = figure.querySelector("canvas").getBoundingClientRect();
  const over = figure.querySelector(".u-over").getBoundingClientRect();
  const found = [];
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 128 || !colours.some((wanted) => off(i, wanted) < 60)) continue;
    const x = (((i / 4) % width) * box.width) / width;
    found.push((x + box.left - over.left) / over.width);
  }
  return found;
}
"""

_TOO_WIDE = """
() => {
  const width = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll("body *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width > 1 && (box.right > width + 0.5 || box.left < -0.5);
  });
  return {
    scrolls: document.documentElement.scrollWidth > width,
    elements: wide.map((e) => `${e.tagName} ${e.className}: ${e.textContent.trim().slice(0, 60)}`),
  };
}
"""


def poor_contrast(page: Page, least: float = 4.5) -> list[str]:
    """The texts on `page` whose contrast is below `least`, each with its ratio."""
    found = page.evaluate(_POOR_CONTRAST, least)
    assert found["measured"] > 60, f"only {found['measured']} texts were there to be measured"
    poor: list[str] = found["poor"]
    return poor


def faint_lines(page: Page, least: float = 3.0) -> list[str]:
    """The colours of lines whose contrast is below `least` (WCAG 2.2, 1.4.11)."""
    found: list[float] = page.evaluate(_LINE_CONTRAST)
    return [f"series {i}: {ratio:.2f}" for i, ratio in enumerate(found) if ratio < least]


def pixels_drawn(graph: Locator) -> int:
    """How many pixels of the nodes' lines there are in a graph."""
    return len(graph.evaluate(_DRAWN))


def is_drawn(graph: Locator, begin: float, end: float) -> bool:
    """Whether there is any line between two parts of a graph's width."""
    return any(begin < x < end for x in graph.evaluate(_DRAWN))


def too_wide(page: Page) -> list[str]:
    """The elements of `page` that reach beyond its sides, and whether it scrolls sideways."""
    found = page.evaluate(_TOO_WIDE)
    elements: list[str] = found["elements"]
    return [*elements, "the page scrolls sideways"] if found["scrolls"] else elements
