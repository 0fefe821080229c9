"""Output of the command line. All of it passes through here, so that no data can steer the terminal or deceive a reader."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

import click

from returnable.adapters.printable import identifier, json_text, printable

_FREE_TEXT = frozenset(
    {"because", "description", "message", "name", "notes", "notice", "quote", "reading", "reason", "reasons", "source"}
)
"""The keys of free text, which people wrote. All other texts are ids, states and the like."""


class Guarded:
    """A text stream that spells out every character that could steer a terminal or deceive a reader."""

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath

    def write(self, text: str) -> int:
        """Write the text; line breaks stay."""
        self.beneath.write(printable(text, keep="\n"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.beneath, name)
        return _GuardedBytes(found) if name == "buffer" else found


class _GuardedBytes:
    """The same for UTF-8 bytes. Each write must hold whole characters."""

    def __init__(self, beneath: Any) -> None:
        self.beneath = beneath

    def write(self, data: bytes) -> int:
        text = bytes(data).decode("utf-8", "surrogateescape")
        self.beneath.write(printable(text, keep="\r\n").encode())
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Guard stdout and stderr: unsafe characters are spelt out, whichever code prints them."""
    # A process may have no stdout or no stderr.
    guarded = [(name, stream, Guarded(stream)) for name in ("stdout", "stderr") if (stream := getattr(sys, name))]
    for name, _, guard in guarded:
        setattr(sys, name, guard)
    try:
        yield
    finally:
        for name, stream, guard in guarded:
            # If the reader has gone away, click has replaced the stream; its replacement stays.
            if getattr(sys, name) is guard:
                setattr(sys, name, stream)


def beneath(stream: Any) -> Any:
    """The stream behind the guard, for text that is safe already and holds marks of its own: styles, or a report."""
    while isinstance(stream, Guarded):
        stream = stream.beneath
    return stream


def say(message: str) -> None:
    """Print a line on stderr."""
    click.echo(f"returnable: {printable(message)}", err=True)


def print_json(document: str | bytes, err: bool = False) -> None:
    """Print a JSON document on stdout, or on stderr; invisible characters in it are escaped."""
    (sys.stderr if err else sys.stdout).write(
        json_text(document if isinstance(document, str) else document.decode()) + "\n"
    )


def shown_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an answer, made safe. Only free text keeps the invisible characters that its script needs."""
    return {key: _safe(key, value) for key, value in values.items()}


def _safe(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_safe("", name): _safe(name, entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(key, entry) for entry in value]
    if isinstance(value, str):
        return printable(value) if key in _FREE_TEXT else identifier(value)
    return value


def cell(value: Any) -> str:
    """A value of an answer in a cell of a table; the elements of a list on lines of their own."""
    if isinstance(value, Mapping) and set(value) == {"kind", "id"}:
        return f"{value['kind']} {value['id']}"
    if isinstance(value, Mapping):
        return "  ".join(f"{key}: {plain(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return "\n".join(map(plain, value)) or "–"
    return plain(value)


def plain(value: Any) -> str:
    """A value of an answer on one line.

    >>> plain([{"line_id": "1", "final_sale": False}, None])
    '(line_id=1 final_sale=no), –'
    """
    if isinstance(value, Mapping) and "verdict" in value:
        return f"{value['verdict']} {value['clause']}"
    if isinstance(value, Mapping):
        return f"({' '.join(f'{key}={plain(entry)}' for key, entry in value.items())})"
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    return "yes" if value is True else "no" if value is False else "–" if value is None else str(value)
