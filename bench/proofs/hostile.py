"""Hostile input: values that no field takes, and ways to spoil what is good."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import copy
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any, TypeAlias

GIANT = "x" * 50_000_000
"""The longest text that is given."""

DEEPEST_PLACE = 6
"""What is nested deeper than this is spoilt enough."""

DEEP = 100_000
"""The deepest nesting that is given."""

Hostile: TypeAlias = Callable[[Random], Any]


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
    "", " ", "\n", "\t", "\x00", "a\x00b", "\x1b[31m", "\x7f", "\x85", "\u00a0", "\u200b", "\u2028", "\u202e",
    "\ufeff", "\ufffe",
    "\ud800", "a\udfffb", "\U0010ffff", "e\u0301", "\u1e9e", "١٢", "１", "null", "true", "None", "NaN", "Infinity",
    "-0", "0x10",
    "1e999999", "1e-999999", "1E+1000000000", "1.", ".5", "+1.00", "-1.00", "1,00", "1_000", "01.00", "1.005",
    "1.00001",
    "999999999999.99", "1000000000000.00", "9" * 30, "9" * 5000, "../../etc/passwd", "..", ".", "/", "/etc/localtime",
    "America/New_York", "America/../America/New_York", "US/Eastern\x00", "posixrules", "C:\\con", "%s%n%x",
    "{0.__class__}", "{}",
    "'; DROP TABLE facts; --", "$ref", "__class__", "order/", "order/A-000", "return/", "/A-000", "a/b/c",
    "refund/R-000",
    "2026-02-30T00:00:00Z", "2026-03-02", "2026-03-02T10:00:00", "2026-03-02T24:00:00Z", "2026-03-02T10:00:60Z",
    "2026-03-02T10:00:00+99:99", "2026-03-02T10:00:00+24:00", "2026-03-02T10:00:00-00:00",
    "2026-03-02T10:00:00.1234567Z",
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1989-12-31T23:59:59Z", "2099-01-01T00:00:00Z",
    "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z", "-2026-03-02T10:00:00Z", "2026-W10-1T10:00:00Z",
    "２０２６-03-02T10:00:00Z", "x" * 129, "x" * 2001, "x" * 100_000, "é" * 128, "🧨" * 200,
)  # fmt: skip

NUMBERS = (
    0, 1, -1, 2, 10**6, 10**6 + 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**30, 10**400, 10**4000, 0.0, -0.0, 1.0,
    1.5, 1e308,
    5e-324, float("nan"), float("inf"), float("-inf"), True, False,
)  # fmt: skip

OBJECTS: tuple[Hostile, ...] = (
    lambda _: Stranger(),
    lambda _: object,
    lambda _: b"bytes",
    lambda _: bytearray(b"\xff\xfe"),
    lambda _: {1, 2},
    lambda _: frozenset(),
    lambda _: 1j,
    lambda _: Decimal("NaN"),
    lambda _: Decimal("sNaN"),
    lambda _: Decimal("Infinity"),
    lambda _: Decimal("1E+999999"),
    lambda _: Decimal("1E-999999"),
    lambda _: Decimal("-0"),
    lambda _: Decimal("1.00"),
    lambda _: date(2026, 3, 2),
    lambda _: datetime(2026, 3, 2),  # noqa: DTZ001
    lambda _: datetime.min,  # noqa: DTZ901
    lambda _: datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
    lambda _: datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    lambda _: datetime(2026, 3, 2, tzinfo=timezone(timedelta(microseconds=1))),
    lambda _: datetime(2098, 12, 31, 23, tzinfo=UTC),
    lambda _: datetime(1990, 1, 1, tzinfo=UTC),
    lambda _: timedelta(days=10**6),
    lambda _: {1: 2},
    lambda _: {None: None},
    lambda _: {("a",): 1},
    lambda _: range(10**9),
)
"""What only Python can give."""


def value(dice: Random, python: bool) -> Any:
    """Something hostile; with ``python`` also what JSON has no word for."""
    kind = dice.random()
    if kind < 0.45:
        return dice.choice(TEXTS)
    if kind < 0.65:
        return dice.choice(NUMBERS)
    if kind < 0.72:
        return None
    if kind < 0.9:
        return dice.choice([[], {}, [None], [[]], [{}], {"a": 1}, {"": ""}, {"\ud800": 1}, [1] * 1001, nested(100)])
    if kind < 0.901:
        return GIANT
    if kind < 0.904:
        return dice.choice((nested(DEEP), [{}] * 100_000, {str(n): n for n in range(50_000)}))
    return dice.choice(OBJECTS)(dice) if python else dice.choice(TEXTS)


Place: TypeAlias = tuple[str | int, ...]


def places(values: Any, place: Place = ()) -> list[Place]:
    """Every place in a tree of mappings and lists but its root."""
    found: list[Place] = []
    inner: Any = ()
    if len(place) > DEEPEST_PLACE:
        return found
    if isinstance(values, dict):
        inner = values.items()
    elif isinstance(values, list):
        inner = enumerate(values)
    for step, part in inner:
        found += [(*place, step), *places(part, (*place, step))]
    return found


def spoilt(values: dict[str, Any], dice: Random, python: bool = False) -> dict[str, Any]:
    """The same with something wrong somewhere, sometimes in several places. What was given is left as it is."""
    for _ in range(dice.choice((1, 1, 1, 1, 2, 3))):
        values = _spoilt_once(values, dice, python)
    return values


def _spoilt_once(values: dict[str, Any], dice: Random, python: bool) -> dict[str, Any]:
    found = [place for place in places(values) if place != ("at",) or dice.random() < 0.2]
    if not found:
        return {"command": value(dice, python)}
    *way, last = dice.choice(found)
    root = inner = copy(values)
    for step in way:
        inner[step] = copy(inner[step])  # type: ignore[index]
        inner = inner[step]  # type: ignore[index]
    target: Any = inner
    old = target[last]
    kind = dice.random()
    if kind < 0.6:
        target[last] = value(dice, python)
    elif kind < 0.7:
        del target[last]
    elif kind < 0.8:
        target[last] = _close_to(old, dice)
    elif kind < 0.88:
        name = dice.choice(
            ("colour", "At", "order_id ", "__class__", "model_config", "\x00", "", "command_id", "\ud800", "x" * 5000)
        )
        (target if isinstance(target, dict) else root)[name] = value(dice, python)
    elif kind < 0.94 and isinstance(target, list):
        target += [old] * dice.choice((1, 2, 1000))
    else:
        *_, other = dice.choice(found)
        target[last] = values.get(str(other), other)
    return root


def _close_to(old: Any, dice: Random) -> Any:
    """What is nearly the same."""
    if isinstance(old, bool):
        return int(old)
    if isinstance(old, int):
        return dice.choice((old + 1, -old, float(old % 10**9), str(old % 10**9), old * 10**9))
    if isinstance(old, str):
        at = dice.randint(0, len(old))
        return dice.choice(
            (
                old.upper(), old.lower(), f"{old} ", f" {old}", old[:at], old[:at] + dice.choice(TEXTS) + old[at:],
                old * 40,
                old.replace("2026", dice.choice(("1990", "2098", "2101", "0001", "9999"))), [old], {old: old},
                old.encode("utf-8", "surrogatepass"),
            )
        )  # fmt: skip
    return [old] if not isinstance(old, list) else dice.choice((old[:0], tuple(old), old * 2, dict(enumerate(old))))


# ---- bytes --------------------------------------------------------------------------------------------------------------

JSON_TOKENS = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999999", b"1E400", b"-0", b"00", b"1.", b"9" * 5000, b"9" * 90,
    b"-" + b"9" * 101,
    b'"\\ud800"', b'"\\u0000"', b'"\\udfff\\ud800"', b'"\\x"',
    b'"', b"'", b"{}", b"[]", b"{", b"}", b"[", b"]", b",", b":", b"null",
    b"tru", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\x00", b"\r", b"\n",
    b"\n\n", b"//", b"/**/",
    b"[" * 70, b'{"a":' * 70, b"[" * DEEP, b'{"a":' * DEEP, b"[" * 500 + b"]" * 500, b'"' + b"\\n" * 3000 + b'"',
    b" " * 10_000,
)  # fmt: skip


def spoilt_bytes(content: bytes, dice: Random, tokens: Sequence[bytes] = JSON_TOKENS) -> bytes:
    """The same with some bytes changed, taken out, put in or doubled."""
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        at = dice.randint(0, len(content))
        upto = min(len(content), at + dice.choice((1, 1, 2, 8, 40)))
        kind = dice.random()
        if kind < 0.2:
            content = content[:at] + bytes([dice.randrange(256)]) + content[upto:]
        elif kind < 0.35:
            content = content[:at] + content[upto:]
        elif kind < 0.42:
            content = content[:at]
        elif kind < 0.55:
            content = content[:at] + content[at:upto] + content[at:]
        elif kind < 0.75:
            content = content[:at] + dice.choice(tokens) + content[upto:]
        else:  # in the place of a whole value
            colons = [n for n, byte in enumerate(content) if byte in b":="]
            if colons:
                begin = dice.choice(colons) + 1
                ends = [n for n in range(begin, len(content)) if content[n] in b",}\n"] or [len(content)]
                content = content[:begin] + b" " + dice.choice(tokens) + content[ends[0] :]
    return content


def line_of(fields: dict[str, Any], dice: Random) -> bytes:
    """A line of JSON, sometimes with a key that is there twice."""
    line = json.dumps(fields, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
    if dice.random() < 0.03 and fields:
        name = dice.choice(list(fields))
        again = json.dumps({name: dice.choice(TEXTS)}).encode()
        line = line[:-1] + b", " + again[1:]
    return line


# ---- TOML and tables ----------------------------------------------------------------------------------------------------

TOML_TOKENS = (
    b"nan", b"-inf", b"0", b"-1", b"1e999999", b"1_000_000_000", b"9" * 4000, b"9" * 5000, b"9" * 400 + b".5",
    b"0.000000001",
    b'""', b'" "', b'"\\u0000"', b'"\\uD800"', b'"\\U0010FFFF"', b"''", b"[]", b"{}", b"[[]]", b'["email", 1]',
    b"true", b"false",
    b"1979-05-27", b"0001-01-01", b"9999-12-31", b"1979-05-27T07:32:00Z", b"07:32:00", b'"../../../etc/passwd"',
    b'"/etc/localtime"',
    b'"America/../America/New_York"', b'"Europe/Berlin"', b'"Etc/GMT+12"', b'"us-federal"',
    b'"../calendars/us-federal"',
    b'"2026.1"', b'"EUR"', b'"XXX"', b'"JPY"', b'"' + b"x" * 100_000 + b'"', b"[" * 3000, b"[" * 200 + b"]" * 200,
    b"\xff", b"\x00",
    b"= =", b"\n[clauses]\n", b"\n[[clauses]]\n", b'"calendar"', b'"business"', b'"when_requested"', b'{ value = "x" }',
    b'{ column = "Nope" }', b'{ columns = [] }', b'{ sum = [] }', b'{ column = "Price", divided_by = "Qty" }',
    b'{ value = "1e99999" }',
)  # fmt: skip

CELLS = (
    "", "-", "0", "-1", "1e999999", "NaN", "Infinity", "9" * 400, "0.001", "1,234,567.891", ",,", ".", "1.2.3", "٣",
    "１２", "\x00", "\x1b[0m",
    '"', '""', "'", "\n", "\r\n", ";", "\t", "\ufeff", "\u202e", "\ud800", "=cmd()", "2026-02-30 10:00",
    "0001-01-01 00:00",
    "9999-12-31 23:59", "2026-03-08 02:30", "2026-11-01 01:30", "paid", "fulfilled", "#1", "#-1", "# 1001",
    "x" * 200_000, "yes", "no",
)  # fmt: skip
"""What may stand in a cell."""
