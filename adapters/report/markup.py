"""Markup as a tree of elements, written out once: no value can ever be markup, because none is ever read as such."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

Child: TypeAlias = "Element | str | Iterable[Child] | None"
"""What can stand in an element: other elements, text, nothing, or several of these."""

MARKS_AT_MOST = 4
"""So many combining marks a character may carry; no script needs more, and a pile of them covers the lines above."""

_BLOCKS = frozenset(
    {"html", "head", "meta", "title", "style", "body", "header", "nav", "main", "footer", "section", "article", "div"}
    | {"h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tfoot"}
    | {"tr", "details", "summary", "figure", "figcaption", "blockquote", "svg", "g"}
)


def el(tag: str, *children: Child, **attributes: str | int | float | None) -> Element:
    """An element. An attribute that Python does not let one name ends in ``_``; other ``_`` stand for ``-``; ``None``
    leaves it out.

    >>> page(el("p", "1 < 2 ", el("b", "<script>"), class_="sum", data_of=3))
    '<!DOCTYPE html>\\n<p class="sum" data-of="3">1 &lt; 2 <b>&lt;script&gt;</b></p>\\n'
    """
    element = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            element.set(name.rstrip("_").replace("_", "-"), str(value))
    _append(element, children)
    if tag in _BLOCKS:
        element.tail = "\n"
    return element


def _append(element: Element, children: Iterable[Child]) -> None:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            element.append(child)
        elif isinstance(child, str):
            _add_text(element, visible(child))
        else:
            _append(element, child)


def _add_text(element: Element, text: str) -> None:
    if len(element):
        last = element[-1]
        last.tail = (last.tail or "") + text
    else:
        element.text = (element.text or "") + text


def given(text: str) -> Element:
    """Text that somebody gave: it runs in its own direction and cannot reorder what stands around it."""
    return el("bdi", text)


def style(css: str) -> Element:
    """A style sheet of our own; it is written as it is."""
    element = el("style")
    element.text = css
    return element


def page(root: Element) -> str:
    """The HTML document of that root element."""
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html")


def visible(text: str) -> str:
    """The text with everything that could not be seen, or would cover what stands around it, spelt out: controls, marks of
    direction, odd spaces, marks that combine with nothing or are piled up on one character.

    >>> visible("a\\u202eb\\0\\u200dc d")
    'a⟨U+202E⟩b⟨U+0000⟩⟨U+200D⟩c d'
    >>> visible("e\\u0301" + "\\u0301" * 4) == "e" + "\\u0301" * 4 + "⟨U+0301⟩"
    True
    """
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    marks = MARKS_AT_MOST  # at the beginning there is nothing to combine with
    for char in text:
        if not char.isprintable():
            shown.append(f"⟨U+{ord(char):04X}⟩")
            marks = MARKS_AT_MOST
        elif unicodedata.category(char) not in ("Mn", "Me"):
            shown.append(char)
            marks = 0
        else:
            shown.append(char if marks < MARKS_AT_MOST else f"⟨U+{ord(char):04X}⟩")
            marks += 1
    return "".join(shown)
