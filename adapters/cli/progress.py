"""Progress bars on stderr, where somebody can see them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from returnable.adapters.cli.console import console_for_progress
from returnable.adapters.cli.printing import guarded_streams


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """How to advance by so many; a bar on stderr is shown where somebody can see it. ``None``: how many is not known."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = console_for_progress(sys.stderr)
    with (
        Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar,
        guarded_streams(),
    ):
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def printing_progress(total: int, *, acknowledge: bool) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """How to say a line on stdout and how to advance; a bar is shown where somebody can see it.

    With ``acknowledge`` every line is flushed at once: whoever reads it may rely on the command being durable.
    """

    def write(line: str) -> None:
        sys.stdout.write(line + "\n")
        if acknowledge:
            sys.stdout.flush()

    if not sys.stderr.isatty():
        yield write, lambda: None
        sys.stdout.flush()
        return
    shared = sys.stdout.isatty()
    console = console_for_progress(sys.stdout if shared else sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Output that goes elsewhere stays there: redirected it would be printed on the terminal.
    with Progress(*columns, console=console, transient=True, redirect_stdout=shared) as bar, guarded_streams():
        task = bar.add_task("playing", total=total)

        def write_above(line: str) -> None:
            if shared:
                console.out(line, highlight=False)
            else:
                write(line)

        yield write_above, lambda: bar.advance(task)
    sys.stdout.flush()
