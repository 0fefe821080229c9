"""Ratios of interleaved runs, and the table they are shown in."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    command_blocks: int = 60
    lifecycles_in_block: int = 10
    thread_blocks: int = 10
    threads: int = 64
    replay_events: int = 100_000
    replay_rounds: int = 7
    question_events: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    questions: int = 600
    stored_lifecycles: int = 1_000
    processes: int = 30
    memory_events: int = 1_000_000

    def scaled(self, factor: float) -> Sizes:
        """So much more or less of everything."""

        def scale(value: int) -> int:
            return max(2, round(value * factor))

        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return Sizes(**{n: tuple(map(scale, v)) if isinstance(v, tuple) else scale(v) for n, v in values.items()})


QUICK_TAKES = "about three minutes"

QUICK = Sizes(
    command_blocks=20,
    thread_blocks=3,
    replay_rounds=3,
    question_events=(10_000, 100_000),
    questions=200,
    stored_lifecycles=300,
    processes=8,
    memory_events=100_000,
)


@dataclass(frozen=True)
class Row:
    """A line of the table: ratios to the raw limit of the same run."""

    name: str
    ratios: Sequence[float]
    goal: str
    raw: str
    """The raw figure of the same run."""
    n: str
    """What was counted."""

    def cells(self) -> tuple[str, ...]:
        """The columns."""
        return self.name, figure(self.ratios), self.goal, self.raw, self.n


def figure(ratios: Sequence[float]) -> str:
    """The median, with the middle half of the ratios where there are several."""
    if len(ratios) < 4:
        return f"{median(ratios):.2f}" if ratios else "–"
    low, middle, high = quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


Measured: TypeAlias = Callable[[Sizes, Path], Iterator[Row]]
"""Measures some rows, with stores in a folder."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def show(prog: str, rows: Mapping[str, Measured], described: str | None, more: Callable[[], str] | None = None) -> None:
    """The command line of rows: measure them, and print one table."""
    parser = argparse.ArgumentParser(prog=prog, description=described)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TAKES}, no store of a million events")
    parser.add_argument("--only", action="append", choices=rows, metavar="ROW", help=f"one of {', '.join(rows)}")
    parser.add_argument("--scale", type=float, default=1.0, help="measure so much more or less of everything")
    parser.add_argument(
        "--dir", type=Path, help="where the stores are made and removed (default: the temporary folder)"
    )
    if more is not None:
        parser.add_argument("--importtime", action="store_true", help="also where the imports spend their time")
    options = parser.parse_args()
    sizes = (QUICK if options.quick else Sizes()).scaled(options.scale)
    measured: list[Row] = []
    for name in options.only or rows:
        say(f"measuring: {name}")
        with tempfile.TemporaryDirectory(prefix="returnable-bench-", dir=options.dir) as folder:
            measured += rows[name](sizes, Path(folder))
    print(
        f"{machine(f'SQLite {sqlite3.sqlite_version}')}. Ratios are medians of interleaved runs (middle half in brackets).\n"
    )
    print(table(("row", "ratio to raw", "goal", "raw, same run", "n"), [row.cells() for row in measured]))
    if more is not None and options.importtime:
        print(f"\n{more()}")


def machine(store: str) -> str:
    """What is measured on."""
    return f"{platform.python_implementation()} {platform.python_version()}, {store}, {os.cpu_count()} processors"


def say(what: str) -> None:
    """Tell whoever waits."""
    print(what, file=sys.stderr, flush=True)


def seconds(action: Callable[[], object]) -> float:
    """How long it took."""
    begin = perf_counter()
    action()
    return perf_counter() - begin


def in_turns(rounds: int, ours: Callable[[], object], raw: Callable[[], object]) -> list[tuple[float, float]]:
    """Seconds of both for each round, ours first in every other one. A round before them is not counted."""
    return alternately(rounds, lambda: seconds(ours), lambda: seconds(raw))


def alternately(rounds: int, one: Callable[[], T], other: Callable[[], T]) -> list[tuple[T, T]]:
    """What both give in each round, ``one`` first in every other round. A round before them is not counted."""
    pairs: list[tuple[T, T]] = []
    for nth in range(rounds + 1):
        if nth % 2:
            first = one()
            pairs.append((first, other()))
        else:
            second = other()
            pairs.append((one(), second))
    return pairs[1:]


def p99(latencies: Sequence[float]) -> float:
    """The latency that one in a hundred exceeds."""
    return sorted(latencies)[min(len(latencies) - 1, int(len(latencies) * 0.99))]
