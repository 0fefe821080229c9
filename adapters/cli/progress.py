"""Progress bars on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from returnable.adapters.cli.console import console_for_progress
from returnable.adapters.cli.printing import guarded_streams

Advance: TypeAlias = Callable[[int], None]
"""Advances a bar by a number of steps."""


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Advance]:
    """Show a bar on stderr if it is a terminal; yields a function that advances the bar. ``None``: the total is unknown."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    with _bar(what, total, console_for_progress(sys.stderr)) as advance:
        yield advance


@contextmanager
def printing_progress(total: int, *, acknowledge: bool) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Show a bar if stderr is a terminal; yields a function that prints a line on stdout, and one that advances the bar.

    With ``acknowledge`` each line is flushed at once: its reader may rely on the command being durable.
    """

    def write(line: str) -> None:
        sys.stdout.write(line + "\n")
        if acknowledge:
            sys.stdout.flush()

    if not sys.stderr.isatty():
        yield write, lambda: None
    else:
        shared = sys.stdout.isatty()
        console = console_for_progress(sys.stdout if shared else sys.stderr)
        with _bar("playing", total, console) as advance:
            yield (lambda line: console.out(line, highlight=False)) if shared else write, lambda: advance(1)
    sys.stdout.flush()


@contextmanager
def _bar(what: str, total: int | None, console: Console) -> Iterator[Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Output to a file or a pipe is not redirected: rich would print it on the terminal.
    with (
        Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar,
        guarded_streams(),
    ):
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
