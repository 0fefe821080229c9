"""Hypothesis strategies of hostile input: values that no field takes, and ways to spoil what is good."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from os.path import commonprefix
from typing import Any, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

DEEPEST_PLACE = 6
"""What is nested deeper than this is spoilt enough."""

LONG = 10_000
"""What is longer is not looked at any more for what is close to it."""

DEEP = 100_000
"""The deepest nesting that is given."""


def nested(levels: int) -> list[Any]:
    """A list in a list in a list …"""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


class Stranger:
    """An object of a class that no field knows, with much to say."""

    def __repr__(self) -> str:
        return "x" * 1_000_000


TEXTS = (
    "", " ", "\n", "\t", "\x00", "a\x00b", "\x1b[31m", "\x7f", "\x85", "\u00a0", "\u200b", "\u2028", "\u202e", "\ufeff",
    "\ufffe", "\ud800", "a\udfffb", "\U0010ffff", "e\u0301", "\u1e9e", "١٢", "１", "null", "true", "None", "NaN",
    "Infinity", "-0", "0x10", "1e999999", "1e-999999", "1E+1000000000", "1.", ".5", "+1.00", "-1.00", "1,00", "1_000",
    "01.00", "1.005", "1.00001", "999999999999.99", "1000000000000.00", "9" * 30, "9" * 5000, "../../etc/passwd", "..",
    ".", "/", "/etc/localtime", "America/New_York", "America/../America/New_York", "US/Eastern\x00", "posixrules",
    "C:\\con", "%s%n%x", "{0.__class__}", "{}", "'; DROP TABLE facts; --", "$ref", "__class__", "order/", "order/A-000",
    "return/", "/A-000", "a/b/c", "refund/R-000", "2026-02-30T00:00:00Z", "2026-03-02", "2026-03-02T10:00:00",
    "2026-03-02T24:00:00Z", "2026-03-02T10:00:60Z", "2026-03-02T10:00:00+99:99", "2026-03-02T10:00:00+24:00",
    "2026-03-02T10:00:00-00:00", "2026-03-02T10:00:00.1234567Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00",
    "1989-12-31T23:59:59Z", "2099-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z",
    "-2026-03-02T10:00:00Z", "2026-W10-1T10:00:00Z", "２０２６-03-02T10:00:00Z", "x" * 129, "x" * 2001, "x" * 100_000,
    "é" * 128, "🧨" * 200,
)  # fmt: skip

NUMBERS = (
    0, 1, -1, 2, 10**6, 10**6 + 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**30, 10**400, 10**4000, 0.0, -0.0, 1.0,
    1.5, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"), True, False,
)  # fmt: skip

SHAPES: tuple[Any, ...] = ([], {}, [None], [[]], [{}], {"a": 1}, {"": ""}, {"\ud800": 1}, [1] * 1001, nested(100))

OBJECTS: tuple[object, ...] = (
    Stranger(), object, b"bytes", bytearray(b"\xff\xfe"), {1, 2}, frozenset(), 1j, Decimal("NaN"), Decimal("sNaN"),
    Decimal("Infinity"), Decimal("1E+999999"), Decimal("1E-999999"), Decimal("-0"), Decimal("1.00"), date(2026, 3, 2),
    datetime(2026, 3, 2), datetime.min, datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),  # noqa: DTZ001, DTZ901
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime(2026, 3, 2, tzinfo=timezone(timedelta(microseconds=1))), datetime(2098, 12, 31, 23, tzinfo=UTC),
    datetime(1990, 1, 1, tzinfo=UTC), timedelta(days=10**6), {1: 2}, {None: None}, {("a",): 1}, range(10**9),
)  # fmt: skip
"""What only Python can give."""

_TEXTS = st.sampled_from(TEXTS)
_GIANTS = (
    lambda: nested(DEEP),
    lambda: [{}] * DEEP,
    lambda: {str(n): n for n in range(DEEP)},
    lambda: "x" * 50_000_000,
)
_RARE = st.integers(0, 160).map(lambda nth: _GIANTS[nth - 157]() if nth > 156 else TEXTS[nth % len(TEXTS)])

IN_JSON: SearchStrategy[Any] = st.one_of(
    *(_TEXTS, _TEXTS, st.text(st.characters(), max_size=20), st.none(), st.sampled_from(NUMBERS)),
    *(st.sampled_from(SHAPES).map(deepcopy), _RARE),
)
"""Something hostile that JSON has a word for."""
IN_PYTHON = IN_JSON | st.sampled_from(OBJECTS).map(deepcopy)

Place: TypeAlias = tuple[str | int, ...]


def places(values: Any, place: Place = ()) -> list[Place]:
    """Every place in a tree of mappings and lists but its root."""
    found: list[Place] = []
    if len(place) <= DEEPEST_PLACE and isinstance(values, dict | list):
        for step, part in values.items() if isinstance(values, dict) else enumerate(values):
            found += [(*place, step), *places(part, (*place, step))]
    return found


_FEW = st.sampled_from((1, 1, 1, 1, 2, 3))
_GONE = object()
_MORE_KEYS = st.sampled_from(
    ("colour", "At", "order_id ", "__class__", "model_config", "\x00", "", "command_id", "\ud800", "x" * 5000)
)


@st.composite
def spoilt(draw: DrawFn, fields: Mapping[str, Any], python: bool = False) -> dict[str, Any]:
    """The same with something wrong somewhere, sometimes in several places. What was given is left as it is."""
    tree = deepcopy(dict(fields))
    for _ in range(draw(_FEW)):
        found = places(tree) or [("command",)]
        *way, last = draw(st.sampled_from(found))
        target: Any = tree
        for step in way:
            target = target[step]
        kind = draw(st.integers(0, 9))
        if kind == 9 and isinstance(target, dict):
            last = draw(_MORE_KEYS)
        old = target.get(last) if isinstance(target, dict) else target[last]
        close_to = _close_to(old) | st.just(_GONE) | st.sampled_from([place[-1] for place in found])
        new = draw(close_to if 5 <= kind <= 8 else IN_PYTHON if python else IN_JSON)
        if new is not _GONE:
            target[last] = new
        elif last in target or isinstance(target, list):
            del target[last]
    return tree


def _close_to(old: Any) -> SearchStrategy[Any]:
    """What is nearly the same."""
    if isinstance(old, int):
        small = int(old) % 10**9
        return st.sampled_from((old + 1, -old, small, float(small), str(small), old * 10**9))
    if isinstance(old, list) and len(old) < 100:
        return st.sampled_from((old[:0], tuple(old), old * 2, old * 1000, dict(enumerate(old))))
    if not isinstance(old, str) or len(old) > LONG:
        return st.just([old])
    years = (old.replace("2026", year) for year in ("1990", "2098", "2101", "0001", "9999"))
    alike = (f"{old}x", old.upper(), old.lower(), f"{old} ", f" {old}", old * 40, [old], {old: old}, *years)
    cut = st.builds(lambda at, text: old[:at] + text + old[at:], st.integers(0, len(old)), _TEXTS)
    return st.sampled_from((*alike, old.encode("utf-8", "surrogatepass"), old[: len(old) // 2])) | cut


# ---- bytes --------------------------------------------------------------------------------------------------------------

JSON_TOKENS = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999999", b"1E400", b"-0", b"00", b"1.", b"9" * 5000, b"9" * 90,
    b"-" + b"9" * 101, b'"\\ud800"', b'"\\u0000"', b'"\\udfff\\ud800"', b'"\\x"', b'"', b"'", b"{}", b"[]", b"{", b"}",
    b"[", b"]", b",", b":", b"null", b"tru", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf", b"\x00", b"\r", b"\n", b"\n\n", b"//", b"/**/", b"[" * 70, b'{"a":' * 70, b"[" * DEEP,
    b'{"a":' * DEEP, b"[" * 500 + b"]" * 500, b'"' + b"\\n" * 3000 + b'"', b" " * 10_000,
)  # fmt: skip


class Spoilt(bytes):
    """The bytes of a file, which are shown as what is in the place of what was there before."""

    before: bytes

    def __repr__(self) -> str:
        begin = len(commonprefix((self.before, self)))  # noqa: RUF071
        behind = len(commonprefix((self.before[begin:][::-1], self[begin:][::-1])))  # noqa: RUF071
        old, new = (each[begin : len(each) - behind][:100] for each in (self.before, bytes(self)))
        return f"<the file with {new!r} in the place of {old!r} from byte {begin} on>"


def _spoilt(before: bytes, content: bytes) -> Spoilt:
    made = Spoilt(content)
    made.before = before
    return made


@st.composite
def spoilt_bytes(draw: DrawFn, content: bytes, tokens: Sequence[bytes] = ()) -> Spoilt:
    """The same with some bytes changed, taken out, put in or doubled; often in the place of a whole value."""
    before = content
    for _ in range(draw(_FEW)):
        at = draw(st.sampled_from([0, *_ends(content, b":=")]) | st.integers(0, len(content)))
        value = next((end for end in _ends(content, b",}\n") if end > at), len(content)) - 1
        upto = draw(st.sampled_from((value, value, at, at + 1, at + 2, at + 8, at + 40, len(content))))
        new = (
            st.sampled_from(tokens or JSON_TOKENS)
            | st.sampled_from((b"", content[at:upto] * 2))
            | st.binary(max_size=2)
        )
        content = content[:at] + draw(new) + content[upto:]
    return _spoilt(before, content)


def _ends(content: bytes, of: bytes) -> list[int]:
    return [nth + 1 for nth, byte in enumerate(content[:LONG]) if byte in of]


@st.composite
def lines_of_json(draw: DrawFn, fields: Mapping[str, Any]) -> bytes:
    """A line of JSON, sometimes with a key that is there twice; a byte that is no text where JSON has no word for it."""
    try:
        line = json.dumps(fields, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError):
        return b"\xff"
    twice = st.builds(lambda name, text: json.dumps({name: text}).encode(), st.sampled_from([*fields, ""]), _TEXTS)
    return line if draw(st.integers(0, 30)) < 30 else line[:-1] + b", " + draw(twice)[1:]


# ---- TOML and tables ----------------------------------------------------------------------------------------------------

TOML_TOKENS = (
    b"nan", b"-inf", b"0", b"-1", b"1e999999", b"1_000_000_000", b"9" * 4000, b"9" * 5000, b"9" * 400 + b".5",
    b"0.000000001", b'""', b'" "', b'"\\u0000"', b'"\\uD800"', b'"\\U0010FFFF"', b"''", b"[]", b"{}", b"[[]]",
    b'["email", 1]', b"true", b"false", b"1979-05-27", b"0001-01-01", b"9999-12-31", b"1979-05-27T07:32:00Z",
    b"07:32:00", b'"../../../etc/passwd"', b'"/etc/localtime"', b'"America/../America/New_York"', b'"Europe/Berlin"',
    b'"Etc/GMT+12"', b'"us-federal"', b'"../calendars/us-federal"', b'"2026.1"', b'"EUR"', b'"XXX"', b'"JPY"',
    b'"' + b"x" * 100_000 + b'"', b"[" * 3000, b"[" * 200 + b"]" * 200, b"\xff", b"\x00", b"= =", b"\n[clauses]\n",
    b"\n[[clauses]]\n", b'"calendar"', b'"business"', b'"when_requested"', b'{ value = "x" }', b'{ column = "Nope" }',
    b'{ columns = [] }', b'{ sum = [] }', b'{ column = "Price", divided_by = "Qty" }', b'{ value = "1e99999" }',
)  # fmt: skip

CELLS = (
    "", "-", "0", "-1", "1e999999", "NaN", "Infinity", "9" * 400, "0.001", "1,234,567.891", ",,", ".", "1.2.3", "٣",
    "１２", "\x00", "\x1b[0m", '"', '""', "'", "\n", "\r\n", ";", "\t", "\ufeff", "\u202e", "\ud800", "=cmd()",
    "2026-02-30 10:00", "0001-01-01 00:00", "9999-12-31 23:59", "2026-03-08 02:30", "2026-11-01 01:30", "paid",
    "fulfilled", "#1", "#-1", "# 1001", "x" * 200_000, "yes", "no",
)  # fmt: skip
"""What may stand in a cell."""

_CELLS = tuple(cell.encode("utf-8", "surrogatepass") for cell in CELLS)


@st.composite
def spoilt_toml(draw: DrawFn, content: bytes) -> Spoilt:
    """A file in TOML with lines that say something else, are missing or twice there; or spoilt anywhere."""
    if draw(st.integers(0, 4)) == 4:
        return draw(spoilt_bytes(content, TOML_TOKENS))
    lines = content.split(b"\n")
    for _ in range(draw(_FEW)):
        nth = draw(st.sampled_from([nth for nth, line in enumerate(lines) if b" = " in line or line.startswith(b"[")]))
        name = b"more" if lines[nth].startswith(b"[") else lines[nth].partition(b" = ")[0]
        token = draw(st.sampled_from((*TOML_TOKENS, *[None] * 12, *[b""] * 12)))
        lines[nth : nth + 1] = [name + b" = " + token] if token else [] if token is None else [lines[nth]] * 2
    return _spoilt(content, b"\n".join(lines))


@st.composite
def spoilt_table(draw: DrawFn, content: bytes) -> Spoilt:
    """Comma-separated values with cells in which something else stands; or spoilt anywhere."""
    if draw(st.integers(0, 3)) == 3:
        return draw(spoilt_bytes(content, _CELLS))
    rows = [line.split(b",") for line in content.split(b"\n") if line]
    for _ in range(draw(_FEW)):
        row, cell = draw(st.sampled_from(rows)), draw(st.sampled_from(_CELLS))
        row[draw(st.integers(0, len(row) - 1))] = cell if b"," not in cell else b'"' + cell + b'"'
    return _spoilt(content, b"\n".join(b",".join(row) for row in rows))
