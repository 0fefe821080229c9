"""What the command line prints, and the one door through which it goes: nothing that was given can steer the terminal."""

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
"""Keys of what people wrote in their own words. All other texts are ids, states and the like."""


class Guarded:
    """A stream of text that spells out what could steer a terminal or deceive, whoever writes to it."""

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
    """The same for bytes that are UTF-8, a whole number of characters at a time."""

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
    """Everything that is printed meanwhile, by whatever means, is spelt out where it has to be."""
    # A process may have been started without one of them.
    guarded = [(name, stream, Guarded(stream)) for name in ("stdout", "stderr") if (stream := getattr(sys, name))]
    for name, _, guard in guarded:
        setattr(sys, name, guard)
    try:
        yield
    finally:
        for name, stream, guard in guarded:
            # click puts a stream of its own there when nobody reads any more; that one stays.
            if getattr(sys, name) is guard:
                setattr(sys, name, stream)


def beneath(stream: Any) -> Any:
    """The stream itself, for what was made safe before and brings marks of its own: styles, or a report."""
    while isinstance(stream, Guarded):
        stream = stream.beneath
    return stream


def say(message: str) -> None:
    """A line on stderr."""
    click.echo(f"returnable: {printable(message)}", err=True)


def say_json(document: str | bytes, err: bool = False) -> None:
    """A JSON document on stdout, or on stderr; nothing in it is unseen."""
    (sys.stderr if err else sys.stdout).write(
        json_text(document if isinstance(document, str) else document.decode()) + "\n"
    )


def shown(key: str, value: Any) -> str:
    """A value of an answer: only what people wrote in their own words may hold what a script needs and nobody sees."""
    return printable(str(value)) if key in _FREE_TEXT else identifier(str(value))


def shown_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same for every text in an answer."""
    return {key: _shown(key, value) for key, value in values.items()}


def _shown(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_shown("", name): _shown(name, entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(key, entry) for entry in value]
    return shown(key, value) if isinstance(value, str) else value
