"""Consoles for tables, trees and bars: they make every text safe before it is laid out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.segment import Segment

from returnable.adapters.cli.printing import beneath
from returnable.adapters.printable import identifier, printable

STYLES = {"pass": "green", "fail": "red", "overridden": "yellow", "not_applicable": "dim"}
"""The colour of each verdict."""


def console_for_output() -> Console:
    """The console for tables: standard output. A file or a pager has no width of its own and gets 140 columns."""
    return _console(sys.stdout) if sys.stdout.isatty() else _console(sys.stdout, width=140)


def console_for_progress(stream: Any) -> Console:
    """The console for a progress bar."""
    return _console(stream, soft_wrap=True)


def _console(stream: Any, **options: Any) -> Console:
    class Spelling(Console):
        """Spells out unsafe characters before texts are laid out, and in the finished lines. Styles stay."""

        def render_str(self, text: str, **style: Any) -> Any:
            return super().render_str(printable(text, keep="\n"), **style)

        def render(self, renderable: Any, options: Any = None) -> Iterator[Any]:
            for segment in super().render(renderable, options):
                text = segment.text if segment.control else printable(segment.text, keep="\n")
                yield segment if text == segment.text else Segment(text, segment.style)

    return Spelling(file=beneath(stream), emoji=False, **options)


def safe(text: str) -> str:
    """An id or a recorded value for a terminal: invisible characters are spelt out, markup is escaped."""
    return escape(identifier(text))


def in_words(text: str) -> str:
    """Free text for a terminal, on one line: unsafe characters are spelt out, markup is escaped."""
    return escape(printable(text))
