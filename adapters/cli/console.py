"""Consoles for tables, trees and bars: they make every text safe before it is laid out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.segment import Segment

from returnable.adapters.cli.printing import beneath
from returnable.adapters.printable import identifier, printable

STYLES = {"pass": "green", "fail": "red", "overridden": "yellow", "not_applicable": "dim"}
"""The colour of each verdict."""


def console_for_output() -> Console:
    """Where tables go: standard output. Piped into a file or a pager there is no terminal whose width counts."""
    return _console(sys.stdout) if sys.stdout.isatty() else _console(sys.stdout, width=140)


def console_for_progress(stream: Any) -> Console:
    """Where a bar is shown."""
    return _console(stream, soft_wrap=True)


def _console(stream: Any, **options: Any) -> Console:
    class Spelling(Console):
        """Spells out texts before they are laid out, and whatever else reaches the lines. Styles stay."""

        def render_str(self, text: str, **style: Any) -> Any:
            return super().render_str(printable(text, keep="\n"), **style)

        def render(self, renderable: Any, options: Any = None) -> Iterator[Any]:
            for segment in super().render(renderable, options):
                said = segment.text if segment.control else printable(segment.text, keep="\n")
                yield segment if said == segment.text else Segment(said, segment.style)

    return Spelling(file=beneath(stream), emoji=False, **options)


def safe(text: str) -> str:
    """An id, or a value of the record, as it may go to a terminal: nothing unseen, no markup."""
    return escape(identifier(text))


def in_words(text: str) -> str:
    """What people wrote in their own words, as it may go to a terminal."""
    return escape(printable(text))


def plain(value: Any) -> str:
    """A value of a fact or a finding, on one line."""
    if isinstance(value, Mapping):
        return f"({' '.join(f'{key}={plain(entry)}' for key, entry in value.items())})"
    if isinstance(value, list):
        return ", ".join(plain(entry) for entry in value) or "none"
    return "yes" if value is True else "no" if value is False else "nothing" if value is None else str(value)
