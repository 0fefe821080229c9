"""Markup as a tree of elements that is serialized once: no value can become markup, because none is ever parsed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

from returnable.adapters.printable import visible, visible_id

Child: TypeAlias = "Element | str | Iterable[Child] | None"
"""The content of an element: other elements, text, nothing, or several of these."""

_BLOCKS = frozenset(
    {"html", "head", "meta", "title", "style", "body", "header", "nav", "main", "footer", "section", "article", "div"}
    | {"h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tfoot"}
    | {"tr", "details", "summary", "figure", "figcaption", "blockquote", "svg", "g"}
)


def el(tag: str, *children: Child, **attributes: str | int | float | None) -> Element:
    """An element. In the name of an attribute ``_`` stands for ``-``, and one at the end (``class_``) is dropped. An
    attribute that is ``None`` is left out.

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
    """Text that somebody gave: it has its own direction and cannot reorder the text around it."""
    return el("bdi", text)


def named(text: str) -> Element:
    """The same for an id: every character that cannot be seen is spelt out."""
    return given(visible_id(text))


def style(css: str) -> Element:
    """Our own style sheet, written as it is."""
    element = el("style")
    element.text = css
    return element


def page(root: Element) -> str:
    """The HTML document of that root element."""
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html")
