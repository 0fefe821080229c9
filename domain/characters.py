"""What a character does to a text: which ones nobody can see, where a script needs them, and which texts look alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MARKS_AT_MOST = 4
"""So many combining marks a character may carry; no script needs more, and a pile of them covers the lines above."""

_BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U00013441\U00013442\U00016fe4\U0001d159"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""Invisible characters that Python calls printable: fillers, blanks and variation selectors."""

_JOINERS = "\u200c\u200d"
_JOINING = (
    range(0x0620, 0x0900),
    range(0x0900, 0x0E00),
    range(0x0F00, 0x10A0),
    range(0x1780, 0x18AB),
    range(0xA840, 0xAC00),
    range(0xFB50, 0xFE00),
    range(0xFE70, 0xFEFD),
)
"""Arabic and its neighbours, the scripts of India and Tibet, Burmese, Khmer, Mongolian and their forms of presentation."""

_TEXT_OR_EMOJI = "\ufe0e\ufe0f"


def is_unseen(char: str) -> bool:
    """Whether a character shows nothing of its own, or steers how others are shown: a control, a mark of direction, a
    joiner, a filler, a variation selector, half a character, or a space other than the usual one."""
    return not char.isprintable() or char in _BLANK


def is_needed(text: str, at: int) -> bool:
    """Whether the unseen character at that place belongs to the writing around it.

    A space of any script does. A joiner does behind a letter of a script that joins letters, and between the parts of an
    emoji. A variation selector does behind what it varies: an emoji, a Han or Myanmar character, a Mongolian letter.
    """
    char = text[at]
    if unicodedata.category(char) == "Zs":
        return True
    before = text[at - 1] if at else ""
    after = text[at + 1 : at + 2]
    if char in _JOINERS:
        return _joins(before) or (char == "\u200d" and _is_emoji(text, at - 1) and _is_symbol(after))
    if char in _TEXT_OR_EMOJI:
        return _is_symbol(before) or (before in tuple("0123456789#*") and after == "\u20e3")
    if not before.isprintable():
        return False
    if "\ufe00" <= char <= "\ufe02" or char >= "\U000e0100":
        return _is_han(before) or "\u1000" <= before <= "\u109f"
    return "\u180b" <= char <= "\u180f" and "\u1820" <= before <= "\u18aa"


def _joins(char: str) -> bool:
    """Whether a character is a letter or a mark of a script in which joiners change how letters are written."""
    code = ord(char) if char else 0
    return any(code in scripts for scripts in _JOINING) and unicodedata.category(char)[0] in "LM"


def _is_symbol(char: str) -> bool:
    return bool(char) and (unicodedata.category(char) == "So" or char in "‼⁉ℹ↔↕↖↗↘↙↩↪▶◀◽◾☎〰")


def _is_emoji(text: str, at: int) -> bool:
    """Whether an emoji ends at that place, with the selector or the tone of skin behind it."""
    if at > 0 and (text[at] == "\ufe0f" or "\U0001f3fb" <= text[at] <= "\U0001f3ff"):
        at -= 1
    return at >= 0 and _is_symbol(text[at])


def _is_han(char: str) -> bool:
    return "\u3400" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff" or "\U00020000" <= char <= "\U0003fffd"


def appearance(text: str) -> str:
    """What a reader sees of a text: equal for texts that look the same though they differ.

    >>> appearance("A-1\\u3164") == appearance("Ａ-1") == "A-1"
    True
    """
    return " ".join(_seen(unicodedata.normalize("NFKC", _seen(text))).split())


def _seen(text: str) -> str:
    return "".join(char for char in text if char.isspace() or not is_unseen(char))


def look_alikes(texts: Iterable[str]) -> list[list[str]]:
    """The texts among these that look the same though they differ, in groups and in order."""
    groups: dict[str, list[str]] = {}
    for text in sorted(set(texts)):
        groups.setdefault(appearance(text), []).append(text)
    return [group for group in groups.values() if len(group) > 1]
