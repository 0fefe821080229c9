"""Text that is safe to show: characters that are invisible, steer a terminal or cover other text are spelt out.

The command line, the reports and the exports all use this module; they differ only in how a character is spelt.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from returnable.domain.characters import LINE_BREAK, MARKS_AT_MOST, is_needed, is_unseen


def printable(text: str, keep: str = "") -> str:
    """Text that is safe on a terminal. JSON stays JSON, with the same content.

    ``keep``: line breaks that stay, ``"\\n"`` or ``"\\r\\n"``; a ``\\r`` alone steers the terminal and does not stay.

    >>> printable("R-1" + chr(27) + "[2J"), printable("a" + chr(0x202E) + "b")
    ('R-1\\\\x1b[2J', 'a\\\\u202eb')
    """
    return _spelt_out(text, _escaped, keep=keep)


def identifier(text: str) -> str:
    """An id that is safe on a terminal: every invisible character in it is spelt out.

    >>> identifier("A-1" + chr(0x3164))
    'A-1\\\\u3164'
    """
    return _spelt_out(text, _escaped, ids=True)


def json_text(document: str) -> str:
    """JSON, JSON Lines or CSV, with every invisible character escaped."""
    return _spelt_out(document, _escaped, ids=True, keep="\r\n")


def visible(text: str) -> str:
    """Text that is safe in a report, on one line: a line break in it cannot begin a line of ours.

    >>> visible("too small\\r\\nplease refund")
    'too small⏎please refund'
    >>> visible("a\\u202eb\\0\\u3164c")
    'a⟨U+202E⟩b⟨U+0000⟩⟨U+3164⟩c'
    >>> visible("e\\u0301" + "\\u0301" * 4) == "e" + "\\u0301" * 4 + "⟨U+0301⟩"
    True
    """
    return _spelt_out(LINE_BREAK.sub("⏎", text), _named)


def visible_id(text: str) -> str:
    """An id that is safe in a report: every invisible character in it is spelt out."""
    return _spelt_out(text, _named, ids=True)


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return ascii(char)[1:-1]  # JSON never holds these unescaped
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True))


def _named(char: str) -> str:
    return f"⟨U+{ord(char):04X}⟩"


def _spelt_out(text: str, spell: Callable[[str], str], *, ids: bool = False, keep: str = "") -> str:
    if text.isascii() and (text.isprintable() or (keep and _without_breaks(text, keep).isprintable())):
        return text
    if not any((is_unseen(char) and (char not in keep or char == "\r")) or _combines(char) for char in set(text)):
        return text
    shown: list[str] = []
    marks = MARKS_AT_MOST  # at the beginning there is no character to combine with
    for at, char in enumerate(text):
        if char in keep and (char != "\r" or text[at + 1 : at + 2] == "\n"):
            shown.append(char)
            marks = MARKS_AT_MOST
        elif is_unseen(char):
            kept = not ids and is_needed(text, at)
            shown.append(char if kept else spell(char))
            marks = marks if kept else MARKS_AT_MOST
        elif not _combines(char):
            shown.append(char)
            marks = 0
        else:
            shown.append(char if marks < MARKS_AT_MOST else spell(char))
            marks += 1
    return "".join(shown)


def _without_breaks(text: str, keep: str) -> str:
    return text.replace("\r\n" if "\r" in keep else "\n", "").replace("\n", "")


def _combines(char: str) -> bool:
    return not char.isascii() and unicodedata.category(char) in ("Mn", "Me")
