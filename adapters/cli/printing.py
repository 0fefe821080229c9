"""What goes to a terminal: where tables are printed, and text that cannot steer it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console


def console_for_output() -> Console:
    """Where tables go: standard output. Piped into a file or a pager there is no terminal whose width counts."""
    from rich.console import Console

    return Console(emoji=False) if sys.stdout.isatty() else Console(width=140, emoji=False)


def say(message: str) -> None:
    """A line on stderr, fit for a terminal."""
    click.echo(f"returnable: {printable(message)}", err=True)


def printable(text: str, keep: str = "") -> str:
    """Text fit for a terminal: what cannot be printed is spelt out, but for the characters to ``keep``.

    >>> printable("R-1" + chr(27) + "[2J")
    'R-1\\\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else ascii(one)[1:-1] for one in text)
