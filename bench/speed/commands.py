"""Durable commands: one client, its slowest percent, and many threads on one desk; in a file and on a server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import returnable
from bench.postgres import OwnServer
from bench.proofs.disk import Watch, watching
from bench.speed.lifecycle import Block, go_through, in_blocks, lifecycle, payload, row_of
from bench.speed.measure import Measured, Row, Sizes, p99, seconds, show
from bench.speed.raw import RawLog, RawServerLog
from returnable.adapters.wiring import migrate_store

_SEGMENT = 1_000
"""So many commands give one 99th percentile."""


@contextmanager
def _in_a_file(folder: Path) -> Iterator[tuple[returnable.Desk, RawLog]]:
    with returnable.open(f"sqlite:///{folder}/commands.db") as desk, closing(RawLog(folder / "raw.db")) as log:
        yield desk, log


@contextmanager
def _on_a_server() -> Iterator[tuple[returnable.Desk, RawServerLog]]:
    with OwnServer() as server:
        migrate_store(server.url)
        with returnable.open(server.url) as desk, closing(RawServerLog(server.url)) as log:
            yield desk, log


def in_a_file(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Commands of one client on SQLite."""
    with _in_a_file(folder) as (desk, log):
        yield from _one_client(sizes, desk, log, "SQLite", "SQLite FULL", "≥ 0.70")


def in_a_file_by_threads(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Commands of many threads on SQLite, and the same where every sync takes two milliseconds longer."""
    with _in_a_file(folder) as (desk, log):
        yield _many_threads(sizes, desk, log, "SQLite", "≥ 4")
    slow = folder / "slow"
    slow.mkdir()
    with watching(_SlowDisk()), _in_a_file(slow) as (desk, log):
        yield _many_threads(sizes, desk, log, "SQLite on a disk that is 2 ms slower", "–")


class _SlowDisk(Watch):
    def syncs(self, file: Any) -> None:
        sleep(0.002)


def on_a_server(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Commands of one client on PostgreSQL."""
    with _on_a_server() as (desk, log):
        yield from _one_client(sizes, desk, log, "PostgreSQL", "PostgreSQL", "≥ 0.60")


def on_a_server_by_threads(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Commands of many threads on PostgreSQL."""
    with _on_a_server() as (desk, log):
        yield _many_threads(sizes, desk, log, "PostgreSQL", "≥ 3")


def _one_client(
    sizes: Sizes, desk: returnable.Desk, log: RawLog | RawServerLog, store: str, exactly: str, goal: str
) -> Iterator[Row]:
    """Whole lifecycles through the desk beside inserts of the bytes they stored, in turns."""

    def block(numbers: list[str]) -> Block:
        ours, outcomes = [], []
        for at, fields in [step for number in numbers for step in lifecycle(number)]:
            begin = perf_counter()
            outcome = desk.handle(fields, at=at)
            ours.append(perf_counter() - begin)
            outcomes.append(outcome)
        return ours, [seconds(partial(log.insert, content)) for content in map(payload, outcomes)]

    blocks = in_blocks(sizes.command_blocks, sizes.lifecycles_in_block, block)
    yield row_of(f"commands, {exactly}, 1 client", goal, blocks, sizes.lifecycles_in_block)
    ours, raw = ([*chain(*of_blocks)] for of_blocks in zip(*blocks, strict=True))
    segments = [slice(first, first + _SEGMENT) for first in range(0, max(1, len(ours) - _SEGMENT + 1), _SEGMENT)]
    yield Row(
        f"p99 of a command, {store}",
        [p99(ours[segment]) / p99(raw[segment]) for segment in segments],
        "≤ 2.5" if store == "SQLite" else "–",
        f"p99 {median(p99(raw[segment]) for segment in segments) * 1e6:,.0f} µs",
        f"{len(segments)} × {min(len(ours), _SEGMENT):,} commands",
    )


def _many_threads(sizes: Sizes, desk: returnable.Desk, log: RawLog | RawServerLog, store: str, goal: str) -> Row:
    """As many lifecycles at once as there are threads, on one desk, beside one raw client."""
    with ThreadPoolExecutor(sizes.threads) as threads:

        def block(numbers: list[str]) -> Block:
            begin = perf_counter()
            lives = list(threads.map(lambda number: list(go_through(desk, number)), numbers))
            ours = perf_counter() - begin
            payloads = [payload(outcome) for life in lives for outcome in life]
            return [ours], [seconds(partial(log.insert_each, payloads))]

        blocks = in_blocks(sizes.thread_blocks, sizes.threads, block)
    return row_of(f"commands, {sizes.threads} threads, one desk, {store}", goal, blocks, sizes.threads)


ROWS: dict[str, Measured] = {
    "commands": in_a_file,
    "threads": in_a_file_by_threads,
    "postgres": on_a_server,
    "postgres-threads": on_a_server_by_threads,
}

if __name__ == "__main__":
    show("python -m bench.speed.commands", ROWS, __doc__)
