"""Characters: which ones a text or an id may hold, which ones nobody can see, and which texts look alike.

The rule is the fixed table below, never the Unicode table of the running Python: every Python accepts, shows and exports
the same texts. A code point that Unicode assigns later, such as a new emoji, is accepted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MARKS_AT_MOST = 4
"""So many combining marks a character may carry; no script needs more, and a pile of them covers the lines above."""

# Source: Unicode 16.0, the general categories in UnicodeData.txt, and Default_Ignorable_Code_Point in
# DerivedCoreProperties.txt with the code points reserved for it. Each is written as ranges of a regular expression.
_CONTROLS = r"\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f"
_LINE_BREAKS = r"\n\r\u2028\u2029"
_LONE_SURROGATES = r"\ud800-\udfff"
_BIDIRECTIONAL_CONTROLS = r"\u202a-\u202e\u2066-\u206f"
_NONCHARACTERS = r"\ufdd0-\ufdef" + "".join(rf"\U{plane:04x}fffe\U{plane:04x}ffff" for plane in range(17))
_SPACES = r"\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
_INVISIBLE = (
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff0-\ufffb\U00013430-\U0001343f\U00013441\U00013442\U00016fe4\U0001bca0-\U0001bca3\U0001d159"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_PRIVATE = r"\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"

_NAMED = {
    "control characters": _CONTROLS,
    "line breaks": _LINE_BREAKS,
    "lone surrogates": _LONE_SURROGATES,
    "bidirectional controls": _BIDIRECTIONAL_CONTROLS,
    "noncharacters": _NONCHARACTERS,
    "spaces other than U+0020": _SPACES,
    "invisible characters": _INVISIBLE,
    "private-use characters": _PRIVATE,
}

_REFUSED = _CONTROLS + _LONE_SURROGATES + _BIDIRECTIONAL_CONTROLS + _NONCHARACTERS
NOT_IN_TEXT = re.compile(f"[{_REFUSED}]")
"""What no text may hold: a control character, half a character, or what reorders the page around it."""
NOT_IN_LINE = re.compile(f"[{_REFUSED}{_LINE_BREAKS}]")
"""What no text on one line may hold, such as a name: it has no line breaks either."""
UNSEEN = "".join(_NAMED.values())
"""Ranges of all characters that :func:`is_unseen` means."""
NOT_IN_ID = re.compile(f"[{UNSEEN}]")
"""What no id may hold: nothing in an id is invisible, or looks like a plain space and is another."""

_BLANK = re.compile(rf"[ {_LINE_BREAKS}{_SPACES}{_INVISIBLE}]*\Z")
LINE_BREAK = re.compile(f"\r\n|[{_LINE_BREAKS}]")
"""One line break. The two characters of Windows are one."""
_BREAKS = re.compile(f"[{_LINE_BREAKS}]+")
_SPACE = re.compile(f"[{_SPACES}]")
_JOINED = re.compile(r"[\u0620-\u0dff\u0f00-\u109f\u1780-\u18aa\ua840-\uabff\ufb50-\ufdff\ufe70-\ufefc]")
"""Arabic and its neighbours, India and Tibet, Burmese, Khmer and Mongolian: joiners change how their letters are written."""
_PICTURE = re.compile(
    r"[\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030"
    r"\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
"""Symbols that may be emoji, with the code points that Unicode keeps free for new ones."""
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
"""The flag of a part of a country, such as Scotland: a black flag and the tags of its code."""

_JOINERS = "\u200c\u200d"
_TEXT_OR_EMOJI = "\ufe0e\ufe0f"


def why_refused(text: str, refused: re.Pattern[str]) -> str | None:
    """Why a text may not be recorded under one of the rules above; ``None`` where it may.

    >>> why_refused("Ann" + chr(0x202E), NOT_IN_LINE)
    'must not contain bidirectional controls: character 4 is U+202E'
    """
    if text.isascii() and text.isprintable() and not text.isspace():
        return None  # nearly every text of a command
    found = refused.search(text)
    if found is not None:
        kind = next(name for name, ranges in _NAMED.items() if re.match(f"[{ranges}]", found[0]))
        return f"must not contain {kind}: character {found.start() + 1} is U+{ord(found[0]):04X}"
    return "must not be blank" if text and is_blank(text) else None


def joined_lines(text: str) -> str:
    """The text with a space for its line breaks.

    >>> joined_lines("Ann\\r\\nLee")
    'Ann Lee'
    """
    return _BREAKS.sub(" ", text)


def is_blank(text: str) -> bool:
    """Whether nothing is seen of a text."""
    return _BLANK.match(text) is not None


def is_unseen(char: str) -> bool:
    """Whether a character shows nothing of its own, or steers how others are shown: a control, a mark of direction, a
    joiner, a filler, a variation selector, half a character, or a space other than the usual one."""
    return NOT_IN_ID.match(char) is not None


def is_needed(text: str, at: int) -> bool:
    """Whether the unseen character at that place belongs to the writing around it.

    A space of any script does. A joiner does behind a letter of a script that joins letters, and between the parts of an
    emoji. A variation selector does behind what it varies: an emoji, a Han or Myanmar character, a Mongolian letter. A
    tag does in the flag of a part of a country.
    """
    char = text[at]
    if _SPACE.match(char):
        return True
    before = text[at - 1] if at else ""
    after = text[at + 1 : at + 2]
    if char in _JOINERS:
        return _JOINED.match(before) is not None or (char == "\u200d" and _is_emoji(text, at - 1) and _pictures(after))
    if char in _TEXT_OR_EMOJI:
        return _pictures(before) or (before in tuple("0123456789#*") and after == "\u20e3")
    if "\U000e0020" <= char <= "\U000e007f":
        return any(flag.start() < at < flag.end() for flag in _FLAG.finditer(text, max(0, at - 7), at + 7))
    if not before or is_unseen(before):
        return False
    if "\ufe00" <= char <= "\ufe02" or "\U000e0100" <= char <= "\U000e01ef":
        return _is_han(before) or "\u1000" <= before <= "\u109f"
    return "\u180b" <= char <= "\u180f" and "\u1820" <= before <= "\u18aa"


def _pictures(char: str) -> bool:
    return _PICTURE.match(char) is not None


def _is_emoji(text: str, at: int) -> bool:
    """Whether an emoji ends at that place, with the selector or the tone of skin behind it."""
    if at > 0 and (text[at] == "\ufe0f" or "\U0001f3fb" <= text[at] <= "\U0001f3ff"):
        at -= 1
    return at >= 0 and _pictures(text[at])


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
